//! The relay's work on a known number of packets, in memory and without a clock, for a machine that counts
//! instructions: `.ci/cross count` runs this under qemu. By itself it measures nothing.
//!
//! `instructions hub|blind BYTES SEALED RELAYED` seals datagrams of so many bytes and relays the first of
//! them. Two runs that differ in the last number alone differ by the cost of relaying.

#[path = "../../src/cli/bench/stage.rs"]
mod stage;

use lanrage::daemon::now;
use stage::{ROOM, Stage, Way};
use std::net::SocketAddr;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|word| word.parse::<usize>().ok());
    let (Some(bytes), Some(sealed), Some(relayed)) = (number(1), number(2), number(3)) else {
        println!("nothing to measure by itself: see .ci/cross help");
        return;
    };
    let way = if arguments[0] == "hub" { Way::Hub } else { Way::Blind };
    let addresses = [1, 2, 3, 4].map(|last| SocketAddr::from(([192, 0, 2, last], 51_820)));
    let relay_at = SocketAddr::from(([198, 51, 100, 1], 51_820));
    let mut stage = Stage::new(addresses, relay_at).expect("sessions");
    let mut datagrams = vec![([0; ROOM], 0); sealed];
    for (room, length) in &mut datagrams {
        stage.pass(Duration::from_micros(2));
        *length = stage.seal(way, bytes, room);
    }
    let (from, to) = way.ends();
    let mut arrived = 0;
    for (room, length) in datagrams.iter_mut().take(relayed) {
        stage.relay(&mut room[..*length], addresses[from], |at, _| {
            arrived += usize::from(at == addresses[to])
        });
    }
    assert_eq!(arrived, relayed);
}
