use super::ancillary::CONTROL_LENGTH;
use super::*;
use std::cell::RefCell;
use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A socket of ours with what belongs to it.
struct House {
    socket: RelaySocket,
    inbox: Inbox,
    outbox: Outbox,
}

impl House {
    fn new(address: &str) -> Self {
        let socket = RelaySocket::bind(address.parse().unwrap()).unwrap();
        let outbox = socket.outbox();
        House { socket, inbox: Inbox::default(), outbox }
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.socket.address().port())
    }

    /// Waits for datagrams until there were `count` of them.
    fn take(&mut self, count: usize, mut handle: impl FnMut(&mut [u8], &Origin, &mut Outbox)) {
        let mut taken = 0;
        while taken < count {
            smol::block_on(smol::future::or(self.socket.readable(), async {
                smol::Timer::after(Duration::from_secs(5)).await;
                panic!("only {taken} datagrams of {count} came");
            }))
            .unwrap();
            taken += self.socket.turn(&mut self.inbox, &mut self.outbox, &mut handle).unwrap();
        }
        assert_eq!(taken, count);
    }

    fn echo(&mut self, count: usize) {
        self.take(count, |datagram, origin, out| out.push(origin.source, datagram));
    }
}

fn client(ip: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn set(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) {
    sys::set_option(socket.as_fd(), level, name, value).unwrap();
}

/// A datagram and its class, as the kernel tells it.
fn read(socket: &UdpSocket) -> (Vec<u8>, u8) {
    let (mut buffer, mut heads) = (vec![0; SLOT], [Head::EMPTY]);
    socket.peek(&mut buffer).unwrap();
    assert_eq!(sys::receive_many(socket.as_fd(), &mut buffer, SLOT, &mut heads), Ok(1));
    (buffer[..heads[0].length()].to_vec(), Received::parse(heads[0].control()).class)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + length) as u8).collect()
}

#[test]
fn a_port_in_use_is_explained() {
    let first = RelaySocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = RelaySocket::bind(first.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("already in use") && error.contains("--relay"), "{error}");
    let any = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    assert_ne!(any.address().port(), 0);
}

#[test]
fn a_burst_is_taken_apart_and_leaves_as_a_burst() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut house = House::new(address);
        if !house.outbox.uses_gso() {
            eprintln!("this kernel has no GSO");
            return;
        }
        let client = client("127.0.0.1", house.at("127.0.0.1"));
        set(&client, libc::SOL_UDP, libc::UDP_SEGMENT, 100);
        let burst = bytes(1050);
        client.send(&burst).unwrap();
        let mut seen = Vec::new();
        house.take(11, |datagram, origin, out| {
            assert_eq!(origin.source, client.local_addr().unwrap());
            assert_eq!(datagram, &burst[seen.len()..(seen.len() + 100).min(1050)]);
            seen.extend_from_slice(datagram);
            datagram[0] = 0xaa;
            out.push(origin.source, datagram);
        });
        assert_eq!(seen, burst);
        assert_eq!(house.outbox.sent(), Sent { sent: 11, calls: 1, ..Sent::default() });
        for chunk in burst.chunks(100) {
            let (datagram, _) = read(&client);
            assert_eq!((datagram[0], &datagram[1..]), (0xaa, &chunk[1..]));
        }
    }
}

#[test]
fn parts_of_datagrams_and_answers_of_other_lengths_can_be_sent() {
    let mut house = House::new("127.0.0.1:0");
    let client = client("127.0.0.1", house.socket.address());
    set(&client, libc::SOL_UDP, libc::UDP_SEGMENT, 10);
    client.send(b"0123456789abcdefghij").unwrap();
    house.take(2, |datagram, origin, out| {
        out.push(origin.source, &datagram[2..5]);
        out.push(origin.source, &[datagram[9]; 30]);
        out.push(origin.source, &datagram[..0]);
    });
    for expected in [b"234".to_vec(), vec![b'9'; 30], vec![], b"cde".to_vec(), vec![b'j'; 30], vec![]] {
        assert_eq!(read(&client).0, expected);
    }
}

#[test]
fn every_length_survives() {
    let mut house = House::new("127.0.0.1:0");
    let client = client("127.0.0.1", house.socket.address());
    let lengths = [0, 1, 1400, 1400, 1400, 9, 0, 65_507, 65_507, 1, 1, 2000];
    for some in lengths.chunks(6) {
        some.iter().for_each(|length| assert_eq!(client.send(&bytes(*length)).unwrap(), *length));
        house.echo(some.len());
        some.iter().for_each(|length| assert_eq!(read(&client).0, bytes(*length)));
    }
    assert_eq!(house.outbox.sent().sent, lengths.len() as u64);
}

#[test]
fn one_socket_serves_both_families() {
    let mut house = House::new("0.0.0.0:0");
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 here");
        return;
    }
    for ip in ["127.0.0.1", "::1"] {
        let client = client(ip, house.at(ip));
        client.send(b"hello").unwrap();
        house.take(1, |datagram, origin, out| {
            assert_eq!(origin.source, client.local_addr().unwrap());
            assert_eq!(origin.local, Some(ip.parse().unwrap()));
            out.push(origin.source, datagram);
        });
        assert_eq!(read(&client).0, b"hello");
    }
    let mut narrow = House::new("127.0.0.1:0");
    narrow.outbox.push("[::1]:9".parse().unwrap(), b"no way");
    narrow.socket.flush(&mut narrow.outbox);
    assert_eq!(narrow.outbox.sent().refused, 1);
}

#[test]
fn dscp_and_ecn_survive() {
    for (ip, level, class, wish) in [
        ("127.0.0.1", libc::SOL_IP, libc::IP_TOS, libc::IP_RECVTOS),
        ("::1", libc::SOL_IPV6, libc::IPV6_TCLASS, libc::IPV6_RECVTCLASS),
    ] {
        let mut house = House::new("0.0.0.0:0");
        let Ok(probe) = UdpSocket::bind((ip, 0)) else { continue };
        drop(probe);
        let client = client(ip, house.at(ip));
        set(&client, level, wish, 1);
        for value in [0xb9, 0, 0x03, 0xb9] {
            set(&client, level, class, value);
            client.send(b"marked").unwrap();
        }
        house.echo(4);
        let classes: Vec<u8> = (0..4).map(|_| read(&client).1).collect();
        assert_eq!(classes, [0xb9, 0, 0x03, 0xb9], "{ip}");
        client.send(b"marked").unwrap();
        house.take(1, |datagram, origin, out| {
            let copy = datagram.to_vec();
            out.push(origin.source, &copy);
        });
        assert_eq!(read(&client), (b"marked".to_vec(), 0));
    }
}

#[test]
fn everybody_hears_from_the_address_it_knows() {
    let mut house = House::new("0.0.0.0:0");
    // Connected sockets, which hear nobody else.
    let first = client("127.0.0.1", house.at("127.0.0.1"));
    let second = client("127.0.0.1", house.at("127.0.0.2"));
    for client in [&first, &second] {
        client.send(b"hello").unwrap();
        house.echo(1);
        assert_eq!(read(client).0, b"hello");
    }
    for (from, to) in [(&first, &second), (&second, &first)] {
        from.send(b"for the other").unwrap();
        let other = to.local_addr().unwrap();
        house.take(1, |datagram, _, out| out.push(other, datagram));
        assert_eq!(read(to).0, b"for the other");
        house.outbox.push(other, b"from a timer");
        house.socket.flush(&mut house.outbox);
        assert_eq!(read(to).0, b"from a timer");
    }
    // A change of mind about where we are is noticed.
    second.connect(house.at("127.0.0.3")).unwrap();
    second.send(b"moved").unwrap();
    house.echo(1);
    assert_eq!(read(&second).0, b"moved");
    house.outbox.push(second.local_addr().unwrap(), b"from a timer");
    house.socket.flush(&mut house.outbox);
    assert_eq!(read(&second).0, b"from a timer");
}

#[test]
fn an_address_that_is_gone_does_not_stop_us() {
    let mut house = House::new("0.0.0.0:0");
    let client = client("127.0.0.1", house.at("127.0.0.1"));
    let to = client.local_addr().unwrap();
    house.outbox.push_from(Some("192.0.2.77".parse().unwrap()), to, b"one");
    house.outbox.push_from(Some("192.0.2.77".parse().unwrap()), to, b"two");
    house.socket.flush(&mut house.outbox);
    assert_eq!((read(&client).0, read(&client).0), (b"one".to_vec(), b"two".to_vec()));
    assert_eq!((house.outbox.sent().sent, house.outbox.sent().refused), (2, 0));
}

#[test]
fn an_address_that_is_gone_is_forgotten() {
    let mut outbox = Outbox::new(false, true);
    let (source, local) = (SocketAddr::new(LOCALHOST, 1), IpAddr::from([192, 0, 2, 77]));
    outbox.begin(Origin { source, local: Some(local), class: 0 }, 0, b"");
    outbox.push(source, b"an answer");
    outbox.end();
    let mut calls = Vec::new();
    for gone in [false, true, true] {
        let wire = FaultyWire { gone, interrupts: Cell::new(0), ..FaultyWire::new(None) };
        let before = outbox.sent().calls;
        outbox.push(SocketAddr::new(LOCALHOST, 3), b"one");
        outbox.push(SocketAddr::new(LOCALHOST, 3), b"two");
        outbox.flush(&wire, &[]);
        calls.push(outbox.sent().calls - before);
    }
    assert_eq!(calls, [1, 2, 1]);
    assert_eq!((outbox.sent().sent, outbox.sent().refused), (7, 0));
}

#[test]
fn a_look_at_the_network_keeps_what_is_ours() {
    let mut house = House::new("0.0.0.0:0");
    let client = client("127.0.0.1", house.at("127.0.0.5"));
    let to = client.local_addr().unwrap();
    client.send(b"hello").unwrap();
    house.echo(1);
    assert_eq!(read(&client).0, b"hello");
    house.socket.look_again(&mut house.outbox);
    // The client takes it from the address that it knows and from no other.
    house.outbox.push(to, b"still here");
    house.socket.flush(&mut house.outbox);
    assert_eq!(read(&client).0, b"still here");
    house.outbox.keep_homes(|_| false);
    house.outbox.push(to, b"from elsewhere");
    house.socket.flush(&mut house.outbox);
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(client.recv(&mut [0; 64]).is_err());
    assert!(["127.0.0.1", "127.0.0.5"].iter().all(|ip| is_ours(ip.parse().unwrap())));
    assert!(["192.0.2.77", "2001:db8::77"].iter().all(|ip| !is_ours(ip.parse().unwrap())));
}

#[test]
fn one_who_is_gone_does_not_stop_us() {
    let mut house = House::new("0.0.0.0:0");
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client("127.0.0.1", house.at("127.0.0.1"));
    for _ in 0..20 {
        house.outbox.push(gone, b"anybody there?");
        house.socket.flush(&mut house.outbox);
        client.send(b"still here").unwrap();
        house.echo(1);
        assert_eq!(read(&client).0, b"still here");
    }
    assert_eq!(house.outbox.sent().sent, 40);
}

#[test]
fn a_turn_ends() {
    let mut house = House::new("127.0.0.1:0");
    let client = client("127.0.0.1", house.socket.address());
    (0..100).for_each(|number| assert_eq!(client.send(&[number]).unwrap(), 1));
    let mut seen = Vec::new();
    let mut turn = || {
        let (inbox, outbox) = (&mut house.inbox, &mut house.outbox);
        house.socket.turn(inbox, outbox, |datagram, _, _| seen.push(datagram[0])).unwrap()
    };
    let (first, second, third) = (turn(), turn(), turn());
    assert!((TURN_MESSAGES..TURN_MESSAGES + MAX_MESSAGES).contains(&first), "{first}");
    assert_eq!((first + second, third), (100, 0));
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut house = House::new("127.0.0.1:0");
    for round in 1..=2 {
        for number in 0..10_000 {
            let port = 1 + number % 2;
            house.outbox.push(SocketAddr::new(LOCALHOST, port), &[7; 100]);
        }
        house.socket.flush(&mut house.outbox);
        let Sent { sent, full, refused, .. } = house.outbox.sent();
        assert_eq!(sent + full + refused, round * 10_000);
        assert!(full >= round * 8_900 && sent > 0, "{sent} {full} {refused}");
    }
    house.outbox.push(SocketAddr::new(LOCALHOST, 1), &bytes(70_000));
    let before = house.outbox.sent();
    house.socket.flush(&mut house.outbox);
    assert_eq!(house.outbox.sent().refused, before.refused + 1);
}

/// A kernel with faults. It takes `room` datagrams and fails runs, or what comes from an address, on wish.
struct FaultyWire {
    taken: RefCell<Vec<Vec<u8>>>,
    room: Cell<usize>,
    fails_runs: Option<Errno>,
    /// Whether our address 192.0.2.77 is ours no more.
    gone: bool,
    runs: Cell<usize>,
    interrupts: Cell<usize>,
}

impl FaultyWire {
    fn new(fails_runs: Option<Errno>) -> Self {
        FaultyWire {
            taken: RefCell::default(),
            room: Cell::new(usize::MAX),
            fails_runs,
            gone: false,
            runs: Cell::new(0),
            interrupts: Cell::new(1),
        }
    }
}

impl Wire for FaultyWire {
    fn transmit(&self, messages: &[Message<'_>]) -> Result<usize, Errno> {
        if self.interrupts.get() > 0 {
            self.interrupts.set(self.interrupts.get() - 1);
            return Err(Errno::INTR);
        }
        assert!(!messages.is_empty());
        for (index, message) in messages.iter().enumerate() {
            assert!(message.control.len() <= CONTROL_LENGTH && !message.data.is_empty());
            // The first item, if there is one, is the length of segments.
            let at = size_of::<usize>() + 2 * size_of::<c_int>();
            let kind = message.control.get(at - size_of::<c_int>()..at);
            let is_run = kind == Some(&libc::UDP_SEGMENT.to_ne_bytes());
            let segment = message.control.get(at..at + 2).filter(|_| is_run);
            let segment = segment.map(|size| usize::from(u16::from_ne_bytes([size[0], size[1]])));
            let failure = match segment {
                Some(_) if self.fails_runs.is_some() => self.fails_runs,
                _ if self.taken.borrow().len() >= self.room.get() => Some(Errno::AGAIN),
                _ if self.gone && message.control.windows(4).any(|bytes| bytes == [192, 0, 2, 77]) => {
                    Some(Errno::NETUNREACH)
                }
                _ => None,
            };
            match failure {
                Some(errno) if index == 0 => return Err(errno),
                Some(_) => return Ok(index),
                None => (),
            }
            self.runs.set(self.runs.get() + usize::from(segment.is_some()));
            let data: Vec<u8> = message.data.iter().flat_map(|slice| slice.iter().copied()).collect();
            let size = segment.unwrap_or(data.len()).max(1);
            if data.is_empty() {
                self.taken.borrow_mut().push(data);
            } else {
                self.taken.borrow_mut().extend(data.chunks(size).map(<[u8]>::to_vec));
            }
        }
        Ok(messages.len())
    }
}

/// Pushes datagrams to two destinations, in runs and not, from the inbox and not, and says which.
fn fill(outbox: &mut Outbox, inbox: &[u8]) -> Vec<Vec<u8>> {
    let source = SocketAddr::new(LOCALHOST, 1);
    let origin = Origin { source, local: None, class: 0 };
    let mut pushed = Vec::new();
    for (index, length) in [100, 100, 100, 40, 100, 0, 0, 7, 7, 7, 7].into_iter().enumerate() {
        let start = 200 * index;
        let datagram = &inbox[start..start + length];
        outbox.begin(origin, start, datagram);
        outbox.push(source, datagram);
        outbox.end();
        pushed.push(datagram.to_vec());
    }
    for index in 0..150 {
        let (port, length) = (2 + index / 100, 300 - 290 * usize::from(index == 149));
        let datagram = vec![index as u8; length];
        outbox.push(SocketAddr::new(LOCALHOST, port), &datagram);
        pushed.push(datagram);
    }
    pushed
}

#[test]
fn equal_datagrams_make_runs() {
    let inbox = bytes(4096);
    let mut outbox = Outbox::new(false, true);
    let pushed = fill(&mut outbox, &inbox);
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    // 100 100 100 40 | 100 | 0 | 0 | 7 7 7 7 | 64 | 36 | 50, and one interruption.
    assert_eq!(wire.runs.get(), 5);
    assert_eq!(outbox.sent(), Sent { sent: 161, calls: 2, ..Sent::default() });
}

#[test]
fn runs_are_made_of_what_comes_mixed() {
    let mut outbox = Outbox::new(false, true);
    for length in [100, 100, 90, 100, 100] {
        (1..=8).for_each(|port| push_marked(&mut outbox, port, length));
    }
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &[]);
    // For each, 100 100 90 and 100 100: the shorter one ends a run.
    assert_eq!((wire.runs.get(), outbox.sent().sent), (16, 40));
    for port in 1..=8u8 {
        let lengths: Vec<_> =
            wire.taken.borrow().iter().filter(|taken| taken[0] == port).map(Vec::len).collect();
        assert_eq!(lengths, [100, 100, 90, 100, 100]);
    }
}

#[test]
fn a_run_is_pushed_like_its_datagrams() {
    let inbox = bytes(10_000);
    let origin = Origin { source: SocketAddr::new(LOCALHOST, 1), local: None, class: 0xb8 };
    for (gso, length, runs) in
        [(true, 9999, 2), (true, 6400, 1), (true, 350, 1), (true, 70, 0), (false, 350, 0)]
    {
        let mut outbox = Outbox::new(false, gso);
        outbox.begin(origin, 0, &inbox);
        outbox.push_run(SocketAddr::new(LOCALHOST, 2), &inbox[..length], 100);
        outbox.end();
        let wire = FaultyWire::new(None);
        outbox.flush(&wire, &inbox);
        let expected: Vec<_> = inbox[..length].chunks(100).map(<[u8]>::to_vec).collect();
        assert_eq!((&*wire.taken.borrow(), wire.runs.get()), (&expected, runs), "{length}");
    }
    // What lies elsewhere, too; and it goes on where the last run has room.
    let mut outbox = Outbox::new(false, true);
    outbox.begin(origin, 0, &inbox);
    for _ in 0..3 {
        outbox.push_run(SocketAddr::new(LOCALHOST, 2), &inbox[..300], 100);
    }
    outbox.push_run(SocketAddr::new(LOCALHOST, 2), &bytes(250), 100);
    outbox.end();
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    assert_eq!((outbox.sent().sent, wire.runs.get()), (12, 2));
}

#[test]
fn gso_is_given_up_at_an_io_error_and_nothing_is_lost() {
    let inbox = bytes(4096);
    let mut outbox = Outbox::new(false, true);
    let wire = FaultyWire::new(Some(Errno::IO));
    let mut pushed = fill(&mut outbox, &inbox);
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    assert!(!outbox.uses_gso());
    pushed.extend(fill(&mut outbox, &inbox));
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    assert_eq!((outbox.sent().sent, outbox.sent().refused, outbox.sent().full), (322, 0, 0));
}

#[test]
fn a_run_that_does_not_fit_the_path_is_sent_singly() {
    for errno in [Errno::INVAL, Errno::MSGSIZE] {
        let inbox = bytes(4096);
        let mut outbox = Outbox::new(false, true);
        let wire = FaultyWire::new(Some(errno));
        let pushed = fill(&mut outbox, &inbox);
        outbox.flush(&wire, &inbox);
        assert_eq!(*wire.taken.borrow(), pushed);
        assert!(outbox.uses_gso());
    }
}

#[test]
fn without_gso_nothing_is_a_run() {
    let inbox = bytes(4096);
    let mut outbox = Outbox::new(false, true);
    let mut pushed = fill(&mut outbox, &inbox);
    outbox.disable_gso();
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    pushed.extend(fill(&mut outbox, &inbox));
    outbox.flush(&wire, &inbox);
    assert_eq!((&*wire.taken.borrow(), wire.runs.get()), (&pushed, 0));
}

/// Whether all of `some` are in `all`, in the same order.
fn is_in_order(some: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}

#[test]
fn when_the_socket_is_full_what_fits_waits_and_the_rest_is_dropped_and_counted() {
    for (room, fails_runs) in
        [(0, None), (30, None), (11, None), (3, Some(Errno::IO)), (40, Some(Errno::INVAL))]
    {
        let inbox = bytes(4096);
        let mut outbox = Outbox::new(false, true);
        let pushed = fill(&mut outbox, &inbox);
        let wire = FaultyWire { room: Cell::new(room), ..FaultyWire::new(fails_runs) };
        outbox.flush(&wire, &inbox);
        let taken = wire.taken.borrow().clone();
        assert!(pushed.starts_with(&taken) && taken.len() < pushed.len() && taken.len() >= room);
        assert!(outbox.waits());
        let Sent { sent, full, refused, .. } = outbox.sent();
        assert_eq!((sent as usize, refused), (taken.len(), 0));
        // What lay in the inbox is not needed any more.
        wire.room.set(usize::MAX);
        outbox.flush(&wire, &[]);
        assert!(!outbox.waits());
        let taken = wire.taken.borrow().clone();
        assert!(is_in_order(&taken, &pushed) && taken.len() >= 100);
        assert_eq!(taken.len() + full as usize, pushed.len());
        assert_eq!((outbox.sent().sent as usize, outbox.sent().full), (taken.len(), full));
        let pushed = fill(&mut outbox, &inbox);
        outbox.flush(&wire, &inbox);
        assert_eq!(wire.taken.borrow()[taken.len()..], pushed);
    }
}

/// A datagram of `length` bytes to a port, marked with it.
fn push_marked(outbox: &mut Outbox, port: u8, length: usize) {
    outbox.push(SocketAddr::new(LOCALHOST, port.into()), &vec![port; length]);
}

#[test]
fn small_datagrams_go_before_bulk_but_not_before_their_own() {
    let mut outbox = Outbox::new(false, true);
    for (port, length) in [(1, 1400), (1, 1400), (2, 100), (1, 100), (3, 1400), (4, 100), (3, 1400), (2, 90)]
    {
        push_marked(&mut outbox, port, length);
    }
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &[]);
    let order: Vec<_> = wire.taken.borrow().iter().map(|datagram| (datagram[0], datagram.len())).collect();
    assert_eq!(order, [(2, 100), (2, 90), (4, 100), (1, 1400), (1, 1400), (1, 100), (3, 1400), (3, 1400)]);
}

/// A line that takes ten datagrams a turn, and is offered twenty long ones by one and a short one by another.
#[test]
fn a_game_hardly_waits_for_bulk_that_fills_the_line() {
    let mut outbox = Outbox::new(false, true);
    let wire = FaultyWire { room: Cell::new(0), ..FaultyWire::new(None) };
    let (mut game_waits, mut bulk_waits) = (Vec::new(), Vec::new());
    for turn in 0..200u8 {
        for _ in 0..20 {
            outbox.push(SocketAddr::new(LOCALHOST, 1), &[turn; 1400]);
        }
        outbox.push(SocketAddr::new(LOCALHOST, 2), &[turn; 100]);
        let before = wire.taken.borrow().len();
        wire.room.set(10 * (usize::from(turn) + 1));
        outbox.flush(&wire, &[]);
        for datagram in &wire.taken.borrow()[before..] {
            let waits = if datagram.len() == 100 { &mut game_waits } else { &mut bulk_waits };
            waits.push(turn - datagram[0]);
        }
    }
    assert_eq!(game_waits.len(), 200, "none is lost");
    let (game, bulk) = (game_waits.iter().max().unwrap(), bulk_waits.iter().max().unwrap());
    assert!(*game <= 1 && *bulk >= 6, "{game} and {bulk} turns");
    assert!(bulk_waits.len() >= 200 * 8, "bulk gets the rest: {}", bulk_waits.len());
    let Sent { sent, full, .. } = outbox.sent();
    assert!(sent + full <= 200 * 21 && sent + full + 200 >= 200 * 21);
}

#[test]
fn a_flood_and_everything_else_take_turns() {
    let mut house = House::new("127.0.0.1:0");
    let flooded = client("127.0.0.1", house.socket.address());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut datagrams = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = flooded.send(b"more");
            }
        });
        // Wakes from within, from the reactor's thread, and from one that comes and goes.
        let others = async {
            for _ in 0..20 {
                smol::future::yield_now().await;
                smol::Timer::after(Duration::from_millis(1)).await;
                smol::unblock(|| ()).await;
            }
            "done"
        };
        let result = drive(others, &[&house.socket], &[], |index| {
            assert_eq!(index, 0);
            datagrams += house.socket.turn(&mut house.inbox, &mut house.outbox, |_, _, _| ())?;
            Ok(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(result.unwrap(), "done");
    });
    assert!(datagrams > 0);
}

#[test]
fn the_socket_that_is_ready_is_told() {
    let (first, second) = (House::new("127.0.0.1:0"), House::new("127.0.0.1:0"));
    let client = client("127.0.0.1", second.socket.address());
    client.send(b"hello").unwrap();
    let wait = std::future::pending::<()>();
    let result = drive(wait, &[&first.socket, &second.socket], &[], |index| {
        Err(io::Error::other(format!("it is number {index}")))
    });
    assert_eq!(result.unwrap_err().to_string(), "it is number 1");
    // What is no socket of the relay's comes after those.
    let (mut far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    io::Write::write_all(&mut far, b"hello").unwrap();
    let result = drive(std::future::pending::<()>(), &[&first.socket], &[near.as_fd()], |index| {
        Err(io::Error::other(format!("it is number {index}")))
    });
    assert_eq!(result.unwrap_err().to_string(), "it is number 1");
}

#[test]
fn a_socket_that_has_room_again_is_told() {
    let house = House::new("127.0.0.1:0");
    let patience = || async {
        smol::Timer::after(Duration::from_millis(200)).await;
    };
    let tell = |_| Err(io::Error::other("there is room"));
    assert!(drive(patience(), &[&house.socket], &[], tell).is_ok(), "nothing waits for room");
    house.socket.is_full.set(true);
    assert!(drive(patience(), &[&house.socket], &[], tell).is_err());
}
