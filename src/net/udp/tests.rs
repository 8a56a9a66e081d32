use super::ancillary::CONTROL_LENGTH;
use super::senders::stand_in_for;
use super::*;
use crate::figures::DropReason;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NOW: Instant = Instant::from_nanos(10_000_000_000);

/// To a port of this machine.
fn path(port: u16) -> Path {
    Path::to(SocketAddr::new(LOCALHOST, port))
}

/// To somebody, from an address of ours.
fn path_from(local: &str, remote: SocketAddr) -> Path {
    Path { remote, local: Some(local.parse().unwrap()) }
}

/// A socket of ours with what belongs to it.
struct TestSocket {
    socket: RelaySocket,
    inbox: Inbox,
    outbox: SendQueue,
}

impl TestSocket {
    fn new(address: &str) -> Self {
        let socket = RelaySocket::bind(address.parse().unwrap()).unwrap().with_senders();
        let outbox = socket.outbox();
        TestSocket { socket, inbox: Inbox::default(), outbox }
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.socket.address().port())
    }

    /// Waits for datagrams until there were `count` of them.
    fn take(&mut self, count: usize, mut handle: impl FnMut(&mut [u8], &RecvMeta, &mut SendQueue)) {
        let mut taken = 0;
        while taken < count {
            smol::block_on(smol::future::or(self.socket.readable(), async {
                smol::Timer::after(Duration::from_secs(5)).await;
                panic!("only {taken} datagrams of {count} came");
            }))
            .unwrap();
            taken += self.socket.turn(&mut self.inbox, &mut self.outbox, NOW, &mut handle).unwrap();
        }
        assert_eq!(taken, count);
    }

    fn echo(&mut self, count: usize) {
        self.take(count, |datagram, meta, out| out.forward(meta.path, datagram.len(), datagram.len()));
    }

    fn send(&mut self, path: Path, datagram: &[u8]) {
        self.outbox.send(path, datagram);
        self.socket.flush(&mut self.outbox);
    }
}

fn dropped(outbox: &SendQueue, reason: DropReason) -> u64 {
    outbox.drops().of(reason)
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
    let (mut buffer, mut heads) = (vec![0; SLOT], [ReceivedHead::EMPTY]);
    socket.peek(&mut buffer).unwrap();
    assert_eq!(sys::receive_many(socket.as_fd(), &mut buffer, SLOT, &mut heads), Ok(1));
    (buffer[..heads[0].length()].to_vec(), AncillaryData::parse(heads[0].control()).class)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + length) as u8).collect()
}

#[test]
fn a_port_in_use_is_explained() {
    let first = RelaySocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = RelaySocket::bind(first.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("already in use"), "{error}");
    let any = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    assert_ne!(any.address().port(), 0);
}

#[test]
fn a_burst_is_taken_apart_and_leaves_as_a_burst() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut house = TestSocket::new(address);
        if !house.outbox.uses_gso() {
            eprintln!("this kernel has no GSO");
            return;
        }
        let client = client("127.0.0.1", house.at("127.0.0.1"));
        set(&client, libc::SOL_UDP, libc::UDP_SEGMENT, 100);
        let burst = bytes(1050);
        client.send(&burst).unwrap();
        let mut seen = Vec::new();
        house.take(11, |datagram, meta, out| {
            assert_eq!(meta.path.remote, client.local_addr().unwrap());
            assert_eq!(datagram, &burst[seen.len()..(seen.len() + 100).min(1050)]);
            seen.extend_from_slice(datagram);
            datagram[0] = 0xaa;
            out.forward(meta.path, datagram.len(), datagram.len());
        });
        assert_eq!(seen, burst);
        assert_eq!(house.outbox.sent(), SendCounters { sent: 11, calls: 1, ..SendCounters::default() });
        for chunk in burst.chunks(100) {
            let (datagram, _) = read(&client);
            assert_eq!((datagram[0], &datagram[1..]), (0xaa, &chunk[1..]));
        }
    }
}

#[test]
fn parts_of_datagrams_and_answers_of_other_lengths_can_be_sent() {
    let mut house = TestSocket::new("127.0.0.1:0");
    let client = client("127.0.0.1", house.socket.address());
    set(&client, libc::SOL_UDP, libc::UDP_SEGMENT, 10);
    client.send(b"0123456789abcdefghij").unwrap();
    house.take(2, |datagram, meta, out| {
        out.forward(meta.path, 3, 3);
        out.send(meta.path, &[datagram[9]; 30]);
        out.forward(meta.path, 0, 0);
        out.forward(meta.path, 5, 2);
    });
    let parts = |whole: &[u8; 5], last| {
        let [a, b] = [&whole[..2], &whole[2..4]];
        [&whole[..3], &[last; 30], &[], a, b, &whole[4..]].map(<[u8]>::to_vec)
    };
    for expected in [parts(b"01234", b'9'), parts(b"abcde", b'j')].concat() {
        assert_eq!(read(&client).0, expected);
    }
}

#[test]
fn every_length_survives() {
    let mut house = TestSocket::new("127.0.0.1:0");
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
    let mut house = TestSocket::new("0.0.0.0:0");
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 here");
        return;
    }
    for ip in ["127.0.0.1", "::1"] {
        let client = client(ip, house.at(ip));
        client.send(b"hello").unwrap();
        house.take(1, |datagram, meta, out| {
            assert_eq!(meta.path, path_from(ip, client.local_addr().unwrap()));
            out.forward(meta.path, datagram.len(), datagram.len());
        });
        assert_eq!(read(&client).0, b"hello");
    }
    let mut narrow = TestSocket::new("127.0.0.1:0");
    narrow.send(Path::to("[::1]:9".parse().unwrap()), b"no way");
    assert_eq!(dropped(&narrow.outbox, DropReason::NoRoute), 1);
}

#[test]
fn dscp_and_ecn_survive() {
    for (ip, level, class, wish) in [
        ("127.0.0.1", libc::SOL_IP, libc::IP_TOS, libc::IP_RECVTOS),
        ("::1", libc::SOL_IPV6, libc::IPV6_TCLASS, libc::IPV6_RECVTCLASS),
    ] {
        let mut house = TestSocket::new("0.0.0.0:0");
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
        house.take(1, |datagram, meta, out| out.send(meta.path, datagram));
        assert_eq!(read(&client), (b"marked".to_vec(), 0));
    }
}

#[test]
fn datagrams_leave_from_the_address_that_is_asked_for() {
    let mut house = TestSocket::new("0.0.0.0:0");
    // Connected sockets, which hear nobody else.
    let first = client("127.0.0.1", house.at("127.0.0.1"));
    let second = client("127.0.0.1", house.at("127.0.0.2"));
    for client in [&first, &second] {
        client.send(b"hello").unwrap();
        house.echo(1);
        assert_eq!(read(client).0, b"hello");
    }
    for (from, to, local) in [(&first, &second, "127.0.0.2"), (&second, &first, "127.0.0.1")] {
        from.send(b"for the other").unwrap();
        let to_other = path_from(local, to.local_addr().unwrap());
        house.take(1, |datagram, _, out| out.forward(to_other, datagram.len(), datagram.len()));
        assert_eq!(read(to).0, b"for the other");
        house.send(to_other, b"from a timer");
        assert_eq!(read(to).0, b"from a timer");
    }
}

#[test]
fn an_address_that_is_gone_does_not_stop_us() {
    let mut house = TestSocket::new("0.0.0.0:0");
    let client = client("127.0.0.1", house.at("127.0.0.1"));
    let gone = path_from("192.0.2.77", client.local_addr().unwrap());
    house.outbox.send(gone, b"one");
    house.send(gone, b"two");
    assert_eq!((read(&client).0, read(&client).0), (b"one".to_vec(), b"two".to_vec()));
    let (sent, no_route, refused) = (
        house.outbox.sent().sent,
        dropped(&house.outbox, DropReason::NoRoute),
        dropped(&house.outbox, DropReason::SocketRefused),
    );
    assert_eq!((sent, no_route, refused), (2, 0, 0));
}

#[test]
fn an_address_that_is_gone_is_not_tried_again_until_it_may_be_back() {
    let mut outbox = SendQueue::new(false, true, false);
    let gone = path_from("192.0.2.77", SocketAddr::new(LOCALHOST, 3));
    let wire = FaultyWire { gone: true, interrupts: Cell::new(0), ..FaultyWire::new(None) };
    let calls = |outbox: &mut SendQueue| {
        let before = outbox.sent().calls;
        outbox.send(gone, b"one");
        outbox.send(gone, b"two");
        outbox.flush(&wire, &[]);
        outbox.sent().calls - before
    };
    // The run, its first datagram, and both from elsewhere.
    assert_eq!([calls(&mut outbox), calls(&mut outbox)], [3, 1]);
    outbox.look_again();
    assert_eq!([calls(&mut outbox), calls(&mut outbox)], [3, 1]);
    // What comes to an address proves that it is ours.
    outbox.begin(RecvMeta { path: gone, class: 0, stride: 0 }, 0, 0);
    outbox.end();
    assert_eq!([calls(&mut outbox), calls(&mut outbox)], [3, 1]);
    assert_eq!(
        (
            outbox.sent().sent,
            dropped(&outbox, DropReason::NoRoute),
            dropped(&outbox, DropReason::SocketRefused)
        ),
        (12, 0, 0)
    );
    // If no other address helps, the address is not to blame.
    let wire = FaultyWire { unreachable: true, ..wire };
    let mut outbox = SendQueue::new(false, true, false);
    for round in 1..=2 {
        outbox.send(gone, b"three");
        outbox.flush(&wire, &[]);
        assert_eq!((outbox.sent().calls, dropped(&outbox, DropReason::NoRoute)), (2 * round, round));
    }
}

#[test]
fn it_remembers_few_addresses_that_are_gone() {
    let mut outbox = SendQueue::new(false, true, false);
    let wire = FaultyWire { gone: true, interrupts: Cell::new(0), ..FaultyWire::new(None) };
    for last in 0..=255u8 {
        let local = IpAddr::from([192, 0, 2, last]);
        outbox.send(Path { local: Some(local), ..path(3) }, b"one");
        outbox.flush(&wire, &[]);
    }
    assert_eq!(outbox.sent().sent, 256);
}

#[test]
fn one_who_is_gone_does_not_stop_us() {
    let mut house = TestSocket::new("0.0.0.0:0");
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client("127.0.0.1", house.at("127.0.0.1"));
    for _ in 0..20 {
        house.send(Path::to(gone), b"anybody there?");
        client.send(b"still here").unwrap();
        house.echo(1);
        assert_eq!(read(&client).0, b"still here");
    }
    assert_eq!(house.outbox.sent().sent, 40);
}

#[test]
fn a_turn_ends() {
    let mut house = TestSocket::new("127.0.0.1:0");
    let client = client("127.0.0.1", house.socket.address());
    (0..100).for_each(|number| assert_eq!(client.send(&[number]).unwrap(), 1));
    let mut seen = Vec::new();
    let mut turn = || {
        let (inbox, outbox) = (&mut house.inbox, &mut house.outbox);
        house.socket.turn(inbox, outbox, NOW, |datagram, _, _| seen.push(datagram[0])).unwrap()
    };
    let (first, second, third) = (turn(), turn(), turn());
    assert!((TURN_MESSAGES..TURN_MESSAGES + MAX_MESSAGES).contains(&first), "{first}");
    assert_eq!((first + second, third), (100, 0));
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut house = TestSocket::new("127.0.0.1:0");
    for round in 1..=2 {
        for number in 0..10_000 {
            house.outbox.send(path(1 + number % 2), &[7; 100]);
        }
        house.socket.flush(&mut house.outbox);
        let (sent, full, refused) = (
            house.outbox.sent().sent,
            dropped(&house.outbox, DropReason::SocketFull),
            dropped(&house.outbox, DropReason::SocketRefused),
        );
        assert_eq!(sent + full + refused, round * 10_000);
        assert!(full >= round * 8_900 && sent > 0, "{sent} {full} {refused}");
    }
    let before = dropped(&house.outbox, DropReason::SocketRefused);
    house.send(path(1), &bytes(70_000));
    assert_eq!(dropped(&house.outbox, DropReason::SocketRefused), before + 1);
}

/// All that comes to the port is the receiver's, and one port is still one daemon's.
#[test]
fn sockets_that_send_get_nothing() {
    let mut house = TestSocket::new("0.0.0.0:0");
    if house.socket.senders.is_empty() {
        eprintln!("this kernel has no groups of sockets");
        return;
    }
    assert!(RelaySocket::bind(house.socket.address()).is_err());
    for ip in ["127.0.0.1", "::1"] {
        if UdpSocket::bind((ip, 0)).is_err() {
            continue;
        }
        for number in 0..50u8 {
            // From another port each time, which the kernel would spread over a group.
            let client = client(ip, house.at(ip));
            client.send(&[number]).unwrap();
            house.take(1, |datagram, meta, out| {
                assert_eq!(datagram, [number]);
                out.send(meta.path, datagram);
            });
            // Nobody has been heard from before, so this came by way of another socket of the same port.
            assert_eq!(read(&client).0, [number]);
        }
    }
}

/// A kernel with faults. It takes `room` datagrams, and none from some senders, and fails runs, or what comes from an
/// address, on wish.
struct FaultyWire {
    taken: RefCell<Vec<Vec<u8>>>,
    room: Cell<usize>,
    /// Senders that have none: a bit for each.
    full: Cell<u16>,
    fails_runs: Option<Errno>,
    /// Whether our addresses in 192.0.2.0/24 are ours no more.
    gone: bool,
    /// Whether there is no route.
    unreachable: bool,
    runs: Cell<usize>,
    interrupts: Cell<usize>,
}

impl FaultyWire {
    fn new(fails_runs: Option<Errno>) -> Self {
        FaultyWire {
            taken: RefCell::default(),
            room: Cell::new(usize::MAX),
            full: Cell::new(0),
            fails_runs,
            gone: false,
            unreachable: false,
            runs: Cell::new(0),
            interrupts: Cell::new(1),
        }
    }
}

impl Wire for FaultyWire {
    fn transmit(&self, sender: usize, messages: &[OutgoingMessage<'_>]) -> Result<usize, Errno> {
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
                _ if self.full.get() >> sender & 1 == 1 => Some(Errno::AGAIN),
                _ if self.unreachable => Some(Errno::NETUNREACH),
                _ if self.gone && message.control.windows(3).any(|bytes| bytes == [192, 0, 2]) => {
                    Some(Errno::INVAL)
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

/// What is received of somebody.
fn meta(port: u16) -> RecvMeta {
    RecvMeta { path: path(port), class: 0, stride: 0 }
}

/// Sends datagrams to two destinations, in runs and not, from the inbox and not, and says which.
fn fill(outbox: &mut SendQueue, inbox: &[u8]) -> Vec<Vec<u8>> {
    let mut pushed = Vec::new();
    for (index, length) in [100, 100, 100, 40, 100, 0, 0, 7, 7, 7, 7].into_iter().enumerate() {
        let start = 200 * index;
        outbox.begin(meta(1), 0, start);
        outbox.forward(path(1), length, length);
        outbox.end();
        pushed.push(inbox[start..start + length].to_vec());
    }
    for index in 0..150 {
        let (port, length) = (2 + index / 100, 300 - 290 * usize::from(index == 149));
        let datagram = vec![index as u8; length];
        outbox.send(path(port), &datagram);
        pushed.push(datagram);
    }
    pushed
}

#[test]
fn equal_datagrams_make_runs() {
    let inbox = bytes(4096);
    let mut outbox = SendQueue::new(false, true, false);
    let pushed = fill(&mut outbox, &inbox);
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    // 100 100 100 40 | 100 | 0 | 0 | 7 7 7 7 | 64 | 36 | 50, and one interruption.
    assert_eq!(wire.runs.get(), 5);
    assert_eq!(outbox.sent(), SendCounters { sent: 161, calls: 2, ..SendCounters::default() });
}

#[test]
fn runs_are_made_of_what_comes_mixed() {
    let mut outbox = SendQueue::new(false, true, false);
    for length in [100, 100, 90, 100, 100] {
        (1..=8).for_each(|port| send_marked(&mut outbox, port, length));
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
fn a_run_is_forwarded_like_its_datagrams() {
    let inbox = bytes(10_000);
    let meta = RecvMeta { class: 0xb8, ..meta(1) };
    for (gso, length, runs) in
        [(true, 9999, 2), (true, 6400, 1), (true, 350, 1), (true, 70, 0), (false, 350, 0)]
    {
        let mut outbox = SendQueue::new(false, gso, false);
        outbox.begin(meta, 0, 0);
        outbox.forward(path(2), length, 100);
        outbox.end();
        let wire = FaultyWire::new(None);
        outbox.flush(&wire, &inbox);
        let expected: Vec<_> = inbox[..length].chunks(100).map(<[u8]>::to_vec).collect();
        assert_eq!((&*wire.taken.borrow(), wire.runs.get()), (&expected, runs), "{length}");
    }
    // It goes on where the last run has room.
    let mut outbox = SendQueue::new(false, true, false);
    outbox.begin(meta, 0, 0);
    for _ in 0..3 {
        outbox.forward(path(2), 300, 100);
    }
    outbox.forward(path(2), 250, 100);
    outbox.end();
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    assert_eq!((outbox.sent().sent, wire.runs.get()), (12, 1));
}

#[test]
fn gso_is_given_up_at_an_io_error_and_nothing_is_lost() {
    let inbox = bytes(4096);
    let mut outbox = SendQueue::new(false, true, false);
    let wire = FaultyWire::new(Some(Errno::IO));
    let mut pushed = fill(&mut outbox, &inbox);
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    assert!(!outbox.uses_gso());
    pushed.extend(fill(&mut outbox, &inbox));
    outbox.flush(&wire, &inbox);
    assert_eq!(*wire.taken.borrow(), pushed);
    assert_eq!(
        (
            outbox.sent().sent,
            dropped(&outbox, DropReason::SocketRefused),
            dropped(&outbox, DropReason::SocketFull)
        ),
        (322, 0, 0)
    );
}

#[test]
fn a_run_that_does_not_fit_the_path_is_sent_singly() {
    for errno in [Errno::INVAL, Errno::MSGSIZE] {
        let inbox = bytes(4096);
        let mut outbox = SendQueue::new(false, true, false);
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
    let mut outbox = SendQueue::new(false, true, false);
    let mut pushed = fill(&mut outbox, &inbox);
    outbox.disable_gso();
    let wire = FaultyWire::new(None);
    outbox.flush(&wire, &inbox);
    pushed.extend(fill(&mut outbox, &inbox));
    outbox.flush(&wire, &inbox);
    assert_eq!((&*wire.taken.borrow(), wire.runs.get()), (&pushed, 0));
}

/// Whether all of `some`, of what [`fill`] sends, are in `all`, those of each destination in the same order.
fn is_in_order(some: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let port = |datagram: &Vec<u8>| match (datagram.len(), datagram.first()) {
        (300, Some(..100)) => 2,
        (300 | 10, _) => 3,
        _ => 1,
    };
    (1..=3).all(|number| {
        let mut all = all.iter().filter(|datagram| port(datagram) == number);
        some.iter().filter(|datagram| port(datagram) == number).all(|one| all.any(|other| other == one))
    })
}

#[test]
fn when_the_socket_is_full_what_fits_waits_and_the_rest_is_dropped_and_counted() {
    for (room, fails_runs) in
        [(0, None), (30, None), (11, None), (3, Some(Errno::IO)), (40, Some(Errno::INVAL))]
    {
        let inbox = bytes(4096);
        let mut outbox = SendQueue::new(false, true, false);
        let pushed = fill(&mut outbox, &inbox);
        let wire = FaultyWire { room: Cell::new(room), ..FaultyWire::new(fails_runs) };
        outbox.begin_turn();
        outbox.flush(&wire, &inbox);
        let taken = wire.taken.borrow().clone();
        assert!(pushed.starts_with(&taken) && taken.len() < pushed.len() && taken.len() >= room);
        assert!(outbox.waits());
        let (sent, full, refused) = (
            outbox.sent().sent,
            dropped(&outbox, DropReason::SocketFull),
            dropped(&outbox, DropReason::SocketRefused),
        );
        assert_eq!((sent as usize, refused), (taken.len(), 0));
        // What lay in the inbox is not needed any more.
        wire.room.set(usize::MAX);
        outbox.begin_turn();
        outbox.flush(&wire, &[]);
        assert!(!outbox.waits());
        let taken = wire.taken.borrow().clone();
        assert!(is_in_order(&taken, &pushed) && taken.len() >= 100);
        assert_eq!(taken.len() + full as usize, pushed.len());
        assert_eq!(
            (outbox.sent().sent as usize, dropped(&outbox, DropReason::SocketFull)),
            (taken.len(), full)
        );
        let pushed = fill(&mut outbox, &inbox);
        outbox.begin_turn();
        outbox.flush(&wire, &inbox);
        assert_eq!(wire.taken.borrow()[taken.len()..], pushed);
    }
}

/// A datagram of `length` bytes to a port, marked with it.
fn send_marked(outbox: &mut SendQueue, port: u8, length: usize) {
    outbox.send(path(port.into()), &vec![port; length]);
}

#[test]
fn small_datagrams_go_before_bulk_but_not_before_their_own() {
    let mut outbox = SendQueue::new(false, true, false);
    for (port, length) in [(1, 1400), (1, 1400), (2, 100), (1, 100), (3, 1400), (4, 100), (3, 1400), (2, 90)]
    {
        send_marked(&mut outbox, port, length);
    }
    let wire = FaultyWire::new(None);
    outbox.begin_turn();
    outbox.flush(&wire, &[]);
    let order: Vec<_> = wire.taken.borrow().iter().map(|datagram| (datagram[0], datagram.len())).collect();
    assert_eq!(order, [(2, 100), (2, 90), (4, 100), (1, 1400), (1, 1400), (1, 100), (3, 1400), (3, 1400)]);
}

/// A line that takes ten datagrams a turn, and is offered twenty long ones by one and a short one by another.
#[test]
fn a_game_hardly_waits_for_bulk_that_fills_the_line() {
    let mut outbox = SendQueue::new(false, true, false);
    let wire = FaultyWire { room: Cell::new(0), ..FaultyWire::new(None) };
    let (mut game_waits, mut bulk_waits) = (Vec::new(), Vec::new());
    for turn in 0..200u8 {
        for _ in 0..20 {
            outbox.send(path(1), &[turn; 1400]);
        }
        outbox.send(path(2), &[turn; 100]);
        let before = wire.taken.borrow().len();
        wire.room.set(10 * (usize::from(turn) + 1));
        outbox.begin_turn();
        outbox.flush(&wire, &[]);
        for datagram in &wire.taken.borrow()[before..] {
            let waits = if datagram.len() == 100 { &mut game_waits } else { &mut bulk_waits };
            waits.push(turn - datagram[0]);
        }
    }
    assert_eq!(game_waits.len(), 200, "none is lost");
    let (game, bulk) = (game_waits.iter().max().unwrap(), bulk_waits.iter().max().unwrap());
    assert!(*game <= 1 && *bulk >= 3, "{game} and {bulk} turns");
    assert!(bulk_waits.len() >= 200 * 8, "bulk gets the rest: {}", bulk_waits.len());
    let (sent, full) = (outbox.sent().sent, dropped(&outbox, DropReason::SocketFull));
    assert!(sent + full <= 200 * 21 && sent + full + 200 >= 200 * 21);
}

/// An outbox of several senders, where these ports of this machine have just been heard from by these interfaces.
fn spread_outbox(heard: &[(u16, u32)]) -> SendQueue {
    let mut outbox = SendQueue::new(false, true, true);
    outbox.set_now(NOW);
    for &(port, interface) in heard {
        outbox.begin(meta(port), interface, 0);
        outbox.forward(path(99), 0, 0);
        outbox.end();
    }
    outbox.begin_turn();
    outbox.flush(&FaultyWire::new(None), &[]);
    outbox
}

/// Sends to a port until nobody takes it, and says how much of what is sent to the other then arrives.
fn arrives_beside(
    outbox: &mut SendQueue,
    wire: &FaultyWire,
    stuck: Path,
    other: Path,
    length: usize,
) -> usize {
    for _ in 0..1000 {
        outbox.send(stuck, &[1; 1400]);
        outbox.begin_turn();
        outbox.flush(wire, &[]);
    }
    for _ in 0..100 {
        outbox.send(other, &vec![2; length]);
        outbox.begin_turn();
        outbox.flush(wire, &[]);
    }
    wire.taken.borrow().iter().filter(|datagram| datagram.first() == Some(&2)).count()
}

#[test]
fn who_is_silent_and_stuck_holds_up_nobody_who_is_not() {
    let silent = Path::to("127.0.0.9:9".parse().unwrap());
    let mut outbox = spread_outbox(&[(1, 7)]);
    // All who have not been heard from are stuck.
    let wire = FaultyWire { full: Cell::new(!0xf), ..FaultyWire::new(None) };
    assert_eq!(arrives_beside(&mut outbox, &wire, silent, path(1), 1400), 100);
    assert!(dropped(&outbox, DropReason::SocketFull) >= 900);
    // After a while the other is silent, too.
    outbox.set_now(NOW + Duration::from_secs(3));
    assert_eq!(arrives_beside(&mut outbox, &wire, silent, path(1), 1400), 100);
    assert!(outbox.waits());
}

#[test]
fn what_fills_one_line_holds_up_nobody_on_another() {
    let mut outbox = spread_outbox(&[(1, 7), (2, 9)]);
    let wire = FaultyWire { full: Cell::new(1), ..FaultyWire::new(None) };
    assert_eq!(arrives_beside(&mut outbox, &wire, path(1), path(2), 1400), 100);
}

#[test]
fn small_datagrams_have_a_stand_in() {
    let mut outbox = spread_outbox(&[(1, 7), (2, 7)]);
    let wire = FaultyWire { full: Cell::new(1), ..FaultyWire::new(None) };
    assert_eq!(arrives_beside(&mut outbox, &wire, path(1), path(2), 100), 100);
    // Once that is full as well they wait, and go as soon as one of both has room.
    let spare = stand_in_for(0).unwrap();
    wire.full.set(1 | 1 << spare);
    assert_eq!(arrives_beside(&mut outbox, &wire, path(1), path(2), 100), 100);
    assert_eq!(outbox.waits_for(), 1 | 1 << spare);
    wire.full.set(1);
    outbox.begin_turn();
    outbox.flush(&wire, &[]);
    let taken = wire.taken.borrow().iter().filter(|datagram| datagram.first() == Some(&2)).count();
    assert_eq!((taken, outbox.waits_for()), (200, 1));
}

#[test]
fn a_sender_without_room_is_asked_once_a_turn() {
    let mut outbox = spread_outbox(&[(1, 7)]);
    let wire = FaultyWire { full: Cell::new(1), interrupts: Cell::new(0), ..FaultyWire::new(None) };
    let before = outbox.sent().calls;
    for turn in 1..=3 {
        outbox.begin_turn();
        for _ in 0..20 {
            outbox.send(path(1), &[1; 1400]);
            outbox.flush(&wire, &[]);
        }
        assert_eq!(outbox.sent().calls, before + turn);
    }
}

#[test]
fn one_who_is_stuck_does_not_take_all_the_room_to_wait() {
    let mut outbox = spread_outbox(&[(1, 7), (2, 7)]);
    let wire = FaultyWire { full: Cell::new(1), ..FaultyWire::new(None) };
    arrives_beside(&mut outbox, &wire, path(1), path(2), 1400);
    wire.full.set(0);
    outbox.begin_turn();
    outbox.flush(&wire, &[]);
    let taken = wire.taken.borrow();
    let of = |mark| taken.iter().filter(|datagram| datagram.first() == Some(&mark)).count();
    assert!(of(2) >= 80 && of(1) >= 80, "{} and {}", of(1), of(2));
    // They take turns.
    let last = |mark| taken.iter().rposition(|datagram| datagram.first() == Some(&mark)).unwrap();
    assert!(last(1).abs_diff(last(2)) < 20, "{} and {}", last(1), last(2));
}

#[test]
fn a_flood_and_everything_else_take_turns() {
    let mut house = TestSocket::new("127.0.0.1:0");
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
            datagrams += house.socket.turn(&mut house.inbox, &mut house.outbox, NOW, |_, _, _| ())?;
            Ok(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(result.unwrap(), "done");
    });
    assert!(datagrams > 0);
}

#[test]
fn the_socket_that_is_ready_is_told() {
    let (first, second) = (TestSocket::new("127.0.0.1:0"), TestSocket::new("127.0.0.1:0"));
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
    let house = TestSocket::new("127.0.0.1:0");
    let patience = || async {
        smol::Timer::after(Duration::from_millis(200)).await;
    };
    let tell = |_| Err(io::Error::other("there is room"));
    assert!(drive(patience(), &[&house.socket], &[], tell).is_ok(), "nothing waits for room");
    for sender in 0..=house.socket.senders.len() {
        house.socket.waits_for.set(1 << sender);
        assert!(drive(patience(), &[&house.socket], &[], tell).is_err(), "{sender}");
    }
}
