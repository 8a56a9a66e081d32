use super::*;
use crate::crypto::random::Seeded;

const ROOM: usize = 16;
const SYN: u8 = 2;

/// What can be different between packets.
#[derive(Clone, Copy)]
struct Flow {
    protocol: u8,
    port: u16,
    sequence: u32,
    flags: u8,
    /// TCP's header has so many bytes of options.
    options: usize,
}

const FLOW: Flow = Flow { protocol: TCP, port: 80, sequence: 0xffff_f000, flags: ACK, options: 12 };
const DATAGRAMS: Flow = Flow { protocol: UDP, options: 0, ..FLOW };

/// A packet with right checksums.
fn packet(flow: Flow, content: &[u8]) -> Vec<u8> {
    let Flow { protocol, port, sequence, flags, options } = flow;
    let mut packet = vec![0; 20];
    (packet[0], packet[6], packet[8], packet[9]) = (0x45, 0x40, 64, protocol);
    packet[4..6].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet[12..20].copy_from_slice(&[10, 66, 0, 2, 10, 66, 0, 3]);
    packet.extend(port.to_be_bytes());
    packet.extend(4321u16.to_be_bytes());
    if protocol == TCP {
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 7, (4 * (20 + options)) as u8, flags, 1, 0, 0, 0, 0, 0]);
        packet.extend(vec![1; options]);
    } else {
        packet.extend([0; 4]);
    }
    packet.extend(content);
    correct(&mut packet);
    packet
}

/// Gives it right lengths and checksums.
fn correct(packet: &mut [u8]) {
    let Some(shape) = Shape::of(packet) else { return };
    shape.set_length(packet);
    let at = shape.ip + shape.checksum_offset();
    set(packet, at, 0);
    let sum = shape.transport_checksum(packet);
    set_checksum(packet, at, sum);
}

/// The packets that one read brings. Whoever handles them uses all the room there is.
fn split_all(header: &[u8; VNET_LENGTH], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut buffer = [&[0; ROOM][..], packet, &[0; TAILROOM]].concat();
    let mut packets = Vec::new();
    let count = split(header, &mut buffer, ROOM, packet.len(), &mut |buffer, length| {
        packets.push(buffer[ROOM..][..length].to_vec());
        buffer[..ROOM + length + TAILROOM].fill(0xee);
    });
    assert_eq!(count, packets.len());
    packets
}

fn header(kind: u8, headers: usize, segment: usize, offset: usize) -> [u8; VNET_LENGTH] {
    let mut header = [NEEDS_CHECKSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, field) in [(2, headers), (4, segment), (6, 20), (8, offset)] {
        header[at..at + 2].copy_from_slice(&(field as u16).to_ne_bytes());
    }
    header
}

/// What the machine gets of these.
fn coalesce(packets: &[Vec<u8>]) -> Vec<([u8; VNET_LENGTH], Vec<u8>)> {
    let mut written = Vec::new();
    let mut coalescer = Coalescer::new(true);
    let mut write = |header: &[u8; VNET_LENGTH], packet: &[u8]| {
        written.push((*header, packet.to_vec()));
        true
    };
    for packet in packets {
        assert!(coalescer.push(packet, &mut write));
    }
    assert!(coalescer.flush(&mut write) && coalescer.flush(&mut write));
    written
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

#[test]
fn a_long_segment_becomes_packets() {
    let content = bytes(3000);
    let flow = Flow { flags: ACK | PSH | FIN | CWR, ..FLOW };
    let packets = split_all(&header(TCP_SEGMENTS, 52, 1400, 16), &packet(flow, &content));
    let expected: Vec<_> = [(0, ACK | CWR, 1400), (1400, ACK, 1400), (2800, ACK | PSH | FIN, 200)]
        .into_iter()
        .enumerate()
        .map(|(number, (at, flags, length))| {
            let sequence = FLOW.sequence.wrapping_add(at as u32);
            let mut packet = packet(Flow { flags, sequence, ..FLOW }, &content[at..at + length]);
            set(&mut packet, 4, 0xf000 + number as u16);
            correct(&mut packet);
            packet
        })
        .collect();
    assert_eq!(packets, expected);
    assert_eq!(packets[1][24..28], 0xffff_f578u32.to_be_bytes());
    assert_eq!(sequence(&packets[2], 20), 0xffff_f000u32 + 2800);
}

#[test]
fn a_long_datagram_becomes_packets() {
    let content = bytes(1250);
    let packets = split_all(&header(UDP_SEGMENTS, 28, 500, 6), &packet(DATAGRAMS, &content));
    assert_eq!(packets.len(), 3);
    for ((number, part), packet) in (0..).zip(content.chunks(500)).zip(packets) {
        assert_eq!((&packet[28..], get(&packet, 24)), (part, 8 + part.len() as u16));
        assert_eq!((get(&packet, 2), get(&packet, 4)), (28 + part.len() as u16, 0xf000 + number));
        assert_eq!(
            (checksum(&packet[..20]), Shape::of(&packet).unwrap().transport_checksum(&packet)),
            (0, 0)
        );
    }
}

#[test]
fn a_checksum_that_is_missing_is_computed() {
    for (flow, offset) in [(FLOW, 16), (DATAGRAMS, 6)] {
        let whole = packet(flow, &bytes(77));
        let mut partial = whole.clone();
        let sum = pseudo_sum(address(&whole, 12), address(&whole, 16), flow.protocol, whole.len() - 20);
        set(&mut partial, 20 + offset, sum);
        assert_eq!(split_all(&header(NO_SEGMENTS, 0, 0, offset), &partial).concat(), whole);
        assert_eq!(split_all(&PLAIN, &partial).concat(), partial, "nobody asked for it");
    }
    assert_eq!(split_all(&header(NO_SEGMENTS, 0, 0, 999), &[0x45; 40]), [[0x45; 40]]);
}

#[test]
fn packets_of_one_flow_become_one_and_the_same_again() {
    for flow in [FLOW, Flow { options: 0, ..FLOW }, Flow { flags: ACK | PSH, ..FLOW }, DATAGRAMS] {
        let whole = packet(flow, &bytes(40_000));
        let shape = Shape::of(&whole).unwrap();
        let header = header(shape.kind(), shape.headers, 1360, shape.checksum_offset());
        let packets = split_all(&header, &whole);
        assert_eq!(packets.len(), 30);
        let written = coalesce(&packets);
        let [(written_header, one)] = written.as_slice() else { panic!("{} written", written.len()) };
        assert_eq!(*written_header, header);
        let at = 20 + shape.checksum_offset();
        assert_eq!(
            get(one, at),
            pseudo_sum(address(one, 12), address(one, 16), flow.protocol, one.len() - 20)
        );
        let mut again = one.clone();
        correct(&mut again);
        assert_eq!(again, whole);
        assert_eq!(split_all(written_header, one), packets);
    }
}

#[test]
fn flows_that_come_in_turns_become_one_each() {
    let mut packets = Vec::new();
    let content = bytes(1000);
    for sequence in (0..20_000).step_by(1000) {
        for port in 0..FLOWS as u16 {
            let flow = if port % 2 == 0 { FLOW } else { DATAGRAMS };
            packets.push(packet(Flow { port, sequence, ..flow }, &content));
        }
    }
    assert_eq!(coalesce(&packets).len(), FLOWS);
    // With more flows than are held, and with something else in between, nothing is lost.
    packets.insert(7, vec![0x45; 10]);
    packets.extend((0..3 * FLOWS as u16).map(|port| packet(Flow { port, ..FLOW }, &content)));
    let written = coalesce(&packets);
    assert_eq!(written.iter().flat_map(|(header, one)| split_all(header, one)).count(), packets.len());
}

#[test]
fn what_does_not_belong_together_stays_apart() {
    let first = packet(FLOW, &bytes(100));
    let next = Flow { sequence: FLOW.sequence.wrapping_add(100), ..FLOW };
    let joins = |second: &[u8]| coalesce(&[first.clone(), second.to_vec()]).len() == 1;
    assert!(joins(&packet(next, &bytes(100))) && joins(&packet(next, &bytes(99))));
    assert!(joins(&packet(Flow { flags: ACK | PSH, ..next }, &[5])));
    let other_flows = [
        Flow { port: 81, ..next },
        Flow { sequence: next.sequence + 1, ..next },
        Flow { sequence: next.sequence - 1, ..next },
        Flow { options: 8, ..next },
        Flow { protocol: UDP, options: 0, ..next },
    ];
    let flags = [FIN, SYN, 4, 32, 64, CWR].map(|flag| Flow { flags: ACK | flag, ..next });
    for flow in other_flows.into_iter().chain(flags).chain([Flow { flags: 0, ..next }]) {
        assert!(!joins(&packet(flow, &bytes(100))));
    }
    assert!(!joins(&packet(next, &bytes(101))) && !joins(&packet(next, &[])));
    // Class, fragments of both kinds, one that may be fragmented, time to live, addresses, the other port,
    // acknowledgement, window, urgent pointer, options.
    for at in [1, 6, 7, 8, 12, 19, 22, 31, 34, 39, 40, 51] {
        for bit in [1, 0x20, 0x40] {
            let mut second = packet(next, &bytes(100));
            second[at] ^= bit;
            correct(&mut second);
            assert!(!joins(&second), "{at}");
        }
    }
    // IP's options, and what is damaged on the way to whoever sealed it.
    let mut options = packet(next, &bytes(100));
    options.splice(20..20, [1; 4]);
    options[0] = 0x46;
    correct(&mut options);
    assert!(!joins(&options));
    for at in [10, 36, 60] {
        let mut damaged = packet(next, &bytes(100));
        damaged[at] ^= 1;
        assert!(!joins(&damaged), "{at}");
    }
    let mut longer = packet(next, &bytes(100));
    longer.push(0);
    assert!(!joins(&longer));
    // After a shorter one, and after one that is to be delivered at once, nothing comes.
    for flags in [ACK, ACK | PSH] {
        let third = Flow { sequence: next.sequence.wrapping_add(50), ..FLOW };
        let packets = [first.clone(), packet(Flow { flags, ..next }, &bytes(50)), packet(third, &bytes(50))];
        assert_eq!(coalesce(&packets).len(), 2);
    }
    // UDP without a checksum stays without one.
    let mut bare = packet(DATAGRAMS, &bytes(100));
    bare[26..28].fill(0);
    assert_eq!(coalesce(&[bare.clone(), bare.clone()]), [(PLAIN, bare.clone()), (PLAIN, bare)]);
    let mut coalescer = Coalescer::new(false);
    let datagram = packet(DATAGRAMS, &bytes(100));
    let mut count = 0;
    for _ in 0..2 {
        coalescer.push(&datagram, &mut |_, _| {
            count += 1;
            true
        });
    }
    assert_eq!(count, 2, "a kernel that does not take UDP gets each at once");
}

#[test]
fn one_is_never_longer_than_ip_allows() {
    let content = bytes(1300);
    let mut flow = FLOW;
    let packets: Vec<_> = (0..200)
        .map(|_| {
            let packet = packet(flow, &content);
            flow.sequence = flow.sequence.wrapping_add(1300);
            packet
        })
        .collect();
    let written = coalesce(&packets);
    assert_eq!(written.iter().map(|(_, packet)| packet.len() - 52).sum::<usize>(), 200 * 1300);
    assert_eq!(written.iter().map(|(_, packet)| packet.len()).max(), Some(52 + 50 * 1300));
    let small = vec![packet(DATAGRAMS, &[1; 10]); 2 * MOST];
    assert!(coalesce(&small).iter().map(|(_, packet)| packet.len()).eq([28 + 10 * MOST; 2]));
}

/// Whatever a member sends, this machine gets the same packets, those of a flow in the same order, but for what says nothing.
#[test]
fn whatever_comes_is_delivered_as_it_was_sent() {
    let mut random = Seeded::new(11);
    let essence = |packet: &Vec<u8>| {
        let mut packet = packet.clone();
        if let Some(shape) = Shape::of(&packet) {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            let at = shape.ip + shape.checksum_offset();
            if packet[at..at + 2] == [0, 0] && shape.is_tcp {
                packet[at..at + 2].fill(0xff);
            }
        }
        packet
    };
    let mut merged = 0;
    for _ in 0..3000 {
        let mut flows = [FLOW, Flow { port: 81, options: 0, ..FLOW }, DATAGRAMS];
        let segment = 1 + random.below(60) as usize;
        let packets: Vec<_> = (0..1 + random.below(20))
            .map(|_| {
                let flow = &mut flows[(random.below(8) as usize) % 3 / (1 + random.below(2) as usize)];
                let length = if random.below(4) > 0 { segment } else { random.below(70) as usize };
                let mut content = vec![0; length];
                random.fill(&mut content);
                let mut packet = packet(*flow, &content);
                flow.sequence = flow.sequence.wrapping_add(length as u32);
                let damage = random.below(16);
                for _ in 0..damage.saturating_sub(12) {
                    let at = random.below(packet.len() as u64) as usize;
                    packet[at] = random.next_u64() as u8;
                }
                if random.below(4) > 0 {
                    correct(&mut packet);
                }
                if damage == 15 {
                    packet.truncate(random.below(packet.len() as u64) as usize);
                }
                packet
            })
            .collect();
        let written = coalesce(&packets);
        merged += packets.len() - written.len();
        let got: Vec<_> = written.iter().flat_map(|(header, packet)| split_all(header, packet)).collect();
        let by_flow = |packets: &[Vec<u8>]| {
            let mut packets: Vec<_> = packets.iter().map(essence).collect();
            packets.sort_by_key(|packet| (packet.get(9).copied(), packet.get(12..24).map(<[u8]>::to_vec)));
            packets
        };
        assert!(by_flow(&got) == by_flow(&packets));
    }
    assert!(merged > 1000, "{merged}");
}

#[test]
fn nothing_that_a_kernel_may_say_panics() {
    let mut random = Seeded::new(12);
    for _ in 0..100_000 {
        let flow = if random.below(2) == 0 { FLOW } else { DATAGRAMS };
        let mut packet = packet(flow, &bytes(random.below(200) as usize));
        let mut header = header(
            [0, 1, 5][random.below(3) as usize],
            52,
            random.below(120) as usize,
            random.below(40) as usize,
        );
        for _ in 0..random.below(4) {
            let at = random.below(packet.len() as u64) as usize;
            packet[at] = random.next_u64() as u8;
            header[random.below(10) as usize] = random.next_u64() as u8;
        }
        packet.truncate(random.below(packet.len() as u64 + 1) as usize);
        split_all(&header, &packet);
    }
}
