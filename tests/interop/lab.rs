//! Hosts, networks and NATs out of network namespaces. All that a lab makes is inside of them and goes with it.

use crate::harness::directory::unique;
use crate::harness::namespace::{Namespace, feed};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// Connects an interface of this name to a bridge elsewhere. Gives the port there that its cable is in.
fn plug(host: &Namespace, interface: &str, switch: &Namespace, bridge: &str) -> String {
    let port = unique();
    host.ip(&format!("link add {interface} type veth peer name {port} netns {}", switch.name()));
    switch.ip(&format!("link set {port} master {bridge} up"));
    host.ip(&format!("link set {interface} up"));
    port
}

/// Gives a host these rules for packets.
fn filter(host: &Namespace, rules: &str) {
    feed(&format!("ip netns exec {} nft -f -", host.name()), rules);
}

/// Has a host send every datagram that is for this UDP port twice from now on.
pub fn stutter(host: &Namespace, port: u16) {
    let rules = format!(
        "add table ip stutter\nadd chain ip stutter out {{ type filter hook output priority 0; }}\n\
         add rule ip stutter out udp dport {port} dup to ip daddr device \"eth0\"\n"
    );
    filter(host, &rules);
}

/// Has a host lose every packet that comes from there from now on.
pub fn deafen(host: &Namespace, source: Ipv4Addr) {
    let rules = format!(
        "table ip deaf {{ chain in {{ type filter hook input priority 0; ip saddr {source} drop; }}\n}}\n"
    );
    filter(host, &rules);
}

/// It does not any more.
pub fn cure(host: &Namespace) {
    filter(host, "delete table ip deaf\n");
}

/// The address of the public host with this number.
pub fn public_ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// Its IPv6 address.
pub fn public_ip6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// How a NAT chooses the port of a new mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// The client's own, if that is free.
    Preserving,
    /// Any, another one for each destination.
    Symmetric,
}

/// A router with a NAT, and the network behind it.
#[derive(Debug)]
pub struct Nat {
    router: Namespace,
    /// The network's first three octets.
    lan: &'static str,
}

impl Nat {
    fn new(router: Namespace, lan: &'static str, mapping: Mapping) -> Self {
        router.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        router.ip("link add lan type bridge");
        router.ip(&format!("addr add {lan}.1/24 dev lan"));
        router.ip("link set lan up");
        let nat = Nat { router, lan };
        nat.set(mapping, None);
        nat
    }

    fn connect(&self, number: u8) -> Namespace {
        let (host, lan) = (Namespace::new(), self.lan);
        plug(&host, "eth0", &self.router, "lan");
        host.ip(&format!("addr add {lan}.{number}/24 dev eth0"));
        host.ip(&format!("route add default via {lan}.1"));
        host
    }

    /// A host behind it.
    pub fn host(&self, number: u8) -> Rc<Namespace> {
        Rc::new(self.connect(number))
    }

    /// A home's NAT behind it, as where a provider has one of its own.
    pub fn home(&self, number: u8, mapping: Mapping) -> Nat {
        Nat::new(self.connect(number), "192.168.7", mapping)
    }

    /// From now on it is an address-restricted cone for the host with this number: whoever that has sent something to gets
    /// through from any port.
    pub fn restrict_by_address(&self, number: u8) {
        let rules = format!(
            "table ip cone {{\n set known {{ type ipv4_addr; flags dynamic,timeout; timeout 2m; }}\n\
             chain out {{ type filter hook forward priority 0; oifname eth0 meta l4proto udp update @known {{ ip daddr }}; }}\n\
             chain in {{ type nat hook prerouting priority -100; iifname eth0 ip saddr @known udp dport 1024-65535 \
             dnat to {}.{number}; }}\n}}\n",
            self.lan
        );
        filter(&self.router, &rules);
    }

    /// From now on it gives the one socket behind it this port for datagrams to that address, whichever port they are for.
    pub fn map_by_address(&self, to: Ipv4Addr, port: u16) {
        let how = format!("masquerade to :{port}");
        filter(&self.router, &format!("insert rule ip nat out ip daddr {to} meta l4proto udp {how}\n"));
    }

    /// From now on it sends by a second line, with the public address of this number, what is for `to`.
    pub fn add_line(&self, number: u8, to: Ipv4Addr) {
        let own = public_ip(number);
        self.router.ip(&format!("addr add {own}/24 dev eth0"));
        filter(&self.router, &format!("insert rule ip nat out ip daddr {to} snat to {own}\n"));
    }

    /// From now on it drops the UDP packets from and to `other` for which this holds: all, if it is empty.
    pub fn hinder(&self, other: Ipv4Addr, condition: &str) {
        let rules = format!(
            "table ip weather {{ chain forward {{ type filter hook forward priority -10; meta l4proto udp ip saddr {other} \
             {condition} drop; meta l4proto udp ip daddr {other} {condition} drop; }}\n}}\n"
        );
        filter(&self.router, &rules);
    }

    /// It does not any more.
    pub fn clear(&self) {
        filter(&self.router, "delete table ip weather\n");
    }

    /// Gives it the public address of this number instead of that one, as a provider does.
    pub fn readdress(&self, from: u8, to: u8) {
        self.router.ip(&format!("addr del {}/24 dev eth0", public_ip(from)));
        self.router.ip(&format!("addr add {}/24 dev eth0", public_ip(to)));
    }

    /// Forgets its mappings, as after a restart, and makes new ones like this, on these ports only if told so. What nobody
    /// inside has asked for is dropped, as routers do: an answer to it would keep its port from whoever is inside.
    pub fn set(&self, mapping: Mapping, ports: Option<&str>) {
        let to = ports.map_or(String::new(), |ports| format!(" to :{ports}"));
        let how = match mapping {
            Mapping::Preserving => "",
            Mapping::Symmetric => " random,fully-random",
        };
        let rules = format!(
            "add table ip nat\nflush table ip nat\nadd chain ip nat out {{ type nat hook postrouting priority 100; }}\n\
             add rule ip nat out oifname \"eth0\" meta l4proto {{ tcp, udp }} masquerade{to}{how}\n\
             add rule ip nat out oifname \"eth0\" masquerade\n\
             add chain ip nat in {{ type filter hook input priority 0; }}\n\
             add rule ip nat in iifname \"eth0\" meta l4proto udp drop\n"
        );
        filter(&self.router, &rules);
        self.forget();
    }

    /// Forgets its mappings.
    pub fn forget(&self) {
        self.router.run("conntrack -F");
    }
}

/// The internet: one network with public hosts.
#[derive(Debug)]
pub struct Lab(Namespace);

impl Lab {
    pub fn new() -> Self {
        let internet = Namespace::new();
        internet.ip("link add wan type bridge");
        internet.ip("link set wan up");
        Lab(internet)
    }

    /// A host with a public address.
    pub fn host(&self, number: u8) -> Rc<Namespace> {
        Rc::new(self.public(number))
    }

    /// A host without any network; even its loopback interface is down.
    pub fn unplugged(&self) -> Rc<Namespace> {
        let host = self.bare();
        host.ip("link set lo down");
        host
    }

    /// A host that is connected to nothing.
    pub fn bare(&self) -> Rc<Namespace> {
        Rc::new(Namespace::new())
    }

    /// Connects an interface of a host, without addresses. Gives the port that its cable is in.
    pub fn plug(&self, host: &Namespace, interface: &str) -> String {
        plug(host, interface, &self.0, "wan")
    }

    /// Gives a host the public IPv4 address of this number. Gives the port that its cable is in.
    pub fn connect(&self, host: &Namespace, number: u8) -> String {
        let port = self.plug(host, "eth0");
        host.ip(&format!("addr add {}/24 dev eth0", public_ip(number)));
        port
    }

    /// Pulls the cable out of a port: the interface at its other end has no carrier.
    pub fn pull(&self, port: &str) {
        self.0.ip(&format!("link set {port} down"));
    }

    /// Puts it in again.
    pub fn put_in(&self, port: &str) {
        self.0.ip(&format!("link set {port} up"));
    }

    fn public(&self, number: u8) -> Namespace {
        let host = Namespace::new();
        self.connect(&host, number);
        host.ip(&format!("addr add {}/64 dev eth0 nodad", public_ip6(number)));
        host
    }

    /// A NAT with a public address.
    pub fn nat(&self, number: u8, mapping: Mapping) -> Nat {
        Nat::new(self.public(number), "198.51.100", mapping)
    }
}
