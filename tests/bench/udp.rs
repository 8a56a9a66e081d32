//! What the relay's sockets cost: CPU time per datagram of an echo through them, beside the two simplest
//! echoes there are, all in one run over loopback. The figures are of the thread that echoes, system calls
//! included, and so is what loopback does there to deliver.
//!
//! `cargo bench --bench udp [WORD]`: only the loads with this word in their names.

#![allow(unsafe_code)]

use lanrage::net::udp::{Inbox, RelaySocket, drive};
use lanrage::sys::set_option;
use lanrage::time::Instant;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{ClockId, clock_gettime};
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

const STOP: &[u8] = b"stop";
/// Times that each echo is measured, in turns; the least counts, as what disturbs only adds.
const ROUNDS: usize = 9;
/// Room for a whole burst as datagrams of its own, in bytes.
const SOCKET_BUFFER: i32 = 4 << 20;

/// How the client sends: `burst` datagrams, then it waits for all of them.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    length: usize,
    burst: usize,
    /// As one message, which the kernel splits.
    gso: bool,
    bursts: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Echo {
    /// `recv_from` and `send_to`.
    Bare,
    /// `recvmsg` with GRO and `sendmsg` with GSO.
    BareGso,
    /// `epoll_wait`, `recv_from` and `send_to`: what waiting for more than this socket costs the barest loop.
    Waiting,
    /// Through a relay socket, as the daemon waits for it and takes what came as one.
    Relay,
}

fn main() {
    let loads = [
        Load { name: "bursts of 40, 1400 bytes", length: 1400, burst: 40, gso: true, bursts: 1000 },
        Load { name: "bursts of 40, 100 bytes", length: 100, burst: 40, gso: true, bursts: 1000 },
        Load { name: "16 singles, 1400 bytes", length: 1400, burst: 16, gso: false, bursts: 1000 },
        Load { name: "16 singles, 100 bytes", length: 100, burst: 16, gso: false, bursts: 1000 },
        Load { name: "one at a time, 1400 bytes", length: 1400, burst: 1, gso: false, bursts: 4000 },
        Load { name: "one at a time, 100 bytes", length: 100, burst: 1, gso: false, bursts: 4000 },
    ];
    println!("CPU ns per datagram       recv/send   GRO+GSO +epoll_wait   relay   ratio  budget");
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for load in loads.into_iter().filter(|load| load.name.contains(&word)) {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for (times, echo) in times.iter_mut().zip([Echo::Bare, Echo::BareGso, Echo::Waiting, Echo::Relay])
            {
                times.push(measure(echo, load));
            }
        }
        let [bare, gso, waiting, relay] = times.map(|times| times.into_iter().fold(f64::INFINITY, f64::min));
        let (ratio, budget) = if load.gso { (relay / gso, 1.3) } else { (relay / bare, 1.15) };
        let verdict = if ratio <= budget { "" } else { "  over" };
        println!(
            "{:25} {bare:9.0} {gso:9.0} {waiting:11.0} {relay:7.0} {ratio:7.2} {budget:7.2}{verdict}",
            load.name
        );
    }
}

/// CPU time per datagram, in ns.
fn measure(echo: Echo, load: Load) -> f64 {
    let (socket, address) = if echo == Echo::Relay {
        let socket = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let socket = socket.with_room(1 << 20).with_senders();
        let address = socket.address();
        (Err(socket), address)
    } else {
        let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).unwrap();
        roomy(&socket);
        let address = socket.local_addr().unwrap();
        (Ok(socket), address)
    };
    let server = thread::spawn(move || {
        let before = cpu_time();
        match socket {
            Ok(socket) if echo == Echo::Bare => echo_bare(&socket),
            Ok(socket) if echo == Echo::Waiting => echo_waiting(&socket),
            Ok(socket) => echo_gso(&socket),
            Err(socket) => echo_relay(&socket),
        }
        cpu_time() - before
    });
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    roomy(&client);
    client.connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    if load.gso {
        set_option(client.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).unwrap();
        set_option(client.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, load.length as i32).unwrap();
    }
    let (burst, mut buffer) = (vec![0x55; load.length * load.burst], vec![0; 65_536]);
    for _ in 0..load.bursts {
        if load.gso {
            client.send(&burst).unwrap();
        } else {
            burst.chunks(load.length).for_each(|datagram| assert!(client.send(datagram).is_ok()));
        }
        let mut back = 0;
        while back < burst.len() {
            back += client.recv(&mut buffer).expect("nothing is lost on loopback");
        }
    }
    client.send(STOP).unwrap();
    let time = server.join().unwrap();
    time.as_nanos() as f64 / (load.bursts * load.burst) as f64
}

/// As much buffer as the system allows.
fn roomy(socket: &UdpSocket) {
    for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        let _ = set_option(socket.as_fd(), libc::SOL_SOCKET, option, SOCKET_BUFFER);
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn echo_bare(socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from): (usize, SocketAddr) = socket.recv_from(&mut buffer).unwrap();
        if &buffer[..length] == STOP {
            return;
        }
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

fn echo_waiting(socket: &UdpSocket) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, socket, EventData::new_u64(0), EventFlags::IN).unwrap();
    let (mut buffer, mut events) = (vec![0; 65_536], Vec::with_capacity(1));
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        let (length, from): (usize, SocketAddr) = socket.recv_from(&mut buffer).unwrap();
        if &buffer[..length] == STOP {
            return;
        }
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

fn echo_relay(socket: &RelaySocket) {
    let (mut inbox, mut outbox, mut stop) = (Inbox::default(), socket.outbox(), false);
    let served = drive(pending::<()>(), &[socket], &[], |_| {
        socket.turn_by_runs(&mut inbox, &mut outbox, Instant::ZERO, |run, meta, out| {
            stop |= run == STOP;
            out.forward(meta.path, run.len(), meta.stride);
            run.len()
        })?;
        if stop { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    });
    assert_eq!(served.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

#[repr(align(8))]
struct Control([u8; 64]);

fn echo_gso(socket: &UdpSocket) {
    set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).unwrap();
    let (mut buffer, mut control, mut name) = (vec![0u8; 65_536], Control([0; 64]), [0u8; 28]);
    loop {
        let mut slices = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
        // SAFETY: a `msghdr` of zeros is an empty one.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = name.len() as _;
        message.msg_iov = slices.as_mut_ptr();
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: every pointer in the message is to a local that is not touched otherwise until the calls
        // have returned, with its length. An item of control data that the kernel gives with GRO is an `int`,
        // and there is room for the header and two bytes that are written in its place.
        let length = unsafe {
            let length = libc::recvmsg(socket.as_raw_fd(), &mut message, 0);
            let length = usize::try_from(length).unwrap();
            (*message.msg_iov).iov_len = length;
            let item = libc::CMSG_FIRSTHDR(&message);
            if item.is_null() {
                message.msg_controllen = 0;
            } else {
                let segment = *libc::CMSG_DATA(item).cast::<i32>() as u16;
                (*item).cmsg_type = libc::UDP_SEGMENT;
                (*item).cmsg_len = libc::CMSG_LEN(2) as _;
                *libc::CMSG_DATA(item).cast::<u16>() = segment;
                message.msg_controllen = libc::CMSG_SPACE(2) as _;
            }
            assert_eq!(libc::sendmsg(socket.as_raw_fd(), &message, 0), length as isize);
            length
        };
        if &buffer[..length] == STOP {
            return;
        }
    }
}
