//! Two network namespaces and the wire between them: the servers in one, those who use them in the other.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;

/// Where the servers are.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// How many addresses there are for players.
pub const PLAYERS: usize = 32;

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().expect("the ip command");
    assert!(done.success(), "ip {words}");
}

/// Lets the kernel forward between those behind `interface`, where this is called.
pub fn forward(interface: &str) {
    // Packets leave by the interface that they came by, and nobody shall be told of a shorter way.
    let quiet = format!("conf/{interface}/send_redirects");
    for (setting, value) in [("ip_forward", "1"), ("conf/all/send_redirects", "0"), (&quiet, "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("a setting of the kernel");
    }
}

/// The namespaces. The thread that makes them is in that of the players; they go when this is dropped.
pub struct Network {
    names: [String; 2],
    servers: File,
    players: File,
    before: File,
}

impl Network {
    pub fn new() -> Self {
        let names = ["servers", "players"].map(|name| format!("lanrage-{name}-{}", std::process::id()));
        for name in &names {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        let [servers, players] = &names;
        ip(&format!("link add wire netns {servers} type veth peer name wire netns {players}"));
        ip(&format!("-n {servers} addr add {SERVER}/16 dev wire"));
        for player in 0..PLAYERS {
            ip(&format!("-n {players} addr add {}/16 dev wire", player_address(player)));
        }
        for name in &names {
            ip(&format!("-n {name} link set wire up"));
        }
        let open = |path: String| File::open(path).expect("a network namespace");
        let network = Network {
            servers: open(format!("/run/netns/{servers}")),
            players: open(format!("/run/netns/{players}")),
            before: open("/proc/thread-self/ns/net".to_owned()),
            names,
        };
        enter(&network.players);
        network
    }

    /// Does `work` where the servers are: sockets and processes made there stay there.
    pub fn among_servers<T>(&self, work: impl FnOnce() -> T) -> T {
        enter(&self.servers);
        let result = work();
        enter(&self.players);
        result
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        enter(&self.before);
        for name in &self.names {
            ip(&format!("netns del {name}"));
        }
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("moving into a network namespace");
}

fn player_address(player: usize) -> IpAddr {
    IpAddr::from([10, 99, 1, player as u8 + 1])
}

/// An address of a player, with any port.
pub fn player(player: usize) -> SocketAddr {
    assert!(player < PLAYERS);
    SocketAddr::new(player_address(player), 0)
}
