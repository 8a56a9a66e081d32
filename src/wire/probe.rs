//! What agents tell each other inside WireGuard's transport messages. The first byte is no version of IP, so that it is never
//! taken for a packet, and on the wire it looks as any data does.
//!
//! ```text
//! | 1 | kind | flags | count | id, 4 bytes | fields |
//! ```
//!
//! Numbers are little-endian, but ports. What follows the fields is padding.

use crate::wire::nat_type::NatType;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The shortest PING, in bytes, so that its PONG is no longer.
pub const PING_LENGTH: usize = 32;
/// The longest probe that is written here, in bytes, but for a PING's padding.
pub const MAX_PROBE_LENGTH: usize =
    HEADER_LENGTH + 8 + MAX_CANDIDATES * ADDRESS_LENGTH + MAX_RELAYS * RELAY_LENGTH;
/// Candidates in one OFFER, addresses in one HEARING.
pub const MAX_CANDIDATES: usize = 8;
/// Relays in one OFFER.
pub const MAX_RELAYS: usize = 4;

const VERSION: u8 = 1;
const HEADER_LENGTH: usize = 8;
const ADDRESS_LENGTH: usize = 20;
const RELAY_LENGTH: usize = 6;

const PING: u8 = 1;
const PONG: u8 = 2;
const OFFER: u8 = 3;
const PUNCH: u8 = 4;
const HEARING: u8 = 5;
const DRAIN: u8 = 6;

/// A flag of OFFER.
const CHOOSES: u8 = 1;

/// What kind of address of ours it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CandidateKind {
    /// Of an interface.
    Local,
    /// As a server sees us.
    Public,
    /// A router forwards it to us.
    Mapped,
    /// Where a probe came from.
    Observed,
}

impl CandidateKind {
    const ALL: [CandidateKind; 4] =
        [CandidateKind::Local, CandidateKind::Public, CandidateKind::Mapped, CandidateKind::Observed];
}

/// Where an agent may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// How it is known.
    pub kind: CandidateKind,
    /// The address.
    pub address: SocketAddr,
}

/// Where an agent may be, all in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Counts its networks: what was offered under a lower number is no more.
    pub generation: u32,
    /// The NAT that it is behind.
    pub nat: NatType,
    /// By how much the NAT's ports differ from one destination to the next, 0 if that is not known.
    pub port_step: i16,
    /// The candidates, best first.
    pub candidates: [Option<Candidate>; MAX_CANDIDATES],
    /// Whether the sender chooses the relay for both.
    pub chooses: bool,
    /// How far relays are. The first two are the one in use and the one beside it, if the sender chooses.
    pub relays: [Option<RelayDistance>; MAX_RELAYS],
}

/// How far a relay is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayDistance {
    /// A hash of its id: both know the relay by the control plane, or it does not count.
    pub mark: u32,
    /// There and back, in milliseconds.
    pub millis: u16,
}

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Asks for a PONG on the same path.
    Ping {
        /// Comes back.
        id: u32,
    },
    /// Answers a PING, or an OFFER.
    Pong {
        /// Of what it answers.
        id: u32,
        /// Where that came from.
        source: SocketAddr,
        /// Datagrams of data that have come on this path.
        received: u32,
    },
    /// Where the sender may be.
    Offer {
        /// Comes back.
        id: u32,
        /// It.
        offer: Offer,
    },
    /// The sender begins to send from, or to, many ports.
    Punch {
        /// Comes back.
        id: u32,
        /// How many ports.
        ports: u16,
        /// Around which one, if it is known.
        around: u16,
    },
    /// On which paths the sender receives.
    Hearing {
        /// Comes back.
        id: u32,
        /// Where datagrams came from.
        sources: [Option<SocketAddr>; MAX_CANDIDATES],
    },
    /// The sender is about to leave.
    Drain,
}

impl Probe {
    /// What `bytes` say; `None` if they are malformed. Every address is whole, and of no use before it was judged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, kind, flags, count, i0, i1, i2, i3], fields) =
            bytes.split_first_chunk::<HEADER_LENGTH>()?
        else {
            return None;
        };
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let count = Some(usize::from(count)).filter(|&count| count <= MAX_CANDIDATES)?;
        Some(match kind {
            PING => Probe::Ping { id },
            PONG => {
                let (received, address) = fields.split_first_chunk::<4>()?;
                let (source, _) = read_address(address)?;
                Probe::Pong { id, source, received: u32::from_le_bytes(*received) }
            }
            OFFER => {
                let (&[g0, g1, g2, g3, nat, relay_count, s0, s1], mut rest) =
                    fields.split_first_chunk::<8>()?;
                let mut candidates = [None; MAX_CANDIDATES];
                for candidate in &mut candidates[..count] {
                    let (address, kind) = read_address(rest)?;
                    let kind = *CandidateKind::ALL.get(usize::from(kind))?;
                    *candidate = Some(Candidate { kind, address });
                    rest = &rest[ADDRESS_LENGTH..];
                }
                let mut relays = [None; MAX_RELAYS];
                for relay in relays.get_mut(..usize::from(relay_count))? {
                    let (&[m0, m1, m2, m3, t0, t1], next) = rest.split_first_chunk::<RELAY_LENGTH>()?;
                    let mark = u32::from_le_bytes([m0, m1, m2, m3]);
                    *relay = Some(RelayDistance { mark, millis: u16::from_le_bytes([t0, t1]) });
                    rest = next;
                }
                let generation = u32::from_le_bytes([g0, g1, g2, g3]);
                let nat = NatType::ALL.get(usize::from(nat)).copied().unwrap_or_default();
                let port_step = i16::from_le_bytes([s0, s1]);
                Probe::Offer {
                    id,
                    offer: Offer {
                        generation,
                        nat,
                        port_step,
                        candidates,
                        chooses: flags & CHOOSES != 0,
                        relays,
                    },
                }
            }
            PUNCH => {
                let &[p0, p1, a0, a1] = fields.first_chunk::<4>()?;
                Probe::Punch { id, ports: u16::from_le_bytes([p0, p1]), around: u16::from_le_bytes([a0, a1]) }
            }
            HEARING => {
                let (mut sources, mut rest) = ([None; MAX_CANDIDATES], fields);
                for source in &mut sources[..count] {
                    *source = Some(read_address(rest)?.0);
                    rest = &rest[ADDRESS_LENGTH..];
                }
                Probe::Hearing { id, sources }
            }
            DRAIN => Probe::Drain,
            _ => return None,
        })
    }

    /// Writes it to the start of `buffer`, which must have [`MAX_PROBE_LENGTH`] bytes, and gives its length.
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        let (kind, id, count) = match *self {
            Probe::Ping { id } => (PING, id, 0),
            Probe::Pong { id, .. } => (PONG, id, 0),
            Probe::Offer { id, offer } => (OFFER, id, offer.candidates.iter().flatten().count()),
            Probe::Punch { id, .. } => (PUNCH, id, 0),
            Probe::Hearing { id, sources } => (HEARING, id, sources.iter().flatten().count()),
            Probe::Drain => (DRAIN, 0, 0),
        };
        let chooses = matches!(self, Probe::Offer { offer, .. } if offer.chooses);
        buffer[..4].copy_from_slice(&[VERSION, kind, u8::from(chooses) * CHOOSES, count as u8]);
        buffer[4..8].copy_from_slice(&id.to_le_bytes());
        let fields = &mut buffer[HEADER_LENGTH..];
        HEADER_LENGTH
            + match *self {
                Probe::Ping { .. } => {
                    let padding = PING_LENGTH - HEADER_LENGTH;
                    fields[..padding].fill(0);
                    padding
                }
                Probe::Pong { source, received, .. } => {
                    fields[..4].copy_from_slice(&received.to_le_bytes());
                    write_address(&mut fields[4..], source, 0);
                    4 + ADDRESS_LENGTH
                }
                Probe::Offer { offer, .. } => {
                    let nat = NatType::ALL.iter().position(|&nat| nat == offer.nat).unwrap_or(0);
                    fields[..4].copy_from_slice(&offer.generation.to_le_bytes());
                    let relays = offer.relays.iter().flatten();
                    fields[4..6].copy_from_slice(&[nat as u8, relays.clone().count() as u8]);
                    fields[6..8].copy_from_slice(&offer.port_step.to_le_bytes());
                    for (place, candidate) in offer.candidates.iter().flatten().enumerate() {
                        let kind = CandidateKind::ALL.iter().position(|&kind| kind == candidate.kind);
                        let at = 8 + place * ADDRESS_LENGTH;
                        write_address(&mut fields[at..], candidate.address, kind.unwrap_or(0) as u8);
                    }
                    let mut length = 8 + count * ADDRESS_LENGTH;
                    for relay in relays {
                        fields[length..][..4].copy_from_slice(&relay.mark.to_le_bytes());
                        fields[length + 4..][..2].copy_from_slice(&relay.millis.to_le_bytes());
                        length += RELAY_LENGTH;
                    }
                    length
                }
                Probe::Punch { ports, around, .. } => {
                    fields[..2].copy_from_slice(&ports.to_le_bytes());
                    fields[2..4].copy_from_slice(&around.to_le_bytes());
                    4
                }
                Probe::Hearing { sources, .. } => {
                    for (place, &source) in sources.iter().flatten().enumerate() {
                        write_address(&mut fields[place * ADDRESS_LENGTH..], source, 0);
                    }
                    count * ADDRESS_LENGTH
                }
                Probe::Drain => 0,
            }
    }
}

/// Family, kind, port, and 16 bytes of address.
fn write_address(to: &mut [u8], address: SocketAddr, kind: u8) {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (4, ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => (6, ip),
    };
    to[..2].copy_from_slice(&[family, kind]);
    to[2..4].copy_from_slice(&address.port().to_be_bytes());
    to[4..ADDRESS_LENGTH].copy_from_slice(&ip.octets());
}

fn read_address(bytes: &[u8]) -> Option<(SocketAddr, u8)> {
    let (&[family, kind, p0, p1], ip) = bytes.split_first_chunk::<4>()?;
    let ip = Ipv6Addr::from(*ip.first_chunk::<16>()?);
    let ip = match (family, ip.to_ipv4_mapped()) {
        (4, Some(ip)) => IpAddr::V4(ip),
        (6, None) => IpAddr::V6(ip),
        _ => return None,
    };
    Some((SocketAddr::new(ip, u16::from_be_bytes([p0, p1])), kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    fn some_offer() -> Offer {
        let addresses = ["192.0.2.7:9", "[2001:db8::1]:65535", "10.0.0.1:1"];
        let mut candidates = [None; MAX_CANDIDATES];
        for (place, address) in addresses.iter().enumerate() {
            let kind = CandidateKind::ALL[place];
            candidates[place] = Some(Candidate { kind, address: address.parse().unwrap() });
        }
        let mut relays = [None; MAX_RELAYS];
        relays[..2].copy_from_slice(
            &[(7, 12), (u32::MAX, u16::MAX)].map(|(mark, millis)| Some(RelayDistance { mark, millis })),
        );
        Offer { generation: 7, nat: NatType::Symmetric, port_step: -2, candidates, chooses: true, relays }
    }

    fn all() -> Vec<Probe> {
        let source = "[2001:db8::2]:51820".parse().unwrap();
        let mut sources = [None; MAX_CANDIDATES];
        (sources[0], sources[1]) = (Some(source), Some("192.0.2.1:2".parse().unwrap()));
        vec![
            Probe::Ping { id: 1 },
            Probe::Pong { id: 2, source, received: 77 },
            Probe::Offer { id: 3, offer: some_offer() },
            Probe::Punch { id: 4, ports: 256, around: 40_000 },
            Probe::Hearing { id: 5, sources },
            Probe::Drain,
        ]
    }

    #[test]
    fn what_is_written_is_read_with_and_without_padding() {
        for probe in all() {
            let mut buffer = [0xff; 1420];
            let length = probe.write(&mut buffer);
            assert!(buffer[0] >> 4 == 0 && length <= MAX_PROBE_LENGTH, "{probe:?}");
            assert_eq!(Probe::parse(&buffer[..length]), Some(probe));
            assert_eq!(Probe::parse(&buffer), Some(probe), "padded");
            if !matches!(probe, Probe::Ping { .. }) {
                assert_eq!(Probe::parse(&buffer[..length - 1]), None, "{probe:?} cut short");
            }
        }
        let mut buffer = [0; MAX_PROBE_LENGTH];
        let source = "192.0.2.1:1".parse().unwrap();
        assert!(Probe::Pong { id: 1, source, received: 0 }.write(&mut buffer) <= PING_LENGTH);
    }

    #[test]
    fn random_and_damaged_probes_never_panic_and_are_read_as_they_are_written() {
        let mut random = Seeded::new(41);
        let mut read = 0;
        for round in 0..200_000 {
            let mut bytes = vec![0; 240];
            let length = if round % 2 == 0 {
                random.fill(&mut bytes);
                (bytes[0], bytes[1], bytes[3]) = (VERSION, bytes[1] % 8, bytes[3] % 10);
                random.below(240) as usize
            } else {
                let length = all()[random.below(6) as usize].write(&mut bytes);
                bytes[random.below(length as u64) as usize] = random.next_u64() as u8;
                length
            };
            if let Some(probe) = Probe::parse(&bytes[..length]) {
                read += 1;
                let mut again = [0; MAX_PROBE_LENGTH];
                let length = probe.write(&mut again);
                assert_eq!(Probe::parse(&again[..length]), Some(probe));
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
