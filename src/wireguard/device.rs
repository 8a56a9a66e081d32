//! A WireGuard interface without the interface: many peers by public key, bytes and `now` in, verdicts out.
//!
//! The caller owns the socket. For each datagram it calls [`Device::receive`], for each packet
//! [`Device::send`]; after either, and when [`Device::poll_timeout`] says so, it calls [`Device::poll`]
//! until that gives nothing. Packets are opened and sealed in the caller's buffer, which looks like this:
//!
//! ```text
//! | 16 header | packet, padded | 16 tag |
//! ```
//!
//! so a packet that was received can be sent on to another peer over the same bytes.

use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::time::{Instant, Now};
use crate::wireguard::allowed_ips::{AllowedIp, AllowedIps};
use crate::wireguard::budget::Budget;
use crate::wireguard::constants::{
    INITIATION_COST, INITIATION_INTERVAL, PADDING, RESPONDING_COST, RESPONSE_COST,
};
use crate::wireguard::cookie::Mac1Key;
use crate::wireguard::gate::{Gate, GateDecision, Knock, Payer};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::keypair::{KeypairSlot, TransportRefusal};
use crate::wireguard::message::{
    CookieReply, INITIATION_LENGTH, Initiation, KEEPALIVE_LENGTH, Message, Response, TRANSPORT_HEADER_LENGTH,
};
use crate::wireguard::noise::{Claim, RemoteIdentity};
use crate::wireguard::peer::{Peer, PeerIndex, PeerSettings, PeerStats};
use crate::wireguard::peer_table::PeerTable;
use crate::wireguard::schedule::Schedule;
use crate::wireguard::sessions::SessionFactory;
use crate::wireguard::timestamp::Timestamp;
use crate::wireguard::verdict::{
    Accepted, AddPeerError, Content, Outgoing, Reason, Rejection, SendOutcome, Verdict,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The least room, in bytes, that [`Device::poll`] needs.
pub const POLL_BUFFER_LENGTH: usize = INITIATION_LENGTH;

/// What a device has to be told.
pub struct DeviceSettings {
    /// Our private key.
    pub private_key: PrivateKey,
    /// The longest inner packet, in bytes, that padding may not make longer.
    pub mtu: usize,
    /// The last [`Device::take_stamp_mark`] that was stored, 0 if none was.
    pub stamp_mark: u64,
    /// Decides the jitter of retries. No secret.
    pub jitter_seed: u64,
    /// How long an X25519 computation takes on this machine: says how many [handshakes](Budget) others may cost it.
    pub x25519: Duration,
}

/// What became of a datagram.
pub enum ReceiveOutcome {
    /// It was handled; the verdict.
    Verdict(Verdict),
    /// It is an initiation from somebody who says to have a key that no peer has. [Add](Device::add_peer) that peer and
    /// [accept](Device::accept) it, or let it be: it costs no more.
    Unknown(Stranger),
}

/// Somebody who says to have a key, and has not proven it.
pub struct Stranger {
    claim: Claim,
    payer: Payer,
    source: SocketAddr,
}

impl Stranger {
    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        self.claim.public_key()
    }
}

/// One identity and its peers.
pub struct Device {
    sessions: SessionFactory,
    peers: PeerTable,
    gate: Gate,
    allowed_ips: AllowedIps<PeerIndex>,
    schedule: Schedule,
    mtu: usize,
}

impl Device {
    /// A device without peers.
    pub fn new(settings: DeviceSettings, now: Instant) -> Self {
        let sessions = SessionFactory::new(settings.private_key, settings.stamp_mark, settings.jitter_seed);
        Device {
            gate: Gate::new(sessions.local.public_key(), Budget::new(settings.x25519), now),
            sessions,
            peers: PeerTable::default(),
            allowed_ips: AllowedIps::default(),
            schedule: Schedule::default(),
            mtu: settings.mtu,
        }
    }

    /// Our public key.
    pub fn public_key(&self) -> &PublicKey {
        self.sessions.local.public_key()
    }

    /// The key of mac1 in handshake messages to us.
    pub fn mac1_key(&self) -> &Mac1Key {
        self.gate.mac1_key()
    }

    /// Whether `index` names a handshake or a session of ours.
    pub fn owns_index(&self, index: u32) -> bool {
        self.sessions.indices.owner(index).is_some()
    }

    /// Adds a peer. Its allowed IPs are taken from whoever has them.
    pub fn add_peer(&mut self, settings: PeerSettings, now: Instant) -> Result<PeerIndex, AddPeerError> {
        let key = settings.public_key;
        if key.canonical() != key {
            return Err(AddPeerError::NotCanonical);
        }
        if key == *self.public_key() {
            return Err(AddPeerError::Ourselves);
        }
        if self.peers.find(&key).is_some() {
            return Err(AddPeerError::Exists);
        }
        let remote = RemoteIdentity::new(key, settings.preshared_key).ok_or(AddPeerError::LowOrder)?;
        let peer = self.peers.insert(key, |index| Peer::new(index, remote, settings.endpoint));
        (peer.roams, peer.carries_others) = (settings.roams, settings.carries_others);
        let index = peer.index;
        for prefix in settings.allowed_ips {
            self.allowed_ips.insert(prefix, index);
        }
        self.schedule.reserve(self.peers.slot_count());
        self.set_persistent_keepalive(index, settings.persistent_keepalive, now);
        Ok(index)
    }

    /// Removes a peer, its keys and its allowed IPs; whether it was there.
    pub fn remove_peer(&mut self, index: PeerIndex) -> bool {
        let Some(mut peer) = self.peers.remove(index) else { return false };
        peer.drop_staged(&mut self.sessions.staged_bytes);
        self.sessions.end_all(&mut peer);
        self.allowed_ips.remove_owner(index);
        self.schedule.forget(index.slot());
        true
    }

    /// The peer with this key.
    pub fn find_peer(&self, key: &PublicKey) -> Option<PeerIndex> {
        self.peers.find(key)
    }

    /// A peer's key.
    pub fn key_of(&self, index: PeerIndex) -> Option<&PublicKey> {
        self.peers.get(index).map(|peer| peer.remote.public_key())
    }

    /// All peers with their keys.
    pub fn peers(&self) -> impl Iterator<Item = (PeerIndex, &PublicKey)> {
        self.peers.iter().map(|peer| (peer.index, peer.remote.public_key()))
    }

    /// What is counted of a peer.
    pub fn stats(&self, index: PeerIndex) -> Option<&PeerStats> {
        self.peers.get(index).map(|peer| &peer.stats)
    }

    /// Whether there is a session with the peer to send on.
    pub fn can_send(&self, index: PeerIndex, now: Instant) -> bool {
        self.peers.get(index).is_some_and(|peer| peer.can_send(now))
    }

    /// Says where a peer is, until it is heard of from elsewhere.
    pub fn set_endpoint(&mut self, index: PeerIndex, endpoint: SocketAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.stats.endpoint.replace(endpoint).is_none() {
            peer.start_persistent_keepalive(now);
            self.schedule.plan(index.slot(), peer.timers.next());
        }
    }

    /// Says after how much silence something is to be sent; from now on, if we know where to.
    pub fn set_persistent_keepalive(&mut self, index: PeerIndex, interval: Option<Duration>, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.persistent_keepalive = interval.filter(|interval| !interval.is_zero());
        peer.start_persistent_keepalive(now);
        self.schedule.plan(index.slot(), peer.timers.next());
    }

    /// Gives the addresses in `prefix` to a peer, and takes them from whoever has exactly this prefix.
    pub fn allow(&mut self, index: PeerIndex, prefix: AllowedIp) {
        if self.peers.get(index).is_some() {
            self.allowed_ips.insert(prefix, index);
        }
    }

    /// Takes the addresses in `prefix` from whoever has exactly this prefix.
    pub fn disallow(&mut self, prefix: AllowedIp) {
        self.allowed_ips.remove(prefix);
    }

    /// The peer that a packet to `destination` is for.
    pub fn route(&self, destination: IpAddr) -> Option<PeerIndex> {
        self.allowed_ips.lookup(destination)
    }

    /// The greatest timestamp that a peer has sent. It may be stored and [given
    /// back](Device::set_greatest_timestamp) after a restart, so that old initiations can't be replayed.
    pub fn greatest_timestamp(&self, index: PeerIndex) -> Option<Timestamp> {
        self.peers.get(index)?.greatest_timestamp
    }

    /// Sets the timestamp that the peer's next one must exceed. `None` forgets it: the way out for a peer
    /// whose clock was once in the future.
    pub fn set_greatest_timestamp(&mut self, index: PeerIndex, timestamp: Option<Timestamp>) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.greatest_timestamp = timestamp;
        }
    }

    /// The mark that must be stored for the next [`DeviceSettings::stamp_mark`], if it has moved since last asked;
    /// about twice a day at most while handshakes are begun here.
    pub fn take_stamp_mark(&mut self) -> Option<u64> {
        self.sessions.stamps.take_mark()
    }

    /// Begins a handshake with a peer whose endpoint is known, unless one is under way.
    pub fn connect(&mut self, index: PeerIndex, now: Now) {
        if let Some(peer) = self.peers.get_mut(index) {
            self.sessions.attempt(peer, now);
            self.schedule.plan(index.slot(), peer.timers.next());
        }
    }

    /// Sends one initiation to `address`, where a peer may be, unless a handshake message went to that peer just
    /// before; whether it did. Only an answer makes that the peer's endpoint.
    pub fn probe(&mut self, index: PeerIndex, address: SocketAddr, now: Now) -> bool {
        let Some(peer) = self.peers.get_mut(index) else { return false };
        let sent = self.sessions.probe(peer, address, now);
        self.schedule.plan(index.slot(), peer.timers.next());
        sent
    }

    /// The length in bytes of the datagram that carries a packet of `length` bytes, padded.
    pub fn sealed_length(&self, length: usize) -> usize {
        length.next_multiple_of(PADDING).min(self.mtu.max(length)) + KEEPALIVE_LENGTH
    }

    /// Sends a packet of `length` bytes, which lies in `buffer` behind 16 bytes of room, to a peer.
    /// `buffer` needs 16 bytes of room behind the packet, too, which are there where it was received; it is
    /// padded as far as there is more, up to [`Device::sealed_length`].
    pub fn send(&mut self, index: PeerIndex, buffer: &mut [u8], length: usize, now: Now) -> SendOutcome {
        if buffer.len() < KEEPALIVE_LENGTH || buffer.len() - KEEPALIVE_LENGTH < length {
            return SendOutcome::Dropped;
        }
        let room = buffer.len().min(self.sealed_length(length));
        let datagram = &mut buffer[..room];
        let Some(peer) = self.peers.get_mut(index) else { return SendOutcome::Dropped };
        let sent = match send_or_attempt(&mut self.sessions, peer, datagram, length, now) {
            Some(to) => SendOutcome::Sealed { to, length: datagram.len() },
            None => {
                let packet = &datagram[TRANSPORT_HEADER_LENGTH..][..length];
                let known = peer.stats.endpoint.is_some();
                if known && peer.stage(packet, &mut self.sessions.staged_bytes) {
                    SendOutcome::Staged
                } else {
                    SendOutcome::Dropped
                }
            }
        };
        self.schedule.plan(index.slot(), peer.timers.next());
        sent
    }

    /// Seals what is no packet but of our own protocol: the `length` bytes in `buffer` behind 16 bytes of room, the first
    /// below 16, padded. The datagram's length, or `None` without a session or room. That it is sent says nothing of the
    /// session, so no answer is waited for.
    pub fn seal_probe(
        &mut self,
        index: PeerIndex,
        buffer: &mut [u8],
        length: usize,
        now: Now,
    ) -> Option<usize> {
        let room = self.sealed_length(length);
        let datagram = buffer.get_mut(..room)?;
        datagram[TRANSPORT_HEADER_LENGTH + length..].fill(0);
        let peer = self.peers.get_mut(index)?;
        let sealed = self.sessions.seal(peer, datagram, false, now).is_some();
        self.schedule.plan(index.slot(), peer.timers.next());
        sealed.then_some(room)
    }

    /// X25519 computations that handshake messages from others have cost.
    pub fn x25519_count(&self) -> u64 {
        self.gate.spent()
    }

    /// Takes a datagram from `source`. A packet in it is opened in place.
    pub fn receive(&mut self, datagram: &mut [u8], source: SocketAddr, now: Now) -> Verdict {
        match self.receive_from(datagram, source, false, now) {
            ReceiveOutcome::Verdict(verdict) => verdict,
            ReceiveOutcome::Unknown(_) => Verdict::Dropped(Reason::UnknownPeer),
        }
    }

    /// As [`Device::receive`], for who knows more of `source`: if a peer `is_expected` there, because it has proven to
    /// be there or was told of, its handshakes don't stand behind those of strangers. And who is no peer yet can become
    /// one.
    pub fn receive_from(
        &mut self,
        datagram: &mut [u8],
        source: SocketAddr,
        is_expected: bool,
        now: Now,
    ) -> ReceiveOutcome {
        let verdict = match Message::parse(datagram) {
            None => Err(Reason::Malformed),
            Some(Message::Initiation(message)) => {
                match self.read_initiation(message, source, is_expected, now.instant) {
                    Err(verdict) => verdict,
                    Ok(stranger) if self.peers.find(stranger.public_key()).is_none() => {
                        return ReceiveOutcome::Unknown(stranger);
                    }
                    Ok(stranger) => Ok(self.accept(stranger, now.instant)),
                }
            }
            Some(Message::Response(message)) => self.receive_response(message, source, now),
            Some(Message::CookieReply(message)) => self.receive_cookie(message, now.instant),
            Some(Message::Transport(message)) => {
                let (receiver, counter) = (message.receiver(), message.counter());
                self.receive_transport(datagram, receiver, counter, source, now)
            }
        };
        ReceiveOutcome::Verdict(verdict.unwrap_or_else(Verdict::Dropped))
    }

    /// Who pays for the message, or why it costs no arithmetic.
    fn admit(&mut self, knock: Knock<'_>, now: Instant) -> Result<Payer, Result<Verdict, Reason>> {
        match self.gate.admit(knock, now) {
            GateDecision::Admitted(payer) => Ok(payer),
            GateDecision::WrongMac1 => Err(Err(Reason::WrongMac1)),
            GateDecision::Limited => Err(Err(Reason::Limited)),
            GateDecision::Challenge(reply) => {
                self.sessions.outbox.push(None, knock.source, &reply);
                Err(Ok(Verdict::Challenged))
            }
        }
    }

    /// Who an initiation says it is from.
    fn read_initiation(
        &mut self,
        message: Initiation<'_>,
        source: SocketAddr,
        is_expected: bool,
        now: Instant,
    ) -> Result<Stranger, Result<Verdict, Reason>> {
        let (message_bytes, sender) = (message.bytes(), message.sender());
        let knock = Knock { message: message_bytes, sender, source, is_expected, cost: INITIATION_COST };
        let payer = self.admit(knock, now)?;
        self.gate.spend(payer, 1, now);
        let claim = Claim::read(&self.sessions.local, message).ok_or(Err(Reason::Forged))?;
        Ok(Stranger { claim, payer, source })
    }

    /// Goes on with an initiation [from somebody](ReceiveOutcome::Unknown) who has been made a peer since.
    pub fn accept(&mut self, stranger: Stranger, now: Instant) -> Verdict {
        self.accept_initiation(stranger, now).unwrap_or_else(Verdict::Dropped)
    }

    fn accept_initiation(&mut self, stranger: Stranger, now: Instant) -> Result<Verdict, Reason> {
        let Stranger { claim, payer, source } = stranger;
        let peer = self.peers.with_key(claim.public_key()).ok_or(Reason::UnknownPeer)?;
        self.gate.spend(payer, peer.remote.authentication_cost(), now);
        let responder = claim.authenticate(&self.sessions.local, &peer.remote).ok_or(Reason::Forged)?;
        let stamp = responder.timestamp();
        if peer.greatest_timestamp.is_some_and(|greatest| stamp <= greatest) {
            return Err(Reason::Replayed);
        }
        if peer.last_initiation_accepted.is_some_and(|last| now.since(last) < INITIATION_INTERVAL) {
            return Err(Reason::Limited);
        }
        peer.greatest_timestamp = Some(stamp);
        peer.last_initiation_accepted = Some(now);
        self.gate.spend(payer, RESPONDING_COST, now);
        if !self.sessions.respond(peer, responder, source, now) {
            return Err(Reason::Forged);
        }
        let roamed = peer.on_received(INITIATION_LENGTH, source, now);
        self.schedule.plan(peer.index.slot(), peer.timers.next());
        Ok(accepted(peer, Content::Handshake, false, roamed))
    }

    fn receive_response(
        &mut self,
        message: Response<'_>,
        source: SocketAddr,
        now: Now,
    ) -> Result<Verdict, Reason> {
        let slot = self.sessions.indices.owner(message.receiver()).ok_or(Reason::UnknownIndex)?;
        let awaits = |peer: &mut Peer| peer.awaits_response(message.receiver());
        if !self.peers.in_slot(slot).is_some_and(awaits) {
            return Err(Reason::Forged);
        }
        // Who knows the index has received our initiation.
        let (message_bytes, sender) = (message.bytes(), message.sender());
        let knock = Knock { message: message_bytes, sender, source, is_expected: true, cost: RESPONSE_COST };
        match self.admit(knock, now.instant) {
            Ok(payer) => self.gate.spend(payer, RESPONSE_COST, now.instant),
            Err(verdict) => return verdict,
        }
        let peer = self.peers.in_slot(slot).ok_or(Reason::UnknownIndex)?;
        if !self.sessions.finish(peer, message, now.instant) {
            return Err(Reason::Forged);
        }
        let roamed = peer.on_received(message.bytes().len(), source, now.instant);
        self.sessions.use_at_once(peer, now);
        self.schedule.plan(slot, peer.timers.next());
        Ok(accepted(peer, Content::Handshake, true, roamed))
    }

    fn receive_cookie(&mut self, message: CookieReply<'_>, now: Instant) -> Result<Verdict, Reason> {
        let slot = self.sessions.indices.owner(message.receiver()).ok_or(Reason::UnknownIndex)?;
        let peer = self.peers.in_slot(slot).ok_or(Reason::UnknownIndex)?;
        if peer.signer.take_cookie(peer.remote.public_key(), message, now) {
            Ok(Verdict::CookieTaken(peer.index))
        } else {
            Err(Reason::Forged)
        }
    }

    fn receive_transport(
        &mut self,
        datagram: &mut [u8],
        receiver: u32,
        counter: u64,
        source: SocketAddr,
        now: Now,
    ) -> Result<Verdict, Reason> {
        let slot = self.sessions.indices.owner(receiver).ok_or(Reason::UnknownIndex)?;
        let peer = self.peers.in_slot(slot).ok_or(Reason::UnknownIndex)?;
        let (kind, keypair) = peer.keypairs.find(receiver).ok_or(Reason::UnknownIndex)?;
        let text = keypair.open(counter, datagram, now.instant).map_err(|refusal| match refusal {
            TransportRefusal::Expired => Reason::Expired,
            TransportRefusal::Replayed => Reason::Replayed,
            TransportRefusal::Forged => Reason::Forged,
        })?;
        let roamed = peer.on_received(datagram.len(), source, now.instant);
        let established = kind == KeypairSlot::Next;
        if established {
            self.sessions.confirm(peer, now.instant);
        }
        // What is of our own protocol has answers of its own.
        if datagram[text.clone()].first().is_some_and(|first| first >> 4 != 0) {
            peer.on_data_received(now.instant);
        }
        if peer.keypairs.current.as_deref().is_some_and(|current| current.is_stale_for_receiving(now.instant))
        {
            self.sessions.attempt(peer, now);
        }
        self.schedule.plan(slot, peer.timers.next());
        let content = match InnerPacket::parse(&datagram[text.clone()]) {
            _ if text.is_empty() => Content::Keepalive,
            None if datagram[text.start] >> 4 == 0 => Content::Probe(text),
            None => Content::Rejected(Rejection::Malformed),
            Some(inner) if !is_source(&self.allowed_ips, peer, inner.source) => {
                Content::Rejected(Rejection::Source)
            }
            Some(inner) => Content::Packet { range: text.start..text.start + inner.length, inner },
        };
        Ok(accepted(peer, content, established, roamed))
    }

    /// Gives what is to be sent of the device's own accord, one datagram a call: handshakes, keepalives, and
    /// packets that waited for a session. The datagram is written to the start of `buffer`, which must have
    /// [`POLL_BUFFER_LENGTH`] bytes; a waiting packet that does not fit is dropped.
    pub fn poll(&mut self, now: Now, buffer: &mut [u8]) -> Option<Outgoing> {
        loop {
            if let Some(outgoing) = self.sessions.outbox.pop(buffer) {
                return Some(outgoing);
            }
            if let Some(&index) = self.sessions.ready.front() {
                match self.poll_staged(index, buffer, now) {
                    Some(outgoing) => return Some(outgoing),
                    None => {
                        self.sessions.ready.pop_front();
                        continue;
                    }
                }
            }
            let slot = self.schedule.pop(now.instant)?;
            if let Some(peer) = self.peers.in_slot(slot) {
                while let Some(timer) = peer.timers.pop(now.instant) {
                    self.sessions.on_timer(peer, timer, now);
                }
                self.schedule.plan(slot, peer.timers.next());
            }
        }
    }

    /// The oldest packet that waits for this peer, sealed.
    fn poll_staged(&mut self, index: PeerIndex, buffer: &mut [u8], now: Now) -> Option<Outgoing> {
        loop {
            let peer = self.peers.get_mut(index).filter(|peer| peer.can_send(now.instant))?;
            let packet = peer.unstage(&mut self.sessions.staged_bytes)?;
            let room = buffer.get_mut(TRANSPORT_HEADER_LENGTH..).unwrap_or_default();
            let Some(text) = room.get_mut(..packet.len()) else { continue };
            text.copy_from_slice(&packet);
            if let SendOutcome::Sealed { to, length } = self.send(index, buffer, packet.len(), now) {
                return Some(Outgoing { peer: Some(index), to, length });
            }
        }
    }

    /// When [`Device::poll`] is to be called next; [`Instant::ZERO`] for at once, `None` for never. It may
    /// then turn out to have nothing to give.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if self.sessions.outbox.is_empty() && self.sessions.ready.is_empty() {
            self.schedule.next()
        } else {
            Some(Instant::ZERO)
        }
    }
}

/// Whether what a peer sends may come from `source`.
fn is_source(allowed_ips: &AllowedIps<PeerIndex>, peer: &Peer, source: IpAddr) -> bool {
    allowed_ips.lookup(source) == Some(peer.index)
        || peer.carries_others && allowed_ips.contains(source, peer.index)
}

/// Seals the packet of `length` bytes in `datagram`, padding it; without a session asks for one.
fn send_or_attempt(
    sessions: &mut SessionFactory,
    peer: &mut Peer,
    datagram: &mut [u8],
    length: usize,
    now: Now,
) -> Option<SocketAddr> {
    let padding = TRANSPORT_HEADER_LENGTH + length..datagram.len();
    datagram[padding].fill(0);
    let to = sessions.seal(peer, datagram, length > 0, now);
    if to.is_none() {
        sessions.attempt(peer, now);
    }
    to
}

fn accepted(peer: &Peer, content: Content, established: bool, roamed: bool) -> Verdict {
    Verdict::Accepted(Accepted { peer: peer.index, content, established, roamed })
}

#[cfg(test)]
mod tests;
