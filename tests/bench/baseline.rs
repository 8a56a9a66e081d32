//! The least that an event loop has to do for a request: wait, read, write. What the daemon costs is told
//! as a multiple of this, because that is the same on a slow or a busy machine.

use super::harness::process::thread_cpu;
use super::process::Cores;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

/// As long as what the daemon answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: lanrage\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 15\r\nAccess-Control-Allow-Origin: *\r\n\r\n\
    {\"status\":\"ok\"}";

/// A thread that answers every read with the same 200, one connection after the other.
pub struct Baseline {
    task: PathBuf,
    /// Where it is.
    pub address: SocketAddr,
}

impl Baseline {
    /// On the core of the servers, or wherever there is room.
    pub fn start(cores: impl Into<Option<Cores>>) -> Self {
        let cores = cores.into();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if let Some(cores) = cores {
                Cores::pin(cores.server);
            }
            sender.send(rustix::thread::gettid()).expect("somebody waits");
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                stream.set_nodelay(true).expect("TCP_NODELAY");
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    poll(&mut [PollFd::new(&stream, PollFlags::IN)], None).expect("waiting");
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(_) => stream.write_all(ANSWER).expect("sending"),
                    }
                }
            }
        });
        let task = receiver.recv().expect("the thread runs").as_raw_nonzero();
        Baseline { task: PathBuf::from(format!("/proc/self/task/{task}")), address }
    }

    /// The CPU time in nanoseconds that it has used.
    pub fn cpu(&self) -> u64 {
        thread_cpu(&self.task).as_nanos() as u64
    }
}
