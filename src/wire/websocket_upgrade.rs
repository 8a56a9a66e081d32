//! The opening handshake of a WebSocket (RFC 6455 section 4.2), the server's side of it.

use crate::wire::http::RejectedRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client sent to turn its connection into a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upgrade {
    /// `Upgrade` names `websocket` and `Connection` names `upgrade`.
    pub asked: bool,
    /// `Sec-WebSocket-Version` is 13.
    pub version_13: bool,
    /// The value of `Sec-WebSocket-Key`.
    pub key: Option<String>,
}

impl Upgrade {
    /// The value for `Sec-WebSocket-Accept`, 28 characters.
    pub fn accept(&self) -> Result<String, RejectedRequest> {
        if !self.asked {
            return Err(RejectedRequest::new(426, "this address speaks WebSocket only"));
        }
        if !self.version_13 {
            return Err(RejectedRequest::new(426, "only version 13 of WebSocket is spoken here"));
        }
        let key = self.key.as_deref().ok_or(RejectedRequest::new(400, "Sec-WebSocket-Key is missing"))?;
        match STANDARD.decode(key) {
            Ok(nonce) if nonce.len() == 16 => (),
            _ => return Err(RejectedRequest::new(400, "Sec-WebSocket-Key must be base64 of 16 bytes")),
        }
        let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        Ok(STANDARD.encode(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(key: &str) -> Upgrade {
        Upgrade { asked: true, version_13: true, key: Some(key.into()) }
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn accepts_as_the_rfc_does() {
        assert_eq!(upgrade("dGhlIHNhbXBsZSBub25jZQ==").accept().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn refuses_what_is_no_handshake() {
        let status = |upgrade: Upgrade| upgrade.accept().unwrap_err().status;
        assert_eq!(status(Upgrade::default()), 426);
        assert_eq!(status(Upgrade { version_13: false, ..upgrade("dGhlIHNhbXBsZSBub25jZQ==") }), 426);
        assert_eq!(status(Upgrade { key: None, ..upgrade("") }), 400);
        for key in
            ["", "abc", "dGhlIHNhbXBsZSBub25jZQ", "AAAAAAAAAAAAAAAAAAAAAAAA", "dGhlIHNhbXBsZSBub25jZQ== "]
        {
            assert_eq!(status(upgrade(key)), 400, "{key:?}");
        }
    }
}
