//! What a TUN interface carries where the kernel leaves work to us, and we to it: one long TCP segment or UDP datagram in place
//! of many packets (TSO, USO, GRO), and checksums that are still to be computed. The header before each is `struct
//! virtio_net_hdr` (virtio 1.3, section 5.1.6), in the machine's own byte order. Nobody in the virtual LAN has IPv6, so a long
//! packet of that is nothing to us.

use crate::wire::ip::{IPV4_HEADER_LENGTH, TCP, UDP, checksum, pseudo_sum, transport_checksum};
use std::net::Ipv4Addr;

#[cfg(test)]
mod tests;

/// Length of the header before a packet, in bytes.
pub const VNET_LENGTH: usize = 10;
/// Room behind a packet that may be used while it is handled, in bytes: for padding and a tag.
pub const TAILROOM: usize = 32;
/// The longest packet, in bytes.
const LONGEST: usize = 65_535;
/// Of a buffer for it, in bytes: so long that an allocator has it from the system by itself. Then only what is used of it costs
/// memory.
const BUFFER: usize = 3 * 65_536;

/// The header before a packet that is as it should be.
const PLAIN: [u8; VNET_LENGTH] = [0; VNET_LENGTH];
const NEEDS_CHECKSUM: u8 = 1;
const NO_SEGMENTS: u8 = 0;
const TCP_SEGMENTS: u8 = 1;
const UDP_SEGMENTS: u8 = 5;

/// Most packets that become one: as many as the kernel takes of UDP (`UDP_MAX_SEGMENTS`).
const MOST: usize = 64;
/// Flows that something is held of.
const FLOWS: usize = 4;
/// Both headers at their longest.
const HEADERS: usize = 120;

const UDP_HEADER_LENGTH: usize = 8;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const CWR: u8 = 128;

/// A buffer for a packet of any length, and for what is before and behind it.
pub fn buffer() -> Box<[u8]> {
    vec![0; BUFFER].into()
}

/// Where the headers of a TCP or UDP packet over IPv4 end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Shape {
    is_tcp: bool,
    /// The length of IP's, in bytes, and of both.
    ip: usize,
    headers: usize,
}

impl Shape {
    /// `None` if it is another packet, or not all of the headers are there.
    fn of(packet: &[u8]) -> Option<Self> {
        let ip = usize::from(packet.first()? & 15) * 4;
        let is_tcp = *packet.get(9)? == TCP;
        let transport = match packet[9] {
            TCP => usize::from(packet.get(ip + 12)? >> 4) * 4,
            UDP => UDP_HEADER_LENGTH,
            _ => return None,
        };
        let headers = ip + transport;
        let is_good = packet[0] >> 4 == 4
            && ip >= IPV4_HEADER_LENGTH
            && (!is_tcp || transport >= 20)
            && headers <= packet.len();
        is_good.then_some(Shape { is_tcp, ip, headers })
    }

    fn protocol(&self) -> u8 {
        if self.is_tcp { TCP } else { UDP }
    }

    fn kind(&self) -> u8 {
        if self.is_tcp { TCP_SEGMENTS } else { UDP_SEGMENTS }
    }

    /// Where the transport's checksum is, from its header on.
    fn checksum_offset(&self) -> usize {
        if self.is_tcp { 16 } else { 6 }
    }

    /// The checksum of all behind IP's header.
    fn transport_checksum(&self, packet: &[u8]) -> u16 {
        let (source, destination) = (address(packet, 12), address(packet, 16));
        transport_checksum(source, destination, self.protocol(), &packet[self.ip..])
    }

    /// Writes both lengths, and IP's checksum.
    fn set_length(&self, packet: &mut [u8]) {
        let length = packet.len() as u16;
        set(packet, 2, length);
        if !self.is_tcp {
            set(packet, self.ip + 4, length - self.ip as u16);
        }
        set(packet, 10, 0);
        let sum = checksum(&packet[..self.ip]);
        set(packet, 10, sum);
    }
}

fn get(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn set(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// 0 would mean that there is none, or is as good as this.
fn set_checksum(packet: &mut [u8], at: usize, sum: u16) {
    set(packet, at, if sum == 0 { 0xffff } else { sum });
}

fn address(packet: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3])
}

fn sequence(packet: &[u8], ip: usize) -> u32 {
    u32::from(get(packet, ip + 4)) << 16 | u32::from(get(packet, ip + 6))
}

/// Has `handle` handle the packets that one read has brought, with this header: `length` bytes in `buffer` from `start` on, behind
/// which there are [`TAILROOM`] bytes. They become packets where they lie; each has as much room before and behind it as that.
pub fn split(
    header: &[u8; VNET_LENGTH],
    buffer: &mut [u8],
    start: usize,
    length: usize,
    handle: &mut dyn FnMut(&mut [u8], usize),
) -> usize {
    let [flags, kind, _, _, segment @ .., a, b, c, d] = *header;
    if kind == NO_SEGMENTS {
        if flags & NEEDS_CHECKSUM != 0 {
            complete(&mut buffer[start..][..length], u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        }
        handle(buffer, length);
        return 1;
    }
    let segment = usize::from(u16::from_ne_bytes(segment));
    let shape = Shape::of(&buffer[start..][..length]).filter(|shape| shape.kind() == kind && segment > 0);
    let Some(shape) = shape else { return 0 };
    let Shape { ip, headers, .. } = shape;
    let mut first = [0; HEADERS];
    first[..headers].copy_from_slice(&buffer[start..][..headers]);
    let (begin, end) = (start + headers, start + length);
    let (mut at, mut number) = (begin, 0);
    loop {
        let next = (at + segment).min(end);
        let packet = &mut buffer[at - headers..next];
        packet[..headers].copy_from_slice(&first[..headers]);
        set(packet, 4, get(&first, 4).wrapping_add(number as u16));
        shape.set_length(packet);
        if shape.is_tcp {
            let sequence = sequence(&first, ip).wrapping_add((at - begin) as u32);
            packet[ip + 4..ip + 8].copy_from_slice(&sequence.to_be_bytes());
            let not_first = if number > 0 { CWR } else { 0 };
            let not_last = if next < end { FIN | PSH } else { 0 };
            packet[ip + 13] &= !(not_first | not_last);
        }
        let sum_at = ip + shape.checksum_offset();
        set(packet, sum_at, 0);
        let sum = shape.transport_checksum(packet);
        set_checksum(packet, sum_at, sum);
        // The next one begins where this one's tag comes.
        let behind: [u8; TAILROOM] = std::array::from_fn(|index| buffer[next + index]);
        handle(&mut buffer[at - headers - start..next + TAILROOM], next - at + headers);
        buffer[next..next + TAILROOM].copy_from_slice(&behind);
        (at, number) = (next, number + 1);
        if at == end {
            return number;
        }
    }
}

/// Computes a checksum of all from `start` on, which lies `offset` bytes behind that and holds the pseudo-header's sum.
fn complete(packet: &mut [u8], start: u16, offset: u16) {
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    if at + 2 <= packet.len() {
        let sum = checksum(&packet[start..]);
        set_checksum(packet, at, sum);
    }
}

/// Takes what is handed over: a header, and a packet. Whether it was taken.
pub type Write<'a> = &'a mut dyn FnMut(&[u8; VNET_LENGTH], &[u8]) -> bool;

/// Makes one of packets that follow each other in one flow. What is held of a flow goes first when something else of it comes, and
/// all of it when anything comes that belongs to none: in a flow no packet overtakes another.
pub struct Coalescer {
    held: [HeldFlow; FLOWS],
    /// Which gives way when there are other flows.
    next: usize,
    takes_udp: bool,
}

/// What is held of a flow.
struct HeldFlow {
    buffer: Box<[u8]>,
    /// 0 for nothing.
    length: usize,
    shape: Shape,
    /// Of a packet's content, but for the last.
    segment: usize,
    count: usize,
    /// Takes no more.
    is_closed: bool,
}

impl Coalescer {
    /// Holding nothing. Not every kernel takes UDP.
    pub fn new(takes_udp: bool) -> Self {
        let held = [(); FLOWS].map(|()| HeldFlow {
            buffer: buffer(),
            length: 0,
            shape: Shape::default(),
            segment: 0,
            count: 0,
            is_closed: false,
        });
        Coalescer { held, next: 0, takes_udp }
    }

    /// Takes a packet, and writes what can't be held any longer. `false` if what was written was not taken.
    pub fn push(&mut self, packet: &[u8], write: Write<'_>) -> bool {
        let Some(shape) = self.shape_of(packet) else { return self.flush(write) & write(&PLAIN, packet) };
        let own = self.held.iter().position(|held| held.is_of(packet));
        let free = || self.held.iter().position(|held| held.length == 0);
        let slot = own.or_else(free).unwrap_or(self.next);
        self.next = (slot + 1) % FLOWS;
        self.held[slot].push(packet, shape, write)
    }

    /// Writes what is held.
    pub fn flush(&mut self, write: Write<'_>) -> bool {
        self.held.iter_mut().fold(true, |was_taken, held| held.flush(write) & was_taken)
    }

    /// Of a packet that others may join: a whole one without IP's options, with something in it, with right checksums and nothing
    /// said that is not in all of them. The checksums are looked at because nobody does after that.
    fn shape_of(&self, packet: &[u8]) -> Option<Shape> {
        let shape = Shape::of(packet).filter(|shape| shape.headers < packet.len())?;
        let may_join = match shape.is_tcp {
            true => packet[33] & !PSH == ACK,
            false => {
                self.takes_udp
                    && usize::from(get(packet, 24)) == packet.len() - 20
                    && packet[26..28] != [0, 0]
            }
        };
        let is_whole = shape.ip == IPV4_HEADER_LENGTH
            && packet[6..8] == [0x40, 0]
            && usize::from(get(packet, 2)) == packet.len();
        let is_right = || checksum(&packet[..shape.ip]) == 0 && shape.transport_checksum(packet) == 0;
        (is_whole && may_join && is_right()).then_some(shape)
    }
}

impl HeldFlow {
    fn push(&mut self, packet: &[u8], shape: Shape, write: Write<'_>) -> bool {
        let content = &packet[shape.headers..];
        let was_taken = if self.length > 0 && self.joins(packet, shape) {
            self.buffer[self.length..][..content.len()].copy_from_slice(content);
            self.length += content.len();
            self.count += 1;
            true
        } else {
            let was_taken = self.flush(write);
            self.buffer[..packet.len()].copy_from_slice(packet);
            (self.length, self.shape, self.segment, self.count) = (packet.len(), shape, content.len(), 1);
            was_taken
        };
        let is_pushed = shape.is_tcp && packet[33] & PSH != 0;
        if is_pushed {
            self.buffer[33] |= PSH;
        }
        self.is_closed = is_pushed || content.len() < self.segment || self.count == MOST;
        was_taken
    }

    fn flush(&mut self, write: Write<'_>) -> bool {
        let shape = self.shape;
        let packet = &mut self.buffer[..std::mem::take(&mut self.length)];
        match self.count {
            _ if packet.is_empty() => true,
            1 => write(&PLAIN, packet),
            _ => {
                shape.set_length(packet);
                let (source, destination) = (address(packet, 12), address(packet, 16));
                let length = packet.len() - shape.ip;
                let sum = pseudo_sum(source, destination, shape.protocol(), length);
                set(packet, shape.ip + shape.checksum_offset(), sum);
                let mut header = PLAIN;
                (header[0], header[1]) = (NEEDS_CHECKSUM, shape.kind());
                let fields = [shape.headers, self.segment, shape.ip, shape.checksum_offset()];
                for (room, field) in header[2..].as_chunks_mut::<2>().0.iter_mut().zip(fields) {
                    *room = (field as u16).to_ne_bytes();
                }
                write(&header, packet)
            }
        }
    }

    /// Whether this is of the same flow: protocol, addresses and ports.
    fn is_of(&self, packet: &[u8]) -> bool {
        let held = &self.buffer[..self.length];
        !held.is_empty() && held[9] == packet[9] && held[12..24] == packet[12..24]
    }

    /// Whether a packet continues what is held: all of the same but lengths, checksums, IP's identification, which says nothing
    /// of what is never fragmented, and where in the flow it is.
    fn joins(&self, packet: &[u8], shape: Shape) -> bool {
        let held = &self.buffer[..self.length];
        let same = |from: usize, to: usize| held[from..to] == packet[from..to];
        let content = packet.len() - shape.headers;
        let follows = || {
            let next = sequence(held, 20).wrapping_add((held.len() - shape.headers) as u32);
            sequence(packet, 20) == next && same(28, 33) && same(34, 36) && same(38, shape.headers)
        };
        !self.is_closed
            && shape == self.shape
            && content <= self.segment
            && held.len() + content <= LONGEST
            && same(0, 2)
            && same(6, 10)
            && same(12, 24)
            && (!shape.is_tcp || follows())
    }
}
