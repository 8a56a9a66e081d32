//! The four messages on the wire (paper 5.4.2 to 5.4.7): the length is checked once, then no accessor can
//! fail.

use crate::crypto::x25519::PublicKey;

/// Length of a handshake initiation (type 1) in bytes.
pub const INITIATION_LENGTH: usize = 148;
/// Length of a handshake response (type 2) in bytes.
pub const RESPONSE_LENGTH: usize = 92;
/// Length of a cookie reply (type 3) in bytes.
pub const COOKIE_REPLY_LENGTH: usize = 64;
/// Bytes of a transport message (type 4) before the sealed packet: type, receiver index, counter.
pub const TRANSPORT_HEADER_LENGTH: usize = 16;
/// Bytes of a transport message after the sealed packet.
pub const TAG_LENGTH: usize = 16;
/// Length of a transport message that carries nothing, a keepalive, in bytes.
pub const KEEPALIVE_LENGTH: usize = TRANSPORT_HEADER_LENGTH + TAG_LENGTH;
/// Length of mac1 and of mac2, the last two fields of messages of type 1 and 2, in bytes.
pub const MAC_LENGTH: usize = 16;

/// The type field: one byte and three zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Type {
    /// Handshake initiation.
    Initiation = 1,
    /// Handshake response.
    Response = 2,
    /// Cookie reply.
    CookieReply = 3,
    /// Transport data.
    Transport = 4,
}

/// A datagram that has the type and the length of a WireGuard message. Nothing else is checked.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Type 1.
    Initiation(Initiation<'a>),
    /// Type 2.
    Response(Response<'a>),
    /// Type 3.
    CookieReply(CookieReply<'a>),
    /// Type 4.
    Transport(Transport<'a>),
}

impl<'a> Message<'a> {
    /// What `datagram` is, or `None` if it is no WireGuard message.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (kind, _) = datagram.split_first_chunk()?;
        match u32::from_le_bytes(*kind) {
            1 => datagram.try_into().ok().map(|bytes| Message::Initiation(Initiation(bytes))),
            2 => datagram.try_into().ok().map(|bytes| Message::Response(Response(bytes))),
            3 => datagram.try_into().ok().map(|bytes| Message::CookieReply(CookieReply(bytes))),
            4 if datagram.len() >= KEEPALIVE_LENGTH => {
                let (header, sealed) = datagram.split_first_chunk()?;
                Some(Message::Transport(Transport { header, sealed }))
            }
            _ => None,
        }
    }

    /// The type field.
    pub fn kind(&self) -> Type {
        match self {
            Message::Initiation(_) => Type::Initiation,
            Message::Response(_) => Type::Response,
            Message::CookieReply(_) => Type::CookieReply,
            Message::Transport(_) => Type::Transport,
        }
    }

    /// The index that the sender chose for itself; only handshakes carry one.
    pub fn sender(&self) -> Option<u32> {
        match self {
            Message::Initiation(message) => Some(message.sender()),
            Message::Response(message) => Some(message.sender()),
            Message::CookieReply(_) | Message::Transport(_) => None,
        }
    }

    /// The index that the receiver chose for itself; an initiation carries none.
    pub fn receiver(&self) -> Option<u32> {
        match self {
            Message::Initiation(_) => None,
            Message::Response(message) => Some(message.receiver()),
            Message::CookieReply(message) => Some(message.receiver()),
            Message::Transport(message) => Some(message.receiver()),
        }
    }
}

/// `N` bytes of `bytes` from `at` on. Both are constants below, within the length of the message.
fn field<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

fn index(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*field(bytes, at))
}

/// A handshake initiation (5.4.2).
#[derive(Clone, Copy, Debug)]
pub struct Initiation<'a>(&'a [u8; INITIATION_LENGTH]);

impl<'a> Initiation<'a> {
    /// The initiator's index.
    pub fn sender(&self) -> u32 {
        index(self.0, 4)
    }

    /// The initiator's ephemeral key, in the clear.
    pub fn ephemeral(&self) -> PublicKey {
        PublicKey::from_bytes(*field(self.0, 8))
    }

    /// The initiator's sealed static key.
    pub fn sealed_static(&self) -> &'a [u8; 48] {
        field(self.0, 40)
    }

    /// The sealed timestamp.
    pub fn sealed_timestamp(&self) -> &'a [u8; 28] {
        field(self.0, 88)
    }

    /// The whole message.
    pub fn bytes(&self) -> &'a [u8; INITIATION_LENGTH] {
        self.0
    }
}

/// A handshake response (5.4.3).
#[derive(Clone, Copy, Debug)]
pub struct Response<'a>(&'a [u8; RESPONSE_LENGTH]);

impl<'a> Response<'a> {
    /// The responder's index.
    pub fn sender(&self) -> u32 {
        index(self.0, 4)
    }

    /// The initiator's index, from the initiation.
    pub fn receiver(&self) -> u32 {
        index(self.0, 8)
    }

    /// The responder's ephemeral key, in the clear.
    pub fn ephemeral(&self) -> PublicKey {
        PublicKey::from_bytes(*field(self.0, 12))
    }

    /// Nothing, sealed: the tag that authenticates the responder.
    pub fn sealed_nothing(&self) -> &'a [u8; TAG_LENGTH] {
        field(self.0, 44)
    }

    /// The whole message.
    pub fn bytes(&self) -> &'a [u8; RESPONSE_LENGTH] {
        self.0
    }
}

/// A cookie reply (5.4.7).
#[derive(Clone, Copy, Debug)]
pub struct CookieReply<'a>(&'a [u8; COOKIE_REPLY_LENGTH]);

impl<'a> CookieReply<'a> {
    /// The index that the answered message had as sender.
    pub fn receiver(&self) -> u32 {
        index(self.0, 4)
    }

    /// The nonce, random.
    pub fn nonce(&self) -> &'a [u8; 24] {
        field(self.0, 8)
    }

    /// The sealed cookie.
    pub fn sealed_cookie(&self) -> &'a [u8; 32] {
        field(self.0, 32)
    }
}

/// A transport message (5.4.6): at least a header and a tag.
#[derive(Clone, Copy, Debug)]
pub struct Transport<'a> {
    header: &'a [u8; TRANSPORT_HEADER_LENGTH],
    sealed: &'a [u8],
}

impl<'a> Transport<'a> {
    /// The index of the session, chosen by the receiver.
    pub fn receiver(&self) -> u32 {
        index(self.header, 4)
    }

    /// The number of the message in its session.
    pub fn counter(&self) -> u64 {
        u64::from_le_bytes(*field(self.header, 8))
    }

    /// The sealed packet and its tag.
    pub fn sealed(&self) -> &'a [u8] {
        self.sealed
    }
}

/// The header of a transport message.
pub fn transport_header(receiver: u32, counter: u64) -> [u8; TRANSPORT_HEADER_LENGTH] {
    let mut header = [0; TRANSPORT_HEADER_LENGTH];
    header[0] = Type::Transport as u8;
    header[4..8].copy_from_slice(&receiver.to_le_bytes());
    header[8..].copy_from_slice(&counter.to_le_bytes());
    header
}

/// mac1 of a message of type 1 or 2, or `None` if it is too short to have one.
pub fn mac1(message: &[u8]) -> Option<&[u8; MAC_LENGTH]> {
    let (rest, _) = message.split_last_chunk::<MAC_LENGTH>()?;
    rest.last_chunk()
}

/// mac2 of a message of type 1 or 2, or `None` if it is too short to have one.
pub fn mac2(message: &[u8]) -> Option<&[u8; MAC_LENGTH]> {
    message.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    /// A message whose bytes are all different from their neighbours, so that a field at a wrong place shows.
    fn numbered(kind: u8, length: usize) -> Vec<u8> {
        let mut message: Vec<u8> = (0..length).map(|i| i as u8).collect();
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message
    }

    #[test]
    fn fields_are_where_the_paper_puts_them() {
        let bytes = numbered(1, INITIATION_LENGTH);
        let Some(Message::Initiation(message)) = Message::parse(&bytes) else { panic!() };
        assert_eq!(message.sender(), 0x0706_0504);
        assert_eq!(message.ephemeral().as_bytes()[..], bytes[8..40]);
        assert_eq!(message.sealed_static()[..], bytes[40..88]);
        assert_eq!(message.sealed_timestamp()[..], bytes[88..116]);
        assert_eq!(mac1(message.bytes()).unwrap()[..], bytes[116..132]);
        assert_eq!(mac2(message.bytes()).unwrap()[..], bytes[132..148]);

        let bytes = numbered(2, RESPONSE_LENGTH);
        let Some(Message::Response(message)) = Message::parse(&bytes) else { panic!() };
        assert_eq!((message.sender(), message.receiver()), (0x0706_0504, 0x0b0a_0908));
        assert_eq!(message.ephemeral().as_bytes()[..], bytes[12..44]);
        assert_eq!(message.sealed_nothing()[..], bytes[44..60]);
        assert_eq!(mac1(message.bytes()).unwrap()[..], bytes[60..76]);
        assert_eq!(mac2(message.bytes()).unwrap()[..], bytes[76..92]);

        let bytes = numbered(3, COOKIE_REPLY_LENGTH);
        let Some(Message::CookieReply(message)) = Message::parse(&bytes) else { panic!() };
        assert_eq!(message.receiver(), 0x0706_0504);
        assert_eq!(message.nonce()[..], bytes[8..32]);
        assert_eq!(message.sealed_cookie()[..], bytes[32..64]);

        let bytes = numbered(4, 100);
        let Some(Message::Transport(message)) = Message::parse(&bytes) else { panic!() };
        assert_eq!(message.receiver(), 0x0706_0504);
        assert_eq!(message.counter(), 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(message.sealed(), &bytes[16..]);
        assert_eq!(transport_header(message.receiver(), message.counter()), bytes[..16]);
    }

    #[test]
    fn a_datagram_is_a_message_by_its_type_and_length_alone() {
        for kind in 0..=255u8 {
            for length in 0..200 {
                let mut bytes = vec![0xa5; length];
                let type_field = [kind, 0, 0, 0];
                let known = length.min(4);
                bytes[..known].copy_from_slice(&type_field[..known]);
                let expected = match (kind, length) {
                    (1, 148) => Some(Type::Initiation),
                    (2, 92) => Some(Type::Response),
                    (3, 64) => Some(Type::CookieReply),
                    (4, 32..) => Some(Type::Transport),
                    _ => None,
                };
                let parsed = Message::parse(&bytes);
                assert_eq!(parsed.map(|message| message.kind()), expected, "{kind}, {length}");
                let has = |known: Option<u32>| known.is_some();
                let indices = parsed.map(|message| (has(message.sender()), has(message.receiver())));
                let expected = expected.map(|kind| {
                    (kind == Type::Initiation || kind == Type::Response, kind != Type::Initiation)
                });
                assert_eq!(indices, expected);
                for reserved in 1..known {
                    bytes[reserved] = 1;
                    assert!(Message::parse(&bytes).is_none(), "reserved bytes are zero");
                    bytes[reserved] = 0;
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Seeded::new(11);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.below(200) as usize];
            random.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first %= 6;
            }
            if let Some(reserved) = bytes.get_mut(1..4).filter(|_| random.below(4) > 0) {
                reserved.fill(0);
            }
            mac1(&bytes);
            mac2(&bytes);
            if let Some(message) = Message::parse(&bytes) {
                message.sender();
                message.receiver();
            }
        }
    }
}
