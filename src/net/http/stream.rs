//! One connected socket, TCP or Unix, that never blocks.

use async_io::Async;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

/// A connected stream socket in non-blocking mode.
pub(super) struct Stream {
    io: Async<OwnedFd>,
}

impl Stream {
    /// Takes over a socket that is already non-blocking.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Stream { io: Async::new_nonblocking(socket)? })
    }

    /// Reads what is there: 0 bytes at the end of the stream, `WouldBlock` if there is nothing yet.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.io, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes as much of `parts`, in order, as the kernel takes in one go.
    pub(super) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match rustix::net::sendmsg(
                &self.io,
                parts,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            ) {
                Ok(length) => return Ok(length),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
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
