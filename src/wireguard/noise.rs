//! The handshake (paper 5.4.2 to 5.4.5): Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s in both roles.
//!
//! Only the Noise part of the messages and their indices are written and read here; mac1 and mac2 belong to
//! `cookie`. All state is zeroed when dropped, also when a step fails: each step takes the state of the one
//! before, or a copy of it.

use crate::crypto::aead::{PacketKey, TAG_LENGTH};
use crate::crypto::blake2s::{Secret, hash, kdf1, kdf2, kdf3};
use crate::crypto::x25519::{PrivateKey, PublicKey, SharedSecret, prepare_public_keys};
use crate::wireguard::constants::{CONSTRUCTION, IDENTIFIER};
use crate::wireguard::message::{INITIATION_LENGTH, Initiation, RESPONSE_LENGTH, Response, Type};
use crate::wireguard::timestamp::{self, Timestamp};
use std::cell::OnceCell;
use zeroize::{Zeroize, Zeroizing};

/// A secret that two peers may agree on besides their keys; zero if they did not.
pub type PresharedKey = Zeroizing<[u8; 32]>;

/// Who we are.
pub struct LocalIdentity {
    private: PrivateKey,
    public: PublicKey,
    /// The hash that every handshake towards us begins with.
    initial_hash: [u8; 32],
}

impl LocalIdentity {
    /// The identity that `private` gives.
    pub fn new(private: PrivateKey) -> Self {
        // Each of its handshakes has a key of its own.
        prepare_public_keys();
        let public = private.public_key();
        LocalIdentity { private, public, initial_hash: initial_hash(&public) }
    }

    /// Our public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

/// A peer as the handshake sees it.
pub struct RemoteIdentity {
    public: PublicKey,
    preshared: PresharedKey,
    /// DH of both static keys, which is the same in every handshake. Most members of a big roster never
    /// begin one here, so it waits for the first.
    static_static: OnceCell<SharedSecret>,
}

impl RemoteIdentity {
    /// The peer with this key; `None` if it is a point of low order.
    pub fn new(public: PublicKey, preshared: PresharedKey) -> Option<Self> {
        (!public.is_low_order()).then(|| RemoteIdentity { public, preshared, static_static: OnceCell::new() })
    }

    fn static_static(&self, local: &LocalIdentity) -> Option<&SharedSecret> {
        if self.static_static.get().is_none() {
            let secret = local.private.diffie_hellman(&self.public)?;
            // It was empty a line ago.
            self.static_static.set(secret).ok()?;
        }
        self.static_static.get()
    }

    /// X25519 computations that [`Claim::authenticate`] costs: one the first time, then none.
    pub fn authentication_cost(&self) -> u32 {
        u32::from(self.static_static.get().is_none())
    }

    /// The peer's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

/// `Hash(Hash(Hash(Construction) || Identifier) || responder)`.
fn initial_hash(responder: &PublicKey) -> [u8; 32] {
    hash(&[&hash(&[&hash(&[CONSTRUCTION]), IDENTIFIER]), responder.as_bytes()])
}

/// The chaining key C and the hash H of the paper.
#[derive(Clone)]
struct Symmetric {
    chain: Secret,
    hash: [u8; 32],
}

impl Symmetric {
    fn new(initial_hash: [u8; 32]) -> Self {
        Symmetric { chain: Zeroizing::new(hash(&[CONSTRUCTION])), hash: initial_hash }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        self.chain = kdf1(&*self.chain, input);
    }

    fn mix_ephemeral(&mut self, ephemeral: &PublicKey) {
        self.mix_key(ephemeral.as_bytes());
        self.mix_hash(ephemeral.as_bytes());
    }

    fn mix_secret(&mut self, secret: &SharedSecret) -> PacketKey {
        let (chain, key) = kdf2(&*self.chain, secret.as_bytes());
        self.chain = chain;
        PacketKey::new(&key)
    }

    fn mix_preshared(&mut self, preshared: &PresharedKey) -> PacketKey {
        let (chain, temporary, key) = kdf3(&*self.chain, &**preshared);
        self.chain = chain;
        self.mix_hash(&*temporary);
        PacketKey::new(&key)
    }

    /// Seals `text` into `sealed`, which is [`TAG_LENGTH`] longer.
    fn seal(&mut self, key: &PacketKey, text: &[u8], sealed: &mut [u8]) {
        let (body, tag) = sealed.split_at_mut(text.len());
        body.copy_from_slice(text);
        tag.copy_from_slice(&key.seal(0, &self.hash, body));
        self.mix_hash(sealed);
    }

    /// Opens `sealed` into `text`, which is [`TAG_LENGTH`] shorter.
    fn open(&mut self, key: &PacketKey, sealed: &[u8], text: &mut [u8]) -> Option<()> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LENGTH>()?;
        text.copy_from_slice(body);
        key.open(0, &self.hash, text, tag).ok()?;
        self.mix_hash(sealed);
        Some(())
    }

    /// The keys of both directions: the initiator's first.
    fn split(&self) -> (Secret, Secret) {
        kdf2(&*self.chain, &[])
    }
}

impl Drop for Symmetric {
    fn drop(&mut self) {
        self.hash.zeroize();
    }
}

/// What a finished handshake gives: transport keys, not yet used.
pub struct Session {
    /// Seals what we send.
    pub send: Secret,
    /// Opens what we receive.
    pub receive: Secret,
    /// The index by which the peer names the session to us.
    pub local_index: u32,
    /// The index by which we name it to the peer.
    pub remote_index: u32,
    /// Whether we began the handshake.
    pub is_initiator: bool,
}

/// A handshake that we began and that has not been answered.
pub struct Initiator {
    state: Symmetric,
    ephemeral: PrivateKey,
    index: u32,
}

impl Initiator {
    /// Writes an initiation, without mac1 and mac2, into `message`. `ephemeral` must be fresh. `None` if the
    /// peer's key turns out to be a point of low order.
    pub fn begin(
        local: &LocalIdentity,
        remote: &RemoteIdentity,
        index: u32,
        timestamp: Timestamp,
        ephemeral: PrivateKey,
        message: &mut [u8; INITIATION_LENGTH],
    ) -> Option<Self> {
        let mut state = Symmetric::new(initial_hash(&remote.public));
        let ephemeral_public = ephemeral.public_key();
        message.fill(0);
        message[0] = Type::Initiation as u8;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..40].copy_from_slice(ephemeral_public.as_bytes());
        state.mix_ephemeral(&ephemeral_public);
        let key = state.mix_secret(&ephemeral.diffie_hellman(&remote.public)?);
        state.seal(&key, local.public.as_bytes(), &mut message[40..88]);
        let key = state.mix_secret(remote.static_static(local)?);
        state.seal(&key, timestamp.as_bytes(), &mut message[88..116]);
        Some(Initiator { state, ephemeral, index })
    }

    /// The index that the answer must be sent to.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The session that `response` completes; `None` if it is not the peer's answer to this initiation. A
    /// forged answer costs the handshake nothing: the real one may still come.
    pub fn finish(
        &self,
        local: &LocalIdentity,
        remote: &RemoteIdentity,
        response: Response<'_>,
    ) -> Option<Session> {
        let mut state = self.state.clone();
        let ephemeral = response.ephemeral();
        state.mix_ephemeral(&ephemeral);
        state.mix_key(self.ephemeral.diffie_hellman(&ephemeral)?.as_bytes());
        state.mix_key(local.private.diffie_hellman(&ephemeral)?.as_bytes());
        let key = state.mix_preshared(&remote.preshared);
        state.open(&key, response.sealed_nothing(), &mut [])?;
        let (send, receive) = state.split();
        let remote_index = response.sender();
        Some(Session { send, receive, local_index: self.index, remote_index, is_initiator: true })
    }
}

/// An initiation that names its sender, who has not proven to be that peer.
pub struct Claim {
    state: Symmetric,
    claimed: PublicKey,
    ephemeral: PublicKey,
    remote_index: u32,
    sealed_timestamp: [u8; timestamp::LENGTH + TAG_LENGTH],
}

impl Claim {
    /// Opens the static key of an initiation towards us; costs one X25519 computation. `None` if it was sealed for
    /// somebody else.
    pub fn read(local: &LocalIdentity, initiation: Initiation<'_>) -> Option<Self> {
        let mut state = Symmetric::new(local.initial_hash);
        let ephemeral = initiation.ephemeral();
        state.mix_ephemeral(&ephemeral);
        let key = state.mix_secret(&local.private.diffie_hellman(&ephemeral)?);
        let mut claimed = [0; 32];
        state.open(&key, initiation.sealed_static(), &mut claimed)?;
        Some(Claim {
            state,
            claimed: PublicKey::from_bytes(claimed),
            ephemeral,
            remote_index: initiation.sender(),
            sealed_timestamp: *initiation.sealed_timestamp(),
        })
    }

    /// Who the sender says it is.
    pub fn public_key(&self) -> &PublicKey {
        &self.claimed
    }

    /// Opens the timestamp, which only the peer with that key can have sealed. `remote` must be the peer
    /// that [`Claim::public_key`] names.
    pub fn authenticate(mut self, local: &LocalIdentity, remote: &RemoteIdentity) -> Option<Responder> {
        let key = self.state.mix_secret(remote.static_static(local)?);
        let mut timestamp = [0; timestamp::LENGTH];
        self.state.open(&key, &self.sealed_timestamp, &mut timestamp)?;
        Some(Responder {
            state: self.state,
            timestamp: Timestamp::from_bytes(timestamp),
            ephemeral: self.ephemeral,
            remote_index: self.remote_index,
        })
    }
}

/// An initiation that came from a peer: now, or, if the timestamp is not new, some time ago.
pub struct Responder {
    state: Symmetric,
    timestamp: Timestamp,
    ephemeral: PublicKey,
    remote_index: u32,
}

impl Responder {
    /// When the peer says it sent the initiation.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Writes the answer, without mac1 and mac2, into `message`; costs two DHs. `ephemeral` must be fresh.
    /// `None` if the peer's ephemeral key is a point of low order.
    pub fn respond(
        mut self,
        remote: &RemoteIdentity,
        index: u32,
        ephemeral: PrivateKey,
        message: &mut [u8; RESPONSE_LENGTH],
    ) -> Option<Session> {
        let ephemeral_public = ephemeral.public_key();
        message.fill(0);
        message[0] = Type::Response as u8;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..12].copy_from_slice(&self.remote_index.to_le_bytes());
        message[12..44].copy_from_slice(ephemeral_public.as_bytes());
        let state = &mut self.state;
        state.mix_ephemeral(&ephemeral_public);
        state.mix_key(ephemeral.diffie_hellman(&self.ephemeral)?.as_bytes());
        state.mix_key(ephemeral.diffie_hellman(&remote.public)?.as_bytes());
        let key = state.mix_preshared(&remote.preshared);
        state.seal(&key, &[], &mut message[44..60]);
        let (receive, send) = state.split();
        let remote_index = self.remote_index;
        Some(Session { send, receive, local_index: index, remote_index, is_initiator: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use crate::wireguard::message::Message;
    use snow::{Builder, HandshakeState};

    struct TestParty {
        private: PrivateKey,
        local: LocalIdentity,
    }

    fn party(random: &mut Seeded) -> TestParty {
        let private = key(random);
        TestParty { local: LocalIdentity::new(private.clone()), private }
    }

    fn key(random: &mut Seeded) -> PrivateKey {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        PrivateKey::from_bytes(bytes)
    }

    fn preshared(random: &mut Seeded) -> PresharedKey {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut *bytes);
        bytes
    }

    fn stamp(random: &mut Seeded) -> Timestamp {
        let mut bytes = [0; 12];
        random.fill(&mut bytes);
        Timestamp::from_bytes(bytes)
    }

    fn snow_party(
        own: &PrivateKey,
        ephemeral: &PrivateKey,
        psk: &PresharedKey,
        to: Option<&PublicKey>,
    ) -> HandshakeState {
        let (own, ephemeral) = (own.to_bytes(), ephemeral.to_bytes());
        let builder = Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
            .local_private_key(&*own)
            .unwrap()
            .prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
            .unwrap()
            .psk(2, psk)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&*ephemeral);
        match to {
            Some(to) => builder.remote_public_key(to.as_bytes()).unwrap().build_initiator().unwrap(),
            None => builder.build_responder().unwrap(),
        }
    }

    /// The first transport message of each direction, as an independent implementation makes and reads it.
    fn check_transport(session: &Session, other: HandshakeState) {
        let other = other.into_stateless_transport_mode().unwrap();
        let (send, receive) = (PacketKey::new(&session.send), PacketKey::new(&session.receive));
        for counter in [0, 1, 1 << 32, u64::MAX - 8193] {
            let mut sealed = *b"to the other";
            let tag = send.seal(counter, &[], &mut sealed);
            let mut text = [0; 64];
            let length = other.read_message(counter, &[&sealed[..], &tag].concat(), &mut text).unwrap();
            assert_eq!(&text[..length], b"to the other");
            let mut sealed = [0; 64];
            let length = other.write_message(counter, b"from the other", &mut sealed).unwrap();
            let (text, tag) = sealed[..length].split_at_mut(length - TAG_LENGTH);
            assert_eq!(receive.open(counter, &[], text, (&*tag).try_into().unwrap()), Ok(()));
            assert_eq!(text, b"from the other");
        }
    }

    #[test]
    fn as_initiator_towards_snow() {
        let mut random = Seeded::new(1);
        for round in 0..20 {
            let (us, them) = (party(&mut random), party(&mut random));
            let psk = if round % 2 == 0 { PresharedKey::default() } else { preshared(&mut random) };
            let (ours, theirs) = (key(&mut random), key(&mut random));
            let remote = RemoteIdentity::new(them.local.public, psk.clone()).unwrap();
            let timestamp = stamp(&mut random);
            let mut snow = snow_party(&them.private, &theirs, &psk, None);

            let mut initiation = [0; INITIATION_LENGTH];
            let pending =
                Initiator::begin(&us.local, &remote, 0x0102_0304, timestamp, ours.clone(), &mut initiation)
                    .unwrap();
            assert_eq!(initiation[..8], [1, 0, 0, 0, 4, 3, 2, 1]);
            let mut payload = [0; 64];
            let length = snow.read_message(&initiation[8..116], &mut payload).unwrap();
            assert_eq!(payload[..length], timestamp.as_bytes()[..]);
            assert_eq!(snow.get_remote_static().unwrap(), us.local.public.as_bytes());

            let mut response = [0; RESPONSE_LENGTH];
            response[..12].copy_from_slice(&[2, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!(snow.write_message(&[], &mut response[12..60]).unwrap(), 48);
            let Some(Message::Response(message)) = Message::parse(&response) else { panic!() };
            assert_eq!(message.receiver(), pending.index());
            let session = pending.finish(&us.local, &remote, message).unwrap();
            assert_eq!((session.local_index, session.remote_index), (0x0102_0304, 0x0506_0708));
            assert!(session.is_initiator);
            check_transport(&session, snow);

            // With the same ephemeral key, the independent implementation writes the same bytes.
            let mut snow = snow_party(&us.private, &ours, &psk, Some(&them.local.public));
            let mut expected = [0; 108];
            assert_eq!(snow.write_message(timestamp.as_bytes(), &mut expected).unwrap(), 108);
            assert_eq!(initiation[8..116], expected);
        }
    }

    #[test]
    fn as_responder_towards_snow() {
        let mut random = Seeded::new(2);
        for round in 0..20 {
            let (us, them) = (party(&mut random), party(&mut random));
            let psk = if round % 2 == 0 { PresharedKey::default() } else { preshared(&mut random) };
            let (ours, theirs) = (key(&mut random), key(&mut random));
            let remote = RemoteIdentity::new(them.local.public, psk.clone()).unwrap();
            let timestamp = stamp(&mut random);
            let mut snow = snow_party(&them.private, &theirs, &psk, Some(&us.local.public));

            let mut initiation = [0; INITIATION_LENGTH];
            initiation[..8].copy_from_slice(&[1, 0, 0, 0, 4, 3, 2, 1]);
            assert_eq!(snow.write_message(timestamp.as_bytes(), &mut initiation[8..116]).unwrap(), 108);
            let Some(Message::Initiation(message)) = Message::parse(&initiation) else { panic!() };
            let claim = Claim::read(&us.local, message).unwrap();
            assert_eq!(claim.public_key(), &them.local.public);
            let responder = claim.authenticate(&us.local, &remote).unwrap();
            assert_eq!(responder.timestamp(), timestamp);
            let mut response = [0; RESPONSE_LENGTH];
            let session = responder.respond(&remote, 0x0506_0708, ours.clone(), &mut response).unwrap();
            assert_eq!(response[..12], [2, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!(snow.read_message(&response[12..60], &mut []).unwrap(), 0);
            assert_eq!((session.local_index, session.remote_index), (0x0506_0708, 0x0102_0304));
            assert!(!session.is_initiator);
            check_transport(&session, snow);

            let mut snow = snow_party(&us.private, &ours, &psk, None);
            snow.read_message(&initiation[8..116], &mut [0; 64]).unwrap();
            let mut expected = [0; 48];
            assert_eq!(snow.write_message(&[], &mut expected).unwrap(), 48);
            assert_eq!(response[12..60], expected);
        }
    }

    /// Both roles, and a hook to spoil the messages on the way.
    fn handshake(
        psks: [&PresharedKey; 2],
        spoil_initiation: impl Fn(&mut [u8; INITIATION_LENGTH]),
        spoil_response: impl Fn(&mut [u8; RESPONSE_LENGTH]),
    ) -> Result<[Session; 2], &'static str> {
        let mut random = Seeded::new(3);
        let (a, b) = (party(&mut random), party(&mut random));
        let b_of_a = RemoteIdentity::new(b.local.public, psks[0].clone()).unwrap();
        let a_of_b = RemoteIdentity::new(a.local.public, psks[1].clone()).unwrap();
        let mut initiation = [0; INITIATION_LENGTH];
        let timestamp = stamp(&mut random);
        let pending =
            Initiator::begin(&a.local, &b_of_a, 1, timestamp, key(&mut random), &mut initiation).unwrap();
        spoil_initiation(&mut initiation);
        let Some(Message::Initiation(message)) = Message::parse(&initiation) else { return Err("parse") };
        let claim = Claim::read(&b.local, message).ok_or("claim")?;
        if claim.public_key() != &a.local.public {
            return Err("somebody else");
        }
        let responder = claim.authenticate(&b.local, &a_of_b).ok_or("authenticate")?;
        let mut response = [0; RESPONSE_LENGTH];
        let theirs = responder.respond(&a_of_b, 2, key(&mut random), &mut response).ok_or("respond")?;
        spoil_response(&mut response);
        let Some(Message::Response(message)) = Message::parse(&response) else { return Err("parse") };
        let ours = pending.finish(&a.local, &b_of_a, message).ok_or("finish")?;
        Ok([ours, theirs])
    }

    #[test]
    fn both_roles_agree() {
        let psk = preshared(&mut Seeded::new(4));
        let [ours, theirs] = handshake([&psk, &psk], |_| (), |_| ()).unwrap();
        assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
        assert_ne!(ours.send, ours.receive);
        let other = PresharedKey::default();
        assert_eq!(handshake([&psk, &other], |_| (), |_| ()).err(), Some("finish"));
    }

    #[test]
    fn a_changed_bit_anywhere_stops_the_handshake() {
        let psk = PresharedKey::default();
        for bit in 8 * 8..116 * 8 {
            let expected = match bit / 8 {
                8..88 => "claim",
                _ => "authenticate",
            };
            let spoil = |message: &mut [u8; INITIATION_LENGTH]| message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(handshake([&psk, &psk], spoil, |_| ()).err(), Some(expected), "{bit}");
        }
        for bit in 12 * 8..60 * 8 {
            let spoil = |message: &mut [u8; RESPONSE_LENGTH]| message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(handshake([&psk, &psk], |_| (), spoil).err(), Some("finish"), "{bit}");
        }
    }

    #[test]
    fn low_order_points_are_refused_in_every_place() {
        let psk = PresharedKey::default();
        for byte in [0, 1] {
            let mut point = [0; 32];
            point[0] = byte;
            assert!(RemoteIdentity::new(PublicKey::from_bytes(point), psk.clone()).is_none());
            let ephemeral = |message: &mut [u8; INITIATION_LENGTH]| message[8..40].copy_from_slice(&point);
            assert_eq!(handshake([&psk, &psk], ephemeral, |_| ()).err(), Some("claim"));
            let ephemeral = |message: &mut [u8; RESPONSE_LENGTH]| message[12..44].copy_from_slice(&point);
            assert_eq!(handshake([&psk, &psk], |_| (), ephemeral).err(), Some("finish"));
        }
    }

    /// A sender that knows nobody's private key can compute the whole message around a zero DH; the answer
    /// to it must not come from the tag alone.
    #[test]
    fn a_zero_dh_is_refused_even_if_everything_else_fits() {
        let local = LocalIdentity::new(PrivateKey::generate());
        let mut state = Symmetric::new(local.initial_hash);
        let zero = PublicKey::from_bytes([0; 32]);
        state.mix_ephemeral(&zero);
        let (chain, key) = kdf2(&*state.chain, &[0; 32]);
        state.chain = chain;
        let mut message = [0; INITIATION_LENGTH];
        message[0] = 1;
        state.seal(&PacketKey::new(&key), &[7; 32], &mut message[40..88]);
        let Some(Message::Initiation(initiation)) = Message::parse(&message) else { panic!() };
        assert!(Claim::read(&local, initiation).is_none());
    }
}
