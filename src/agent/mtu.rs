//! A path that carries smaller packets than the interface: TCP is told so when it begins (RFC 9293, section 3.7.1), so that its
//! segments fit. What is longer nevertheless goes by the relay. If that carries no more, it goes in fragments (RFC 791, section
//! 2.3); its sender is told if it wants none (RFC 1191).

use crate::agent::{Agent, AgentOutput, HEADROOM};
use crate::time::Now;
use crate::wire::ip::{ICMP, IPV4_HEADER_LENGTH, TCP, checksum, transport_checksum};
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::SendOutcome;
use std::net::Ipv4Addr;

/// Length of a TCP header without options.
const TCP_HEADER_LENGTH: usize = 20;
const SYN: u8 = 2;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
/// Where flags and the fragment's offset are, in units of 8 bytes.
const FRAGMENT: usize = 6;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// "Fragmentation needed", without what it is about.
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const ICMP_HEADER_LENGTH: usize = 8;
/// What of a packet it quotes: the header and the ports.
const QUOTED: usize = IPV4_HEADER_LENGTH + 8;
/// Length of [`too_long`]'s packet.
pub(super) const TOO_LONG_LENGTH: usize = IPV4_HEADER_LENGTH + ICMP_HEADER_LENGTH + QUOTED;

/// If `packet` is a whole IPv4 packet without options that opens a TCP connection, and promises to take longer segments than
/// fit into packets of `mtu` bytes, it promises these.
pub(super) fn clamp(packet: &mut [u8], mtu: usize) -> Option<()> {
    let most = u16::try_from(mtu.checked_sub(IPV4_HEADER_LENGTH + TCP_HEADER_LENGTH)?).ok()?;
    let (header, segment) = packet.split_first_chunk_mut::<IPV4_HEADER_LENGTH>()?;
    let is_whole = header[6] & 0x3f == 0 && header[7] == 0;
    if header[0] != 0x45 || header[9] != TCP || !is_whole || segment.get(13)? & SYN == 0 {
        return None;
    }
    let options = TCP_HEADER_LENGTH..usize::from(segment[12] >> 4) * 4;
    let mut at = options.start;
    while at < options.end {
        match *segment.get(at)? {
            END_OF_OPTIONS => return None,
            NO_OPERATION => at += 1,
            MAXIMUM_SEGMENT_SIZE if segment.get(at + 1) == Some(&4) => {
                let size = segment.get_mut(at + 2..at + 4)?;
                if u16::from_be_bytes([size[0], size[1]]) <= most {
                    return None;
                }
                size.copy_from_slice(&most.to_be_bytes());
                let address =
                    |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                segment[16..18].fill(0);
                let sum = transport_checksum(address(12), address(16), TCP, segment);
                segment[16..18].copy_from_slice(&sum.to_be_bytes());
                return Some(());
            }
            _ => at += usize::from(*segment.get(at + 1)?).max(2),
        }
    }
    None
}

/// What is to be done with a packet that is too long for every path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooLong {
    /// It is sent in fragments.
    Fragment,
    /// Its sender is told.
    Tell,
    /// Neither: it is not plain IPv4, or says itself that something went wrong.
    Drop,
}

fn flags(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[FRAGMENT], packet[FRAGMENT + 1]])
}

impl TooLong {
    /// For a whole packet as its system sent it.
    pub fn of(packet: &[u8]) -> Self {
        if packet.len() < QUOTED || packet[0] != 0x45 {
            return TooLong::Drop;
        }
        let is_first = flags(packet) & OFFSET == 0;
        // Errors about errors never end (RFC 1122, section 3.2.2).
        let is_error = packet[9] == ICMP && is_first && !matches!(packet[IPV4_HEADER_LENGTH], 0 | 8);
        match flags(packet) & DONT_FRAGMENT {
            0 => TooLong::Fragment,
            _ if is_first && !is_error => TooLong::Tell,
            _ => TooLong::Drop,
        }
    }
}

/// Writes to `fragment` the one of `packet` that begins at `at` of its content, and gives its length and where the next one
/// begins, if there is one. None is longer than `mtu`.
pub(super) fn fragment(
    packet: &[u8],
    at: usize,
    mtu: usize,
    fragment: &mut [u8],
) -> Option<(usize, Option<usize>)> {
    let (header, content) = packet.split_first_chunk::<IPV4_HEADER_LENGTH>()?;
    let rest = content.get(at..)?;
    let most = mtu.checked_sub(IPV4_HEADER_LENGTH)? & !7;
    let length = rest.len().min(most);
    let is_last = length == rest.len();
    if length == 0 {
        return None;
    }
    let whole = IPV4_HEADER_LENGTH + length;
    let fragment = fragment.get_mut(..whole)?;
    fragment[..IPV4_HEADER_LENGTH].copy_from_slice(header);
    fragment[IPV4_HEADER_LENGTH..].copy_from_slice(&rest[..length]);
    let more = if is_last { flags(packet) & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
    let offset = (flags(packet) & OFFSET) + (at / 8) as u16;
    fragment[2..4].copy_from_slice(&(whole as u16).to_be_bytes());
    fragment[FRAGMENT..FRAGMENT + 2].copy_from_slice(&(offset | more).to_be_bytes());
    set_checksum(fragment);
    Some((whole, (!is_last).then_some(at + length)))
}

fn set_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..IPV4_HEADER_LENGTH]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What tells the sender of `packet` that none longer than `mtu` gets through, from the virtual LAN's `router`.
pub(super) fn too_long(packet: &[u8], mtu: usize, router: Ipv4Addr) -> Option<[u8; TOO_LONG_LENGTH]> {
    let quoted = packet.first_chunk::<QUOTED>()?;
    let mut answer = [0; TOO_LONG_LENGTH];
    (answer[0], answer[3], answer[8], answer[9]) = (0x45, TOO_LONG_LENGTH as u8, 64, ICMP);
    answer[12..16].copy_from_slice(&router.octets());
    answer[16..20].copy_from_slice(&quoted[12..16]);
    set_checksum(&mut answer);
    let message = &mut answer[IPV4_HEADER_LENGTH..];
    (message[0], message[1]) = (UNREACHABLE, FRAGMENTATION_NEEDED);
    message[6..8].copy_from_slice(&(mtu as u16).to_be_bytes());
    message[ICMP_HEADER_LENGTH..].copy_from_slice(quoted);
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(answer)
}

impl Agent {
    /// Sends a packet that no path to the member carries whole.
    pub(super) fn send_too_long(
        &mut self,
        peer: PeerIndex,
        mtu: usize,
        packet: &[u8],
        now: Now,
        out: &mut dyn AgentOutput,
    ) -> Option<()> {
        let mut next = match TooLong::of(packet) {
            TooLong::Fragment => Some(0),
            TooLong::Tell => {
                out.deliver(&too_long(packet, mtu, self.locality.subnet.hub())?);
                None
            }
            TooLong::Drop => None,
        };
        while let Some(at) = next {
            let (length, after) = fragment(packet, at, mtu, &mut self.scratch[HEADROOM..])?;
            next = after;
            if let SendOutcome::Sealed { length, .. } = self.device.send(peer, &mut self.scratch, length, now)
            {
                self.peers.send_data(&self.locality, peer, &self.scratch[..length], now.instant, out);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    /// A SYN that promises 1380 bytes, behind an option that is passed over.
    fn syn() -> Vec<u8> {
        let mut packet = vec![0; 48];
        (packet[0], packet[3], packet[9]) = (0x45, 48, TCP);
        packet[12..20].copy_from_slice(&[10, 66, 0, 2, 10, 66, 0, 3]);
        (packet[32], packet[33]) = (7 << 4, SYN);
        packet[40..48].copy_from_slice(&[3, 3, 7, NO_OPERATION, MAXIMUM_SEGMENT_SIZE, 4, 5, 100]);
        let sum = transport_checksum([10, 66, 0, 2].into(), [10, 66, 0, 3].into(), TCP, &packet[20..]);
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn a_connection_that_begins_is_told_and_nothing_else_is_touched() {
        let mut packet = syn();
        assert_eq!(clamp(&mut packet, 1280), Some(()));
        assert_eq!(packet[46..], 1240u16.to_be_bytes());
        assert_eq!(transport_checksum([10, 66, 0, 2].into(), [10, 66, 0, 3].into(), TCP, &packet[20..]), 0);
        assert_eq!(clamp(&mut packet, 1280), None, "it fits");
        for (at, byte) in [(9, 17), (33, 16), (7, 1), (0, 0x46), (44, END_OF_OPTIONS)] {
            let mut packet = syn();
            packet[at] = byte;
            let before = packet.clone();
            assert_eq!(clamp(&mut packet, 1280), None);
            assert_eq!(packet, before);
        }
    }

    /// A packet with 1000 bytes of content, that wants no fragments or does not mind.
    fn long(is_whole: bool) -> Vec<u8> {
        let mut packet = vec![0; 1020];
        (packet[0], packet[9]) = (0x45, 17);
        packet[2..4].copy_from_slice(&1020u16.to_be_bytes());
        packet[FRAGMENT] = if is_whole { 0x40 } else { 0 };
        packet[12..20].copy_from_slice(&[10, 66, 0, 2, 10, 66, 0, 3]);
        (20..1020).for_each(|at| packet[at] = at as u8);
        packet
    }

    /// All fragments of a packet.
    fn fragments(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(at) = next {
            let mut buffer = [0; 2048];
            let (length, after) = fragment(packet, at, mtu, &mut buffer).unwrap();
            assert!(length <= mtu && checksum(&buffer[..IPV4_HEADER_LENGTH]) == 0);
            all.push(buffer[..length].to_vec());
            next = after;
        }
        all
    }

    #[test]
    fn fragments_make_the_packet_again_also_of_fragments() {
        let packet = long(false);
        assert_eq!(TooLong::of(&packet), TooLong::Fragment);
        let twice = fragments(&packet, 700).iter().flat_map(|part| fragments(part, 301)).collect::<Vec<_>>();
        for parts in [fragments(&packet, 301), fragments(&packet, 300), twice] {
            assert!(parts.len() >= 4);
            let mut content = vec![0; 1000];
            for (place, part) in parts.iter().enumerate() {
                let at = usize::from(flags(part) & OFFSET) * 8;
                content[at..][..part.len() - 20].copy_from_slice(&part[20..]);
                assert_eq!(flags(part) & MORE_FRAGMENTS == 0, place == parts.len() - 1);
                assert_eq!(usize::from(u16::from_be_bytes([part[2], part[3]])), part.len());
            }
            assert_eq!(content, packet[20..]);
        }
    }

    #[test]
    fn who_wants_no_fragments_is_told_but_for_errors() {
        let mut packet = long(true);
        assert_eq!(TooLong::of(&packet), TooLong::Tell);
        let answer = too_long(&packet, 1280, Ipv4Addr::new(10, 66, 0, 1)).unwrap();
        assert_eq!((checksum(&answer[..20]), checksum(&answer[20..])), (0, 0));
        assert_eq!(answer[12..20], [10, 66, 0, 1, 10, 66, 0, 2]);
        assert_eq!((&answer[20..22], &answer[26..28]), (&[3, 4][..], &1280u16.to_be_bytes()[..]));
        assert_eq!(answer[28..], packet[..28]);
        (packet[9], packet[20]) = (ICMP, 3);
        assert_eq!(TooLong::of(&packet), TooLong::Drop);
        packet[20] = 8;
        assert_eq!(TooLong::of(&packet), TooLong::Tell);
        packet[7] = 1;
        assert_eq!(TooLong::of(&packet), TooLong::Drop, "not the first fragment");
        packet[0] = 0x46;
        assert_eq!(TooLong::of(&packet), TooLong::Drop);
    }

    #[test]
    fn damaged_packets_never_panic() {
        let mut random = Seeded::new(8);
        for _ in 0..100_000 {
            let mut packet = syn();
            for _ in 0..3 {
                let at = random.below(packet.len() as u64) as usize;
                packet[at] = random.next_u64() as u8;
            }
            packet.truncate(random.below(49) as usize);
            let _ = clamp(&mut packet, random.below(1500) as usize);
            let _ = TooLong::of(&packet);
            let (at, mtu) = (random.below(60) as usize, random.below(100) as usize);
            let _ = fragment(&packet, at, mtu, &mut [0; 64]);
            let _ = too_long(&packet, mtu, Ipv4Addr::LOCALHOST);
        }
    }
}
