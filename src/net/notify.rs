//! Telling the service manager how the daemon is doing: the datagrams of sd_notify(3).
//!
//! Without waiting, whatever the manager does: the thread that sends them forwards packets too. (The crates
//! for this block while the manager's queue is full.)

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Where the service manager listens.
pub struct NotifySocket {
    socket: OwnedFd,
    manager: SocketAddrUnix,
}

impl NotifySocket {
    /// By what is in `$NOTIFY_SOCKET`: a path from the root, or `@` and an abstract name.
    pub fn new(name: &OsStr) -> Result<Self, Errno> {
        let manager = match name.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name)?,
            path @ [b'/', ..] => SocketAddrUnix::new(path)?,
            _ => return Err(Errno::AFNOSUPPORT),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(NotifySocket { socket, manager })
    }

    /// Sends a message, or fails at once: its queue is full, or nobody is there.
    pub fn send(&self, message: &str) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendto(&self.socket, message.as_bytes(), flags, &self.manager).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let path = std::env::temp_dir().join(format!("lanrage-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::new(path.as_os_str()).unwrap();
        socket.send("READY=1").unwrap();
        assert_eq!(received(&manager), "READY=1");
        drop(manager);
        assert_eq!(socket.send("READY=1"), Err(Errno::CONNREFUSED));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(socket.send("READY=1"), Err(Errno::NOENT));

        let name = format!("lanrage-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        NotifySocket::new(OsStr::new(&format!("@{name}"))).unwrap().send("STOPPING=1").unwrap();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn what_is_no_socket_name_is_an_error() {
        for name in ["", "@", "relative/path", "vsock:2:1", &format!("/{}", "x".repeat(200))] {
            assert!(NotifySocket::new(OsStr::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_full_queue_is_an_error_and_no_wait() {
        let name = format!("lanrage-notify-full-{}", std::process::id());
        let _manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = NotifySocket::new(OsStr::new(&format!("@{name}"))).unwrap();
        let refused = (0..1_000_000).find_map(|_| socket.send("WATCHDOG=1").err());
        assert_eq!(refused, Some(Errno::AGAIN));
    }
}
