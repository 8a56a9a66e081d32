//! Where agents on the LAN are called, beside their own ports. Several on one machine share it.

use async_io::Async;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

/// A UDP socket that only hears.
pub struct LanSocket(Async<UdpSocket>);

impl LanSocket {
    /// On this port.
    pub fn open(port: u16) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        Async::new_nonblocking(UdpSocket::from(socket)).map(LanSocket)
    }

    /// Waits for a datagram: its length, and where it came from.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }
}
