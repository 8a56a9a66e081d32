//! The inner packets' headers: IPv4 (RFC 791), and of UDP, TCP and ICMP what a hub has to change in them.

use std::net::Ipv4Addr;

/// Length of an IPv4 header without options, in bytes.
pub const IPV4_HEADER_LENGTH: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// Where the checksum of an IPv4 header is.
const HEADER_CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Whether `to` is the broadcast address of the /24 that `own` is in: clients that were given that network take it for
/// their own.
pub fn is_broadcast_of_24(own: Ipv4Addr, to: Ipv4Addr) -> bool {
    let (own, to) = (own.octets(), to.octets());
    own[..3] == to[..3] && to[3] == 255 && own[3] != 255
}

/// The sum of RFC 1071 over `bytes`, continued from `sum`; an odd byte at the end counts as if zero followed. In wider words, and
/// in the machine's own order, it is the same but for the order of its own bytes (section 2 there).
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    // The compiler does not unroll what is to be small, and every byte of a bulk transfer comes by here.
    let (fours, few) = words.as_chunks::<4>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let (mut wide, mut carries) = (0u64, 0);
    let mut take = |word: &[u8; 8]| {
        let (next, carry) = wide.overflowing_add(u64::from_ne_bytes(*word));
        wide = next;
        carries += u64::from(carry);
    };
    for [a, b, c, d] in fours {
        take(a);
        take(b);
        take(c);
        take(d);
    }
    few.iter().chain([&last]).for_each(take);
    let wide = (wide & 0xffff_ffff) + (wide >> 32) + carries;
    let wide = (wide & 0xffff) + (wide >> 16 & 0xffff) + (wide >> 32);
    let native = fold(fold(wide as u32)) as u16;
    fold(sum + u32::from(u16::from_be(native)))
}

fn fold(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

/// The Internet checksum (RFC 1071) of `bytes`.
pub fn checksum(bytes: &[u8]) -> u16 {
    !(fold(add(0, bytes)) as u16)
}

/// The checksum of UDP or TCP (RFC 768, 9293): of `segment` and a pseudo-header. 0 if the segment's own
/// checksum, within it, is right.
pub fn transport_checksum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let sum = pseudo_sum(source, destination, protocol, segment.len());
    !(fold(add(sum.into(), segment)) as u16)
}

/// The sum of a pseudo-header alone, for a segment of `length` bytes.
pub fn pseudo_sum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> u16 {
    let sum = add(add(0, &source.octets()), &destination.octets());
    fold(fold(sum + u32::from(protocol)) + (length as u32 & 0xffff)) as u16
}

/// The checksum that `old` becomes when the bytes `before` become `after` (RFC 1624, equation 3).
fn updated(old: u16, before: &[u8; 4], after: &[u8; 4]) -> u16 {
    let mut sum = u32::from(!old);
    for (before, after) in before.as_chunks::<2>().0.iter().zip(after.as_chunks::<2>().0) {
        sum = fold(sum + u32::from(!u16::from_be_bytes(*before)));
        sum = fold(sum + u32::from(u16::from_be_bytes(*after)));
    }
    !(fold(sum) as u16)
}

/// An IPv4 packet whose header has been checked to be whole; the checksum has not.
#[derive(Debug)]
pub struct Ipv4<'a> {
    bytes: &'a mut [u8],
    header_length: usize,
}

impl<'a> Ipv4<'a> {
    /// The packet that `bytes` are; `None` if they are no whole IPv4 packet. What is behind it is left out.
    pub fn parse(bytes: &'a mut [u8]) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_LENGTH] = bytes.first_chunk()?;
        let header_length = usize::from(header[0] & 15) * 4;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_length < IPV4_HEADER_LENGTH || length < header_length {
            return None;
        }
        let bytes = bytes.get_mut(..length)?;
        Some(Ipv4 { bytes, header_length })
    }

    fn address(&self, at: usize) -> [u8; 4] {
        self.bytes[at..at + 4].try_into().expect("4 bytes")
    }

    /// Where it says it comes from.
    pub fn source(&self) -> Ipv4Addr {
        self.address(SOURCE).into()
    }

    /// Where it is to go.
    pub fn destination(&self) -> Ipv4Addr {
        self.address(DESTINATION).into()
    }

    /// The number of what it carries.
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]]) & 0x1fff
    }

    /// Whether it is a part of a packet.
    pub fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]]) & 0x3fff != 0
    }

    fn checksum_at(&self, at: usize) -> Option<u16> {
        self.bytes.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn set_checksum(&mut self, at: usize, checksum: u16) {
        self.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Sends it to `destination` instead, with the header's checksum and that of UDP or TCP updated: what was
    /// wrong stays wrong. A UDP packet without a checksum stays without one.
    pub fn set_destination(&mut self, destination: Ipv4Addr) {
        let (before, after) = (self.address(DESTINATION), destination.octets());
        self.bytes[DESTINATION..DESTINATION + 4].copy_from_slice(&after);
        if let Some(old) = self.checksum_at(HEADER_CHECKSUM) {
            self.set_checksum(HEADER_CHECKSUM, updated(old, &before, &after));
        }
        // Only the first fragment has the segment's header.
        if self.fragment_offset() != 0 {
            return;
        }
        let at = match self.protocol() {
            UDP => self.header_length + 6,
            TCP => self.header_length + 16,
            _ => return,
        };
        let Some(old) = self.checksum_at(at) else { return };
        if self.protocol() == TCP {
            self.set_checksum(at, updated(old, &before, &after));
        } else if old != 0 {
            // 0 would mean that there is none.
            let new = updated(old, &before, &after);
            self.set_checksum(at, if new == 0 { 0xffff } else { new });
        }
    }

    /// Turns an ICMP echo request into its reply (RFC 792), of the same length; `false`, and unchanged, if it is
    /// anything else or damaged.
    ///
    /// A fragment of a request becomes the same fragment of the reply, so that nothing has to be kept: with the
    /// addresses swapped and the same identification they belong together again, and of the message only the type
    /// changes, in the first of them, and its checksum by as much. A later fragment does not tell of what it is
    /// one, and goes back whatever that is.
    pub fn answer_echo(&mut self) -> bool {
        let message = &self.bytes[self.header_length..];
        let is_first = self.fragment_offset() == 0;
        if self.protocol() != ICMP
            || is_first && (message.len() < 8 || message[..2] != [ECHO_REQUEST, 0])
            || !self.is_fragment() && checksum(message) != 0
        {
            return false;
        }
        let (source, destination) = (self.address(SOURCE), self.address(DESTINATION));
        self.bytes[SOURCE..SOURCE + 4].copy_from_slice(&destination);
        self.bytes[DESTINATION..DESTINATION + 4].copy_from_slice(&source);
        self.bytes[8] = 64;
        self.set_checksum(HEADER_CHECKSUM, 0);
        self.set_checksum(HEADER_CHECKSUM, checksum(&self.bytes[..self.header_length]));
        let at = self.header_length;
        if is_first && let Some(old) = self.checksum_at(at + 2) {
            self.bytes[at] = ECHO_REPLY;
            let new = updated(old, &[ECHO_REQUEST, 0, 0, 0], &[ECHO_REPLY, 0, 0, 0]);
            // 0 would be wrong for a message of nothing but zeros, and for any other both are right.
            self.set_checksum(at + 2, if new == 0 { 0xffff } else { new });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 9);

    /// A packet with right checksums.
    fn packet(protocol: u8, destination: Ipv4Addr, segment: &[u8], options: usize) -> Vec<u8> {
        let header = IPV4_HEADER_LENGTH + options;
        let mut packet = vec![0; header];
        packet[0] = 0x40 | (header / 4) as u8;
        packet[2..4].copy_from_slice(&((header + segment.len()) as u16).to_be_bytes());
        packet[8] = 3;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&HERE.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend_from_slice(segment);
        let at = header
            + match protocol {
                UDP => 6,
                TCP => 16,
                _ => 2,
            };
        let sum = match protocol {
            ICMP => checksum(&packet[header..]),
            _ => transport_checksum(HERE, destination, protocol, &packet[header..]),
        };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 1071, section 3: the sum of these bytes is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0xff]), 0x00ff);
        assert_eq!(checksum(&vec![0xff; 65_535]), 0x00ff);
        let mut random = Seeded::new(3);
        for length in 0..200 {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            let pairs =
                bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
            assert_eq!(checksum(&bytes), !(fold(fold(pairs.sum())) as u16), "{length}");
        }
    }

    #[test]
    fn a_new_destination_keeps_checksums_right() {
        let mut random = Seeded::new(5);
        for round in 0..2000 {
            let protocol = if round % 2 == 0 { UDP } else { TCP };
            let mut segment = vec![0; 20 + random.below(60) as usize];
            random.fill(&mut segment);
            let at = if protocol == UDP { 6 } else { 16 };
            segment[at..at + 2].fill(0);
            let options = 4 * random.below(11) as usize;
            let mut bytes = packet(protocol, Ipv4Addr::BROADCAST, &segment, options);
            let destination = Ipv4Addr::from_bits(random.next_u64() as u32);
            Ipv4::parse(&mut bytes).unwrap().set_destination(destination);
            let (header, segment) = bytes.split_at(IPV4_HEADER_LENGTH + options);
            assert_eq!(header[16..20], destination.octets());
            assert_eq!(checksum(header), 0);
            assert_eq!(transport_checksum(HERE, destination, protocol, segment), 0);
            assert_ne!(segment[at..at + 2], [0, 0]);
        }
    }

    #[test]
    fn no_checksum_stays_none_and_fragments_keep_their_bytes() {
        let mut bytes = packet(UDP, Ipv4Addr::BROADCAST, &[7; 16], 0);
        bytes[26..28].fill(0);
        Ipv4::parse(&mut bytes).unwrap().set_destination(THERE);
        assert_eq!(bytes[26..28], [0, 0]);
        let mut bytes = packet(UDP, Ipv4Addr::BROADCAST, &[7; 16], 0);
        bytes[7] = 9;
        let before = bytes.clone();
        Ipv4::parse(&mut bytes).unwrap().set_destination(THERE);
        assert_eq!(bytes[20..], before[20..]);
        assert_eq!(bytes[16..20], THERE.octets());
    }

    #[test]
    fn echo_is_answered_in_place() {
        let mut bytes = packet(ICMP, THERE, &[ECHO_REQUEST, 0, 0, 0, 1, 2, 3, 4, 5], 4);
        let length = bytes.len();
        let mut request = Ipv4::parse(&mut bytes).unwrap();
        assert!(request.answer_echo());
        assert_eq!((request.source(), request.destination(), request.length()), (THERE, HERE, length));
        assert_eq!((checksum(&bytes[..24]), checksum(&bytes[24..])), (0, 0));
        assert_eq!((bytes[24], &bytes[28..]), (ECHO_REPLY, &[1, 2, 3, 4, 5][..]));
        assert!(!Ipv4::parse(&mut bytes).unwrap().answer_echo(), "a reply is not answered");
        for (at, value) in [(25, 1), (30, 99), (9, UDP), (24, ECHO_REPLY), (24, 3)] {
            let mut bytes = packet(ICMP, THERE, &[ECHO_REQUEST, 0, 0, 0, 1, 2, 3, 4, 5], 4);
            bytes[at] = value;
            let before = bytes.clone();
            assert!(!Ipv4::parse(&mut bytes).unwrap().answer_echo(), "{at}");
            assert_eq!(bytes, before);
        }
    }

    /// The fragments of a packet without options, of `size` bytes of its data each.
    fn fragments(whole: &[u8], size: usize) -> Vec<Vec<u8>> {
        let data = &whole[IPV4_HEADER_LENGTH..];
        let parts = data.chunks(size).enumerate().map(|(place, part)| {
            let mut bytes = [&whole[..IPV4_HEADER_LENGTH], part].concat();
            let more = if (place + 1) * size < data.len() { 0x2000 } else { 0 };
            bytes[2..4].copy_from_slice(&((IPV4_HEADER_LENGTH + part.len()) as u16).to_be_bytes());
            bytes[4..6].copy_from_slice(&[0xab, 0xcd]);
            bytes[6..8].copy_from_slice(&(more | (place * size / 8) as u16).to_be_bytes());
            bytes[10..12].fill(0);
            let sum = checksum(&bytes[..IPV4_HEADER_LENGTH]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes
        });
        parts.collect()
    }

    #[test]
    fn the_fragments_of_a_request_become_those_of_the_reply() {
        let mut random = Seeded::new(7);
        for round in 0..300 {
            let mut message = vec![0; 8 + 1 + random.below(3000) as usize];
            random.fill(&mut message[4..]);
            if round == 0 {
                message.fill(0);
            }
            message[0] = ECHO_REQUEST;
            let whole = packet(ICMP, THERE, &message, 0);
            let mut reply = Vec::new();
            for mut fragment in fragments(&whole, 8 * (1 + random.below(180) as usize)) {
                let before = fragment.clone();
                assert!(Ipv4::parse(&mut fragment).unwrap().answer_echo());
                assert_eq!((checksum(&fragment[..20]), &fragment[2..8]), (0, &before[2..8]));
                assert_eq!((&fragment[12..16], &fragment[16..20]), (&before[16..20], &before[12..16]));
                reply.extend_from_slice(&fragment[20..]);
            }
            assert_eq!((reply[0], &reply[4..]), (ECHO_REPLY, &whole[24..]));
            assert_eq!(checksum(&reply), 0);
        }
        // The first fragment of anything else stays as it is.
        let whole = packet(ICMP, THERE, &[ECHO_REPLY; 30], 0);
        assert!(!Ipv4::parse(&mut fragments(&whole, 8)[0]).unwrap().answer_echo());
    }

    #[test]
    fn the_broadcast_address_of_a_24() {
        let is = |own: [u8; 4], to: [u8; 4]| is_broadcast_of_24(own.into(), to.into());
        assert!(is([10, 66, 0, 2], [10, 66, 0, 255]));
        assert!(!is([10, 66, 0, 2], [10, 66, 1, 255]) && !is([10, 66, 0, 2], [10, 66, 0, 254]));
        assert!(!is([10, 66, 0, 255], [10, 66, 0, 255]));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Seeded::new(6);
        let mut parsed = 0;
        for _ in 0..50_000 {
            let mut bytes = vec![0; random.below(80) as usize];
            random.fill(&mut bytes);
            if bytes.len() > 9 {
                bytes[0] = 0x40 | bytes[0] & 15;
                bytes[2] = 0;
                bytes[9] = [UDP, TCP, ICMP][random.below(3) as usize];
            }
            if let Some(mut packet) = Ipv4::parse(&mut bytes) {
                packet.answer_echo();
                packet.set_destination(THERE);
                assert_eq!(packet.destination(), THERE);
                parsed += 1;
            }
        }
        assert!(parsed > 1000);
    }
}
