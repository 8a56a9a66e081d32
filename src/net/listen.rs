//! Where the door listens: TCP ports and the Unix socket.

use crate::wire::http::Source;
use async_io::Async;
use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 128;

/// How long the kernel tries to send what nobody takes: longer than we wait for a reader.
const UNTAKEN_MILLIS: u32 = 30_000;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Why we can't listen.
#[derive(Debug)]
pub enum ListenError {
    /// The control API's address can't be had.
    Tcp(SocketAddr, Errno),
    /// The relay's address can't be had.
    Udp(SocketAddr, Errno),
    /// The Unix socket can't be made.
    Unix(PathBuf, SocketPathError),
    /// Nothing can be waited for.
    Reactor(io::Error),
}

/// What is wrong with the path of a Unix socket.
#[derive(Debug)]
pub enum SocketPathError {
    /// It is longer than the kernel takes.
    TooLong,
    /// Another kind of file is there.
    NoSocket,
    /// Another daemon listens there.
    InUse,
    /// Anything else; what the system said.
    System(Errno),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Tcp(address, Errno::ADDRINUSE) => {
                write!(f, "port {} is already in use (is lanrage running already?)", address.port())
            }
            ListenError::Tcp(address, Errno::ACCESS) => {
                write!(f, "port {} is reserved for root", address.port())
            }
            ListenError::Udp(address, Errno::ADDRINUSE) => write!(
                f,
                "UDP port {} is already in use (by a WireGuard interface, or is lanrage running already?)",
                address.port()
            ),
            ListenError::Tcp(address, Errno::ADDRNOTAVAIL)
            | ListenError::Udp(address, Errno::ADDRNOTAVAIL) => {
                write!(f, "this machine has no address {}", address.ip())
            }
            ListenError::Tcp(address, errno) => write!(f, "can't listen on {address}: {errno}"),
            ListenError::Udp(address, errno) => write!(f, "can't receive on {address}: {errno}"),
            ListenError::Unix(path, error) => {
                write!(f, "can't listen on the socket {}: {error}", path.display())
            }
            ListenError::Reactor(error) => write!(f, "can't wait for connections: {error}"),
        }
    }
}

impl fmt::Display for SocketPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketPathError::TooLong => f.write_str("the path is longer than 107 bytes"),
            SocketPathError::NoSocket => f.write_str("something that is no socket is there"),
            SocketPathError::InUse => f.write_str("another lanrage is running with this state directory"),
            SocketPathError::System(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {}

impl ListenError {
    fn unix(path: &Path, errno: Errno) -> Self {
        ListenError::Unix(path.into(), SocketPathError::System(errno))
    }
}

#[derive(Debug)]
enum BoundTo {
    Tcp(SocketAddr),
    /// The path, with the device and inode of the socket that is ours.
    Unix(PathBuf, (u64, u64)),
}

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    io: Async<OwnedFd>,
    bound_to: BoundTo,
}

/// Binds with `bind`. The unspecified address, of either family, means every address of both, as far as this
/// machine has IPv6.
pub(super) fn bind_all(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    if !address.ip().is_unspecified() {
        return bind(address);
    }
    match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.is_ipv4() => bind(address),
        result => result,
    }
}

impl Listener {
    /// Listens on a TCP address; port 0 lets the kernel choose. The unspecified address, of either family,
    /// means every address of both.
    pub fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        bind_all(address, bind)
            .and_then(|socket| {
                rustix::net::listen(&socket, BACKLOG)?;
                let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
                Ok((socket, bound))
            })
            .map_err(|error| ListenError::Tcp(address, error))
            .and_then(|(socket, bound)| Self::new(socket, BoundTo::Tcp(bound)))
    }

    /// Listens on a Unix socket that only its owner can connect to. The socket file of a daemon that is gone
    /// is replaced; one that somebody answers at, and any other kind of file, is not.
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        let fail = |error: Errno| ListenError::unix(path, error);
        let address = SocketAddrUnix::new(path)
            .map_err(|_| ListenError::Unix(path.into(), SocketPathError::TooLong))?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(fail)?;
        make_way(path, &address)?;
        rustix::net::bind(&socket, &address).map_err(fail)?;
        // Nobody can connect before listen(2), so nobody slips in before the mode is set.
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let identity = identity(&rustix::fs::lstat(path).map_err(fail)?);
        rustix::net::listen(&socket, BACKLOG).map_err(fail)?;
        Self::new(socket, BoundTo::Unix(path.into(), identity))
    }

    fn new(socket: OwnedFd, bound_to: BoundTo) -> Result<Self, ListenError> {
        Async::new_nonblocking(socket).map(|io| Listener { io, bound_to }).map_err(ListenError::Reactor)
    }

    /// The TCP address that was bound, with its real port.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.bound_to {
            BoundTo::Tcp(address) => Some(address),
            BoundTo::Unix(..) => None,
        }
    }

    /// Holds what the kernel keeps of each connection that comes from now on to `bytes` each way.
    pub(super) fn set_buffers(&self, bytes: usize) {
        if matches!(self.bound_to, BoundTo::Tcp(_)) {
            let result = sockopt::set_socket_send_buffer_size(&self.io, bytes)
                .and_then(|()| sockopt::set_socket_recv_buffer_size(&self.io, bytes));
            if let Err(error) = result {
                log::warn!("the buffers of connections to {self} can't be bounded: {error}");
            }
        }
    }

    /// Takes the next connection if there is one.
    pub(super) fn try_accept(&self) -> Result<(OwnedFd, Source), Errno> {
        match self.bound_to {
            BoundTo::Unix(..) => Ok((rustix::net::accept_with(&self.io, FLAGS)?, Source::Unix)),
            BoundTo::Tcp(_) => {
                let (socket, address) = rustix::net::acceptfrom_with(&self.io, FLAGS)?;
                // Without an address: the peer is gone already.
                let address = address.ok_or(Errno::CONNABORTED)?;
                let address = SocketAddr::try_from(address).map_err(|_| Errno::CONNABORTED)?;
                Ok((socket, Source::Ip(address.ip().to_canonical())))
            }
        }
    }

    /// Waits until there may be a connection to accept.
    pub(super) async fn acceptable(&self) -> io::Result<()> {
        self.io.readable().await
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound_to {
            BoundTo::Tcp(address) => address.fmt(f),
            BoundTo::Unix(path, _) => path.display().fmt(f),
        }
    }
}

impl Drop for Listener {
    /// Removes our socket file, unless another daemon has put its own there meanwhile.
    fn drop(&mut self) {
        if let BoundTo::Unix(path, ours) = &self.bound_to
            && rustix::fs::lstat(path.as_path()).is_ok_and(|stat| identity(&stat) == *ours)
        {
            let _ = rustix::fs::unlink(path.as_path());
        }
    }
}

/// A bound TCP socket. What is set here is inherited by the connections, which saves each a system call.
fn bind(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_tcp_user_timeout(&socket, UNTAKEN_MILLIS)?;
    if let IpAddr::V6(ip) = address.ip() {
        sockopt::set_ipv6_v6only(&socket, !ip.is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Removes the socket file of a daemon that is gone.
fn make_way(path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    let fail = |error: Errno| ListenError::unix(path, error);
    match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(fail(error)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => {
            return Err(ListenError::Unix(path.into(), SocketPathError::NoSocket));
        }
        Ok(_) => (),
    }
    let probe =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(fail)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).map_err(fail),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::Unix(path.into(), SocketPathError::InUse)),
        Err(error) => Err(fail(error)),
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A directory that is removed with everything in it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lanrage-listen-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = first.address().unwrap();
        assert_ne!(address.port(), 0);
        let error = Listener::tcp(address).unwrap_err().to_string();
        assert!(error.contains(&format!("port {} is already in use", address.port())), "{error}");
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let error = Listener::tcp("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1"), "{error}");
    }

    #[test]
    fn the_unspecified_address_takes_ipv4_too() {
        let listener = Listener::tcp("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = listener.address().unwrap().port();
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (socket, source) = smol::block_on(async {
            listener.acceptable().await.unwrap();
            listener.try_accept().unwrap()
        });
        assert_eq!(source, Source::Ip(Ipv4Addr::LOCALHOST.into()));
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        drop(client);
    }

    #[test]
    fn the_unix_socket_is_private_and_cleaned_up() {
        let directory = Scratch::new("private");
        let path = directory.0.join("api.sock");
        let listener = Listener::unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
        let directory = Scratch::new("stale");
        let path = directory.0.join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let live = Listener::unix(&path).unwrap();
        let error = Listener::unix(&path).unwrap_err().to_string();
        assert!(error.contains("another lanrage is running"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(live);
    }

    #[test]
    fn no_other_file_is_touched() {
        let directory = Scratch::new("file");
        let path = directory.0.join("api.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::unix(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let long = directory.0.join("x".repeat(120));
        assert!(Listener::unix(&long).unwrap_err().to_string().contains("107 bytes"));
    }

    #[test]
    fn a_successors_socket_is_left_alone() {
        let directory = Scratch::new("successor");
        let path = directory.0.join("api.sock");
        let first = Listener::unix(&path).unwrap();
        std::fs::rename(&path, directory.0.join("old")).unwrap();
        let second = Listener::unix(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }
}
