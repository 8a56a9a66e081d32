//! Strangers who take what they can get of the control plane, and honest people who come meanwhile.

use crate::client::{Client, connect_from, join_body, text};
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// Speaks for anybody, where it is configured.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TRUSTED: (&str, &str) = ("trusted_proxies", "127.0.0.2");
/// What a commit takes along of what others' silence changed, in bytes.
const LAZY: u64 = 10_000;
/// What honest people need at most.
const SOON: Duration = Duration::from_secs(2);

/// A connection whose requests come from `source`, as the proxy says.
fn from(daemon: &TestDaemon, source: &str) -> Client {
    Client::forwarded(PROXY, daemon.http, source)
}

/// An address of a network of its own.
fn stranger(network: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, u8::try_from(network).unwrap(), 1)
}

/// A peer that is as long as it may be, under a name and a key that depend on `number`.
fn large_peer(id: &str, number: usize) -> String {
    let name =
        format!("{number}").chars().chain(std::iter::repeat('\u{1F600}')).take(100).collect::<String>();
    let key = format!("{number}").chars().chain(std::iter::repeat('\u{1F600}')).take(128).collect::<String>();
    let word = "\u{1F600}".repeat(64);
    format!(
        "{{\"peer_id\":\"{id}\",\"name\":\"{name}\",\"public_key\":\"{key}\",\"public_ip\":\"{word}\",\
         \"local_ip\":\"{word}\"}}"
    )
}

fn large_join(party: &str, id: &str, number: usize) -> String {
    format!("{{\"party_id\":\"{party}\",\"peer_info\":{}}}", large_peer(id, number))
}

/// A sample of `/metrics` about a table.
fn used(daemon: &TestDaemon, table: &str) -> u64 {
    daemon.metric(&format!("lanrage_table_used{{table=\"{table}\"}}"))
}

/// What the network that has most has of a table.
fn largest(daemon: &TestDaemon, table: &str) -> u64 {
    let metrics = daemon.owner().get("/metrics").is(200).body;
    let sample = format!("lanrage_table_largest{{table=\"{table}\",network=");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&sample)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn one_stranger_does_not_wear_out_the_flash() {
    let daemon = Setup::new(&[TRUSTED, ("rates.requests", "100000/100000")]).start();
    let before = (daemon.metric("lanrage_store_commits_total"), daemon.bytes_written());
    let (mut accepted, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let mut strangers: Vec<_> = (0..4)
        .map(|number| {
            let mut client = from(&daemon, &format!("198.51.100.{number}"));
            let id = format!("s{number}");
            let party = client.register(&id).create("LAN", &id);
            (client, id, party)
        })
        .collect();
    let (start, mut round) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(4) {
        round += 1;
        for (client, id, party) in &mut strangers {
            // Another name, another key, over and over.
            let answer = client.ask("POST", &format!("/parties/{party}/join"), &large_join(party, id, round));
            match answer.status {
                200 => accepted += 1,
                429 => {
                    assert!(answer.header("Retry-After").unwrap().parse::<u64>().unwrap() > 100);
                    refused += 1;
                }
                status => panic!("{status} {}", answer.body),
            }
        }
        if round % 500 == 0 && round <= 5000 {
            let asked = Instant::now();
            let id = format!("honest{round}");
            let mut honest = from(&daemon, &format!("203.0.113.{}", round / 500));
            honest.register(&id).join(&strangers[0].2, &id).is(200);
            slowest = slowest.max(asked.elapsed());
        }
    }
    let after = (daemon.metric("lanrage_store_commits_total"), daemon.bytes_written());
    let (commits, bytes) = (after.0 - before.0, after.1 - before.1);
    let per_commit = bytes / commits.max(1);
    println!(
        "{accepted} changes taken, {refused} refused, {commits} commits of {per_commit} bytes; honest: {slowest:?}"
    );
    assert!((80..=100).contains(&accepted) && refused > 100, "{accepted} {refused}");
    assert!(commits <= 150 && slowest < SOON);
    // The burst once, and the rate for a day.
    let day = (100 + 180) * (per_commit + LAZY);
    assert!(day <= 14_000_000, "{day} bytes a day");
    // Who leaves is let go all the same, and the owner of the machine is not bound.
    let (mut client, id, party) = strangers.pop().unwrap();
    client.ask("DELETE", &format!("/parties/{party}/peers/{id}"), "").is(200);
    daemon.owner().register("owner").join(&strangers[0].2, "owner").is(200);
}

#[test]
fn tokens_make_room_for_newcomers_and_members_keep_theirs() {
    let settings = [
        TRUSTED,
        ("limits.tokens", "200"),
        ("rates.creations", "100000/100000"),
        ("rates.changes", "100000/100000"),
        ("rates.requests", "100000/100000"),
    ];
    let daemon = Setup::new(&settings).start();
    let mut host = from(&daemon, "203.0.113.1");
    let party = host.register("host").create("LAN", "host");
    let mut quiet = from(&daemon, "203.0.113.2");
    quiet.register("quiet");
    // A /48 with another address for every request, and ten networks.
    for number in 0..300 {
        let source = match number % 2 {
            0 => format!("2001:db8:7:{number:x}::1"),
            _ => format!("198.51.{}.1", number % 10),
        };
        let path = format!("/auth/register?peer_id=s{number}");
        from(&daemon, &source).ask("POST", &path, "").is(200);
        if number % 30 == 0 {
            let asked = Instant::now();
            let id = format!("late{number}");
            let mut late = from(&daemon, &format!("192.0.2.{}", number / 30));
            late.register(&id).join(&party, &id).is(200);
            assert!(asked.elapsed() < SOON);
        }
    }
    assert!(used(&daemon, "tokens") <= 200);
    assert!(largest(&daemon, "tokens") <= 50);
    host.heartbeat(&party, "host").is(200);
    quiet.get("/relays").is(200);
    assert!(daemon.say("status").contains("tokens"));
}

#[test]
fn sessions_of_strangers_make_room_and_members_keep_theirs() {
    let settings = [("limits.sessions", "64"), ("limits.sessions_per_source", "8")];
    let daemon = Setup::new(&settings).start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let mut member = Socket::of(&host, daemon.http);
    member.hear("party_update");
    // More than there is room for, from sixteen networks, that go on coming.
    let mut held = Vec::new();
    for round in 0..16 {
        for network in 0..16 {
            held.push(Socket::open_from(stranger(network), daemon.http));
        }
        let asked = Instant::now();
        let mut late = Socket::open_from(Ipv4Addr::new(127, 9, round, 1), daemon.http);
        let id = format!("late{round}");
        late.join(&party, &id);
        late.hear("party_update");
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        late.say(&format!("{{\"type\":\"leave_party\",\"party_id\":\"{party}\",\"peer_id\":\"{id}\"}}"));
        assert_eq!(text(&member.hear("peer_left"), &["peer_id"]), id);
    }
    assert!(daemon.metric("lanrage_websocket_sessions") <= 64);
    assert!(largest(&daemon, "sessions") <= 8);
}

/// A connection that asks again and again and reads nothing.
fn deaf(daemon: &TestDaemon, source: Ipv4Addr, request: &str) -> TcpStream {
    let stream = connect_from(source, daemon.http);
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    stream.set_nonblocking(true).unwrap();
    let _ = (&stream).write(request.repeat(20).as_bytes());
    stream
}

#[test]
fn connections_that_only_take_room_keep_nobody_out() {
    let daemon = TestDaemon::start();
    let half = "GET / HTTP/1.1\r\nHost: x\r\n";
    let whole = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    for (what, request) in [("half a head", half), ("nothing is read", whole)] {
        // Sixteen addresses with all that they may have: twice what there is room for.
        let mut held = Vec::new();
        for _ in 0..32 {
            held.extend((0..16).map(|network| deaf(&daemon, stranger(network), request)));
        }
        std::thread::sleep(Duration::from_millis(500));
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            held.extend((0..16).map(|network| deaf(&daemon, stranger(network), request)));
            let asked = Instant::now();
            let mut honest = Client::connect_from(Ipv4Addr::new(127, 9, number, 1), daemon.http);
            honest.get("/").is(200);
            slowest = slowest.max(asked.elapsed());
        }
        println!("{what}: {} connections, an honest one waits for {slowest:?} at most", held.len());
        assert!(slowest < SOON, "{what}: {slowest:?}");
    }
}

/// Bytes that the kernel keeps of the daemon's connections, both ways.
fn in_kernel(daemon: &TestDaemon) -> u64 {
    let port = format!(":{:04X}", daemon.http.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().filter(|local| local.ends_with(&port))?;
        let (sent, received) = fields.nth(2)?.split_once(':')?;
        Some(u64::from_str_radix(sent, 16).unwrap() + u64::from_str_radix(received, 16).unwrap())
    });
    queues.sum()
}

#[test]
fn sessions_that_read_nothing_cost_little_and_delay_nobody() {
    let settings = [("memory", "64"), ("limits.connections_per_source", "100")];
    let daemon = Setup::new(&settings).start();
    let mut host = daemon.client();
    let party = host.register("p0").create("LAN", "p0");
    let mut members = Vec::new();
    for number in 1..64 {
        let id = format!("p{number}");
        let mut client = daemon.client();
        client
            .register(&id)
            .ask("POST", &format!("/parties/{party}/join"), &large_join(&party, &id, number))
            .is(200);
        members.push(client.token.clone().unwrap());
    }
    let mut honest = Socket::of(&host, daemon.http);
    honest.hear("party_update");
    let before = daemon.memory();
    let (mut held, mut most, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let path = format!("/parties/{party}/signals");
    for (number, token) in members.iter().enumerate() {
        for session in 0..4 {
            let mut socket = Socket::deaf(stranger((4 * number + session) % 16), daemon.http);
            // Each is answered by the whole party, as long as it may be.
            let auth = format!("{{\"type\":\"auth\",\"peer_id\":null,\"token\":\"{token}\"}}");
            for _ in 0..4 {
                let _ = socket.try_say(&auth);
            }
            held.push(socket);
        }
        let asked = Instant::now();
        let mut sender = daemon.client();
        sender.token = Some(token.clone());
        sender.ask("POST", &path, r#"{"to_peer_id":"p0","signal_data":{}}"#).is(200);
        honest.hear("signal");
        slowest = slowest.max(asked.elapsed());
        most = most.max((daemon.memory() - before) * 1024 + in_kernel(&daemon));
    }
    println!("{} deaf sessions: {most} bytes more, an honest one waits for {slowest:?}", held.len());
    assert!(slowest < SOON, "{slowest:?}");
    // Of 24 MiB in all, 3 are the daemon's own, and 6 what parties may take.
    assert!(most < 15 << 20, "{most} bytes");
    assert!(used(&daemon, "buffers") <= 4 << 20);
    honest.say(&format!("{{\"type\":\"heartbeat\",\"party_id\":\"{party}\",\"peer_id\":\"p0\"}}"));
}

#[test]
fn what_is_decoded_of_a_body_counts() {
    let daemon = TestDaemon::start();
    let halves: Vec<_> = (0..8)
        .map(|number| {
            let client = Client::connect_from(stranger(number), daemon.http);
            client.send("POST /parties HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..40 {
                client.send(format!("400\r\n{}\r\n", "x".repeat(1024)));
                std::thread::sleep(Duration::from_millis(2));
            }
            client
        })
        .collect();
    crate::eventually("they are counted", || used(&daemon, "buffers") > 8 * 30 * 1024);
    drop(halves);
    crate::eventually("they are gone", || used(&daemon, "buffers") == 0);
}

#[test]
fn one_source_is_sent_no_more_than_its_share() {
    let daemon = Setup::new(&[TRUSTED, ("rates.requests", "100000/100000")]).start();
    let mut host = daemon.owner();
    let party = host.register("p0").create("LAN", "p0");
    let mut greedy = daemon.owner();
    for number in 1..64 {
        let id = format!("p{number}");
        greedy.token = None;
        greedy
            .register(&id)
            .ask("POST", &format!("/parties/{party}/join"), &large_join(&party, &id, number))
            .is(200);
    }
    let stream = connect_from(PROXY, daemon.http);
    let mut socket = Socket::over(stream.try_clone().unwrap(), "X-Forwarded-For: 198.51.100.9\r\n");
    let reader = std::thread::spawn(move || {
        let (mut stream, mut total, mut buffer) = (stream, 0, vec![0; 65536]);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => total += length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        total
    });
    let token = greedy.token.clone().unwrap();
    socket.say(&format!("{{\"type\":\"auth\",\"peer_id\":null,\"token\":\"{token}\"}}"));
    // Somebody sends it much: signals are passed on at once, and not paced as parties are.
    let signal = format!("{{\"to_peer_id\":\"p63\",\"signal_data\":{{\"x\":\"{}\"}}}}", "x".repeat(12_000));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        // Signals that find no room are refused, which is as well.
        host.ask("POST", &format!("/parties/{party}/signals"), &signal);
    }
    let total = reader.join().unwrap();
    println!("{total} bytes in 5 s");
    // 4 MiB at once, 512 KiB a second.
    assert!((1 << 20..8 << 20).contains(&total), "{total}");
    let mut honest = Socket::of(&host, daemon.http);
    honest.hear("party_update");
}

#[test]
fn parties_count_in_bytes_and_each_network_has_its_share() {
    let settings = [
        TRUSTED,
        ("memory", "16"),
        ("rates.creations", "100000/100000"),
        ("rates.changes", "100000/100000"),
        ("rates.requests", "100000/100000"),
    ];
    let daemon = Setup::new(&settings).start();
    let (before, limit) = (daemon.memory(), 16 * 1024 * 1024 / 12);
    let (mut taken, mut own_share, mut full) = (0, 0, 0);
    for network in 0..8 {
        for number in 0..200 {
            let mut client = from(&daemon, &format!("198.51.{network}.{number}"));
            let id = format!("s{network}-{number}");
            client.register(&id);
            let body = format!("{{\"name\":\"{id}\",\"host_peer_info\":{}}}", large_peer(&id, number));
            match client.ask("POST", "/parties", &body).status {
                200 => taken += 1,
                409 => own_share += 1,
                503 => full += 1,
                status => panic!("{status}"),
            }
        }
        // Until all is full, the next network gets in.
        if used(&daemon, "parties") < limit * 9 / 10 {
            let id = format!("late{network}");
            from(&daemon, &format!("203.0.{network}.1")).register(&id).create("LAN", &id);
        }
    }
    let grown = (daemon.memory() - before) * 1024;
    println!("{taken} taken, {own_share} beyond their share, {full} when full; {grown} bytes for {limit}");
    assert!(taken > 100 && own_share > 100);
    assert!(used(&daemon, "parties") <= limit && largest(&daemon, "parties") <= limit / 4);
    // The memory of 1,600 tokens, and of what was used for the first time, comes on top.
    assert!(grown <= limit + (4 << 20), "{grown}");
}

#[test]
fn refusals_are_said_once() {
    let daemon =
        Setup::new(&[TRUSTED, ("rates.requests", "100000/100000"), ("rates.creations", "100000/100000")])
            .start();
    daemon.owner().register("host").create("LAN", "host");
    for number in 0..500 {
        let source = format!("2001:db8:7:{number:x}::1");
        from(&daemon, &source).ask("POST", "/auth/register?peer_id=host", "").is(409);
    }
    let mut one = from(&daemon, "198.51.100.7");
    for _ in 0..500 {
        one.ask("POST", "/auth/register?peer_id=host", "").is(409);
    }
    let log = daemon.setup.log();
    let lines = |of: &str| log.lines().filter(|line| line.contains("refused") && line.contains(of)).count();
    assert_eq!(lines("198.51.100.7"), 1, "{log}");
    assert_eq!(lines("2001:db8:7:"), 8, "{log}");
}

#[test]
fn relays_are_registered_from_where_they_are() {
    let daemon = Setup::new(&[TRUSTED]).start();
    let body =
        |id: usize, ip: &str| format!("{{\"relay_id\":\"r{id}\",\"public_ip\":\"{ip}\",\"port\":51820}}");
    let mut stranger = from(&daemon, "203.0.113.5");
    stranger.register("stranger");
    for (ip, status) in [
        ("192.168.1.1", 403),
        ("10.0.0.1", 403),
        ("100.64.0.1", 403),
        ("169.254.1.1", 403),
        ("203.0.113.6", 403),
        ("2001:db8::1", 403),
        ("127.0.0.1", 422),
        ("224.0.0.1", 422),
        ("203.0.113.5", 200),
        ("::ffff:203.0.113.5", 200),
    ] {
        let answer = stranger.ask("POST", "/relays", &body(1, ip)).is(status);
        assert!(status != 403 || answer.detail().contains("its own address"), "{}", answer.body);
    }
    let mut guest = from(&daemon, "2001:db8:1:2::3");
    guest.register("guest").ask("POST", "/relays", &body(2, "2001:db8:1:2::99")).is(200);
    guest.ask("POST", "/relays", &body(3, "2001:db8:1:3::99")).is(403);
    // One at home has the address that it is reached at from there.
    let mut near = from(&daemon, "192.168.1.9");
    near.register("near").ask("POST", "/relays", &body(4, "192.168.1.9")).is(200);
    let mut owner = daemon.owner();
    owner.register("owner").ask("POST", "/relays", &body(5, "198.51.100.44")).is(200);
    let listed = owner.get("/relays").is(200).body;
    for (ip, times) in [("203.0.113.5", 1), ("192.168.1.1\"", 0), ("192.168.1.9", 1), ("198.51.100.44", 1)] {
        assert_eq!(listed.matches(ip).count(), times, "{ip} in {listed}");
    }
    // However many registrations there are, an address has few.
    let mut taken = 0;
    for number in 10..40 {
        let mut client = from(&daemon, "203.0.113.7");
        let answer =
            client.register(&format!("s{number}")).ask("POST", "/relays", &body(number, "203.0.113.7"));
        taken += usize::from(answer.status == 200);
    }
    assert_eq!(taken, 16);
}

#[test]
fn a_change_reaches_everybody_while_a_stranger_rejoins() {
    let daemon = Setup::new(&[TRUSTED]).start();
    let mut host = daemon.owner();
    let party = host.register("host").create("LAN", "host");
    let mut honest = from(&daemon, "203.0.113.9");
    honest.register("bob").join(&party, "bob").is(200);
    let mut listener = Socket::of(&honest, daemon.http);
    listener.hear("party_update");
    let mut stranger = from(&daemon, "198.51.100.7");
    stranger.register("s");
    for number in 0..150 {
        let body = join_body(&party, "s").replace("\"Me\"", &format!("\"{number}\""));
        stranger.ask("POST", &format!("/parties/{party}/join"), &body);
    }
    let start = Instant::now();
    let body = join_body(&party, "bob").replace("\"Me\"", "\"Robert\"");
    honest.ask("POST", &format!("/parties/{party}/join"), &body).is(200);
    while text(&listener.hear("party_update"), &["party", "peers", "bob", "name"]) != "Robert" {}
    assert!(start.elapsed() < SOON);
}
