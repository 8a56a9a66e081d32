//! The end in good order.

use crate::house::House;
use crate::load::{World, run, verify};
use crate::socket::Socket;
use std::io::Write;
use std::time::Duration;

/// What SIGTERM promises.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn sigterm_under_load_ends_soon_and_loses_nothing() {
    let mut house = House::start();
    // Those who hold on: half a request, a keep-alive connection, a WebSocket.
    let mut half = crate::client::connect_from([127, 0, 0, 2].into(), house.http);
    half.write_all(b"POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut idle = house.client();
    idle.get("/").is(200);
    let mut socket = Socket::open(house.http);
    let mut worlds: Vec<World> = (10..14).map(World::new).collect();
    for _ in 0..3 {
        worlds = run(worlds, &mut house, |house| {
            std::thread::sleep(Duration::from_millis(400));
            let (status, took) = house.terminate();
            assert_eq!(status.code(), Some(0));
            assert!(took < SOON, "it took {took:?}");
        });
        house.restart();
        verify(&mut worlds, &house);
        assert_eq!(house.metric("lanrage_store_recoveries_total"), 0);
        assert!(!house.plan.log().contains("was not closed"));
    }
    assert!(worlds.iter().map(|world| world.acknowledged).sum::<usize>() > 50);
    socket.wait_for_end();
}

#[test]
fn sigterm_at_rest_ends_at_once_and_takes_the_socket_along() {
    let mut house = House::start();
    let socket = lanrage::daemon::socket_in(&house.plan.directory().state());
    assert!(socket.exists());
    let (status, took) = house.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(1500), "it took {took:?}");
    assert!(!socket.exists());
}
