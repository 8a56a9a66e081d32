//! One of the many UDP sockets by which two NATs are brought to fit, each on a port of its own.

use async_io::Async;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// A UDP socket of IPv4, where NATs are, on a port that is free.
pub struct ExtraSocket(Async<UdpSocket>);

impl ExtraSocket {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        Async::<UdpSocket>::bind((Ipv4Addr::UNSPECIFIED, 0)).map(ExtraSocket)
    }

    /// Its port, 0 if that can't be told.
    pub fn port(&self) -> u16 {
        self.0.get_ref().local_addr().map_or(0, |address| address.port())
    }

    /// Sends a datagram, if there is room for it.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) {
        // What is lost is tried again.
        let _ = self.0.get_ref().send_to(datagram, to);
    }

    /// Waits for a datagram: its length, and where it came from.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }
}
