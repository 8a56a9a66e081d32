//! What clients cost. The figures are printed; the bounds are wide, since the machine may be busy and the
//! build a debug one.

use crate::client::{Client, upgrade_request};
use crate::eventually;
use crate::test_door::{TestDoor, stat};

/// KiB per client of 200 that are connected and silent, each from one of several sources.
fn memory_per_client(test_door: &TestDoor, first_bytes: &str) -> f64 {
    let connect = |number: u8| {
        let mut client = Client::connect_from([127, 0, 3, number / 20 + 1].into(), test_door.address);
        client.send(first_bytes);
        assert!([101, 200].contains(&client.answer().status));
        client
    };
    // The first ones also pay for what all of them share.
    let first: Vec<_> = (200..220).map(connect).collect();
    let before = test_door.status("VmRSS");
    let clients: Vec<_> = (0..200).map(connect).collect();
    let after = test_door.status("VmRSS");
    drop((first, clients));
    (after - before) as f64 / 200.0
}

#[test]
fn silent_clients_cost_little_memory() {
    let test_door = TestDoor::start();
    let idle = memory_per_client(&test_door, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("all have left", || stat(&test_door, "connections") == 1);
    let test_door = TestDoor::start();
    let session = memory_per_client(&test_door, &upgrade_request("", ""));
    println!("KiB for an idle connection: {idle:.1}, for a session: {session:.1}");
    assert!(idle < 8.0 && session < 12.0, "{idle:.1} KiB and {session:.1} KiB");
}

#[test]
fn requests_cost_little_time() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    let request = "POST /parties/0123456789ab/peers/alice/heartbeat HTTP/1.1\r\nHost: 192.168.1.1:8667\r\n\
                   Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
                   User-Agent: python-httpx/0.27.0\r\nAuthorization: Bearer \
                   0123456789012345678901234567890123456789012\r\nContent-Length: 0\r\n\r\n";
    let count = if cfg!(debug_assertions) { 5_000 } else { 40_000 };
    let before = test_door.cpu_ticks();
    for _ in 0..count {
        client.send(request);
        assert_eq!(client.answer().status, 200);
    }
    let after = test_door.cpu_ticks();
    let micros = (after - before).as_secs_f64() * 1e6 / f64::from(count);
    println!("us per request: {micros:.1}");
    assert!(micros < 1000.0, "{micros:.1} us");
}
