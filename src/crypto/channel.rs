//! Messages that two holders of X25519 keys send each other over anything, which nobody else reads, makes or repeats: each
//! way has a key of its own, made of what the two key pairs share and of a nonce of either side.

use super::aead::{PacketKey, TAG_LENGTH};
use super::blake2s;
use super::x25519::SharedSecret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub const NONCE_LENGTH: usize = 16;
/// Keeps these keys apart from every other use of the same secret.
const CONTEXT: &[u8] = b"lanrage v1 channel";

/// Which side one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who has opened the connection.
    Client,
    /// Who has taken it.
    Server,
}

/// One end of it. Messages have to come in the order in which they were sent, as they do over TCP.
#[derive(Debug)]
pub struct SealedChannel {
    sends: PacketKey,
    sent: u64,
    receives: PacketKey,
    received: u64,
}

impl SealedChannel {
    /// Of what both key pairs share, and of both sides' nonces.
    pub fn new(
        secret: &SharedSecret,
        client: &[u8; NONCE_LENGTH],
        server: &[u8; NONCE_LENGTH],
        side: Side,
    ) -> Self {
        let key = |way: &[u8]| {
            let key = Zeroizing::new(blake2s::mac32(secret.as_bytes(), &[CONTEXT, way, client, server]));
            PacketKey::new(&key)
        };
        let (sends, receives) = match side {
            Side::Client => (key(b">"), key(b"<")),
            Side::Server => (key(b"<"), key(b">")),
        };
        SealedChannel { sends, sent: 0, receives, received: 0 }
    }

    /// The next message to the other side, as text.
    pub fn seal(&mut self, text: &str) -> String {
        let mut bytes = Vec::with_capacity(text.len() + TAG_LENGTH);
        bytes.extend_from_slice(text.as_bytes());
        let tag = self.sends.seal(self.sent, &[], &mut bytes);
        self.sent += 1;
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The next message of the other side; `None` if it is not that.
    pub fn open(&mut self, sealed: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (text, tag) = bytes.split_last_chunk_mut::<TAG_LENGTH>()?;
        self.receives.open(self.received, &[], text, tag).ok()?;
        self.received += 1;
        bytes.truncate(bytes.len() - TAG_LENGTH);
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;

    #[test]
    fn only_the_two_ends_can_speak_and_each_message_counts_once() {
        let (relay, server, other) = (PrivateKey::generate(), PrivateKey::generate(), PrivateKey::generate());
        let end = |own: &PrivateKey, to: &PrivateKey, nonce: u8, side| {
            let secret = own.diffie_hellman(&to.public_key()).unwrap();
            SealedChannel::new(&secret, &[1; NONCE_LENGTH], &[nonce; NONCE_LENGTH], side)
        };
        let mut client = end(&relay, &server, 2, Side::Client);
        let mut there = end(&server, &relay, 2, Side::Server);
        let (first, second) = (client.seal("first"), client.seal("second"));
        assert_eq!(there.open(&second), None, "out of turn");
        assert_eq!(there.open(&first).as_deref(), Some("first"));
        assert_eq!(there.open(&first), None, "again");
        assert_eq!(there.open(&second).as_deref(), Some("second"));
        let back = there.seal("back");
        assert_eq!(there.open(&back), None, "its own");
        assert_eq!(client.open(&back).as_deref(), Some("back"));
        // Another key, or the same keys with another nonce: what was recorded once is worth nothing.
        let opens = |mut end: SealedChannel| end.open(&first).is_some();
        assert!(!opens(end(&server, &other, 2, Side::Server)));
        assert!(!opens(end(&server, &relay, 3, Side::Server)));
        for bad in ["", "A", "!", &first[1..]] {
            assert_eq!(end(&server, &relay, 2, Side::Server).open(bad), None, "{bad:?}");
        }
    }
}
