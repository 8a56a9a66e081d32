//! Which socket sends to whom.
//!
//! What waits in the kernel for a neighbour that does not resolve, up to 212,992 bytes for three seconds
//! (`unres_qlen_bytes`, `__neigh_event_send` in <https://github.com/torvalds/linux/blob/v6.12/net/core/neighbour.c>),
//! and what waits for a slow line, is charged to the socket that it was sent by. Once that has no room left
//! (`sock_alloc_send_pskb` in <https://github.com/torvalds/linux/blob/v6.12/net/core/sock.c>) it sends to nobody. So
//! those who have not been heard from lately, who may be gone, are sent to by other sockets than those who have, and
//! lines do not share a socket either.

use crate::keyed_hash::KeyedState;
use crate::time::Instant;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

/// Senders for those who have been heard from: one for each interface. The first one is the socket that receives.
const LINES: usize = 3;
/// For small datagrams to them that find no room at their own.
const SPARE: usize = LINES;
/// Senders for all others, who share them by their address.
const UNHEARD: usize = 8;
/// How many there are.
pub const SENDERS: usize = LINES + 1 + UNHEARD;
/// How long somebody counts as heard from. A neighbour that is gone is believed to be there for three seconds at least,
/// the time for three questions (`ucast_solicit`, `retrans_time_ms`), and no datagram waits for it before.
const LIFETIME: Duration = Duration::from_secs(2);
/// Sets of two addresses that are remembered: 24 bytes each.
const SETS: usize = 1024;

#[derive(Clone, Copy, Default)]
struct SenderEntry {
    /// Of the address. Two that have the same are sent to by one socket, and that is all.
    hash: u32,
    /// When, in units of 2^20 ns.
    at: u32,
    sender: u8,
    is_used: bool,
}

/// Who has been heard from lately, and by which interface.
pub struct Heard {
    hasher: KeyedState,
    sets: Box<[[SenderEntry; 2]]>,
    /// Their indices.
    interfaces: [Option<u32>; LINES],
    /// Who has just been heard from, by which interface and when: most often, many datagrams of one come together.
    latest: Option<(SocketAddr, u32, u32)>,
}

impl Heard {
    /// Nobody. `seed` decides how addresses are spread.
    pub fn new(seed: [u64; 2]) -> Self {
        Heard {
            hasher: KeyedState::new(seed[0], seed[1]),
            sets: vec![[SenderEntry::default(); 2]; SETS].into(),
            interfaces: [None; LINES],
            latest: None,
        }
    }

    /// Something of use came from `remote` by this interface.
    pub fn hear(&mut self, remote: SocketAddr, interface: u32, now: Instant) {
        let at = ticks(now);
        let latest = Some((remote, interface, at));
        if self.latest == latest {
            return;
        }
        self.latest = latest;
        let sender = self.line(interface) as u8;
        let (set, hash) = self.set_of(remote);
        let [first, second] = &mut self.sets[set];
        let is_same = |entry: &SenderEntry| entry.is_used && entry.hash == hash;
        let entry =
            if is_same(first) || !is_same(second) && is_older(first, second, at) { first } else { second };
        *entry = SenderEntry { hash, at, sender, is_used: true };
    }

    /// Who sends to `remote`.
    pub fn sender_for(&self, remote: SocketAddr, now: Instant) -> usize {
        let (set, hash) = self.set_of(remote);
        let found = self.sets[set].iter().find(|entry| entry.is_used && entry.hash == hash);
        match found.filter(|entry| age(entry, ticks(now)) < (LIFETIME.as_nanos() >> 20) as u32) {
            Some(entry) => entry.sender.into(),
            // A neighbour is one by its address, whatever the port.
            None => LINES + 1 + self.hasher.hash_one(remote.ip()) as usize % UNHEARD,
        }
    }

    /// Interfaces may be others now.
    pub fn forget_interfaces(&mut self) {
        self.interfaces = [None; LINES];
        self.latest = None;
    }

    fn line(&mut self, interface: u32) -> usize {
        let known = |line: &Option<u32>| line.is_none_or(|line| line == interface);
        match self.interfaces.iter_mut().position(|line| known(line)) {
            Some(line) => {
                self.interfaces[line] = Some(interface);
                line
            }
            None => interface as usize % LINES,
        }
    }

    fn set_of(&self, remote: SocketAddr) -> (usize, u32) {
        let hash = self.hasher.hash_one(remote);
        (hash as usize % SETS, (hash >> 32) as u32)
    }
}

/// Whether a sender's stand-in sends more than small datagrams. For lines it does not: bulk would fill both. What one
/// neighbour that is gone keeps is less than two sockets have room for.
pub fn shares_bulk(sender: usize) -> bool {
    sender > SPARE
}

/// Who sends when `sender` has no room, if there is anybody.
pub fn stand_in_for(sender: usize) -> Option<usize> {
    match sender {
        ..SPARE => Some(SPARE),
        SPARE => None,
        _ => Some(SPARE + 1 + (sender - SPARE) % UNHEARD),
    }
}

fn ticks(now: Instant) -> u32 {
    (now.as_nanos() >> 20) as u32
}

fn age(entry: &SenderEntry, now: u32) -> u32 {
    now.wrapping_sub(entry.at)
}

fn is_older(entry: &SenderEntry, other: &SenderEntry, now: u32) -> bool {
    !entry.is_used || other.is_used && age(entry, now) > age(other, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::new([198, 51, 100, 1].into(), port)
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1000 + millis)
    }

    #[test]
    fn who_is_silent_is_sent_to_by_another_socket() {
        let mut heard = Heard::new(SEED);
        assert!(heard.sender_for(remote(1), at(0)) > SPARE);
        heard.hear(remote(1), 7, at(0));
        assert_eq!(heard.sender_for(remote(1), at(1900)), 0);
        assert!(heard.sender_for(remote(1), at(2100)) > SPARE);
        assert!(heard.sender_for(remote(2), at(0)) > SPARE);
        assert_eq!(heard.sender_for(remote(2), at(0)), heard.sender_for(remote(3), at(0)));
        let senders: std::collections::BTreeSet<usize> = (0..200)
            .map(|last| heard.sender_for(SocketAddr::new([10, 0, 0, last].into(), 1), at(0)))
            .collect();
        assert_eq!(senders, (SPARE + 1..SENDERS).collect());
    }

    #[test]
    fn each_line_has_its_socket() {
        let mut heard = Heard::new(SEED);
        for (port, interface) in [(1, 7), (2, 9), (3, 7), (4, 11), (5, 13)] {
            heard.hear(remote(port), interface, at(0));
        }
        let senders = [1, 2, 3, 4, 5].map(|port| heard.sender_for(remote(port), at(0)));
        assert_eq!(senders, [0, 1, 0, 2, 13 % LINES]);
        heard.forget_interfaces();
        heard.hear(remote(1), 9, at(0));
        assert_eq!(heard.sender_for(remote(1), at(0)), 0);
    }

    #[test]
    fn nobody_is_his_own_stand_in() {
        for sender in 0..SENDERS {
            let other = stand_in_for(sender);
            assert!(other.is_none_or(|other| other != sender && (SPARE..SENDERS).contains(&other)));
            assert_eq!(other.is_none(), sender == SPARE);
            assert!(sender <= SPARE || other > Some(SPARE));
        }
    }

    /// Many who are heard from do not push out who goes on talking.
    #[test]
    fn it_stays_small() {
        let mut heard = Heard::new(SEED);
        let mut unheard = 0;
        for number in 0..20_000u64 {
            heard.hear(remote(1), 7, at(number / 10));
            heard.hear(remote(2 + number as u16), 7, at(number / 10));
            unheard += usize::from(heard.sender_for(remote(1), at(number / 10)) != 0);
        }
        assert!(unheard < 20, "{unheard}");
    }
}
