//! How sessions come up, are kept fresh, and end (paper 6): what all peers of a device share for it.

use crate::crypto::random::{self, Seeded};
use crate::crypto::x25519::PrivateKey;
use crate::time::{Instant, Now};
use crate::wireguard::constants::{
    MAX_JITTER, PROBE_INTERVAL, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, ZERO_KEYS_TIME,
};
use crate::wireguard::index_table::IndexTable;
use crate::wireguard::keypair::Keypair;
use crate::wireguard::message::{INITIATION_LENGTH, KEEPALIVE_LENGTH, RESPONSE_LENGTH, Response};
use crate::wireguard::noise::{Initiator, LocalIdentity, Responder, Session};
use crate::wireguard::outbox::HandshakeQueue;
use crate::wireguard::peer::{Peer, PeerIndex};
use crate::wireguard::timers::Timer;
use crate::wireguard::timestamp::StampClock;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Our identity, and what handshakes draw from and leave behind.
pub(super) struct SessionFactory {
    pub local: LocalIdentity,
    pub indices: IndexTable,
    pub stamps: StampClock,
    pub outbox: HandshakeQueue,
    /// Peers whose session came up while packets waited for it.
    pub ready: VecDeque<PeerIndex>,
    /// Bytes that wait for a session, of all peers.
    pub staged_bytes: usize,
    jitter: Seeded,
}

impl SessionFactory {
    pub fn new(private_key: PrivateKey, stamp_mark: u64, jitter_seed: u64) -> Self {
        SessionFactory {
            local: LocalIdentity::new(private_key),
            indices: IndexTable::default(),
            stamps: StampClock::new(stamp_mark),
            outbox: HandshakeQueue::default(),
            ready: VecDeque::new(),
            staged_bytes: 0,
            jitter: Seeded::new(jitter_seed),
        }
    }

    fn jitter(&mut self) -> Duration {
        Duration::from_nanos(self.jitter.below(MAX_JITTER.as_nanos() as u64))
    }

    /// Seals `packet`, which has `has_content` or is a keepalive, on the current session, and says where to
    /// send it. `None` if there is no session.
    pub fn seal(
        &mut self,
        peer: &mut Peer,
        packet: &mut [u8],
        has_content: bool,
        now: Now,
    ) -> Option<SocketAddr> {
        let to = peer.stats.endpoint?;
        let keypair = peer.keypairs.current.as_deref_mut()?;
        if !keypair.seal(packet, now.instant) {
            return None;
        }
        let stale = keypair.is_stale_for_sending(now.instant);
        peer.on_sent(packet.len(), now.instant);
        if has_content {
            peer.on_data_sent(self.jitter(), now.instant);
        }
        if stale {
            self.attempt(peer, now);
        }
        Some(to)
    }

    /// Sends a keepalive, or asks for a session if there is none.
    pub fn keepalive(&mut self, peer: &mut Peer, now: Now) {
        let mut packet = [0; KEEPALIVE_LENGTH];
        match self.seal(peer, &mut packet, false, now) {
            Some(to) => self.outbox.push(Some(peer.index), to, &packet),
            None => self.attempt(peer, now),
        }
    }

    /// There is a reason for a new session: tries from now on for [`REKEY_ATTEMPT_TIME`].
    pub fn attempt(&mut self, peer: &mut Peer, now: Now) {
        peer.attempt_began = now.instant;
        if !peer.timers.is_running(Timer::RetryHandshake) {
            self.initiate(peer, now);
        }
    }

    /// Sends one initiation to `address` and does not try again there; `false` if the last handshake message is too
    /// recent.
    pub fn probe(&mut self, peer: &mut Peer, address: SocketAddr, now: Now) -> bool {
        if peer.last_handshake_sent.is_some_and(|last| now.instant.since(last) < PROBE_INTERVAL) {
            return false;
        }
        let retries = peer.timers.is_running(Timer::RetryHandshake);
        let endpoint = peer.stats.endpoint.replace(address);
        peer.last_handshake_sent = None;
        self.initiate(peer, now);
        peer.stats.endpoint = endpoint;
        if !retries {
            peer.timers.stop(Timer::RetryHandshake);
        }
        true
    }

    /// Sends an initiation, or plans one if the last handshake message is too recent.
    fn initiate(&mut self, peer: &mut Peer, now: Now) {
        let Some(to) = peer.stats.endpoint else { return };
        let Now { instant, unix } = now;
        let jitter = self.jitter();
        if let Some(last) = peer.last_handshake_sent
            && instant.since(last) < REKEY_TIMEOUT
        {
            peer.timers.set_if_stopped(Timer::RetryHandshake, last + REKEY_TIMEOUT + jitter);
            return;
        }
        self.drop_pending(peer);
        let index = self.indices.draw(peer.index.slot(), random::u32);
        let stamp = self.stamps.stamp(unix);
        let ephemeral = PrivateKey::generate();
        let mut message = [0; INITIATION_LENGTH];
        let pending = Initiator::begin(&self.local, &peer.remote, index, stamp, ephemeral, &mut message);
        let Some(pending) = pending else {
            self.indices.release(index);
            return;
        };
        peer.pending = Some(Box::new(pending));
        peer.signer.sign(peer.remote.public_key(), &mut message, instant);
        self.outbox.push(Some(peer.index), to, &message);
        peer.last_handshake_sent = Some(instant);
        peer.on_sent(message.len(), instant);
        peer.timers.set(Timer::RetryHandshake, instant + REKEY_TIMEOUT + jitter);
    }

    /// Answers an initiation to where it came from; `false` if there is no answer to it.
    pub fn respond(&mut self, peer: &mut Peer, responder: Responder, to: SocketAddr, now: Instant) -> bool {
        let index = self.indices.draw(peer.index.slot(), random::u32);
        let mut message = [0; RESPONSE_LENGTH];
        let Some(session) = responder.respond(&peer.remote, index, PrivateKey::generate(), &mut message)
        else {
            self.indices.release(index);
            return false;
        };
        self.install(peer, &session, now);
        peer.signer.sign(peer.remote.public_key(), &mut message, now);
        self.outbox.push(Some(peer.index), to, &message);
        peer.last_handshake_sent = Some(now);
        peer.on_sent(message.len(), now);
        true
    }

    /// Takes the answer to our initiation; `false` if it is none. What is sent next lets the peer use the
    /// session, too: see [`SessionFactory::use_at_once`].
    pub fn finish(&mut self, peer: &mut Peer, response: Response<'_>, now: Instant) -> bool {
        let session = peer
            .pending
            .as_ref()
            .filter(|pending| pending.index() == response.receiver())
            .and_then(|pending| pending.finish(&self.local, &peer.remote, response));
        let Some(session) = session else { return false };
        // Its index lives on in the session.
        peer.pending = None;
        self.install(peer, &session, now);
        peer.on_session_confirmed(now);
        true
    }

    /// Sends what waited for the session, or a keepalive if nothing did.
    pub fn use_at_once(&mut self, peer: &mut Peer, now: Now) {
        if peer.has_staged() {
            self.ready.push_back(peer.index);
        } else {
            self.keepalive(peer, now);
        }
    }

    /// The peer has used the session that we answered its initiation with.
    pub fn confirm(&mut self, peer: &mut Peer, now: Instant) {
        // Our response went there, and what came first under its keys came back.
        peer.stats.round_trip = peer.keypairs.next.as_ref().map(|next| next.age(now));
        peer.keypairs
            .confirm()
            .into_iter()
            .flatten()
            .for_each(|ended| self.indices.release(ended.local_index()));
        self.drop_pending(peer);
        peer.on_session_confirmed(now);
        if peer.has_staged() {
            self.ready.push_back(peer.index);
        }
    }

    fn install(&mut self, peer: &mut Peer, session: &Session, now: Instant) {
        let ended = peer.keypairs.install(Keypair::new(session, now));
        ended.into_iter().flatten().for_each(|ended| self.indices.release(ended.local_index()));
        peer.timers.set(Timer::ZeroKeys, now + ZERO_KEYS_TIME);
    }

    fn drop_pending(&mut self, peer: &mut Peer) {
        if let Some(pending) = peer.pending.take() {
            self.indices.release(pending.index());
        }
    }

    /// Forgets all keys of the peer's sessions and handshakes.
    pub fn end_all(&mut self, peer: &mut Peer) {
        self.drop_pending(peer);
        let ended = peer.keypairs.clear();
        ended.into_iter().flatten().for_each(|ended| self.indices.release(ended.local_index()));
    }

    /// Does what `timer` stands for.
    pub fn on_timer(&mut self, peer: &mut Peer, timer: Timer, now: Now) {
        match timer {
            Timer::RetryHandshake => {
                if now.instant.since(peer.attempt_began) < REKEY_ATTEMPT_TIME {
                    self.initiate(peer, now);
                } else {
                    self.give_up(peer, now.instant);
                }
            }
            Timer::NewHandshake => self.attempt(peer, now),
            Timer::Keepalive => self.keepalive(peer, now),
            Timer::PersistentKeepalive => {
                peer.rearm_persistent_keepalive(now.instant);
                self.keepalive(peer, now);
            }
            Timer::ZeroKeys => self.end_all(peer),
        }
    }

    fn give_up(&mut self, peer: &mut Peer, now: Instant) {
        self.drop_pending(peer);
        peer.drop_staged(&mut self.staged_bytes);
        peer.timers.stop(Timer::Keepalive);
        peer.timers.set_if_stopped(Timer::ZeroKeys, now + ZERO_KEYS_TIME);
    }
}
