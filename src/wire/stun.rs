//! STUN Binding (RFC 8489, and RFC 5389 before it), with CHANGE-REQUEST of RFC 5780 as far as a server with
//! one address and two ports can do it, and the classic form of RFC 3489, which has no magic cookie.
//!
//! OTHER-ADDRESS, and CHANGED-ADDRESS as RFC 3489 calls it, are left out on purpose. They promise a second
//! address; a client that is told our own with another port takes the same mapping for two of the same kind and
//! calls any NAT an endpoint-independent one. Without them it knows that it can't tell (RFC 5780, section 4.2).

use std::net::{IpAddr, SocketAddr};

/// Length of a STUN header in bytes.
pub const HEADER_LENGTH: usize = 20;
/// The longest message that is written here, in bytes.
pub const MAX_ANSWER_LENGTH: usize = HEADER_LENGTH + 24 + 8;

const MAGIC_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const TRANSACTION_LENGTH: usize = 12;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PADDING: u16 = 0x0026;
const FINGERPRINT: u16 = 0x8028;
/// What else RFC 8489 defines (section 18.3.1) and must be understood: credentials, which nobody is asked for here,
/// and what belongs into answers.
const OF_RFC_8489: [u16; 12] = [
    MAPPED_ADDRESS,
    0x0006, // USERNAME
    0x0008, // MESSAGE-INTEGRITY
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    0x0014, // REALM
    0x0015, // NONCE
    0x001c, // MESSAGE-INTEGRITY-SHA256
    0x001d, // PASSWORD-ALGORITHM
    0x001e, // USERHASH
    XOR_MAPPED_ADDRESS,
    PADDING, // of RFC 5780
];
/// Attributes below are not to be ignored by whoever does not know them.
const OPTIONAL: u16 = 0x8000;

const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Attributes that are named in an error answer.
const MAX_UNKNOWN: usize = 4;

/// Whether `datagram` says it is STUN: two zero bits and the magic cookie, or a classic Binding request of just
/// the length that it states. A WireGuard message whose index looks like the cookie is none: it begins as no
/// STUN method in use does, and all of them begin otherwise than a Binding request.
pub fn is_stun(datagram: &[u8]) -> bool {
    match datagram {
        [1..=4, 0, 0, 0, ..] => false,
        [kind, _, l0, l1, c0, c1, c2, c3, ..] if datagram.len() >= HEADER_LENGTH => {
            let has_cookie = kind & 0xc0 == 0 && [*c0, *c1, *c2, *c3] == MAGIC_COOKIE;
            let stated = usize::from(u16::from_be_bytes([*l0, *l1]));
            let is_request = datagram[..2] == BINDING_REQUEST.to_be_bytes();
            has_cookie || is_request && stated == datagram.len() - HEADER_LENGTH
        }
        _ => false,
    }
}

/// A Binding request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindingRequest {
    /// The magic cookie, but for a classic request.
    cookie: [u8; 4],
    transaction: [u8; TRANSACTION_LENGTH],
    /// Whether the answer is asked to come from the other port.
    change_port: bool,
    /// Whether the request has a FINGERPRINT, so that the answer is to have one, too.
    pub fingerprint: bool,
    /// Attributes that must be understood and are not, and a change of address, which nobody here can do.
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl BindingRequest {
    /// The Binding request that `datagram` is; `None` if it is anything else or malformed.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (header, attributes) = datagram.split_first_chunk::<HEADER_LENGTH>()?;
        let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !is_stun(datagram)
            || u16::from_be_bytes([header[0], header[1]]) != BINDING_REQUEST
            || stated != attributes.len()
        {
            return None;
        }
        let (cookie, transaction) = header[4..].split_first_chunk()?;
        let mut request = BindingRequest {
            cookie: *cookie,
            transaction: transaction.try_into().ok()?,
            change_port: false,
            fingerprint: false,
            unknown: [0; MAX_UNKNOWN],
            unknown_count: 0,
        };
        let mut rest = attributes;
        while let Some((&[t0, t1, l0, l1], behind)) = rest.split_first_chunk::<4>() {
            let (kind, length) = (u16::from_be_bytes([t0, t1]), usize::from(u16::from_be_bytes([l0, l1])));
            let value = behind.get(..length)?;
            let next = behind.get(length.next_multiple_of(4)..)?;
            match kind {
                FINGERPRINT => {
                    let before = datagram.len() - rest.len();
                    let given = u32::from_be_bytes(value.try_into().ok()?);
                    if !next.is_empty() || given != crc32(&datagram[..before]) ^ FINGERPRINT_XOR {
                        return None;
                    }
                    request.fingerprint = true;
                }
                CHANGE_REQUEST => {
                    let flags = u32::from_be_bytes(value.try_into().ok()?);
                    request.change_port |= flags & CHANGE_PORT != 0;
                    if flags & CHANGE_IP != 0 {
                        request.note_unknown(CHANGE_REQUEST);
                    }
                }
                OPTIONAL.. => {}
                other if OF_RFC_8489.contains(&other) => {}
                other => request.note_unknown(other),
            }
            rest = next;
        }
        // A classic client takes any answer for a success, even an error. What it can't have it must not hear of.
        let is_good = rest.is_empty() && (request.unknown_count == 0 || !request.is_classic());
        is_good.then_some(request)
    }

    /// Whether the answer has to come from the other port. An error comes from where the request went.
    pub fn changes_port(&self) -> bool {
        self.change_port && self.unknown_count == 0
    }

    /// Whether it is of RFC 3489.
    fn is_classic(&self) -> bool {
        self.cookie != MAGIC_COOKIE
    }

    fn note_unknown(&mut self, kind: u16) {
        if let Some(free) = self.unknown.get_mut(self.unknown_count) {
            *free = kind;
            self.unknown_count += 1;
        }
    }

    /// Writes the answer for a request that came from `source` and gives its length in bytes: the mapped
    /// address, or error 420 if something was asked for that can't be done.
    pub fn answer(&self, source: SocketAddr, buffer: &mut [u8; MAX_ANSWER_LENGTH]) -> usize {
        let mut writer = AttributeWriter { buffer, length: HEADER_LENGTH };
        let kind = if self.unknown_count > 0 {
            writer.attribute(ERROR_CODE, &[0, 0, 4, 20]);
            let mut kinds = [0; 2 * MAX_UNKNOWN];
            for (place, kind) in kinds.as_chunks_mut::<2>().0.iter_mut().zip(self.unknown) {
                *place = kind.to_be_bytes();
            }
            writer.attribute(UNKNOWN_ATTRIBUTES, &kinds[..2 * self.unknown_count]);
            BINDING_ERROR
        } else if self.is_classic() {
            writer.address(MAPPED_ADDRESS, source, &self.transaction);
            BINDING_SUCCESS
        } else {
            writer.address(XOR_MAPPED_ADDRESS, source, &self.transaction);
            BINDING_SUCCESS
        };
        writer.finish(kind, self)
    }
}

/// Writes the Binding request of `transaction` and gives its length in bytes: padded to at least `length`, so
/// that the answer need not be longer, and asking for an answer from the other port if `change_port`. `None`
/// if `buffer` is too short.
pub fn request(
    transaction: &[u8; TRANSACTION_LENGTH],
    change_port: bool,
    length: usize,
    buffer: &mut [u8],
) -> Option<usize> {
    let change = if change_port { 8 } else { 0 };
    let padding = length.saturating_sub(HEADER_LENGTH + change).next_multiple_of(4);
    let padding = if padding == 0 { 0 } else { padding.max(4) };
    let total = HEADER_LENGTH + change + padding;
    let message = buffer.get_mut(..total)?;
    message.fill(0);
    let stated = u16::try_from(change + padding).ok()?;
    write_header(message, BINDING_REQUEST, stated, &MAGIC_COOKIE, transaction);
    let mut attributes = &mut message[HEADER_LENGTH..];
    if change_port {
        let (attribute, behind) = attributes.split_at_mut(8);
        attribute[..2].copy_from_slice(&CHANGE_REQUEST.to_be_bytes());
        attribute[3] = 4;
        attribute[4..].copy_from_slice(&CHANGE_PORT.to_be_bytes());
        attributes = behind;
    }
    if padding > 0 {
        attributes[..2].copy_from_slice(&PADDING.to_be_bytes());
        attributes[2..4].copy_from_slice(&(padding as u16 - 4).to_be_bytes());
    }
    Some(total)
}

/// The mapped address in the success answer to the Binding request of `transaction`; `None` if `datagram` is
/// no such answer.
pub fn mapped_address(datagram: &[u8], transaction: &[u8; TRANSACTION_LENGTH]) -> Option<SocketAddr> {
    let (header, attributes) = datagram.split_first_chunk::<HEADER_LENGTH>()?;
    let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if !is_stun(datagram)
        || u16::from_be_bytes([header[0], header[1]]) != BINDING_SUCCESS
        || header[8..] != transaction[..]
        || stated != attributes.len()
    {
        return None;
    }
    let mut rest = attributes;
    while let Some((&[t0, t1, l0, l1], behind)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = behind.get(..length)?;
        if u16::from_be_bytes([t0, t1]) == XOR_MAPPED_ADDRESS {
            return read_address(value, transaction);
        }
        rest = behind.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn read_address(value: &[u8], transaction: &[u8; TRANSACTION_LENGTH]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0 ^ MAGIC_COOKIE[0], p1 ^ MAGIC_COOKIE[1]]);
    let ip: IpAddr = match family {
        1 => {
            let mut ip: [u8; 4] = ip.try_into().ok()?;
            xor(&mut ip, transaction);
            ip.into()
        }
        2 => {
            let mut ip: [u8; 16] = ip.try_into().ok()?;
            xor(&mut ip, transaction);
            ip.into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// XORs an address with the magic cookie and the transaction, as XOR-MAPPED-ADDRESS does.
fn xor(ip: &mut [u8], transaction: &[u8; TRANSACTION_LENGTH]) {
    ip.iter_mut().zip(MAGIC_COOKIE.iter().chain(transaction)).for_each(|(byte, mask)| *byte ^= mask);
}

fn write_header(
    message: &mut [u8],
    kind: u16,
    stated: u16,
    cookie: &[u8; 4],
    transaction: &[u8; TRANSACTION_LENGTH],
) {
    message[..2].copy_from_slice(&kind.to_be_bytes());
    message[2..4].copy_from_slice(&stated.to_be_bytes());
    message[4..8].copy_from_slice(cookie);
    message[8..HEADER_LENGTH].copy_from_slice(transaction);
}

struct AttributeWriter<'a> {
    buffer: &'a mut [u8; MAX_ANSWER_LENGTH],
    length: usize,
}

impl AttributeWriter<'_> {
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let place = &mut self.buffer[self.length..][..4 + value.len().next_multiple_of(4)];
        place.fill(0);
        place[..2].copy_from_slice(&kind.to_be_bytes());
        place[2..4].copy_from_slice(&(value.len() as u16).to_be_bytes());
        place[4..4 + value.len()].copy_from_slice(value);
        self.length += place.len();
    }

    fn address(&mut self, kind: u16, address: SocketAddr, transaction: &[u8; TRANSACTION_LENGTH]) {
        let mut value = [0; 20];
        value[1] = if address.is_ipv4() { 1 } else { 2 };
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value[4..8].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => value[4..].copy_from_slice(&ip.octets()),
        }
        if kind == XOR_MAPPED_ADDRESS {
            value[2] ^= MAGIC_COOKIE[0];
            value[3] ^= MAGIC_COOKIE[1];
            xor(&mut value[4..], transaction);
        }
        self.attribute(kind, &value[..if address.is_ipv4() { 8 } else { 20 }]);
    }

    fn finish(mut self, kind: u16, request: &BindingRequest) -> usize {
        let BindingRequest { cookie, transaction, fingerprint, .. } = request;
        let total = self.length + if *fingerprint { 8 } else { 0 };
        write_header(self.buffer, kind, (total - HEADER_LENGTH) as u16, cookie, transaction);
        if *fingerprint {
            let sum = crc32(&self.buffer[..self.length]) ^ FINGERPRINT_XOR;
            self.attribute(FINGERPRINT, &sum.to_be_bytes());
        }
        self.length
    }
}

/// CRC-32 (ITU-T V.42), bit by bit: it is of some dozens of bytes, seldom.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| {
                if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    const TRANSACTION: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn plain() -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = request(&TRANSACTION, false, 0, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// `attributes` behind the header of a Binding request.
    fn with(attributes: &[u8]) -> Vec<u8> {
        let mut message = plain();
        message[3] = attributes.len() as u8;
        message.extend_from_slice(attributes);
        message
    }

    fn answer(request: &[u8], source: &str) -> Vec<u8> {
        let mut buffer = [0xee; MAX_ANSWER_LENGTH];
        let request = BindingRequest::parse(request).unwrap();
        let length = request.answer(source.parse().unwrap(), &mut buffer);
        buffer[..length].to_vec()
    }

    #[test]
    fn crc_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// RFC 5769, section 2.2 and 2.3: the mapped addresses of the sample responses.
    #[test]
    fn addresses_are_masked_as_in_the_test_vectors() {
        let bytes = answer(&plain(), "192.0.2.1:32853");
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..4], [1, 1, 0, 12]);
        assert_eq!(bytes[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let bytes = answer(&plain(), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
        let expected = [
            0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(bytes[20..], expected);
        for source in ["192.0.2.1:32853", "[2001:db8::7]:1"] {
            let bytes = answer(&plain(), source);
            assert_eq!(mapped_address(&bytes, &TRANSACTION), source.parse().ok());
            assert_eq!(mapped_address(&bytes, &[0; 12]), None);
        }
    }

    #[test]
    fn no_second_address_is_promised() {
        for length in 0..100 {
            let mut buffer = [0; 120];
            let sent = request(&TRANSACTION, length % 2 == 0, length, &mut buffer).unwrap();
            assert!(sent >= length && BindingRequest::parse(&buffer[..sent]).is_some());
            assert_eq!(answer(&buffer[..sent], "192.0.2.1:1").len(), 32);
        }
    }

    /// `attributes` in a request of RFC 3489: 16 bytes of transaction and no cookie.
    fn classic(attributes: &[u8]) -> Vec<u8> {
        let mut message = with(attributes);
        message[4..8].copy_from_slice(b"clas");
        message
    }

    #[test]
    fn a_classic_client_is_told_its_address_unmasked() {
        for (request, change_port) in [(classic(&[]), false), (classic(&[0, 3, 0, 4, 0, 0, 0, 2]), true)] {
            assert!(is_stun(&request));
            assert_eq!(BindingRequest::parse(&request).unwrap().changes_port(), change_port);
            let bytes = answer(&request, "192.0.2.1:32853");
            assert_eq!((&bytes[..4], &bytes[4..20]), (&[1, 1, 0, 12][..], &request[4..20]));
            assert_eq!(bytes[20..], [0, 1, 0, 8, 0, 1, 0x80, 0x55, 192, 0, 2, 1]);
        }
        let bytes = answer(&classic(&[]), "[2001:db8::7]:258");
        assert_eq!(
            (&bytes[..4], &bytes[20..30]),
            (&[1, 1, 0, 24][..], &[0, 1, 0, 20, 0, 2, 1, 2, 0x20, 1][..])
        );
    }

    #[test]
    fn a_classic_client_hears_nothing_of_what_can_t_be_done() {
        // A change of address, RESPONSE-ADDRESS and anything that nobody knows.
        for attributes in [[0, 3, 0, 4, 0, 0, 0, 4], [0, 2, 0, 4, 0, 1, 0, 9], [0x7f, 1, 0, 4, 0, 0, 0, 0]] {
            assert!(BindingRequest::parse(&classic(&attributes)).is_none());
        }
        let mut longer = classic(&[]);
        longer.push(0);
        for message in [&longer[..], &longer[..19], &[0, 1, 0, 1]] {
            assert!(!is_stun(message), "of another length than it states");
        }
    }

    #[test]
    fn a_fingerprint_is_checked_and_answered() {
        let mut message = with(&[0x80, 0x28, 0, 4, 0, 0, 0, 0]);
        assert!(BindingRequest::parse(&message).is_none());
        let sum = crc32(&message[..20]) ^ FINGERPRINT_XOR;
        message[24..].copy_from_slice(&sum.to_be_bytes());
        let bytes = answer(&message, "192.0.2.1:1");
        assert_eq!(bytes.len(), 40);
        let sum = crc32(&bytes[..32]) ^ FINGERPRINT_XOR;
        assert_eq!(bytes[32..], [&[0x80, 0x28, 0, 4][..], &sum.to_be_bytes()].concat());
    }

    #[test]
    fn what_can_t_be_done_is_named() {
        let change_port = with(&[0, 3, 0, 4, 0, 0, 0, 2]);
        assert!(BindingRequest::parse(&change_port).unwrap().changes_port());
        assert_eq!(answer(&change_port, "192.0.2.1:1")[..2], [1, 1]);
        for (flags, unknown) in [(4, 3u8), (6, 3)] {
            let request = with(&[0, 3, 0, 4, 0, 0, 0, flags]);
            assert!(!BindingRequest::parse(&request).unwrap().changes_port());
            let bytes = answer(&request, "192.0.2.1:1");
            assert_eq!(bytes[..4], [1, 0x11, 0, 16]);
            assert_eq!(bytes[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, unknown, 0, 0]);
        }
        let optional = with(&[0xc0, 1, 0, 1, 7, 0, 0, 0]);
        assert_eq!(answer(&optional, "192.0.2.1:1")[..2], [1, 1]);
        let reserved = with(&[0, 2, 0, 0]);
        assert_eq!(answer(&reserved, "192.0.2.1:1")[..2], [1, 0x11]);
        let many: Vec<u8> = (0..20).flat_map(|kind| [0x7f, kind, 0, 0]).collect();
        assert_eq!(answer(&with(&many), "192.0.2.1:1").len(), 20 + 8 + 12);
    }

    #[test]
    fn what_the_rfc_defines_is_answered_and_not_looked_at() {
        for kind in [1u8, 6, 8, 9, 0xa, 0x14, 0x15, 0x1c, 0x1d, 0x1e, 0x20] {
            let request = with(&[0, kind, 0, 5, b'a', b'l', b'i', b'c', b'e', 0, 0, 0]);
            let bytes = answer(&request, "192.0.2.1:32853");
            assert_eq!((&bytes[..4], bytes.len()), (&[1, 1, 0, 12][..], 32), "{kind:x}");
        }
        // RFC 5769, section 2.1: SOFTWARE, PRIORITY and ICE-CONTROLLED are there, and PRIORITY is ICE's alone.
        assert_eq!(answer(&with(&[0, 0x24, 0, 4, 0x6e, 0, 1, 0xff]), "192.0.2.1:1")[..2], [1, 0x11]);
    }

    #[test]
    fn refuses_everything_else() {
        let good = plain();
        assert!(is_stun(&good) && BindingRequest::parse(&good).is_some());
        for length in 0..20 {
            assert!(!is_stun(&good[..length]));
        }
        for changes in [&[(0, 0x40)][..], &[(1, 2), (4, 0)], &[(3, 4), (4, 0)]] {
            let mut bad = good.clone();
            changes.iter().for_each(|&(at, value)| bad[at] = value);
            assert!(!is_stun(&bad), "{changes:?}");
        }
        for kind in 1..=4 {
            let mut wireguard = good.clone();
            wireguard[..4].copy_from_slice(&[kind, 0, 0, 0]);
            assert!(!is_stun(&wireguard), "an index like the cookie");
        }
        for (at, value) in [(0, 5), (1, 2), (1, 0x11), (3, 4), (2, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(BindingRequest::parse(&bad).is_none(), "{at}");
        }
        assert!(BindingRequest::parse(&with(&[0x80, 1, 0, 5, 0, 0, 0, 0])).is_none(), "longer than there is");
        assert!(BindingRequest::parse(&with(&[0, 3, 0, 3, 0, 0, 0, 0])).is_none());
        assert!(BindingRequest::parse(&with(&[0, 3])).is_none());
    }

    #[test]
    fn random_attributes_never_panic() {
        let mut random = Seeded::new(4);
        let mut parsed = 0;
        for _ in 0..50_000 {
            let mut attributes = vec![0; 4 * random.below(20) as usize];
            random.fill(&mut attributes);
            for chunk in attributes.chunks_mut(4 * (1 + random.below(3) as usize)) {
                chunk[2] = 0;
                chunk[3] %= 12;
            }
            let message = with(&attributes);
            mapped_address(&message, &TRANSACTION);
            if BindingRequest::parse(&message).is_some() {
                answer(&message, "[2001:db8::1]:9");
                parsed += 1;
            }
        }
        assert!(parsed > 1000, "{parsed}");
    }
}
