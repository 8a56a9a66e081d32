//! The way to the router, which is asked to forward a port.

use crate::wire::portmap::ROUTER_PORT;
use async_io::Async;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

/// A UDP socket that only the router is heard by.
pub struct RouterSocket(Async<UdpSocket>);

impl RouterSocket {
    /// From this address of ours.
    pub fn open(own: Ipv4Addr, router: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((router, ROUTER_PORT))?;
        Async::new(socket).map(RouterSocket)
    }

    /// Says something, if there is room for it.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.0.get_ref().send(message).map(drop)
    }

    /// Waits for an answer; its length.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }
}
