//! The service as procd would run it, and the players that use it.

use crate::router::{Router, Run};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes, even on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon.
pub struct Service {
    child: Child,
    pub http: SocketAddr,
    log: PathBuf,
}

/// A router with a copy of the program that the service's user may run, wherever the sources are.
pub fn router() -> Router {
    let mut router = Router::new();
    let program = router.path("lanrage");
    fs::copy(&router.program, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    router.program = program;
    router
}

impl Service {
    /// Runs the command that procd was given, as the user that it was given, and with no other environment.
    pub fn start(router: &Router, run: &Run) -> Self {
        assert!(run.succeeded, "{}", run.said);
        let words = run.param("command").unwrap();
        let log = router.path("log");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
        if rustix::process::geteuid().is_root() {
            command.uid(router.uid()).gid(router.uid());
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let http = line.strip_prefix("listening http=").and_then(|rest| rest.split(' ').next());
        let http = http.unwrap_or_else(|| panic!("{line:?} {:?}", fs::read_to_string(&log)));
        Service { http: http.parse().unwrap(), child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("it does not end")
    }

    /// A request to the control API: status and body.
    pub fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Registers a peer: its token.
    pub fn register(&self, peer: &str) -> String {
        let (status, body) = self.ask("POST", &format!("/auth/register?peer_id={peer}"), "", "");
        assert_eq!(status, 200, "{body}");
        text(&body, "token")
    }
}

/// The first text called `name` in an answer.
pub fn text(body: &str, name: &str) -> String {
    let (_, rest) = body.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("no {name}: {body}"));
    rest.split('"').next().unwrap().to_owned()
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
