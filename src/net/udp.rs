//! The relay's UDP socket.

use super::listen::ListenError;
use async_io::Async;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::cell::Cell;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

/// Longest datagram that can arrive, in bytes.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams taken before anybody else gets a turn.
const BUDGET: usize = 64;

/// A bound UDP socket: dual-stack if it was bound to an unspecified address and there is IPv6.
pub struct RelaySocket {
    socket: Async<UdpSocket>,
    bound: SocketAddr,
}

impl RelaySocket {
    /// Binds `address`; port 0 takes a free one. The unspecified address, of either family, means every
    /// address of both.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let bound = if address.ip().is_unspecified() {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
            match bind(any) {
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.is_ipv4() => bind(address),
                result => result,
            }
        } else {
            bind(address)
        };
        let socket = bound.and_then(|socket| {
            let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
            Ok((socket, bound))
        });
        let (socket, bound) = socket.map_err(|error| ListenError::udp(address, error))?;
        let socket = Async::new(UdpSocket::from(socket));
        let socket = socket.map_err(|_| ListenError::udp(address, Errno::IO))?;
        Ok(RelaySocket { socket, bound })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// Takes in datagrams and drops them, counted: there is nobody to forward them to.
    pub async fn drop_all(&self, count: &Cell<u64>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            for _ in 0..BUDGET {
                match self.socket.recv_from(&mut buffer).await {
                    Ok(_) => count.set(count.get() + 1),
                    // An ICMP error for something sent earlier: nothing that the socket does not survive.
                    Err(error) => log::debug!("relay socket: {error}"),
                }
            }
            smol::future::yield_now().await;
        }
    }
}

fn bind(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_explained() {
        let first = RelaySocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = RelaySocket::bind(first.address()).map(drop).unwrap_err().to_string();
        assert!(error.contains("already in use") && error.contains("--relay"), "{error}");
        let any = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        assert_ne!(any.address().port(), 0);
    }
}
