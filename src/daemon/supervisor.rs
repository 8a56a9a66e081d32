//! When the service manager is told what: systemd, or whoever else sets `$NOTIFY_SOCKET`.

use super::clock;
use crate::net::notify::NotifySocket;
use smol::Timer;
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::time::Duration;

/// How often the manager hears how things are, at most; and exactly, without a watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// When the manager did not take that we are ready, it is told again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest watchdog that is kept, so that no environment makes the daemon busy with it.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(20);

/// The service manager; without one nothing is said to anybody.
#[derive(Default)]
pub struct Supervisor {
    socket: Option<NotifySocket>,
    /// How long the manager waits for a sign of life before it kills the daemon.
    watchdog: Option<Duration>,
    /// It does not know yet that the daemon is ready. Of all there is to say this alone must arrive, or the
    /// manager waits for it until it gives the daemon up.
    owes_ready: Cell<bool>,
    /// What it was last told of how things are.
    told: RefCell<String>,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        Self::at(&name, watchdog)
    }

    /// The one at a socket, by its name as in `$NOTIFY_SOCKET`, which expects a sign of life within
    /// `watchdog`.
    pub fn at(name: &OsStr, watchdog: Option<Duration>) -> Self {
        match NotifySocket::new(name) {
            Ok(socket) => Supervisor { socket: Some(socket), watchdog, ..Supervisor::default() },
            Err(error) => {
                log::warn!("the service manager can't be told anything: NOTIFY_SOCKET={name:?}: {error}");
                Supervisor::default()
            }
        }
    }

    /// Says something. Whether it arrived: a manager that does not listen is no reason to stop.
    fn say(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        let sent = socket.send(message);
        if let Err(error) = sent {
            log::debug!("the service manager was not told {message:?}: {error}");
        }
        sent.is_ok()
    }

    /// Everything is there and being served; `status` is how things are, in a line.
    pub fn ready(&self, status: String) {
        self.told.replace(status);
        self.say_ready();
    }

    fn say_ready(&self) {
        let message = format!("READY=1\nSTATUS={}", self.told.borrow());
        self.owes_ready.set(!self.say(&message));
    }

    /// Settings are being read again, until [`Supervisor::reloaded`].
    pub fn reloading(&self) {
        self.say_reloading("reading the settings again");
    }

    /// The daemon is about to become another one, which will say that it is ready.
    pub fn restarting(&self) {
        self.owes_ready.set(false);
        self.say_reloading("starting anew with a backup");
    }

    fn say_reloading(&self, status: &str) {
        let now = clock::monotonic_micros();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS={status}"));
    }

    /// The settings that count are in force.
    pub fn reloaded(&self) {
        self.say_ready();
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.owes_ready.set(false);
        self.say("STOPPING=1\nSTATUS=writing the state and ending");
    }

    /// Gives signs of life for ever, and says how things are when that has changed. It has to run where
    /// everything else runs, so that a daemon that hangs falls silent.
    ///
    /// The thread that waits for the disk is not asked: the relay and all reading go on without it, and a
    /// process that waits for a disk can't be killed anyway.
    pub async fn keep_company(&self, status: impl Fn() -> String) {
        if self.socket.is_some() {
            self.keep_telling(status, STATUS_INTERVAL).await;
        }
    }

    async fn keep_telling(&self, status: impl Fn() -> String, interval: Duration) {
        let beat = self.watchdog.map_or(interval, |watchdog| watchdog / 2);
        let mut unsaid = Duration::ZERO;
        loop {
            let pause = if self.owes_ready.get() { beat.min(RETRY) } else { beat };
            Timer::after(pause).await;
            unsaid += pause;
            if self.owes_ready.get() {
                self.say_ready();
            }
            let mut message = if self.watchdog.is_some() { "WATCHDOG=1".to_owned() } else { String::new() };
            if unsaid >= interval {
                unsaid = Duration::ZERO;
                let now = status();
                if now != *self.told.borrow() {
                    message += &format!("\nSTATUS={now}");
                    self.told.replace(now);
                }
            }
            if !message.is_empty() {
                self.say(message.trim_start());
            }
        }
    }
}

/// How long the manager waits for a sign of life, if it is one of this process that it waits for.
fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(std::process::id())) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros).max(SHORTEST_WATCHDOG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::FutureExt;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[test]
    fn a_watchdog_is_for_whom_it_names() {
        let own = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some(&own)), second);
        assert_eq!(watchdog(Some("1000000"), Some("1")), None);
        assert_eq!(watchdog(Some("1000000"), Some("me")), None);
        for bad in [None, Some(""), Some("0"), Some("-1"), Some("soon"), Some("99999999999999999999999")] {
            assert_eq!(watchdog(bad, None), None, "{bad:?}");
        }
        assert_eq!(watchdog(Some("1"), None), Some(SHORTEST_WATCHDOG));
    }

    #[test]
    fn how_things_are_is_said_when_it_has_changed_and_not_with_every_sign_of_life() {
        let name = format!("lanrage-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_millis(40));
        let supervisor = Supervisor::at(OsStr::new(&format!("@{name}")), watchdog);
        supervisor.ready("0".to_owned());
        let asked = Cell::new(0);
        let status = || {
            asked.set(asked.get() + 1);
            (asked.get() / 2).to_string()
        };
        let telling = supervisor.keep_telling(status, Duration::from_millis(80));
        let mut heard: Vec<String> = Vec::new();
        let listening = async {
            while asked.get() < 5 {
                Timer::after(Duration::from_millis(5)).await;
                let mut buffer = [0; 100];
                while let Ok(length) = manager.recv(&mut buffer) {
                    heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                }
            }
        };
        smol::block_on(telling.or(listening));
        let (quiet, one, two) = ("WATCHDOG=1", "WATCHDOG=1\nSTATUS=1", "WATCHDOG=1\nSTATUS=2");
        // Asked with every fourth sign; every second answer is news.
        let spoken: Vec<&str> = heard.iter().map(String::as_str).filter(|said| *said != quiet).collect();
        assert_eq!(spoken, ["READY=1\nSTATUS=0", one, two]);
        assert!(heard.len() > 3 * 5, "{heard:?}");
    }

    #[test]
    fn a_name_that_is_none_is_no_manager() {
        let supervisor = Supervisor::at(OsStr::new("vsock:2:1"), None);
        assert!(supervisor.socket.is_none());
        supervisor.ready("all is well".to_owned());
        smol::block_on(supervisor.keep_company(String::new));
    }
}
