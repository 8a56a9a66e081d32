//! The relay's UDP sockets: what arrives is handled in the buffer it lies in and sent from there, in as few
//! system calls as the kernel allows.
//!
//! Both ends do batches. A burst arrives as one message (GRO) and leaves as one (GSO); datagrams that do not
//! belong together go through `recvmmsg` and `sendmmsg`. What is forwarded keeps its traffic class. One port may have
//! several sockets to send by, so that what waits for one destination does not hold up another's.

mod ancillary;
mod backlog;
mod drive;
mod outbox;
mod runs;
mod senders;
mod transmit;

#[cfg(test)]
mod tests;

pub use drive::drive;
pub use outbox::{SendCounters, SendQueue};

use super::listen::{ListenError, bind_all};
use crate::datagram::{Path, RecvMeta};
use crate::sys::{self, MAX_MESSAGES, OutgoingMessage, ReceivedHead};
use crate::time::Instant;
use ancillary::{AncillaryData, read_name};
use async_io::Async;
use outbox::Wire;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use senders::SENDERS;
use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Room for a message, in bytes: a payload is at most 65,527. No power of two, or else the processor's cache
/// could keep no more than a few beginnings of messages.
const SLOT: usize = 65_536 + 1536;
/// Messages and datagrams taken before anybody else gets a turn: up to about half a millisecond of work.
const TURN_MESSAGES: usize = 64;
const TURN_DATAGRAMS: usize = 512;
/// What the kernel keeps for us at most, in bytes, of which it counts each twice: a few datagrams that come at once.
const RECEIVE_ROOM: usize = 128 * 1024;
/// What the kernel is given to send at most, in bytes, of which it counts each twice (`sk_setsockopt` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock.c>): 10 ms at 100 Mbit/s. What
/// does not fit waits here, where small datagrams overtake. Each of the sockets that one port sends by has as much.
const SEND_ROOM: i32 = 64 * 1024;
/// Datagrams that one system call should bring in. More would be sent on later than need be.
const BATCH_DATAGRAMS: usize = 128;
/// Bytes that it should bring in. More would not be sent from the processor's cache: runs that fill a slot are
/// better taken one by one into the same.
const BATCH_BYTES: usize = 48 * 1024;
/// Messages asked for when few arrive. One more than arrives tells that there are no others.
const FEW_MESSAGES: usize = 2;
/// After so many looks in a row that brought a lone datagram, one is all that is asked for: to ask in vain costs a
/// twentieth of a datagram, and whoever waits for the socket learns as well whether there are others.
const LONE: u8 = 8;
/// Looks that ask for one before one asks for more again.
const LONE_LOOKS: u8 = 8;

/// The buffers that datagrams are received into: 2 MiB of address space, of which as much is used as arrives
/// at once. One will do for all sockets of a thread.
pub struct Inbox {
    buffer: Box<[u8]>,
    heads: Box<[ReceivedHead]>,
    /// Messages to ask for next time, by how many there were and how long.
    window: usize,
    /// Looks in a row that brought a lone datagram.
    lone: u8,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox {
            buffer: vec![0; MAX_MESSAGES * SLOT].into(),
            heads: vec![ReceivedHead::EMPTY; MAX_MESSAGES].into(),
            window: FEW_MESSAGES,
            lone: 0,
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
    /// Sockets of the same port that only send.
    senders: Vec<OwnedFd>,
    bound: SocketAddr,
    gso: bool,
    /// Whose room something waits for: a bit for each sender, of which the first is the socket itself.
    waits_for: Cell<u16>,
    errors: Cell<u64>,
}

impl RelaySocket {
    /// Binds `address`; port 0 takes a free one. The unspecified address, of either family, means every
    /// address of both.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let socket = bind_all(address, bind).and_then(|socket| {
            let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
            Ok((socket, bound))
        });
        let (socket, bound) = socket.map_err(|error| ListenError::Udp(address, error))?;
        // Kernels before 4.18 know no GSO, and would send a whole run as one datagram: `__udp_cmsg_send` in
        // <https://github.com/torvalds/linux/blob/v4.18/net/ipv4/udp.c> is the first to read `UDP_SEGMENT`.
        let gso = sys::option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        let io = Async::new_nonblocking(socket);
        let io = io.map_err(|_| ListenError::Udp(address, Errno::IO))?;
        Ok(RelaySocket { io, senders: Vec::new(), bound, gso, waits_for: Cell::new(0), errors: Cell::new(0) }
            .with_room(RECEIVE_ROOM))
    }

    /// May send to everybody on a network.
    pub fn allow_broadcast(&self) -> Result<(), Errno> {
        sockopt::set_socket_broadcast(&self.io, true)
    }

    /// With so many bytes of room for what comes while we are at work: bursts of eight players are 1 MiB. Only what
    /// waits is used.
    pub fn with_room(self, bytes: usize) -> Self {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // The second is for root, and goes beyond what others may have.
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            if let Err(errno) = sys::set_option(self.io.as_fd(), libc::SOL_SOCKET, option, bytes) {
                log::debug!("socket option {option}: {errno}");
            }
        }
        self
    }

    /// With further sockets to send by, so that a destination whose datagrams can't leave holds up few others. Does
    /// without where the kernel has no means for that.
    pub fn with_senders(mut self) -> Self {
        match self.make_senders() {
            Ok(senders) => self.senders = senders,
            Err(errno) => log::debug!("one socket sends to everybody: {errno}"),
        }
        self
    }

    /// They share the port (`SO_REUSEPORT`), but all that comes is for the first of the group, this socket: a program
    /// that the kernel asks says so (`reuseport_select_sock` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock_reuseport.c>). Each also has a filter that takes
    /// nothing, for what that program is not asked about, such as broadcasts. Only now is the port shared, so that one
    /// that is in use was refused.
    fn make_senders(&self) -> Result<Vec<OwnedFd>, Errno> {
        sys::set_option(self.io.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        let mut senders = Vec::with_capacity(SENDERS - 1);
        for _ in 1..SENDERS {
            senders.push(bind_sender(self.bound)?);
            if senders.len() == 1 {
                sys::attach_constant(self.io.as_fd(), libc::SO_ATTACH_REUSEPORT_CBPF, 0)?;
            }
        }
        Ok(senders)
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// A place for the datagrams that this socket is to send.
    pub fn outbox(&self) -> SendQueue {
        SendQueue::new(self.bound.is_ipv6(), self.gso, !self.senders.is_empty())
    }

    /// Errors that were told at this socket about datagrams sent earlier, by ICMP.
    pub fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// Waits until there may be something to receive, in the reactor; [`drive()`] waits for less. Others get
    /// their turn meanwhile, even if there is.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Has `handle` handle what has arrived, up to a budget, and sends what it puts into the outbox. The
    /// datagram, of 0 to 65,527 bytes, may be changed in place, and its beginning be forwarded. Returns how many
    /// datagrams there were. An error is of the socket itself; it survives those about single datagrams.
    pub fn turn(
        &self,
        inbox: &mut Inbox,
        outbox: &mut SendQueue,
        now: Instant,
        mut handle: impl FnMut(&mut [u8], &RecvMeta, &mut SendQueue),
    ) -> io::Result<usize> {
        self.turn_by_runs(inbox, outbox, now, |run, meta, outbox| {
            handle(&mut run[..meta.stride], meta, outbox);
            meta.stride
        })
    }

    /// Like [`RelaySocket::turn`], for a `handle` that can take several datagrams at a time: it gets those that
    /// came as one and are left, and returns how many bytes it has taken: the first datagram at least.
    pub fn turn_by_runs(
        &self,
        inbox: &mut Inbox,
        outbox: &mut SendQueue,
        now: Instant,
        mut handle: impl FnMut(&mut [u8], &RecvMeta, &mut SendQueue) -> usize,
    ) -> io::Result<usize> {
        outbox.set_now(now);
        outbox.begin_turn();
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

    /// Sends what was put into the outbox other than during [`RelaySocket::turn`].
    pub fn flush(&self, outbox: &mut SendQueue) {
        self.send(outbox, &[]);
    }

    /// The same, if there is hardly room for more.
    pub fn make_room(&self, outbox: &mut SendQueue) {
        if outbox.is_nearly_full() {
            self.flush(outbox);
        }
    }

    fn send(&self, outbox: &mut SendQueue, inbox: &[u8]) {
        outbox.flush(self, inbox);
        self.waits_for.set(if outbox.waits() { outbox.waits_for() } else { 0 });
    }

    fn receive(
        &self,
        inbox: &mut Inbox,
        outbox: &mut SendQueue,
        handle: &mut impl FnMut(&mut [u8], &RecvMeta, &mut SendQueue) -> usize,
    ) -> Result<Taken, Errno> {
        let expects_one = (LONE..LONE + LONE_LOOKS).contains(&inbox.lone);
        let asked = if expects_one { 1 } else { inbox.window };
        let messages =
            sys::receive_many(self.io.as_fd(), &mut inbox.buffer, SLOT, &mut inbox.heads[..asked])?;
        let (mut datagrams, mut bytes) = (0, 0);
        for (index, head) in inbox.heads[..messages].iter().enumerate() {
            let remote = if head.is_truncated() { None } else { read_name(head.name()) };
            let Some(remote) = remote else {
                outbox.count_truncated();
                continue;
            };
            let AncillaryData { local, interface, class, segment } = AncillaryData::parse(head.control());
            let path = Path { remote, local };
            let mut start = index * SLOT;
            let end = start + head.length();
            bytes += head.length();
            loop {
                let run = &mut inbox.buffer[start..end];
                let stride = segment.filter(|size| *size > 0).unwrap_or(run.len()).min(run.len());
                let meta = RecvMeta { path, class, stride };
                outbox.begin(meta, interface, start);
                let taken = handle(run, &meta, outbox).clamp(stride, run.len());
                outbox.end();
                if outbox.is_nearly_full() {
                    self.send(outbox, &inbox.buffer);
                }
                datagrams += taken.div_ceil(stride.max(1)).max(1);
                start += taken;
                if start == end {
                    break;
                }
            }
        }
        self.send(outbox, &inbox.buffer);
        inbox.lone = match datagrams {
            1 if expects_one => inbox.lone + 1,
            1 if messages < asked => inbox.lone.min(LONE - 1) + 1,
            _ => 0,
        };
        if expects_one {
            return Ok(Taken { messages, datagrams, more: false });
        }
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
    fn transmit(&self, sender: usize, messages: &[OutgoingMessage<'_>]) -> Result<usize, Errno> {
        let further = sender.checked_sub(1).and_then(|index| self.senders.get(index));
        sys::send_many(further.map_or(self.io.as_fd(), AsFd::as_fd), messages)
    }
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
    let mut wanted = vec![(libc::SOL_UDP, libc::UDP_GRO, 1), (libc::SOL_IP, libc::IP_RECVTOS, 1)];
    if address.is_ipv6() {
        wanted.push((libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1));
    }
    if address.ip().is_unspecified() {
        wanted.push((libc::SOL_IP, libc::IP_PKTINFO, 1));
        if address.is_ipv6() {
            wanted.push((libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1));
        }
    }
    let socket = open(address, &wanted)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// A socket that only sends, from an address that is in use.
fn bind_sender(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = open(address, &[(libc::SOL_SOCKET, libc::SO_RCVBUF, 0)])?;
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    sys::attach_constant(socket.as_fd(), libc::SO_ATTACH_FILTER, 0)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// A socket with what sending takes, and with these options.
fn open(address: SocketAddr, wanted: &[(c_int, c_int, c_int)]) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    let sending = [
        (libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_ROOM),
        // As WireGuard's own: no DF, so that routers may fragment what is too long for them.
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
    ];
    for &(level, name, value) in sending.iter().chain(wanted) {
        // Kernels differ in what they have, and each of these can be done without.
        if let Err(errno) = sys::set_option(socket.as_fd(), level, name, value) {
            log::debug!("socket option {level}/{name}: {errno}");
        }
    }
    Ok(socket)
}
