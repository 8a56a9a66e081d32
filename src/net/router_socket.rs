//! The ways to the router, which is asked to forward a port.

use crate::wire::portmap::ROUTER_PORT;
use crate::wire::upnp::{SEARCH_GROUP, SEARCH_PORT};
use async_io::Async;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

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

/// A UDP socket that searches for UPnP, in the router's network alone.
pub struct SearchSocket {
    socket: Async<UdpSocket>,
    router: Ipv4Addr,
}

impl SearchSocket {
    /// From this address of ours.
    pub fn open(own: Ipv4Addr, router: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((own, 0))?;
        // Groups may have a route into the tunnel.
        rustix::net::sockopt::set_ip_multicast_if(&socket, &own)?;
        Ok(SearchSocket { socket: Async::new(socket)?, router })
    }

    /// Says something to whom it concerns: to the group, and to the router, whose answer to that gets through a firewall.
    pub fn send(&self, message: &[u8]) {
        for to in [SEARCH_GROUP, self.router] {
            // It is said again.
            let _ = self.socket.get_ref().send_to(message, (to, SEARCH_PORT));
        }
    }

    /// Waits for an answer of the router's; its length.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (length, from) = self.socket.recv_from(buffer).await?;
            if from.ip() == IpAddr::V4(self.router) {
                return Ok(length);
            }
        }
    }
}
