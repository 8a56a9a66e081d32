//! One connected socket, TCP or Unix, that never blocks.

use crate::sys;
use async_io::Async;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes sent at a time.
const PIECE: usize = 4096;
/// The state of a TCP connection that is over (`TCP_CLOSE`, linux/tcp_states.h).
const TCP_CLOSE: u8 = 7;
/// Parts sent at a time.
const MAX_PARTS: usize = 32;

/// A connected stream socket in non-blocking mode.
pub(super) struct Stream {
    io: Async<OwnedFd>,
    /// Bytes sent since the kernel last said that it has room.
    unasked: Cell<usize>,
}

impl Stream {
    /// Takes over a socket that is already non-blocking.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Stream { io: Async::new_nonblocking(socket)?, unasked: Cell::new(0) })
    }

    /// Reads what is there: 0 bytes at the end of the stream, `WouldBlock` if there is nothing yet.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.io, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends as much as there is room for, and at most [`PIECE`]; `WouldBlock` if there is none. The kernel
    /// itself refuses only after it has taken several times the size of the buffer, so it is asked before that.
    pub(super) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.unasked.get() >= PIECE {
            if !self.has_room()? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.unasked.set(0);
        }
        let (mut slices, mut count, mut left) = ([IoSlice::new(&[]); MAX_PARTS], 0, PIECE);
        for (slice, part) in slices.iter_mut().zip(parts) {
            let length = part.len().min(left);
            *slice = IoSlice::new(&part[..length]);
            (count, left) = (count + 1, left - length);
        }
        loop {
            let mut control = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.io, &slices[..count], &mut control, SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.unasked.set(self.unasked.get() + length);
                    return Ok(length);
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether less waits to be sent than two thirds of what may.
    fn has_room(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.io, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    /// Whether something is left that the peer does not take. What a connection had left when it was reset, nobody
    /// will.
    pub(super) fn has_unsent(&self) -> bool {
        sys::unsent(self.io.as_fd()) > 0 && !self.is_closed()
    }

    /// Whether a TCP connection is over in both directions, as after a reset.
    fn is_closed(&self) -> bool {
        // The state is the first byte of `tcp_info` (linux/tcp.h).
        let info = sys::option(self.io.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO);
        info.is_ok_and(|info| info.to_ne_bytes()[0] == TCP_CLOSE)
    }

    /// Has what the peer does not take thrown away when the socket is closed. Otherwise the kernel keeps it for
    /// minutes, for a peer that reads nothing, and no quota counts it.
    pub(super) fn abandon_unsent(&self) {
        if self.has_unsent() {
            // An error means that there is nothing to throw away.
            let _ = sockopt::set_socket_linger(&self.io, Some(Duration::ZERO));
        }
    }

    /// Ready once there is something to read, or the stream has ended.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_readable(cx)
    }

    /// Ready once something can be written.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_writable(cx)
    }

    /// Tells the peer that nothing more will come; it may go on sending.
    pub(super) fn finish_writing(&self) {
        // An error means that the peer is gone, and then there is nobody to tell.
        let _ = rustix::net::shutdown(&self.io, Shutdown::Write);
    }

    /// The address this end has; `None` for a Unix socket.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        let address = SocketAddr::try_from(rustix::net::getsockname(&self.io).ok()?).ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}
