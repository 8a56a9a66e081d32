//! Network interfaces: making a TUN, and the few settings that an IPv4 address takes (netdevice(7)).

use super::last_error;
use rustix::io::Errno;
use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// The longest name of an interface, in bytes.
pub const NAME_LENGTH: usize = 15;

/// `struct ifreq` of Linux. Its value has 16 or 24 bytes, by the size of a pointer.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_LENGTH + 1],
    value: [u8; 24],
}

impl InterfaceRequest {
    fn new(name: &str, value: &[u8]) -> Result<Self, Errno> {
        let mut request = InterfaceRequest { name: [0; NAME_LENGTH + 1], value: [0; 24] };
        request.name[..NAME_LENGTH]
            .get_mut(..name.len())
            .ok_or(Errno::INVAL)?
            .copy_from_slice(name.as_bytes());
        request.value.get_mut(..value.len()).ok_or(Errno::INVAL)?.copy_from_slice(value);
        Ok(request)
    }

    /// Asks the kernel for one of the things in this file, all of which take a `struct ifreq`.
    fn ask(&mut self, fd: BorrowedFd<'_>, what: libc::Ioctl) -> Result<(), Errno> {
        // SAFETY: every caller is in this file, and names a request that is documented to read and write one
        // `struct ifreq`. The pointer is to a value of at least that size and alignment, of plain bytes, that is
        // borrowed exclusively until the call returns. No value that is given holds a pointer, and the kernel
        // keeps none. On a descriptor of another kind the kernel refuses the request.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), what, ptr::from_mut(self)) };
        if result == -1 { Err(last_error()) } else { Ok(()) }
    }

    fn number(&self) -> c_int {
        let [a, b, c, d, ..] = self.value;
        c_int::from_ne_bytes([a, b, c, d])
    }
}

/// Makes the interface `name` out of `device`, an open `/dev/net/tun`, or takes over the one that there is: it
/// carries bare IP packets, each behind a `struct virtio_net_hdr`, and goes when `device` is closed, unless it was made to stay.
pub fn make_tun(device: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    InterfaceRequest::new(name, &flags.to_ne_bytes())?.ask(device, libc::TUNSETIFF)
}

/// What the kernel leaves to whoever reads a TUN, and takes from them: checksums and long TCP segments; and long UDP datagrams,
/// which it knows since 6.2, in both versions of IP or in none (`set_offload` in
/// <https://github.com/torvalds/linux/blob/v6.12/drivers/net/tun.c>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunOffload {
    /// Nothing.
    None,
    /// The former.
    Tcp,
    /// Both.
    Udp,
}

/// Says what is wanted of that; whether that can be.
pub fn set_tun_offload(device: BorrowedFd<'_>, offload: TunOffload) -> Result<(), Errno> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4;
    let wanted = match offload {
        TunOffload::None => 0,
        TunOffload::Tcp => tcp,
        TunOffload::Udp => tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6,
    };
    // SAFETY: the request takes a number in place of a pointer. On a descriptor of another kind the kernel refuses it.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(wanted)) };
    if result == -1 { Err(last_error()) } else { Ok(()) }
}

fn any_socket() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// The number of the interface `name`.
pub fn number_of(name: &str) -> Result<u32, Errno> {
    rustix::net::netdevice::name_to_index(any_socket()?, name)
}

/// The name of the interface with this number.
pub fn name_of(number: u32) -> Result<String, Errno> {
    rustix::net::netdevice::index_to_name(any_socket()?, number)
}

/// An interface's settings.
pub struct Interface<'a> {
    socket: OwnedFd,
    name: &'a str,
}

impl<'a> Interface<'a> {
    /// Those of the interface `name`, which need not be there yet.
    pub fn named(name: &'a str) -> Result<Self, Errno> {
        Ok(Interface { socket: any_socket()?, name })
    }

    fn ask(&self, what: libc::c_ulong, value: &[u8]) -> Result<InterfaceRequest, Errno> {
        let mut request = InterfaceRequest::new(self.name, value)?;
        request.ask(self.socket.as_fd(), what as libc::Ioctl)?;
        Ok(request)
    }

    /// Asks for an address, which is written as a `struct sockaddr_in`.
    fn ask_address(&self, what: libc::c_ulong, address: Ipv4Addr) -> Result<Ipv4Addr, Errno> {
        let mut value = [0; 8];
        value[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        value[4..].copy_from_slice(&address.octets());
        let [_, _, _, _, a, b, c, d, ..] = self.ask(what, &value)?.value;
        Ok(Ipv4Addr::new(a, b, c, d))
    }

    /// Its address.
    pub fn address(&self) -> Result<Ipv4Addr, Errno> {
        self.ask_address(libc::SIOCGIFADDR, Ipv4Addr::UNSPECIFIED)
    }

    /// Gives it an address, in place of the one that it has.
    pub fn set_address(&self, address: Ipv4Addr) -> Result<(), Errno> {
        self.ask_address(libc::SIOCSIFADDR, address).map(drop)
    }

    /// Which bits of its address are those of its network.
    pub fn netmask(&self) -> Result<Ipv4Addr, Errno> {
        self.ask_address(libc::SIOCGIFNETMASK, Ipv4Addr::UNSPECIFIED)
    }

    /// Sets which bits of its address are those of its network.
    pub fn set_netmask(&self, mask: Ipv4Addr) -> Result<(), Errno> {
        self.ask_address(libc::SIOCSIFNETMASK, mask).map(drop)
    }

    /// The longest packet, in bytes.
    pub fn mtu(&self) -> Result<usize, Errno> {
        let number = self.ask(libc::SIOCGIFMTU, &[])?.number();
        usize::try_from(number).map_err(|_| Errno::INVAL)
    }

    /// Sets the longest packet, in bytes.
    pub fn set_mtu(&self, mtu: usize) -> Result<(), Errno> {
        let number = c_int::try_from(mtu).map_err(|_| Errno::INVAL)?;
        self.ask(libc::SIOCSIFMTU, &number.to_ne_bytes()).map(drop)
    }

    fn flags(&self) -> Result<u16, Errno> {
        let [a, b, ..] = self.ask(libc::SIOCGIFFLAGS, &[])?.value;
        Ok(u16::from_ne_bytes([a, b]))
    }

    /// Whether it is switched on.
    pub fn is_up(&self) -> Result<bool, Errno> {
        Ok(self.flags()? & libc::IFF_UP as u16 != 0)
    }

    /// Switches it on.
    pub fn set_up(&self) -> Result<(), Errno> {
        let flags = self.flags()? | libc::IFF_UP as u16;
        self.ask(libc::SIOCSIFFLAGS, &flags.to_ne_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_read() {
        let lo = Interface::named("lo").unwrap();
        assert!(lo.mtu().unwrap() >= 1500);
        assert_eq!(name_of(number_of("lo").unwrap()).as_deref(), Ok("lo"));
        assert!(number_of("nosuchinterface").is_err());
        // In a container it may be down, and then it has no address.
        if lo.is_up().unwrap() {
            assert_eq!(lo.address(), Ok(Ipv4Addr::LOCALHOST));
            assert_eq!(lo.netmask(), Ok(Ipv4Addr::new(255, 0, 0, 0)));
        }
    }

    #[test]
    fn names_that_do_not_fit_and_other_descriptors_are_refused() {
        for name in ["sixteen-letters0", "nosuchinterface"] {
            assert!(Interface::named(name).unwrap().mtu().is_err(), "{name}");
        }
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(make_tun(socket.as_fd(), "lanrage0").is_err());
        assert!(set_tun_offload(socket.as_fd(), TunOffload::Tcp).is_err());
    }
}
