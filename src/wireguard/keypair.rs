//! The transport keys of a session (paper 5.4.5, 5.4.6), and the three that a peer may have at once.

use crate::crypto::aead::PacketKey;
use crate::time::Instant;
use crate::wireguard::constants::{
    REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_ON_RECEIVE_TIME,
};
use crate::wireguard::message::{KEEPALIVE_LENGTH, TAG_LENGTH, TRANSPORT_HEADER_LENGTH, transport_header};
use crate::wireguard::noise::Session;
use crate::wireguard::replay::Window;
use std::ops::Range;
use std::time::Duration;

/// Why a transport message was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportRefusal {
    /// The key is too old, or the counter beyond what a key may open.
    Expired,
    /// The counter was seen before, or is too far behind.
    Replayed,
    /// The tag does not fit.
    Forged,
}

/// The keys of one session, in both directions.
pub struct Keypair {
    send: PacketKey,
    receive: PacketKey,
    /// The counter of the next message we send.
    next_counter: u64,
    window: Window,
    local_index: u32,
    remote_index: u32,
    created: Instant,
    is_initiator: bool,
}

impl Keypair {
    /// The keys of `session`, which came about at `now`.
    pub fn new(session: &Session, now: Instant) -> Self {
        Keypair {
            send: PacketKey::new(&session.send),
            receive: PacketKey::new(&session.receive),
            next_counter: 0,
            window: Window::default(),
            local_index: session.local_index,
            remote_index: session.remote_index,
            created: now,
            is_initiator: session.is_initiator,
        }
    }

    /// The index by which the peer names this session to us.
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// How long ago the session came about.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.created)
    }

    /// Whether there is anything that this key may still seal.
    pub fn can_send(&self, now: Instant) -> bool {
        self.next_counter < REJECT_AFTER_MESSAGES && now.since(self.created) < REJECT_AFTER_TIME
    }

    /// Whether sending makes it time for a new session (6.2).
    pub fn is_stale_for_sending(&self, now: Instant) -> bool {
        self.next_counter > REKEY_AFTER_MESSAGES
            || self.is_initiator && now.since(self.created) >= REKEY_AFTER_TIME
    }

    /// Whether receiving makes it time for a new session, lest the key runs out while we only listen (6.2).
    pub fn is_stale_for_receiving(&self, now: Instant) -> bool {
        self.is_initiator && now.since(self.created) >= REKEY_ON_RECEIVE_TIME
    }

    /// Seals the text between the first 16 and the last 16 bytes of `packet` in place and fills in those:
    /// header and tag. `false`, and `packet` untouched, if the key [may not](Keypair::can_send).
    ///
    /// # Panics
    /// If `packet` is shorter than 32 bytes.
    pub fn seal(&mut self, packet: &mut [u8], now: Instant) -> bool {
        if !self.can_send(now) {
            return false;
        }
        let counter = self.next_counter;
        self.next_counter += 1;
        let (header, rest) = packet.split_first_chunk_mut::<TRANSPORT_HEADER_LENGTH>().expect("a header");
        let (text, tag) = rest.split_last_chunk_mut::<TAG_LENGTH>().expect("a tag");
        *header = transport_header(self.remote_index, counter);
        *tag = self.send.seal(counter, &[], text);
        true
    }

    /// Opens a transport message with `counter` in place and gives the range of its text. Where it fails,
    /// `packet` is of no use any more.
    ///
    /// # Panics
    /// If `packet` is shorter than 32 bytes.
    pub fn open(
        &mut self,
        counter: u64,
        packet: &mut [u8],
        now: Instant,
    ) -> Result<Range<usize>, TransportRefusal> {
        assert!(packet.len() >= KEEPALIVE_LENGTH, "a header and a tag");
        if counter >= REJECT_AFTER_MESSAGES || now.since(self.created) >= REJECT_AFTER_TIME {
            return Err(TransportRefusal::Expired);
        }
        if !self.window.is_new(counter) {
            return Err(TransportRefusal::Replayed);
        }
        let end = packet.len() - TAG_LENGTH;
        let (text, tag) =
            packet[TRANSPORT_HEADER_LENGTH..].split_last_chunk_mut::<TAG_LENGTH>().expect("a tag");
        self.receive.open(counter, &[], text, tag).map_err(|_| TransportRefusal::Forged)?;
        self.window.accept(counter);
        Ok(TRANSPORT_HEADER_LENGTH..end)
    }

    /// As if `count` messages had been sent, to test what comes after.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, count: u64) {
        self.next_counter = count;
    }
}

/// Sessions that ended; their indices are free again.
pub type EndedKeypairs = [Option<Box<Keypair>>; 2];

/// The sessions with a peer: the one we send on, the one before it, and the one that the peer has not yet
/// confirmed (Noise's responder may not send first).
#[derive(Default)]
pub struct Keypairs {
    /// What we send on.
    pub current: Option<Box<Keypair>>,
    /// What the peer may still send on.
    pub previous: Option<Box<Keypair>>,
    /// What we answered an initiation with, until the first message under it arrives.
    pub next: Option<Box<Keypair>>,
}

/// Where a keypair was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeypairSlot {
    /// The one we send on.
    Current,
    /// The one before it.
    Previous,
    /// The unconfirmed one.
    Next,
}

impl Keypairs {
    /// The session that the peer names `index`.
    pub fn find(&mut self, index: u32) -> Option<(KeypairSlot, &mut Keypair)> {
        [
            (KeypairSlot::Current, &mut self.current),
            (KeypairSlot::Previous, &mut self.previous),
            (KeypairSlot::Next, &mut self.next),
        ]
        .into_iter()
        .find_map(|(slot, keypair)| {
            keypair.as_deref_mut().filter(|keypair| keypair.local_index == index).map(|found| (slot, found))
        })
    }

    /// Puts a new session in its place: an initiator's is current at once, since the peer's answer confirms
    /// it; a responder's is next.
    pub fn install(&mut self, keypair: Keypair) -> EndedKeypairs {
        let keypair = Some(Box::new(keypair));
        if keypair.as_deref().is_some_and(|keypair| !keypair.is_initiator) {
            return [std::mem::replace(&mut self.next, keypair), None];
        }
        let current = std::mem::replace(&mut self.current, keypair);
        // The peer may have initiated at the same time, and then sends on what is our next.
        match self.next.take() {
            Some(next) => [self.previous.replace(next), current],
            None => [std::mem::replace(&mut self.previous, current), None],
        }
    }

    /// The peer has used the next session: it becomes current.
    pub fn confirm(&mut self) -> EndedKeypairs {
        let Some(next) = self.next.take() else { return [None, None] };
        let current = self.current.replace(next);
        [std::mem::replace(&mut self.previous, current), None]
    }

    /// Ends all sessions.
    pub fn clear(&mut self) -> [Option<Box<Keypair>>; 3] {
        [self.current.take(), self.previous.take(), self.next.take()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::message::Message;
    use zeroize::Zeroizing;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn session(local_index: u32, is_initiator: bool) -> Session {
        let (send, receive) = if is_initiator { (1, 2) } else { (2, 1) };
        Session {
            send: Zeroizing::new([send; 32]),
            receive: Zeroizing::new([receive; 32]),
            local_index,
            remote_index: 3 - local_index,
            is_initiator,
        }
    }

    fn pair() -> (Keypair, Keypair) {
        (Keypair::new(&session(1, true), START), Keypair::new(&session(2, false), START))
    }

    fn send(from: &mut Keypair, text: &[u8]) -> Vec<u8> {
        let mut packet = [&[0; 16], text, &[0; 16]].concat();
        assert!(from.seal(&mut packet, START));
        packet
    }

    fn receive(to: &mut Keypair, packet: &[u8]) -> Result<Vec<u8>, TransportRefusal> {
        let mut packet = packet.to_vec();
        let Some(Message::Transport(message)) = Message::parse(&packet) else { panic!() };
        assert_eq!(message.receiver(), to.local_index());
        let counter = message.counter();
        to.open(counter, &mut packet, START).map(|range| packet[range].to_vec())
    }

    #[test]
    fn carries_both_ways_and_refuses_replays_and_forgeries() {
        let (mut a, mut b) = pair();
        for text in [&b""[..], b"x", &[7; 1420]] {
            let packet = send(&mut a, text);
            let mut forged = packet.clone();
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(receive(&mut b, &forged), Err(TransportRefusal::Forged));
            assert_eq!(receive(&mut b, &packet).unwrap(), text);
            assert_eq!(receive(&mut b, &packet), Err(TransportRefusal::Replayed));
            let packet = send(&mut b, text);
            assert_eq!(receive(&mut a, &packet).unwrap(), text);
        }
        // A forged counter far ahead must not move the window.
        let (old, new) = (send(&mut a, b"old"), send(&mut a, b"new"));
        let mut forged = new.clone();
        forged[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert_eq!(receive(&mut b, &forged), Err(TransportRefusal::Forged));
        assert_eq!(receive(&mut b, &new).unwrap(), b"new");
        assert_eq!(receive(&mut b, &old).unwrap(), b"old");
    }

    #[test]
    fn counters_go_past_32_bits() {
        let (mut a, mut b) = pair();
        a.skip_to((1 << 32) - 2);
        let packets: Vec<_> = (0..4).map(|_| send(&mut a, b"same")).collect();
        let counters: Vec<_> =
            packets.iter().map(|packet| u64::from_le_bytes(packet[8..16].try_into().unwrap())).collect();
        assert_eq!(counters, [0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001]);
        // A 32-bit nonce would make these equal to those of counters 0 and 1.
        let (mut fresh, _) = pair();
        assert_ne!(send(&mut fresh, b"same")[16..], packets[2][16..]);
        for packet in &packets {
            assert_eq!(receive(&mut b, packet).unwrap(), b"same");
            assert_eq!(receive(&mut b, packet), Err(TransportRefusal::Replayed));
        }
    }

    #[test]
    fn the_last_message_of_a_key() {
        let (mut a, mut b) = pair();
        assert_eq!(REJECT_AFTER_MESSAGES, 0xffff_ffff_ffff_dfff, "2^64 - 2^13 - 1");
        a.skip_to(REJECT_AFTER_MESSAGES - 1);
        let last = send(&mut a, b"last");
        assert_eq!(receive(&mut b, &last).unwrap(), b"last");
        assert!(!a.can_send(START));
        let mut packet = [9; 64];
        assert!(!a.seal(&mut packet, START));
        assert_eq!(packet, [9; 64]);
        // One beyond, sealed by a peer that does not count.
        let mut beyond = [0; 32];
        beyond[..16].copy_from_slice(&transport_header(2, REJECT_AFTER_MESSAGES));
        let tag = PacketKey::new(&[1; 32]).seal(REJECT_AFTER_MESSAGES, &[], &mut []);
        beyond[16..].copy_from_slice(&tag);
        assert_eq!(receive(&mut b, &beyond), Err(TransportRefusal::Expired));
    }

    #[test]
    fn a_key_lives_180_seconds() {
        let (mut a, mut b) = pair();
        let packet = send(&mut a, b"text");
        let before = START + Duration::from_nanos(179_999_999_999);
        let after = START + Duration::from_secs(180);
        assert_eq!(b.open(0, &mut packet.clone(), after), Err(TransportRefusal::Expired));
        assert!(b.open(0, &mut packet.clone(), before).is_ok());
        assert!(a.can_send(before) && !a.can_send(after));
        assert!(!a.seal(&mut [0; 32], after));
    }

    #[test]
    fn when_a_new_session_is_due() {
        let (mut a, b) = pair();
        let at = |seconds| START + Duration::from_secs(seconds);
        assert!(!a.is_stale_for_sending(at(119)) && a.is_stale_for_sending(at(120)));
        assert!(!b.is_stale_for_sending(at(179)), "the responder leaves it to the initiator");
        assert!(!a.is_stale_for_receiving(at(164)) && a.is_stale_for_receiving(at(165)));
        assert!(!b.is_stale_for_receiving(at(179)));
        a.skip_to(REKEY_AFTER_MESSAGES);
        assert!(!a.is_stale_for_sending(START));
        a.skip_to(REKEY_AFTER_MESSAGES + 1);
        assert!(a.is_stale_for_sending(START));
    }

    fn keypair(local_index: u32, is_initiator: bool) -> Keypair {
        let zero = || Zeroizing::new([0; 32]);
        Keypair::new(
            &Session { send: zero(), receive: zero(), local_index, remote_index: 0, is_initiator },
            START,
        )
    }

    fn indices(keypairs: &Keypairs) -> [Option<u32>; 3] {
        [&keypairs.previous, &keypairs.current, &keypairs.next]
            .map(|keypair| keypair.as_deref().map(Keypair::local_index))
    }

    fn ended(ended: EndedKeypairs) -> Vec<u32> {
        ended.into_iter().flatten().map(|keypair| keypair.local_index()).collect()
    }

    #[test]
    fn sessions_move_up_and_every_ended_one_is_reported() {
        let mut keypairs = Keypairs::default();
        assert_eq!(ended(keypairs.install(keypair(1, true))), []);
        assert_eq!(ended(keypairs.install(keypair(2, true))), []);
        assert_eq!(indices(&keypairs), [Some(1), Some(2), None]);
        assert_eq!(ended(keypairs.install(keypair(3, true))), [1]);
        assert_eq!(ended(keypairs.install(keypair(4, false))), []);
        assert_eq!(indices(&keypairs), [Some(2), Some(3), Some(4)]);
        assert_eq!(keypairs.find(4).map(|(slot, _)| slot), Some(KeypairSlot::Next));
        assert_eq!(keypairs.find(2).map(|(slot, _)| slot), Some(KeypairSlot::Previous));
        assert!(keypairs.find(1).is_none());
        // Answering again replaces what was never confirmed, and nothing that works.
        assert_eq!(ended(keypairs.install(keypair(5, false))), [4]);
        assert_eq!(ended(keypairs.confirm()), [2]);
        assert_eq!(indices(&keypairs), [Some(3), Some(5), None]);
        assert_eq!(ended(keypairs.confirm()), []);
        // Both initiated at once: what the peer may be sending on is kept.
        assert_eq!(ended(keypairs.install(keypair(6, false))), []);
        assert_eq!(ended(keypairs.install(keypair(7, true))), [3, 5]);
        assert_eq!(indices(&keypairs), [Some(6), Some(7), None]);
        assert_eq!(keypairs.clear().into_iter().flatten().count(), 2);
        assert_eq!(indices(&keypairs), [None; 3]);
    }
}
