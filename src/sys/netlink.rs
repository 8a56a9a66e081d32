//! The kernel's network configuration (rtnetlink(7)): which addresses and routes there are, a route more, and word when
//! any of it changes.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A kernel's datagram is at most so long, in bytes (`NLMSG_GOODSIZE` for dumps is less).
const ROOM: usize = 32 * 1024;
/// Most datagrams of one dump, and of one look for changes.
const MAX_DATAGRAMS: usize = 4096;

const HEADER_LENGTH: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const MAIN_TABLE: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;

const ROUTE_DESTINATION: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// The groups of links, and of addresses and routes of IPv4 and IPv6 (linux/rtnetlink.h).
const CHANGES: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// An address of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceAddress {
    /// Of which interface.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it are its network's.
    pub prefix: u8,
    /// `IFA_F_*`, the first eight.
    pub flags: u8,
}

/// A route of IPv4 in the main table that leads to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Route {
    /// By which interface.
    pub interface: u32,
    /// Where to.
    pub destination: Ipv4Addr,
    /// How many bits of it count; 0 for the default route.
    pub prefix: u8,
    /// The router, if it leads by one.
    pub gateway: Option<Ipv4Addr>,
}

/// A way to ask the kernel.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | SocketFlags::CLOEXEC;
    // Its protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

impl Netlink {
    /// Opens one.
    pub fn new() -> Result<Self, Errno> {
        Ok(Netlink { socket: open(0, SocketFlags::empty())?, sequence: 0 })
    }

    /// All addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, Errno> {
        let mut found = Vec::new();
        self.ask(GET_ADDRESS, DUMP, &[0; 8], &mut |kind, body| {
            if kind == NEW_ADDRESS {
                found.extend(read_address(body));
            }
        })?;
        Ok(found)
    }

    /// The routes of IPv4 that packets to others take.
    pub fn routes(&mut self) -> Result<Vec<Ipv4Route>, Errno> {
        let mut found = Vec::new();
        let mut body = [0; 12];
        body[0] = libc::AF_INET as u8;
        self.ask(GET_ROUTE, DUMP, &body, &mut |kind, body| {
            if kind == NEW_ROUTE {
                found.extend(read_route(body));
            }
        })?;
        Ok(found)
    }

    /// Adds a route to an interface, with which it goes; one that is there already is left as it is.
    pub fn add_route(&mut self, route: Ipv4Route) -> Result<(), Errno> {
        let mut body =
            vec![libc::AF_INET as u8, route.prefix, 0, 0, MAIN_TABLE, PROTOCOL_STATIC, SCOPE_LINK, UNICAST];
        body.extend_from_slice(&[0; 4]);
        push_attribute(&mut body, ROUTE_DESTINATION, &route.destination.octets());
        push_attribute(&mut body, ROUTE_INTERFACE, &route.interface.to_ne_bytes());
        match self.ask(NEW_ROUTE, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body, &mut |_, _| ()) {
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// Sends a request and takes everything that answers it.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.sequence += 1;
        let length = (HEADER_LENGTH + body.len()) as u32;
        let mut message = Vec::with_capacity(HEADER_LENGTH + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        sendto(&self.socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; ROOM];
        for _ in 0..MAX_DATAGRAMS {
            let length = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            if let Some(result) = read_datagram(&buffer[..length.min(ROOM)], self.sequence, each) {
                return result;
            }
        }
        Err(Errno::OVERFLOW)
    }
}

/// Has `each` take the messages that answer request `sequence`; the result, once all have come.
fn read_datagram(
    mut bytes: &[u8],
    sequence: u32,
    each: &mut dyn FnMut(u16, &[u8]),
) -> Option<Result<(), Errno>> {
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER_LENGTH>() {
        let number =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, kind) = (number(0) as usize, u16::from_ne_bytes([header[4], header[5]]));
        let body = bytes.get(HEADER_LENGTH..length)?;
        if number(8) == sequence {
            match kind {
                DONE => return Some(Ok(())),
                ERROR => {
                    let code = body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Some(match code {
                        0 => Ok(()),
                        -4095..=-1 => Err(Errno::from_raw_os_error(-code)),
                        _ => Err(Errno::PROTO),
                    });
                }
                kind => each(kind, body),
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The value of the attribute `kind`.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some((header, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn read_address(body: &[u8]) -> Option<InterfaceAddress> {
    let ([family, prefix, flags, _, index @ ..], attributes) = body.split_first_chunk::<8>()?;
    let value = attribute(attributes, LOCAL).or_else(|| attribute(attributes, ADDRESS))?;
    let address = match i32::from(*family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*value.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*value.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(InterfaceAddress { interface: u32::from_ne_bytes(*index), address, prefix: *prefix, flags: *flags })
}

fn read_route(body: &[u8]) -> Option<Ipv4Route> {
    let (head, attributes) = body.split_first_chunk::<12>()?;
    let [family, prefix, _, _, table, _, _, kind, ..] = *head;
    if i32::from(family) != libc::AF_INET || table != MAIN_TABLE || kind != UNICAST {
        return None;
    }
    let address = |kind| Some(Ipv4Addr::from(*attribute(attributes, kind)?.first_chunk::<4>()?));
    let interface = attribute(attributes, ROUTE_INTERFACE)?.first_chunk::<4>()?;
    Some(Ipv4Route {
        interface: u32::from_ne_bytes(*interface),
        destination: address(ROUTE_DESTINATION).unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix,
        gateway: address(ROUTE_GATEWAY),
    })
}

/// Readable when addresses, routes or links have changed.
pub struct NetworkWatch(OwnedFd);

impl NetworkWatch {
    /// Watches from now on.
    pub fn new() -> Result<Self, Errno> {
        open(CHANGES, SocketFlags::NONBLOCK).map(NetworkWatch)
    }

    /// Takes all that is there; whether anything was. What was lost because there was too much counts as well.
    pub fn take(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut any = false;
        for _ in 0..MAX_DATAGRAMS {
            match recv(&self.0, &mut buffer, RecvFlags::empty()) {
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => (),
                Err(_) => break,
            }
        }
        any
    }
}

impl AsFd for NetworkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_among_those_of_this_machine() {
        let mut netlink = Netlink::new().unwrap();
        let addresses = netlink.addresses().unwrap();
        // In a container the interface may be down, and then it has none.
        if std::net::TcpListener::bind("127.0.0.1:0").is_ok() {
            assert!(
                addresses.iter().any(|found| found.address == IpAddr::V4(Ipv4Addr::LOCALHOST)),
                "{addresses:?}"
            );
        }
        netlink.routes().unwrap();
        assert!(!NetworkWatch::new().unwrap().take());
    }

    #[test]
    fn messages_of_any_length_and_content_end_in_a_verdict() {
        let mut body = vec![libc::AF_INET as u8, 16, 0, 0, MAIN_TABLE, 0, 0, UNICAST, 0, 0, 0, 0];
        push_attribute(&mut body, ROUTE_DESTINATION, &[10, 66, 0, 0]);
        push_attribute(&mut body, ROUTE_INTERFACE, &7u32.to_ne_bytes());
        let destination = Ipv4Addr::new(10, 66, 0, 0);
        let route = Ipv4Route { interface: 7, destination, prefix: 16, gateway: None };
        assert_eq!(read_route(&body), Some(route));
        let mut message = ((HEADER_LENGTH + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&NEW_ROUTE.to_ne_bytes());
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(&9u32.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&body);
        let mut seen = 0;
        assert!(read_datagram(&message, 9, &mut |_, _| seen += 1).is_none());
        assert!(read_datagram(&message, 8, &mut |_, _| panic!("of another request")).is_none());
        assert_eq!(seen, 1);
        for at in 0..message.len() {
            for value in 0..=255 {
                let mut changed = message.clone();
                changed[at] = value;
                let _ = read_datagram(&changed, 9, &mut |_, body| {
                    let _ = (read_route(body), read_address(body));
                });
            }
            let _ = read_datagram(&message[..at], 9, &mut |_, body| {
                let _ = read_route(body);
            });
        }
    }
}
