//! The relay's UDP sockets: what arrives is handled in the buffer it lies in and sent from there, in as few
//! system calls as the kernel allows.
//!
//! Both ends do batches. A burst arrives as one message (GRO) and leaves as one (GSO); datagrams that do not
//! belong together go through `recvmmsg` and `sendmmsg`. Every answer leaves from the address that its
//! receiver knows, and what is forwarded keeps its DSCP and ECN.

mod ancillary;
mod backlog;
mod drive;
mod envelope;
mod homes;
mod outbox;
mod runs;

#[cfg(test)]
mod tests;

pub use drive::drive;
pub use outbox::{Origin, Outbox, Sent};

use super::listen::{ListenError, bind_all};
use crate::sys::{self, Head, MAX_MESSAGES, Message};
use ancillary::{Received, read_name};
use async_io::Async;
use outbox::Wire;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

/// Room for a message, in bytes: a payload is at most 65,527. No power of two, or else the processor's cache
/// could keep no more than a few beginnings of messages.
const SLOT: usize = 65_536 + 1536;
/// Messages and datagrams taken before anybody else gets a turn: up to about half a millisecond of work.
const TURN_MESSAGES: usize = 64;
const TURN_DATAGRAMS: usize = 512;
/// What the kernel keeps for us at most, in bytes: bursts of eight players at once. Only what waits is used.
const RECEIVE_ROOM: i32 = 1 << 20;
/// What the kernel is given to send at most, in bytes, of which it counts each twice: 10 ms at 100 Mbit/s. What
/// does not fit waits here, where small datagrams overtake.
const SEND_ROOM: i32 = 64 * 1024;
/// Datagrams that one system call should bring in. More would be sent on later than need be.
const BATCH_DATAGRAMS: usize = 128;
/// Bytes that it should bring in. More would not be sent from the processor's cache: runs that fill a slot are
/// better taken one by one into the same.
const BATCH_BYTES: usize = 48 * 1024;
/// Messages asked for when few arrive. One more than arrives tells that there are no others.
const FEW_MESSAGES: usize = 2;

/// The buffers that datagrams are received into: 2 MiB of address space, of which as much is used as arrives
/// at once. One will do for all sockets of a thread.
pub struct Inbox {
    buffer: Box<[u8]>,
    heads: Box<[Head]>,
    /// Messages to ask for next time, by how many there were and how long.
    window: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox {
            buffer: vec![0; MAX_MESSAGES * SLOT].into(),
            heads: vec![Head::EMPTY; MAX_MESSAGES].into(),
            window: FEW_MESSAGES,
        }
    }
}

/// What one look at the socket brought.
struct Taken {
    messages: usize,
    datagrams: usize,
    /// Whether there may be more.
    more: bool,
}

/// A bound UDP socket: dual-stack if it was bound to an unspecified address and there is IPv6.
pub struct RelaySocket {
    io: Async<OwnedFd>,
    bound: SocketAddr,
    gso: bool,
    /// Whether something waits for room to be sent.
    is_full: Cell<bool>,
    errors: Cell<u64>,
    cut: Cell<u64>,
}

impl RelaySocket {
    /// Binds `address`; port 0 takes a free one. The unspecified address, of either family, means every
    /// address of both.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let socket = bind_all(address, bind).and_then(|socket| {
            let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
            Ok((socket, bound))
        });
        let (socket, bound) = socket.map_err(|error| ListenError::udp(address, error))?;
        // Kernels before 4.18 know no GSO, and would send a whole run as one datagram.
        let gso = sys::option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        let io = Async::new_nonblocking(socket);
        let io = io.map_err(|_| ListenError::udp(address, Errno::IO))?;
        let is_full = Cell::new(false);
        Ok(RelaySocket { io, bound, gso, is_full, errors: Cell::new(0), cut: Cell::new(0) })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// A place for the datagrams that this socket is to send. One per socket: it remembers which of our
    /// addresses each correspondent knows.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.bound.is_ipv6(), self.gso)
    }

    /// Errors that were told at this socket about datagrams sent earlier, by ICMP.
    pub fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// Messages that were dropped because the kernel had no room for all of them.
    pub fn cut(&self) -> u64 {
        self.cut.get()
    }

    /// Waits until there may be something to receive, in the reactor; [`drive`] waits for less. Others get
    /// their turn meanwhile, even if there is.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Has `handle` handle what has arrived, up to a budget, and sends what it pushes into the outbox. The
    /// datagram, of 0 to 65,527 bytes, may be changed in place, and parts of it be sent. Returns how many
    /// datagrams there were. An error is of the socket itself; it survives those about single datagrams.
    pub fn turn(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        mut handle: impl FnMut(&mut [u8], &Origin, &mut Outbox),
    ) -> io::Result<usize> {
        self.turn_by_runs(inbox, outbox, |run, segment, origin, outbox| {
            handle(&mut run[..segment], origin, outbox);
            segment
        })
    }

    /// Like [`RelaySocket::turn`], for a `handle` that can take several datagrams at a time: it gets those that
    /// came as one and are left, and the length of each but the last, and returns how many bytes it has taken:
    /// the first datagram at least.
    pub fn turn_by_runs(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        mut handle: impl FnMut(&mut [u8], usize, &Origin, &mut Outbox) -> usize,
    ) -> io::Result<usize> {
        if outbox.waits() {
            self.flush(outbox);
        }
        let (mut messages, mut datagrams) = (0, 0);
        while messages < TURN_MESSAGES && datagrams < TURN_DATAGRAMS {
            match self.receive(inbox, outbox, &mut handle) {
                Ok(taken) => {
                    messages += taken.messages;
                    datagrams += taken.datagrams;
                    if !taken.more {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(errno) if is_about_a_datagram(errno) => {
                    self.errors.set(self.errors.get() + 1);
                    messages += 1;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(datagrams)
    }

    /// Sends what was pushed into the outbox other than during [`RelaySocket::turn`].
    pub fn flush(&self, outbox: &mut Outbox) {
        self.send(outbox, &[]);
    }

    fn send(&self, outbox: &mut Outbox, inbox: &[u8]) {
        outbox.flush(self, inbox);
        self.is_full.set(outbox.waits());
    }

    /// Forgets which of our addresses others know as far as they are ours no more.
    pub fn look_again(&self, outbox: &mut Outbox) {
        outbox.keep_homes(is_ours);
    }

    fn receive(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        handle: &mut impl FnMut(&mut [u8], usize, &Origin, &mut Outbox) -> usize,
    ) -> Result<Taken, Errno> {
        let asked = inbox.window;
        let messages =
            sys::receive_many(self.io.as_fd(), &mut inbox.buffer, SLOT, &mut inbox.heads[..asked])?;
        let (mut datagrams, mut bytes) = (0, 0);
        for (index, head) in inbox.heads[..messages].iter().enumerate() {
            let source = if head.is_cut() { None } else { read_name(head.name()) };
            let Some(source) = source else {
                self.cut.set(self.cut.get() + 1);
                continue;
            };
            let Received { local, class, segment } = Received::parse(head.control());
            let origin = Origin { source, local, class };
            let mut start = index * SLOT;
            let end = start + head.length();
            bytes += head.length();
            loop {
                let run = &mut inbox.buffer[start..end];
                let segment = segment.filter(|size| *size > 0).unwrap_or(run.len()).min(run.len());
                outbox.begin(origin, start, run);
                let taken = handle(run, segment, &origin, outbox).clamp(segment, run.len());
                outbox.end();
                if outbox.is_nearly_full() {
                    self.send(outbox, &inbox.buffer);
                }
                datagrams += taken.div_ceil(segment.max(1)).max(1);
                start += taken;
                if start == end {
                    break;
                }
            }
        }
        self.send(outbox, &inbox.buffer);
        let more = messages == asked;
        let wanted = if more { 2 * asked } else { messages + 1 };
        let bounded = wanted
            .min(BATCH_DATAGRAMS * messages / datagrams.max(1))
            .min(BATCH_BYTES * messages / bytes.max(1));
        inbox.window = bounded.clamp(1, MAX_MESSAGES);
        Ok(Taken { messages, datagrams, more })
    }
}

impl Wire for RelaySocket {
    fn transmit(&self, messages: &[Message<'_>]) -> Result<usize, Errno> {
        sys::send_many(self.io.as_fd(), messages)
    }
}

/// Whether this machine has an address. What can be bound is ours; any other error says nothing about that.
fn is_ours(local: IpAddr) -> bool {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let probe = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    probe.and_then(|probe| rustix::net::bind(&probe, &SocketAddr::new(local, 0))) != Err(Errno::ADDRNOTAVAIL)
}

/// Whether an error at the socket leaves it as good as before.
fn is_about_a_datagram(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INTR
            | Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::NONET
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NOBUFS
            | Errno::NOMEM
    )
}

fn bind(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    let any = address.ip().is_unspecified();
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !any)?;
    }
    let mut wanted = vec![
        // The second is for root, and goes beyond what others may have.
        (libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_ROOM),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_ROOM),
        (libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_ROOM),
        (libc::SOL_UDP, libc::UDP_GRO, 1),
        (libc::SOL_IP, libc::IP_RECVTOS, 1),
        // As WireGuard's own: no DF, so that routers may fragment what is too long for them.
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
    ];
    if address.is_ipv6() {
        wanted.push((libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1));
    }
    if any {
        wanted.push((libc::SOL_IP, libc::IP_PKTINFO, 1));
        if address.is_ipv6() {
            wanted.push((libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1));
        }
    }
    for (level, name, value) in wanted {
        // Kernels differ in what they have, and each of these can be done without.
        if let Err(errno) = sys::set_option(socket.as_fd(), level, name, value) {
            log::debug!("socket option {level}/{name}: {errno}");
        }
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}
