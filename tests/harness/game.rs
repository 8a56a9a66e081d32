//! Players who talk all the time, whatever is done to their daemon meanwhile.

use super::PATIENCE;
use super::client::Client;
use super::player::{Player, reach};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wireguard::allowed_ips::AllowedIp;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who plays: the first two through the relay, unread, the others by the hub.
const NAMES: [&str; 4] = ["ann", "bob", "cid", "dan"];
/// The name of their party.
pub const PARTY: &str = "Friday night";
/// How often each of them says something.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long they go on when nothing is done any more.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// For how long nobody may hear nothing while their daemon is upgraded.
const MOST_SILENCE: Duration = Duration::from_secs(2);
/// The program of a release, in its checkout.
pub const PROGRAM: &str = "target/cross/x86_64/lanrage";

/// What it is that they say, the same all the time.
const WORDS: &[u8] = b"I am here";

/// The checkout of the first release, with its program.
pub fn first_release() -> PathBuf {
    let path = std::env::var_os("LANRAGE_FIRST_RELEASE");
    path.expect("LANRAGE_FIRST_RELEASE has to name the folder that .ci/first-release makes").into()
}

pub struct Game {
    players: Vec<Player>,
    tokens: Vec<Client>,
    /// The party's id.
    pub party: String,
    hub: PublicKey,
}

/// How a game went.
#[derive(Debug)]
pub struct Course {
    /// The longest time for which one of them heard nothing.
    pub silence: Duration,
    /// How many sessions the first two made anew.
    pub sessions: usize,
}

impl Course {
    /// As it is to be over an upgrade.
    pub fn assert_good(&self) {
        println!("{self:?}");
        assert!(self.silence < MOST_SILENCE, "{self:?}");
        assert_eq!(self.sessions, 0, "the flows of the daemon before were not taken over");
    }
}

impl Game {
    /// They meet at a daemon, and everybody hears their mate.
    pub fn start(http: SocketAddr, relay: SocketAddr) -> Self {
        let (mut players, mut tokens, mut party, mut hub) = (Vec::new(), Vec::new(), None, None);
        for name in NAMES {
            let key = PrivateKey::generate();
            let mut client = Client::connect(http);
            client.register(name);
            let info = super::client::info(name, &key.public_key().encode());
            let answer = match &party {
                None => client.ask(
                    "POST",
                    "/parties",
                    &format!("{{\"name\":\"{PARTY}\",\"host_peer_info\":{info}}}"),
                ),
                Some(id) => client.ask(
                    "POST",
                    &format!("/parties/{id}/join"),
                    &format!("{{\"party_id\":\"{id}\",\"peer_info\":{info}}}"),
                ),
            };
            let answer = answer.is(200);
            party.get_or_insert_with(|| answer.text(&["party_id"]));
            hub.get_or_insert_with(|| {
                PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap()
            });
            players.push(Player::new(key, answer.text(&["network", "virtual_ip"]).parse().unwrap()));
            tokens.push(client);
        }
        let (party, hub) = (party.unwrap(), hub.unwrap());
        let [ann, bob, cid, dan] = &mut players[..] else { panic!("not four") };
        ann.add_peer(bob.key.public_key(), relay, AllowedIp::host(IpAddr::V4(bob.ip)));
        bob.add_peer(ann.key.public_key(), relay, AllowedIp::host(IpAddr::V4(ann.ip)));
        // Somebody who has never sent anything is nowhere.
        ann.send(bob.ip, b"knock");
        bob.send(ann.ip, b"knock");
        cid.greet_hub(hub, relay);
        dan.greet_hub(hub, relay);
        for (one, other) in [(ann, bob), (cid, dan)] {
            reach(one, other, "hello");
            reach(other, one, "hello yourself");
        }
        Game { players, tokens, party, hub }
    }

    /// They go on while something is done, and a little longer.
    pub fn go_on(&mut self, act: impl FnOnce() + Send) -> Course {
        let done = AtomicBool::new(false);
        let sessions = |players: &[Player]| players[0].sessions + players[1].sessions;
        let before = sessions(&self.players);
        let mut silence = Duration::ZERO;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                act();
                done.store(true, Ordering::Release);
            });
            let start = Instant::now();
            let mut heard = [start; NAMES.len()];
            let (mut said, mut end) = (start - INTERVAL, None);
            while end.is_none_or(|end| Instant::now() < end) {
                assert!(start.elapsed() < PATIENCE, "it is not done, or somebody hears nothing any more");
                if end.is_none() && done.load(Ordering::Acquire) {
                    end = Some(Instant::now() + AFTERWARDS);
                }
                if said.elapsed() >= INTERVAL {
                    said = Instant::now();
                    for number in 0..self.players.len() {
                        let mate = self.players[number ^ 1].ip;
                        self.players[number].send(mate, WORDS);
                    }
                }
                for (number, player) in self.players.iter_mut().enumerate() {
                    if player.pump().iter().any(|(_, payload)| payload == WORDS) {
                        silence = silence.max(heard[number].elapsed());
                        heard[number] = Instant::now();
                    }
                }
            }
            // Who hears nothing any more has heard nothing since.
            silence = heard.iter().map(Instant::elapsed).fold(silence, Duration::max);
        });
        Course { silence, sessions: sessions(&self.players) - before }
    }

    /// Everybody is who they were: their tokens, their addresses, their party, and the hub's key.
    pub fn assert_kept(&self, http: SocketAddr) {
        for (player, token) in self.players.iter().zip(&self.tokens) {
            let mut client = Client::connect(http).with_token_of(token);
            let party = client.get(&format!("/parties/{}", self.party)).is(200);
            assert_eq!(party.text(&["party", "name"]), PARTY);
            assert_eq!(party.text(&["network", "virtual_ip"]), player.ip.to_string());
            assert_eq!(party.text(&["network", "relay", "public_key"]), self.hub.encode());
            for name in NAMES {
                assert_eq!(party.text(&["party", "peers", name, "peer_id"]), name);
            }
        }
    }
}
