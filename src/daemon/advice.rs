//! What to do about an error of a room that knows no settings: its own text, and the sentence that names the
//! setting, the command or the file that mends it.

use crate::net::listen::{ListenError, SocketPathError};
use crate::store::{FileError, OpenError, is_full};
use crate::tun::{TunError, TunSettings, TunStep};
use crate::wire::endpoint;
use rustix::io::Errno;
use std::fmt::Display;
use std::io::ErrorKind;
use std::net::SocketAddr;

/// What may make interfaces, and how a service gets it.
const PRIVILEGE: &str = "CAP_NET_ADMIN (systemd: the drop-in /usr/share/lanrage/lanrage-tun.conf; OpenWrt: the package \
                         procd-ujail)";

/// About a socket that can't be had.
pub fn on_listening(error: &ListenError) -> String {
    let advice = match error {
        ListenError::Tcp(address, Errno::ADDRINUSE) => other_port("--http", *address, [8667, 8668]),
        ListenError::Udp(address, Errno::ADDRINUSE) => other_port("--relay", *address, [51820, 51821]),
        ListenError::Tcp(_, Errno::ACCESS) => "choose one above 1023".to_owned(),
        ListenError::Tcp(_, Errno::ADDRNOTAVAIL) | ListenError::Udp(_, Errno::ADDRNOTAVAIL) => {
            "use one it has, or 0.0.0.0 for all".to_owned()
        }
        ListenError::Unix(_, SocketPathError::TooLong) => "choose a shorter --state-dir".to_owned(),
        ListenError::Unix(_, SocketPathError::NoSocket) => "move it away".to_owned(),
        ListenError::Unix(_, SocketPathError::InUse) => "stop it, or choose another --state-dir".to_owned(),
        _ => String::new(),
    };
    with(error, &advice)
}

fn other_port(flag: &str, address: SocketAddr, [usual, next]: [u16; 2]) -> String {
    let port = if address.port() == usual { next } else { usual };
    let example = SocketAddr::new(address.ip(), port);
    format!("stop the other program or choose another port, as in {flag} {example}")
}

/// About a state file that can't be used.
pub fn on_store(error: &OpenError) -> String {
    let advice = match &error.error {
        FileError::InUse => "stop it, or give this one another --state-dir",
        FileError::NewerSchema { .. } => "install that one again, or give this one another --state-dir",
        FileError::Io(error) => match error.kind() {
            ErrorKind::PermissionDenied => "run as the user who owns it, or choose another --state-dir",
            ErrorKind::ReadOnlyFilesystem => "choose a --state-dir on a file system that can be written",
            _ if is_full(error) => "free some space, or choose another --state-dir",
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                "a file is where a directory should be, or the other way round: move it away, or choose another \
                 --state-dir"
            }
            _ => "",
        },
        FileError::Fenced => "",
        FileError::Backup => "move it to another place, and go back to it with `lanrage restore FILE`",
        FileError::Corrupt(_) => "restore a backup, or let `lanrage serve` set it aside and start afresh",
    };
    with(error, advice)
}

/// About an interface that can't be had.
pub fn on_tun(error: &TunError) -> String {
    let TunError { step, settings: TunSettings { name, address, prefix, mtu, .. }, errno } = error;
    let advice = match (step, *errno) {
        (TunStep::Open, Errno::NOENT | Errno::NXIO | Errno::NODEV) => {
            "load the kernel's module (modprobe tun; OpenWrt: opkg install kmod-tun); under systemd a service sees it \
             with the drop-in /usr/share/lanrage/lanrage-tun.conf"
                .to_owned()
        }
        (TunStep::Open, Errno::ACCESS | Errno::PERM) => format!("it needs access to it and {PRIVILEGE}"),
        (TunStep::Make, Errno::BUSY) => "end that, or choose another --interface".to_owned(),
        (TunStep::Make, Errno::INVAL) => "choose another --interface".to_owned(),
        (TunStep::Make | TunStep::SetUp, Errno::PERM) => format!(
            "it needs {PRIVILEGE}; or have root make it: ip tuntap add {name} mode tun user USER; ip address add \
             {address}/{prefix} dev {name}; ip link set {name} mtu {mtu} up"
        ),
        _ => String::new(),
    };
    with(error, &advice)
}

/// About a `public_endpoint` by which friends outside do not find the relay.
pub fn on_endpoint(endpoint: Option<&(String, u16)>) -> Option<String> {
    match endpoint {
        None => Some(
            "public_endpoint is not set, so friends outside do not find the relay: set it to this network's address or \
             name and the relay's port, as in --public-endpoint home.example.org:51820"
                .to_owned(),
        ),
        Some((host, _)) if endpoint::is_private(host) => Some(format!(
            "public_endpoint is {host}, which nobody outside this network reaches: set it to the address or name that \
             this network has outside"
        )),
        Some(_) => None,
    }
}

fn with(error: &dyn Display, advice: &str) -> String {
    if advice.is_empty() { error.to_string() } else { format!("{error}; {advice}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    #[test]
    fn an_endpoint_that_friends_do_not_reach_is_told() {
        assert!(on_endpoint(None).is_some_and(|said| said.contains("--public-endpoint")));
        let at = |host: &str| on_endpoint(Some(&(host.to_owned(), 51820)));
        assert!(at("192.168.1.2").is_some_and(|said| said.contains("192.168.1.2")));
        assert_eq!((at("203.0.113.7"), at("home.example.org")), (None, None));
    }

    #[test]
    fn a_taken_port_is_told_with_another() {
        let address = "127.0.0.1:8667".parse().unwrap();
        let said = on_listening(&ListenError::Tcp(address, Errno::ADDRINUSE));
        assert!(
            said.contains("port 8667 is already in use") && said.contains("--http 127.0.0.1:8668"),
            "{said}"
        );
        let said = on_listening(&ListenError::Udp(address, Errno::ADDRINUSE));
        assert!(said.contains("UDP port 8667") && said.contains("--relay 127.0.0.1:51820"), "{said}");
        let said = on_listening(&ListenError::Unix("/x".into(), SocketPathError::TooLong));
        assert!(said.contains("107 bytes; choose a shorter --state-dir"), "{said}");
    }

    #[test]
    fn a_state_file_that_cannot_be_used_is_told_with_the_setting() {
        let say = |error: FileError| on_store(&error.at(Path::new("/var/lib/lanrage/state.redb")));
        let newer = say(FileError::NewerSchema { found: 3, supported: 1 });
        for said in [say(FileError::InUse), newer, say(FileError::Io(ErrorKind::PermissionDenied.into()))] {
            assert!(said.contains("--state-dir") && said.contains("/var/lib/lanrage/state.redb"), "{said}");
        }
        assert!(say(FileError::Corrupt("bad".into())).contains("(bad); restore a backup"));
        assert_eq!(
            say(FileError::Io(io::Error::other("why"))),
            "cannot use /var/lib/lanrage/state.redb: why"
        );
    }

    #[test]
    fn an_interface_is_told_with_what_it_needs() {
        let settings = || {
            let (name, address) = ("lanrage7".to_owned(), std::net::Ipv4Addr::new(10, 66, 0, 1));
            TunSettings { name, address, prefix: 16, mtu: 1420, offload: false }
        };
        let say = |step, errno| on_tun(&TunError { step, settings: settings(), errno });
        assert!(say(TunStep::Open, Errno::NOENT).contains("modprobe tun"));
        assert!(say(TunStep::Open, Errno::ACCESS).contains("may not open /dev/net/tun"));
        assert!(say(TunStep::Make, Errno::BUSY).contains("another program has the interface lanrage7"));
        assert!(say(TunStep::Make, Errno::INVAL).contains("--interface"));
        for step in [TunStep::Make, TunStep::SetUp] {
            let said = say(step, Errno::PERM);
            for part in
                ["CAP_NET_ADMIN", "lanrage-tun.conf", "ip tuntap add lanrage7", "10.66.0.1/16", "mtu 1420"]
            {
                assert!(said.contains(part), "{said}");
            }
        }
        assert!(say(TunStep::SetUp, Errno::NOMEM).contains("can't be given 10.66.0.1/16"));
    }
}
