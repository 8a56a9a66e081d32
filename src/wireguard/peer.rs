//! One peer: its keys, its sessions, what it waits for, and what is counted of it.

use crate::crypto::x25519::PublicKey;
use crate::slots::Handle;
use crate::time::Instant;
use crate::wireguard::allowed_ips::AllowedIp;
use crate::wireguard::constants::{KEEPALIVE_TIMEOUT, MAX_STAGED, MAX_STAGED_BYTES, REKEY_TIMEOUT};
use crate::wireguard::cookie::Signer;
use crate::wireguard::keypair::Keypairs;
use crate::wireguard::noise::{Initiator, PresharedKey, RemoteIdentity};
use crate::wireguard::timers::{Timer, Timers};
use crate::wireguard::timestamp::Timestamp;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Names a peer of a device; never given to another peer, also after this one is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIndex(pub(super) Handle<Peer>);

impl PeerIndex {
    /// Its place among the peers.
    pub(super) fn slot(self) -> u32 {
        self.0.slot()
    }
}

/// What a device has to be told of a peer.
#[derive(Clone)]
pub struct PeerSettings {
    /// Its public key, in canonical form.
    pub public_key: PublicKey,
    /// The secret agreed on besides the keys; zero if none.
    pub preshared_key: PresharedKey,
    /// Where it is, if known; it is learned from authentic messages, too.
    pub endpoint: Option<SocketAddr>,
    /// The silence after which something is sent to keep the path open; `None` for never.
    pub persistent_keepalive: Option<Duration>,
    /// The inner addresses that are this peer's.
    pub allowed_ips: Vec<AllowedIp>,
    /// Whether it is where its last authentic message came from. If not, its endpoint is where it was
    /// [said](super::device::Device::set_endpoint) to be.
    pub roams: bool,
    /// Whether it passes on what others say: what it sends may come from any address in its own prefixes, also from one
    /// that is another peer's.
    pub carries_others: bool,
}

impl PeerSettings {
    /// A peer with this key and nothing else.
    pub fn new(public_key: PublicKey) -> Self {
        PeerSettings {
            public_key,
            preshared_key: PresharedKey::default(),
            endpoint: None,
            persistent_keepalive: None,
            allowed_ips: Vec::new(),
            roams: true,
            carries_others: false,
        }
    }
}

/// What is counted of a peer. Only authentic messages count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStats {
    /// Where it is: where its last authentic message came from, if none was set since.
    pub endpoint: Option<SocketAddr>,
    /// When a session last came up, confirmed by the peer.
    pub last_handshake: Option<Instant>,
    /// How long our last response to it and what came next took, there and back.
    pub round_trip: Option<Duration>,
    /// When it was last heard of.
    pub last_received: Option<Instant>,
    /// Datagrams received.
    pub received_packets: u64,
    /// Bytes received, with WireGuard's headers, without UDP's.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Bytes sent, with WireGuard's headers, without UDP's.
    pub sent_bytes: u64,
}

/// A peer and all its state. Dropping it zeroes its keys.
pub(super) struct Peer {
    pub index: PeerIndex,
    pub remote: RemoteIdentity,
    pub signer: Signer,
    pub stats: PeerStats,
    pub keypairs: Keypairs,
    /// The handshake we began.
    pub pending: Option<Box<Initiator>>,
    pub timers: Timers,
    /// When we began to try; retries stop some time after.
    pub attempt_began: Instant,
    /// When we last sent an initiation or a response.
    pub last_handshake_sent: Option<Instant>,
    /// When an initiation was last accepted.
    pub last_initiation_accepted: Option<Instant>,
    /// The greatest timestamp accepted.
    pub greatest_timestamp: Option<Timestamp>,
    /// The silence after which something is sent.
    pub persistent_keepalive: Option<Duration>,
    /// Whether its endpoint follows its messages.
    pub roams: bool,
    /// Whether it passes on what others say.
    pub carries_others: bool,
    /// Packets that wait for a session.
    staged: VecDeque<Vec<u8>>,
}

impl Peer {
    pub fn new(index: PeerIndex, remote: RemoteIdentity, endpoint: Option<SocketAddr>) -> Self {
        Peer {
            index,
            signer: Signer::default(),
            remote,
            stats: PeerStats { endpoint, ..PeerStats::default() },
            keypairs: Keypairs::default(),
            pending: None,
            timers: Timers::default(),
            attempt_began: Instant::ZERO,
            last_handshake_sent: None,
            last_initiation_accepted: None,
            greatest_timestamp: None,
            persistent_keepalive: None,
            roams: true,
            carries_others: false,
            staged: VecDeque::new(),
        }
    }

    /// Something authentic was sent to the peer: it knows that we live, and the path is fresh.
    pub fn on_sent(&mut self, bytes: usize, now: Instant) {
        self.stats.sent_packets += 1;
        self.stats.sent_bytes += bytes as u64;
        self.timers.stop(Timer::Keepalive);
        self.rearm_persistent_keepalive(now);
    }

    /// A packet with content was sent: it should be answered, with data or with a keepalive.
    pub fn on_data_sent(&mut self, jitter: Duration, now: Instant) {
        self.timers.set_if_stopped(Timer::NewHandshake, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
    }

    /// Something authentic came from the peer: the session works. Whether the peer is somewhere else now.
    pub fn on_received(&mut self, bytes: usize, source: SocketAddr, now: Instant) -> bool {
        self.stats.received_packets += 1;
        self.stats.received_bytes += bytes as u64;
        self.stats.last_received = Some(now);
        self.timers.stop(Timer::NewHandshake);
        self.rearm_persistent_keepalive(now);
        self.roams && self.stats.endpoint.replace(source) != Some(source)
    }

    /// A packet with content came: if we have nothing to say ourselves, a keepalive answers it.
    pub fn on_data_received(&mut self, now: Instant) {
        self.timers.set_if_stopped(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
    }

    /// A session is up and the peer has it, too.
    pub fn on_session_confirmed(&mut self, now: Instant) {
        self.stats.last_handshake = Some(now);
        self.timers.stop(Timer::RetryHandshake);
    }

    /// Makes a persistent keepalive due at once, if there are to be any and we know where to.
    pub fn start_persistent_keepalive(&mut self, now: Instant) {
        self.timers.stop(Timer::PersistentKeepalive);
        if self.persistent_keepalive.is_some() && self.stats.endpoint.is_some() {
            self.timers.set(Timer::PersistentKeepalive, now);
        }
    }

    /// Starts the silence anew.
    pub fn rearm_persistent_keepalive(&mut self, now: Instant) {
        if let Some(interval) = self.persistent_keepalive {
            self.timers.set(Timer::PersistentKeepalive, now + interval);
        }
    }

    /// Whether the handshake that we began under this index has not been answered.
    pub fn awaits_response(&self, index: u32) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.index() == index)
    }

    /// Whether there is a session to send on.
    pub fn can_send(&self, now: Instant) -> bool {
        self.keypairs.current.as_deref().is_some_and(|keypair| keypair.can_send(now))
    }

    /// Keeps a copy of `packet` until a session is up. `total` counts the bytes of all peers. The oldest
    /// packets of this peer make room; `false` if that is not enough.
    pub fn stage(&mut self, packet: &[u8], total: &mut usize) -> bool {
        let fits = |staged: &VecDeque<_>, total| {
            staged.len() < MAX_STAGED && packet.len() <= MAX_STAGED_BYTES.saturating_sub(total)
        };
        while !fits(&self.staged, *total) {
            if self.unstage(total).is_none() {
                return false;
            }
        }
        *total += packet.len();
        self.staged.push_back(packet.to_vec());
        true
    }

    /// The oldest packet that waits.
    pub fn unstage(&mut self, total: &mut usize) -> Option<Vec<u8>> {
        let packet = self.staged.pop_front()?;
        *total -= packet.len();
        if self.staged.is_empty() {
            self.staged = VecDeque::new();
        }
        Some(packet)
    }

    /// Drops all packets that wait.
    pub fn drop_staged(&mut self, total: &mut usize) {
        while self.unstage(total).is_some() {}
    }

    /// Whether packets wait.
    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;
    use crate::slots::Slots;

    fn peer() -> Peer {
        let public_key = PrivateKey::generate().public_key();
        let remote = RemoteIdentity::new(public_key, PresharedKey::default()).unwrap();
        let mut peers = Slots::default();
        let handle = peers.insert_with(|handle| Peer::new(PeerIndex(handle), remote, None));
        *peers.remove(handle).unwrap()
    }

    #[test]
    fn staged_packets_are_few_and_the_newest() {
        let (mut peer, mut total) = (peer(), 0);
        for number in 0..=MAX_STAGED as u8 {
            assert!(peer.stage(&[number; 10], &mut total));
        }
        assert_eq!(total, 10 * MAX_STAGED);
        for number in 1..=MAX_STAGED as u8 {
            assert_eq!(peer.unstage(&mut total).unwrap(), [number; 10]);
        }
        assert_eq!((peer.unstage(&mut total), total), (None, 0));
    }

    #[test]
    fn staged_bytes_are_bounded_over_all_peers() {
        let (mut first, mut second, mut total) = (peer(), peer(), 0);
        let big = vec![0; 60_000];
        while total + big.len() <= MAX_STAGED_BYTES {
            assert!(first.stage(&big, &mut total));
        }
        assert!(!second.stage(&big, &mut total));
        let before = total;
        assert!(first.stage(&big, &mut total), "its own oldest makes room");
        assert_eq!(total, before);
        first.drop_staged(&mut total);
        assert_eq!(total, 0);
        assert!(second.stage(&big, &mut total));
        assert!(!peer().stage(&vec![0; MAX_STAGED_BYTES], &mut total));
    }
}
