//! Registering again for a live peer without its token, by proof of its WireGuard key.
//!
//! The server gives out a nonce; the client answers with a MAC over the nonce and its peer id, keyed with
//! the X25519 secret of its WireGuard key and the hub's key. Only the holder of either private key can make
//! it. Nonces are not kept: each carries its own date and a MAC of the server's.

use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::crypto::{blake2s, constant_time, random};
use crate::ids::PeerId;
use crate::time::Instant;
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
    /// Of this process alone: a nonce does not outlive it.
    secret: Zeroizing<[u8; 32]>,
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
        Prover { hub, secret: Zeroizing::new(random::bytes()) }
    }

    /// The hub's public key.
    pub fn hub(&self) -> PublicKey {
        self.hub.public_key()
    }

    /// A key for what is kept on this machine, which nobody has who has not the hub's.
    pub fn storage_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake2s::mac32(&*self.hub.to_bytes(), &[b"lanrage v1 storage"]))
    }

    fn date(&self, peer: &PeerId, instant: &[u8]) -> [u8; MAC_LENGTH] {
        blake2s::mac(&*self.secret, &[instant, peer.as_str().as_bytes()])
    }

    /// A nonce for `peer`, 32 characters.
    pub fn nonce(&self, peer: &PeerId, now: Instant) -> String {
        let instant = now.as_nanos().to_le_bytes();
        URL_SAFE_NO_PAD.encode([&instant[..], &self.date(peer, &instant)].concat())
    }

    /// Whether `proof` answers a fresh nonce of ours for `peer` and was made with the key `public`.
    pub fn verify(&self, public: &PublicKey, peer: &PeerId, nonce: &str, proof: &str, now: Instant) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((instant, date)) = bytes.split_first_chunk::<8>() else { return false };
        let issued = Instant::from_nanos(u64::from_le_bytes(*instant));
        let fresh = issued <= now && now.since(issued) <= NONCE_LIFE;
        if !constant_time::eq(date, &self.date(peer, instant)) || !fresh {
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

    #[test]
    fn only_the_holder_of_the_key_can_answer_and_only_for_a_minute() {
        let (hub, alice, mallory) = (PrivateKey::generate(), PrivateKey::generate(), PrivateKey::generate());
        let public = alice.public_key();
        let prover = Prover::new(hub);
        let peer = PeerId::new("alice").unwrap();
        let other = PeerId::new("bob").unwrap();
        let now = Instant::ZERO + Duration::from_secs(1000);
        let nonce = prover.nonce(&peer, now);
        let proof = prove(&alice, &prover.hub(), &peer, &nonce).unwrap();
        assert!(prover.verify(&public, &peer, &nonce, &proof, now));
        assert!(prover.verify(&public, &peer, &nonce, &proof, now + NONCE_LIFE));
        assert!(!prover.verify(&public, &peer, &nonce, &proof, now + NONCE_LIFE + Duration::from_nanos(1)));
        assert!(!prover.verify(&public, &other, &nonce, &proof, now));
        assert!(!prover.verify(&mallory.public_key(), &peer, &nonce, &proof, now));
        let forged = prove(&mallory, &prover.hub(), &peer, &nonce).unwrap();
        assert!(!prover.verify(&public, &peer, &nonce, &forged, now));
        let future = prover.nonce(&peer, now + Duration::from_secs(9));
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
