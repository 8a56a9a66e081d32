//! Registering again for a live peer without its token, by proof of its WireGuard key.
//!
//! The server gives out a nonce; the client answers with a MAC over the nonce and its peer id, keyed with
//! the X25519 secret of its WireGuard key and the hub's key. Only the holder of either private key can make
//! it. Nonces are not kept: each carries its own date and a MAC of the server's. The date is the wall clock's, so that
//! every instance with the hub's key knows it; while that clock says 1970, it is one that no other process knows.

use super::record::AHEAD;
use crate::crypto::x25519::{PrivateKey, PublicKey, SharedSecret};
use crate::crypto::{blake2s, constant_time, random};
use crate::ids::PeerId;
use crate::time::{Now, UnixTime};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a nonce can be answered.
const NONCE_LIFE: Duration = Duration::from_secs(60);
/// Keeps these MACs apart from every other use of the same keys.
const CONTEXT: &[u8] = b"lanrage v1 register";
/// Bytes of a MAC, both the nonce's own and the proof.
const MAC_LENGTH: usize = 16;

/// The server's side.
pub struct Prover {
    hub: PrivateKey,
    /// For nonces dated by the wall clock: of everybody with the hub's key.
    shared: Zeroizing<[u8; 32]>,
    /// For those dated by the monotonic clock: of this process alone, and they do not outlive it.
    own: Zeroizing<[u8; 32]>,
}

/// The monotonic clock.
fn micros(now: Now) -> i64 {
    i64::try_from(now.instant.as_nanos() / 1000).unwrap_or(i64::MAX)
}

/// The MAC that a client sends, 16 bytes, computed by either end.
///
/// `secret` is X25519 of the peer's and the hub's key.
fn mac(secret: &[u8; 32], peer: &str, nonce: &str) -> [u8; MAC_LENGTH] {
    blake2s::mac(secret, &[CONTEXT, &[peer.len() as u8], peer.as_bytes(), nonce.as_bytes()])
}

/// The proof that the holder of `private` sends, in URL-safe Base64; `None` if `hub` is no usable key.
pub fn prove(private: &PrivateKey, hub: &PublicKey, peer: &PeerId, nonce: &str) -> Option<String> {
    let secret = private.diffie_hellman(hub)?;
    Some(URL_SAFE_NO_PAD.encode(mac(secret.as_bytes(), peer.as_str(), nonce)))
}

impl Prover {
    /// With the hub's key.
    pub fn new(hub: PrivateKey) -> Self {
        let shared = Zeroizing::new(blake2s::mac32(&*hub.to_bytes(), &[b"lanrage v1 nonce"]));
        Prover { hub, shared, own: Zeroizing::new(random::bytes()) }
    }

    /// The hub's public key.
    pub fn hub(&self) -> PublicKey {
        self.hub.public_key()
    }

    /// What the hub and the holder of another key share; `None` if that is no usable key.
    pub fn shared_with(&self, key: &PublicKey) -> Option<SharedSecret> {
        self.hub.diffie_hellman(key)
    }

    /// A key for what is kept on this machine, which nobody has who has not the hub's.
    pub fn storage_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake2s::mac32(&*self.hub.to_bytes(), &[b"lanrage v1 storage"]))
    }

    /// A key for what instances of a realm say to each other.
    pub fn instance_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake2s::mac32(&*self.hub.to_bytes(), &[b"lanrage v1 instances"]))
    }

    fn seal(secret: &[u8; 32], peer: &PeerId, date: &[u8]) -> [u8; MAC_LENGTH] {
        blake2s::mac(secret, &[date, peer.as_str().as_bytes()])
    }

    /// A nonce for `peer`, 32 characters.
    pub fn nonce(&self, peer: &PeerId, now: Now) -> String {
        let (secret, date) = match now.unix.is_plausible() {
            true => (&self.shared, now.unix.as_micros().to_le_bytes()),
            false => (&self.own, micros(now).to_le_bytes()),
        };
        URL_SAFE_NO_PAD.encode([&date[..], &Self::seal(secret, peer, &date)].concat())
    }

    /// Whether a nonce for `peer` is one of ours, and not older than it may be.
    fn is_fresh(&self, peer: &PeerId, nonce: &str, now: Now) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((date, seal)) = bytes.split_first_chunk::<8>() else { return false };
        let is_of = |secret: &[u8; 32]| constant_time::eq(seal, &Self::seal(secret, peer, date));
        let (issued, life) = (i64::from_le_bytes(*date), NONCE_LIFE.as_micros() as i64);
        if is_of(&self.own) {
            return (0..=life).contains(&micros(now).saturating_sub(issued));
        }
        let age = now.unix.micros_since(UnixTime::from_micros(issued));
        (-AHEAD..=life).contains(&age) && is_of(&self.shared)
    }

    /// Whether `proof` answers a fresh nonce of ours for `peer` and was made with the key `public`.
    pub fn verify(&self, public: &PublicKey, peer: &PeerId, nonce: &str, proof: &str, now: Now) -> bool {
        if !self.is_fresh(peer, nonce, now) {
            return false;
        }
        let (Ok(proof), Some(secret)) = (URL_SAFE_NO_PAD.decode(proof), self.hub.diffie_hellman(public))
        else {
            return false;
        };
        constant_time::eq(&proof, &mac(secret.as_bytes(), peer.as_str(), nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, unix: i64) -> Now {
        let instant = crate::time::Instant::ZERO + Duration::from_secs(seconds);
        Now { instant, unix: UnixTime::from_micros(unix * 1_000_000) }
    }

    fn later(now: Now, span: Duration) -> Now {
        Now { instant: now.instant + span, unix: now.unix + span }
    }

    const NOON: i64 = 1_795_176_000;

    #[test]
    fn only_the_holder_of_the_key_can_answer_and_only_for_a_minute() {
        // By either clock.
        for unix in [NOON, 100] {
            let (hub, alice, mallory) =
                (PrivateKey::generate(), PrivateKey::generate(), PrivateKey::generate());
            let public = alice.public_key();
            let prover = Prover::new(hub);
            let peer = PeerId::new("alice").unwrap();
            let other = PeerId::new("bob").unwrap();
            let now = at(1000, unix);
            let nonce = prover.nonce(&peer, now);
            let proof = prove(&alice, &prover.hub(), &peer, &nonce).unwrap();
            assert!(prover.verify(&public, &peer, &nonce, &proof, now));
            assert!(prover.verify(&public, &peer, &nonce, &proof, later(now, NONCE_LIFE)));
            let late = later(now, NONCE_LIFE + Duration::from_micros(1));
            assert!(!prover.verify(&public, &peer, &nonce, &proof, late));
            assert!(!prover.verify(&public, &other, &nonce, &proof, now));
            assert!(!prover.verify(&mallory.public_key(), &peer, &nonce, &proof, now));
            let forged = prove(&mallory, &prover.hub(), &peer, &nonce).unwrap();
            assert!(!prover.verify(&public, &peer, &nonce, &forged, now));
            let future = prover.nonce(&peer, later(now, Duration::from_secs(9)));
            let early = prove(&alice, &prover.hub(), &peer, &future).unwrap();
            assert!(!prover.verify(&public, &peer, &future, &early, now));
            for bad in ["", "!", "AAAA", &nonce[1..], &"A".repeat(32)] {
                assert!(!prover.verify(&public, &peer, bad, &proof, now), "{bad:?}");
                assert!(!prover.verify(&public, &peer, &nonce, bad, now), "{bad:?}");
            }
            let restarted = Prover::new(PrivateKey::generate());
            assert!(!restarted.verify(&public, &peer, &nonce, &proof, now));
        }
    }

    #[test]
    fn another_instance_knows_a_nonce_and_another_process_none_from_1970() {
        let (hub, alice) = (PrivateKey::generate(), PrivateKey::generate());
        let (one, other) = (Prover::new(hub.clone()), Prover::new(hub));
        let peer = PeerId::new("alice").unwrap();
        let proves = |nonce: &str, now| {
            let proof = prove(&alice, &one.hub(), &peer, nonce).unwrap();
            other.verify(&alice.public_key(), &peer, nonce, &proof, now)
        };
        // Its process started at another time, and its clock is a little behind, or ahead.
        let nonce = one.nonce(&peer, at(1000, NOON));
        assert!(
            proves(&nonce, at(7, NOON))
                && proves(&nonce, at(7, NOON - 5))
                && proves(&nonce, at(7, NOON + 60))
        );
        assert!(!proves(&nonce, at(1000, NOON - 6)) && !proves(&nonce, at(1000, NOON + 61)));
        assert!(!proves(&one.nonce(&peer, at(1000, 100)), at(1000, 100)));
    }
}
