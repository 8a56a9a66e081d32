//! An announcement comes twice: from the agent that makes it, with its destination kept, and through the hub, which sends
//! everybody a copy of their own. Whichever comes first is taken, and its twin is not.

use crate::time::Instant;
use crate::wire::ip::{IPV4_HEADER_LENGTH, UDP};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How many wait for their twin at most.
const ROOM: usize = 64;
/// A twin comes within this time.
const LIFETIME: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Announcement {
    /// Of what the hub does not change.
    hash: u64,
    by_hub: bool,
    at: Instant,
}

/// Announcements whose twin has not come.
pub(super) struct Announcements {
    waiting: [Option<Announcement>; ROOM],
    next: usize,
}

impl Default for Announcements {
    fn default() -> Self {
        Announcements { waiting: [None; ROOM], next: 0 }
    }
}

impl Announcements {
    /// Whether `packet`, a whole IPv4 packet without options, is no twin of one that was taken.
    pub fn is_first(&mut self, packet: &[u8], by_hub: bool, now: Instant) -> bool {
        let hash = hash(packet);
        let is_twin =
            |one: &Announcement| one.hash == hash && one.by_hub != by_hub && now.since(one.at) < LIFETIME;
        if let Some(twin) = self.waiting.iter_mut().find(|one| one.as_ref().is_some_and(is_twin)) {
            *twin = None;
            return false;
        }
        self.waiting[self.next] = Some(Announcement { hash, by_hub, at: now });
        self.next = (self.next + 1) % ROOM;
        true
    }
}

/// Of all but the destination, the header's checksum and UDP's, which the hub changes.
fn hash(packet: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (header, segment) = packet.split_at(IPV4_HEADER_LENGTH.min(packet.len()));
    header.get(2..8).hash(&mut hasher);
    header.get(9).hash(&mut hasher);
    header.get(12..16).hash(&mut hasher);
    let is_first_fragment = header.get(6..8).is_some_and(|bytes| bytes[0] & 0x1f == 0 && bytes[1] == 0);
    match segment.split_first_chunk::<8>() {
        Some((udp, payload)) if is_first_fragment && header.get(9) == Some(&UDP) => {
            udp[..6].hash(&mut hasher);
            payload.hash(&mut hasher);
        }
        _ => segment.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip::Ipv4;
    use std::net::Ipv4Addr;

    fn announcement(number: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[3] = 40;
        packet[9] = UDP;
        packet[12..20].copy_from_slice(&[10, 66, 0, 2, 255, 255, 255, 255]);
        packet[26] = 1;
        packet[39] = number;
        packet
    }

    /// As the hub sends it on.
    fn copy(packet: &[u8]) -> Vec<u8> {
        let mut copy = packet.to_vec();
        Ipv4::parse(&mut copy).unwrap().set_destination(Ipv4Addr::new(10, 66, 0, 9));
        copy
    }

    #[test]
    fn twins_are_told_in_either_order_and_repetitions_are_none() {
        let mut seen = Announcements::default();
        let at = |second| Instant::ZERO + Duration::from_secs(second);
        let (one, other) = (announcement(1), announcement(2));
        assert!(seen.is_first(&one, false, at(1)) && !seen.is_first(&copy(&one), true, at(1)));
        assert!(seen.is_first(&copy(&one), true, at(1)) && !seen.is_first(&one, false, at(1)));
        // A game that says the same each second is heard each time.
        assert!(seen.is_first(&one, false, at(2)) && seen.is_first(&one, false, at(3)));
        assert!(!seen.is_first(&copy(&one), true, at(3)) && !seen.is_first(&copy(&one), true, at(3)));
        assert!(seen.is_first(&copy(&other), true, at(3)));
        assert!(seen.is_first(&other, false, at(6)), "its twin is too old");
        for number in 0..200 {
            assert!(seen.is_first(&announcement(number), true, at(9)));
        }
    }
}
