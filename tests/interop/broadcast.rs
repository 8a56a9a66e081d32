//! Games look for each other by UDP broadcast.

use crate::blind::party;
use crate::harness::namespace::Namespace;
use crate::hub::use_hub;
use crate::lab::Lab;
use crate::player::Player;
use crate::server::Server;
use lanrage::relay::limits::RelayLimits;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Where a game announces itself, and listens.
pub const GAME: u16 = 27_015;

/// A game's socket, on all addresses of a host.
pub fn game_on(host: &Namespace) -> UdpSocket {
    let socket = host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GAME)).unwrap());
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// What comes in time, and from whom. A system hears its own broadcasts, which does not count.
pub fn hear(socket: &UdpSocket, own: Ipv4Addr) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2000];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        if from.ip() != own {
            return Some((buffer[..length].to_vec(), from));
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn games_find_each_other() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, (10..13).map(|number| lab.host(number)).collect());
    let hosts = [lab.host(14), lab.host(15)];
    let first = server.create(&hosts[0], "outsider");
    let second = server.join(&hosts[1], "outsider2", &first.party);
    let outsider: Vec<_> =
        [first, second].into_iter().zip(hosts).map(|(it, host)| Player::new(it, host)).collect();
    use_hub(&server, &players);
    use_hub(&server, &outsider);
    let games: Vec<_> = players.iter().map(|player| game_on(&player.host)).collect();
    let other_games: Vec<_> = outsider.iter().map(|player| game_on(&player.host)).collect();
    // What the README asks of players: that the tunnel takes broadcasts, and that they go there.
    for player in players.iter().chain(&outsider) {
        player.add_hub(&server.hub_key, "10.66.0.0/16,255.255.255.255/32");
        player.route("255.255.255.255/32");
    }
    for to in [[255, 255, 255, 255], [10, 66, 255, 255]] {
        let announcement = format!("a game for {to:?}");
        games[0].send_to(announcement.as_bytes(), (Ipv4Addr::from(to), GAME)).unwrap();
        for (game, player) in games.iter().zip(&players).skip(1) {
            let (said, from) = hear(game, player.member.ip).expect("everybody in the party hears it");
            assert_eq!(said, announcement.as_bytes());
            assert_eq!(from, SocketAddr::from((players[0].member.ip, GAME)));
            game.send_to(b"count me in", from).unwrap();
            assert_eq!(
                hear(&games[0], players[0].member.ip).expect("the answer finds its way").0,
                b"count me in"
            );
        }
        assert_eq!(hear(&other_games[0], outsider[0].member.ip), None, "another party");
    }
    // It is not deaf.
    other_games[1].send_to(b"another game", (Ipv4Addr::BROADCAST, GAME)).unwrap();
    assert_eq!(hear(&other_games[0], outsider[0].member.ip).expect("its own party").0, b"another game");
    assert_eq!(hear(&games[1], players[1].member.ip), None);
    assert_eq!(server.owner().metric("lanrage_relay_packets_total{kind=\"broadcast\"}"), 5);

    // A game gone wild: what exceeds its share reaches nobody, and all hear the same.
    let begun = Instant::now();
    for number in 0..400u32 {
        games[0].send_to(&number.to_be_bytes(), (Ipv4Addr::BROADCAST, GAME)).unwrap();
    }
    let counts: Vec<usize> =
        [1, 2].map(|at| std::iter::from_fn(|| hear(&games[at], players[at].member.ip)).count()).into();
    let limits = RelayLimits::default().broadcasts_per_member;
    let most = limits.burst as usize + begun.elapsed().as_secs() as usize * 30 + 30;
    println!("of 400 broadcasts at once the others heard {counts:?}");
    assert!(counts.iter().all(|&count| count >= 40 && count <= most), "{counts:?}, at most {most}");
    assert!(server.dropped("broadcast_limit") >= (400 - most) as u64);
    assert_eq!(hear(&other_games[0], outsider[0].member.ip), None, "another party");
    // Its share comes back, and the others always had theirs.
    for (from, to) in [(1, 2), (0, 1)] {
        games[from].send_to(b"again", (Ipv4Addr::BROADCAST, GAME)).unwrap();
        assert_eq!(hear(&games[to], players[to].member.ip).expect("it is heard").0, b"again");
    }
}
