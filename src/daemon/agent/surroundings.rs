//! The machine around the agent: its interface in the virtual LAN, its addresses, and its sleep.

use super::{
    AgentError, AgentLoop, Duration, IpAddr, Ipv4Addr, LocalAddress, LocalInterface, MTU, NetworkWatch,
    PartyAnswer, SocketAddr, Subnet, Tun, TunSettings,
};
use crate::daemon::clock::{monotonic_micros, now};
use crate::sys::interface::{Interface, name_of, number_of};
use crate::sys::netlink::{InterfaceAddress, Ipv4Route, Netlink};
use async_io::Async;
use rustix::io::Errno;
use smol::Timer;
use std::rc::Rc;

/// What discovery of games is sent to besides the subnet's own broadcast address; without these routes it would leave by
/// the interface to the internet.
const FOR_ALL: [(Ipv4Addr, u8); 2] = [(Ipv4Addr::BROADCAST, 32), (Ipv4Addr::new(224, 0, 0, 0), 4)];
/// After the first word of a change, for the others to come.
const SETTLE: Duration = Duration::from_millis(200);
/// A machine that has slept for less has missed nothing, in microseconds.
const SLEPT: i64 = 2_000_000;

/// How long the machine has slept since it was started, in microseconds.
pub(super) fn sleep_so_far() -> i64 {
    let since_boot = now().instant.as_nanos() / 1000;
    since_boot as i64 - monotonic_micros() as i64
}

/// What a route of this machine means for the virtual LAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overlap {
    /// Nothing.
    None,
    /// The virtual LAN hides a part of a real network.
    Hides,
    /// A real network hides a part of the virtual LAN.
    Hidden,
}

fn overlap(subnet: Subnet, route: Ipv4Route) -> Overlap {
    let shared = subnet.prefix().min(route.prefix);
    let mask = u32::MAX.unbounded_shl(32 - u32::from(shared));
    let is_apart = (subnet.hub().to_bits() ^ route.destination.to_bits()) & mask != 0;
    match route.prefix {
        // The way to the internet.
        0 | 1 => Overlap::None,
        _ if is_apart => Overlap::None,
        prefix if prefix < subnet.prefix() => Overlap::Hides,
        _ => Overlap::Hidden,
    }
}

impl AgentLoop {
    /// Makes the interface; our address there.
    pub(super) fn open_interface(&self, party: &PartyAnswer) -> Result<Ipv4Addr, AgentError> {
        let (Some(network), name) = (&party.network, &self.interface) else {
            return Err(AgentError::Owner("the server gives no addresses".into()));
        };
        let Some(address) = network.virtual_ip else {
            return Err(AgentError::Owner("the server gives us no address".into()));
        };
        self.look_for_overlaps(network.subnet)?;
        let (prefix, offload) = (network.subnet.prefix(), self.offload);
        let settings = TunSettings { name: name.clone(), address, prefix, mtu: MTU, offload };
        let tun = Tun::open(settings).map_err(|error| {
            let root = if rustix::process::geteuid().is_root() { "" } else { "; run this with sudo" };
            AgentError::Owner(format!("{error}{root}"))
        })?;
        *self.local.borrow_mut() = Some(Rc::new(LocalInterface::new(tun)));
        self.add_routes();
        self.tell_links(true);
        Ok(address)
    }

    fn look_for_overlaps(&self, subnet: Subnet) -> Result<(), AgentError> {
        let routes = match Netlink::new().and_then(|mut netlink| netlink.routes()) {
            Ok(routes) => routes,
            Err(errno) => {
                log::debug!("routes can't be read: {errno}");
                return Ok(());
            }
        };
        let own = number_of(&self.interface).ok();
        for route in routes.into_iter().filter(|route| Some(route.interface) != own) {
            let what = format!(
                "{}/{} on {}",
                route.destination,
                route.prefix,
                name_of(route.interface).unwrap_or_default()
            );
            match overlap(subnet, route) {
                Overlap::None => (),
                Overlap::Hides => {
                    log::warn!("{what} contains the party's network {subnet}, which now comes first")
                }
                Overlap::Hidden => {
                    return Err(AgentError::Owner(format!(
                        "this machine is in a network {what} already, which overlaps the party's {subnet}: leave that \
                         network, or have the server use another one (`subnet` in its settings)"
                    )));
                }
            }
        }
        Ok(())
    }

    fn add_routes(&self) {
        let Some(interface) = number_of(&self.interface).ok() else { return };
        let add = |(destination, prefix)| {
            let route = Ipv4Route { interface, destination, prefix, gateway: None };
            Netlink::new()?.add_route(route)
        };
        for (destination, prefix) in FOR_ALL {
            match add((destination, prefix)) {
                Ok(()) | Err(Errno::NETDOWN) => (),
                Err(errno) => {
                    log::warn!("no route for {destination}/{prefix}, so some games find nobody: {errno}")
                }
            }
        }
    }

    /// The server gives us another address than before.
    pub(super) fn readdress(&self, party: &PartyAnswer) {
        let address = party.network.as_ref().and_then(|network| network.virtual_ip);
        let (Some(address), true) = (address, self.local.borrow().is_some()) else { return };
        let set = Interface::named(&self.interface).and_then(|interface| {
            if interface.address() == Ok(address) { Ok(()) } else { interface.set_address(address) }
        });
        if let Err(errno) = set {
            log::warn!("the interface can't be given {address}: {errno}");
        }
    }

    /// Makes the interface anew whenever it is gone, for ever.
    pub(super) async fn keep_local(&self) {
        let local = self.local.borrow().clone();
        if let Some(local) = local {
            local.keep().await;
        }
    }

    /// Tells the agent of this machine's addresses whenever they change, for ever.
    pub(super) async fn keep_links(self: Rc<Self>) {
        let watch = NetworkWatch::new().map_err(std::io::Error::from).and_then(Async::new_nonblocking);
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => return log::warn!("changes of the network go unnoticed: {error}"),
        };
        loop {
            if watch.readable().await.is_err() {
                Timer::after(SETTLE).await;
            }
            if watch.get_ref().take() {
                Timer::after(SETTLE).await;
                watch.get_ref().take();
                self.notice_sleep();
                self.add_routes();
                self.tell_links(false);
            }
        }
    }

    /// Tells the agent of this machine's addresses, if they are others than before or `anyway`.
    pub(super) fn tell_links(&self, anyway: bool) {
        let port = self.socket.borrow().socket.address().port();
        let links = match local_addresses(port, &self.interface) {
            Ok(links) => links,
            Err(errno) => return log::debug!("addresses can't be read: {errno}"),
        };
        if *self.links.borrow() == links && !anyway {
            return;
        }
        let is_first = self.links.replace(links.clone()).is_empty();
        self.agent.borrow_mut().set_links(&links, (self.clock)());
        self.socket.borrow().outbox.borrow_mut().look_again();
        self.moved.ring();
        if !is_first {
            log::info!("the network of this machine has changed");
            self.hurry();
        }
        self.poll_agent();
    }

    /// Notices that the machine has slept.
    pub(super) fn notice_sleep(&self) {
        let slept = sleep_so_far();
        if slept - self.slept.replace(slept) > SLEPT {
            log::info!("this machine has slept");
            self.agent.borrow_mut().resume((self.clock)());
            self.hurry();
        }
    }
}

/// This machine's addresses with this port, but for those of the interface `own`.
pub(super) fn local_addresses(port: u16, own: &str) -> Result<Vec<LocalAddress>, Errno> {
    let own = number_of(own).ok();
    let found = Netlink::new()?.addresses()?.into_iter();
    let usable = found.filter(|found| Some(found.interface) != own && is_usable(found));
    let with_port = |found: InterfaceAddress| LocalAddress {
        address: SocketAddr::new(found.address, port),
        prefix: found.prefix,
    };
    Ok(usable.map(with_port).collect())
}

/// Whether others can reach us at an address.
fn is_usable(found: &InterfaceAddress) -> bool {
    // Not yet known to be ours alone (IFA_F_TENTATIVE, IFA_F_DADFAILED), or about to go (IFA_F_DEPRECATED).
    if found.flags & (0x40 | 0x08 | 0x20) != 0 {
        return false;
    }
    match found.address {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_overlap_are_told_apart() {
        let of = |destination: &str, prefix| {
            let route =
                Ipv4Route { interface: 1, destination: destination.parse().unwrap(), prefix, gateway: None };
            overlap(Subnet::DEFAULT, route)
        };
        assert_eq!(of("0.0.0.0", 0), Overlap::None);
        assert_eq!(of("192.168.1.0", 24), Overlap::None);
        assert_eq!(of("10.67.0.0", 16), Overlap::None);
        assert_eq!(of("10.0.0.0", 8), Overlap::Hides);
        assert_eq!(of("10.66.0.0", 16), Overlap::Hidden);
        assert_eq!(of("10.66.7.0", 24), Overlap::Hidden);
        assert_eq!(of("10.66.0.9", 32), Overlap::Hidden);
    }

    #[test]
    fn addresses_that_others_can_not_reach_are_left_out() {
        let usable = |text: &str, flags| {
            let address = text.parse().unwrap();
            is_usable(&InterfaceAddress { interface: 1, address, prefix: 24, flags })
        };
        assert!(usable("192.168.1.2", 0x80) && usable("2001:db8::1", 0));
        assert!(
            !usable("127.0.0.1", 0)
                && !usable("169.254.1.1", 0)
                && !usable("fe80::1", 0)
                && !usable("::1", 0)
        );
        assert!(!usable("2001:db8::1", 0x40), "tentative");
    }
}
