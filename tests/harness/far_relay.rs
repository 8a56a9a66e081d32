//! A relay in another place: the real binary, running.

use super::daemon::{binary, log_to, read_log, settings};
use super::directory::Directory;
use super::eventually;
use super::process::Process;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command};

/// `lanrage relay`, running. If its test fails, its log is printed.
pub struct FarRelay {
    pub process: Process,
    pub directory: Directory,
    control: SocketAddr,
    pub address: SocketAddr,
}

impl FarRelay {
    /// Starts one, for the control server at this address, and waits until it listens.
    pub fn start(control: SocketAddr) -> Self {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = Directory::new();
        let mut process = Process(Self::spawn(&directory, control, address));
        wait_until_it_listens(&mut process, &directory, address);
        FarRelay { process, directory, control, address }
    }

    fn spawn(directory: &Directory, control: SocketAddr, address: SocketAddr) -> Child {
        let mut command = Command::new(binary());
        command.args(["relay", "--control", &format!("http://{control}"), "--region", "Tokio"]);
        settings(&mut command, &directory.state(), []);
        command.env("LANRAGE_RELAY", address.to_string()).env("LANRAGE_RUNTIME_DIR", directory.join("run"));
        log_to(&mut command, &directory.log());
        command.spawn().unwrap()
    }

    pub fn restart(&mut self) {
        self.process = Process(Self::spawn(&self.directory, self.control, self.address));
        wait_until_it_listens(&mut self.process, &self.directory, self.address);
    }

    pub fn log(&self) -> String {
        read_log(&self.directory.log())
    }

    pub fn logs(&self, what: &str) {
        eventually(what, || self.log().contains(what));
    }
}

impl Drop for FarRelay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the relay's log:\n{}", self.log());
        }
    }
}

fn wait_until_it_listens(process: &mut Process, directory: &Directory, address: SocketAddr) {
    let mut line = String::new();
    BufReader::new(process.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("listening relay={address}\n"), "{}", read_log(&directory.log()));
}
