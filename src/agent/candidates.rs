//! Where we may be, for others to try; and which of their addresses are worth trying, and safe.

use crate::agent::mappings::{DestinationNumber, Destinations, NatJudgement};
use crate::agent::nat::NatProbing;
use crate::agent::network::{LocalAddress, RelayAddress, SocketWish};
use crate::agent::relays::KnownRelays;
use crate::agent::view::NatView;
use crate::datagram::Path;
use crate::subnet::Subnet;
use crate::time::{Instant, Now};
use crate::wire::endpoint::is_private_address;
use crate::wire::probe::{Candidate, CandidateKind, MAX_CANDIDATES, MAX_RELAYS, Offer, RelayDistance};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, SocketAddr};

/// Predicted ports that are offered behind a NAT that counts them up.
const PREDICTED: i32 = 4;
/// How long an offer by the control plane is at least, in characters: that is allowance for the handshakes that it asks for.
const SIGNAL_LENGTH: usize = 480;
/// The longest offer by the control plane, in characters.
const MAX_SIGNAL_LENGTH: usize = 512;
/// What stands before and behind an offer by the control plane.
const SIGNAL: [&str; 2] = ["{\"lanrage_offer\":\"", "\"}"];

/// What is known of this machine's place in the network.
pub(super) struct Locality {
    pub subnet: Subnet,
    pub relay: Option<RelayAddress>,
    pub links: Vec<LocalAddress>,
    pub mapping: Option<SocketAddr>,
    pub nat: NatProbing,
    pub relays: KnownRelays,
    /// Counts the networks that we were in.
    pub generation: u32,
    /// What of our NAT is known by their answers.
    pub judgement: NatJudgement,
    /// By how much its ports differ from one destination to the next, as first seen in this network.
    pub step: Option<i32>,
    /// Destinations that a NAT has had to make a mapping for in this network.
    pub destinations: Destinations,
    /// Additional sockets that are open for a spray.
    pub extra_sockets: u16,
    /// The one of a spray before that is kept, because a path leads through it.
    pub kept_socket: Option<u16>,
    pub wish: Option<SocketWish>,
    /// A member is not reached by the relay any more.
    pub misses_relay: bool,
    /// When somebody last began to use many ports.
    pub sprayed: Option<Instant>,
}

impl Default for Locality {
    fn default() -> Self {
        Locality {
            subnet: Subnet::DEFAULT,
            relay: None,
            links: Vec::new(),
            mapping: None,
            nat: NatProbing::default(),
            relays: KnownRelays::default(),
            generation: 0,
            judgement: NatJudgement::default(),
            step: None,
            destinations: Destinations::default(),
            extra_sockets: 0,
            kept_socket: None,
            wish: None,
            misses_relay: false,
            sprayed: None,
        }
    }
}

impl Locality {
    /// This is another network from now on. Higher than after any start before, if the clock is right.
    pub fn begin_generation(&mut self, now: Now) {
        let date = u32::try_from(now.unix.as_secs()).unwrap_or(0);
        self.generation = date.max(self.generation + 1);
        (self.destinations, self.step) = (Destinations::default(), None);
        self.relays.forget_sight();
    }

    /// Where we may be, for a member whose first address has this number among our destinations.
    pub fn offer(
        &self,
        first: Option<DestinationNumber>,
        (chooses, relays): (bool, [Option<RelayDistance>; MAX_RELAYS]),
    ) -> Offer {
        let mut candidates = [None; MAX_CANDIDATES];
        let mut count = 0;
        let mut add = |kind, address: SocketAddr| {
            let known = candidates.iter().flatten().any(|known: &Candidate| known.address == address);
            if !known && count < MAX_CANDIDATES {
                candidates[count] = Some(Candidate { kind, address });
                count += 1;
            }
        };
        if let Some(mapping) = self.mapping {
            add(CandidateKind::Mapped, mapping);
        }
        let links = self.links.iter().map(|link| link.address);
        let (near, wide): (Vec<_>, Vec<_>) = links.partition(|address| is_private_address(address.ip()));
        wide.into_iter().take(2).for_each(|address| add(CandidateKind::Local, address));
        let NatView { kind, public, others, port_step, .. } = self.judgement.view;
        let first = first.unwrap_or(self.destinations.next());
        let mut foreseen = self.judgement.foreseen(first, PREDICTED).peekable();
        let seen = public.filter(|_| foreseen.peek().is_none());
        // Where that depends on the destination, it may be any of them.
        let seen = seen.into_iter().chain(foreseen).chain(others.into_iter().flatten());
        seen.for_each(|address| add(CandidateKind::Public, address));
        near.into_iter().for_each(|address| add(CandidateKind::Local, address));
        Offer {
            generation: self.generation,
            nat: kind,
            port_step: port_step.and_then(|step| i16::try_from(step).ok()).unwrap_or(0),
            candidates,
            chooses,
            relays,
        }
    }

    /// Whether a member that says to be at `address` is worth a probe there, and nobody is harmed by it.
    pub fn accepts(&self, address: SocketAddr) -> bool {
        let is_relay = self.relay.is_some_and(|relay| {
            let ports = [Some(relay.endpoint.port()), relay.stun_port];
            relay.endpoint.ip() == address.ip() && ports.contains(&Some(address.port()))
        });
        let is_ours = self.links.iter().any(|link| link.address == address);
        if address.port() == 0
            || is_relay
            || self.relays.has(address)
            || is_ours
            || !self.is_unicast(address.ip())
        {
            return false;
        }
        self.is_reachable(address)
    }

    /// Whether a relay that the control plane lists there may be asked: whoever registered it may mean somebody else.
    pub fn accepts_relay(&self, address: SocketAddr) -> bool {
        let is_ours = self.links.iter().any(|link| link.address == address);
        let is_sane = address.port() != 0 && !is_ours && self.is_unicast(address.ip());
        is_sane && self.is_reachable(address) && self.has_family_of(address)
    }

    fn is_reachable(&self, address: SocketAddr) -> bool {
        // In somebody else's house the same private address is another machine.
        !is_private_address(address.ip()) || self.is_near(address)
    }

    /// Whether it is the address of one machine, and outside the tunnel.
    pub fn is_unicast(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let is_inside = (self.subnet.network()..=self.subnet.broadcast()).contains(&ip);
                let [first, ..] = ip.octets();
                !is_inside && first != 0 && first < 224 && !ip.is_loopback() && !ip.is_link_local()
            }
            IpAddr::V6(ip) => {
                !ip.is_unspecified()
                    && !ip.is_loopback()
                    && !ip.is_multicast()
                    && !ip.is_unicast_link_local()
                    && ip.to_ipv4_mapped().is_none()
            }
        }
    }

    /// Whether it is in a network that this machine is in itself.
    pub fn is_near(&self, address: SocketAddr) -> bool {
        self.links.iter().any(|link| is_near(link, address.ip()))
    }

    /// The way to the relay.
    pub fn relay_path(&self) -> Option<Path> {
        self.relay.map(|relay| Path::to(relay.endpoint))
    }

    /// Whether we are in a network at all.
    pub fn has_family_of(&self, address: SocketAddr) -> bool {
        self.links.is_empty() || self.links.iter().any(|link| link.address.is_ipv4() == address.is_ipv4())
    }
}

fn is_near(link: &LocalAddress, ip: IpAddr) -> bool {
    let (own, other, width) = match (link.address.ip(), ip) {
        (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let shift = u32::from(width - link.prefix.min(width));
    u128::checked_shr(own, shift) == u128::checked_shr(other, shift)
}

/// The text of an offer for the control plane.
pub(super) fn write_signal(offer: &[u8]) -> String {
    let text = format!("{}{}{}", SIGNAL[0], STANDARD.encode(offer), SIGNAL[1]);
    format!("{text:<SIGNAL_LENGTH$}")
}

/// The offer's bytes in a text that came by the control plane.
pub(super) fn read_signal(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_SIGNAL_LENGTH {
        return None;
    }
    let text = text.trim().strip_prefix(SIGNAL[0])?.strip_suffix(SIGNAL[1])?;
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use crate::crypto::x25519::PrivateKey;

    fn here() -> Locality {
        let key = PrivateKey::generate().public_key();
        let endpoint = "198.51.100.1:51820".parse().unwrap();
        let link = |text: &str, prefix| LocalAddress { address: text.parse().unwrap(), prefix };
        Locality {
            subnet: Subnet::DEFAULT,
            relay: Some(RelayAddress { endpoint, stun_port: Some(51821), key }),
            links: vec![link("192.168.1.7:4000", 24), link("[2001:db8::7]:4000", 64)],
            mapping: None,
            nat: NatProbing::default(),
            generation: 1,
            ..Locality::default()
        }
    }

    #[test]
    fn what_harms_or_leads_nowhere_is_refused() {
        let here = here();
        for bad in [
            "10.66.3.4:5",
            "127.0.0.1:5",
            "0.0.0.0:5",
            "0.1.2.3:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "240.0.0.1:5",
            "169.254.1.1:5",
            "192.0.2.1:0",
            "[::1]:5",
            "[::]:5",
            "[ff02::1]:5",
            "[fe80::1]:5",
            "[::ffff:192.0.2.1]:5",
            "198.51.100.1:51820",
            "198.51.100.1:51821",
            "192.168.1.7:4000",
            "192.168.2.9:5",
            "172.16.0.1:5",
            "100.64.0.1:5",
            "[fd00::1]:5",
        ] {
            assert!(!here.accepts(bad.parse().unwrap()), "{bad}");
        }
        for good in ["192.0.2.1:5", "198.51.100.1:40000", "192.168.1.9:5", "[2001:db8::9]:5", "100.1.2.3:4"] {
            assert!(here.accepts(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn signals_are_read_as_they_are_written_and_nothing_else() {
        let text = write_signal(&[1, 3, 0, 0, 9]);
        assert_eq!(read_signal(&text), Some(vec![1, 3, 0, 0, 9]));
        for bad in ["", "{}", "{\"lanrage_offer\":5}", "{\"lanrage_offer\":\"é\"}", &text[1..480]] {
            assert_eq!(read_signal(bad), None, "{bad}");
        }
        assert_eq!(read_signal(&write_signal(&[0; 600])), None);
        let mut random = Seeded::new(3);
        for _ in 0..20_000 {
            let mut bytes = text.clone().into_bytes();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(128) as u8;
            let _ = read_signal(&String::from_utf8(bytes).unwrap());
        }
    }
}
