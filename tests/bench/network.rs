//! Two network namespaces and the wire between them: the servers in one, those who use them in the other.

use super::harness::namespace::{Namespace, enter};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the servers are.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// How many addresses there are for players.
pub const PLAYERS: usize = 32;

/// Lets the kernel forward between those behind `interface`, where this is called.
pub fn forward(interface: &str) {
    // Packets leave by the interface that they came by, and nobody shall be told of a shorter way.
    let quiet = format!("conf/{interface}/send_redirects");
    for (setting, value) in [("ip_forward", "1"), ("conf/all/send_redirects", "0"), (&quiet, "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("a setting of the kernel");
    }
}

/// The namespaces. The thread that makes them is in that of the players until this is dropped.
pub struct Network {
    servers: Namespace,
    players: Namespace,
    before: File,
}

impl Network {
    pub fn new() -> Self {
        let before = File::open("/proc/thread-self/ns/net").expect("a network namespace");
        let network = Network { servers: Namespace::new(), players: Namespace::new(), before };
        let Network { servers, players, .. } = &network;
        servers.ip(&format!("link add wire type veth peer name wire netns {}", players.name()));
        servers.ip(&format!("addr add {SERVER}/16 dev wire"));
        for player in 0..PLAYERS {
            players.ip(&format!("addr add {}/16 dev wire", player_address(player)));
        }
        for namespace in [servers, players] {
            namespace.ip("link set wire up");
        }
        players.enter();
        network
    }

    /// Does `work` where the servers are: sockets and processes made there stay there.
    pub fn among_servers<T>(&self, work: impl FnOnce() -> T) -> T {
        self.servers.enter();
        let result = work();
        self.players.enter();
        result
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        enter(&self.before);
    }
}

fn player_address(player: usize) -> IpAddr {
    IpAddr::from([10, 99, 1, player as u8 + 1])
}

/// An address of a player, with any port.
pub fn player(player: usize) -> SocketAddr {
    assert!(player < PLAYERS);
    SocketAddr::new(player_address(player), 0)
}
