//! What the daemon is compared with: the barest loops that send datagrams back, and other WireGuard hubs.

use super::harness::namespace::run;
use super::harness::process::Process;
use super::network::SERVER;
use super::process::{Cores, process_cpu};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::sys;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The argument that makes this program an echo server.
pub const ECHO: &str = "--echo";
/// How long a server may take to begin.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// WireGuard in userspace, as others wrote it.
pub const WIREGUARDS: [&str; 2] = ["wireguard-go", "boringtun-cli"];

/// A server; killed when this is dropped.
pub struct Rival {
    process: Process,
    pub address: SocketAddr,
    /// The file of its control socket, which a killed process leaves.
    control: Option<String>,
}

impl Rival {
    /// Sends back what it gets. Runs of datagrams of `segment` bytes are taken and sent as one; 0 means one
    /// datagram a system call.
    pub fn echo(segment: usize, cores: Cores) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg(ECHO).arg(segment.to_string()).stdout(Stdio::piped());
        let mut process = spawn(&mut command, cores).expect("this program starts");
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        Rival { process, address: line.trim().parse().expect("its address"), control: None }
    }

    /// Any other program. `None` if it can't be started.
    pub fn start(command: &mut Command, address: SocketAddr, cores: Cores) -> Option<Self> {
        Some(Rival { process: spawn(command, cores)?, address, control: None })
    }

    /// A WireGuard interface in userspace, made by `program`, that forwards between `peers`. `None`
    /// if there is no such program; `LANRAGE_BORINGTUN` names a boringtun-cli that is not in the path.
    pub fn hub(
        program: &str,
        key: &PrivateKey,
        peers: &[(PublicKey, Ipv4Addr)],
        cores: Cores,
    ) -> Option<Self> {
        // Interfaces have namespaces, but their control sockets have one directory.
        let name = &format!("bench{}", std::process::id());
        let path = std::env::var_os("LANRAGE_BORINGTUN").filter(|_| program == "boringtun-cli");
        let mut command = Command::new(path.unwrap_or_else(|| program.into()));
        command.args(["-f", name]).stdout(Stdio::null()).stderr(Stdio::null());
        // Of one thread each, as there is one core.
        command.env("LOG_LEVEL", "error").env("WG_THREADS", "1").env("WG_SUDO", "true");
        let process = spawn(&mut command, cores)?;
        let address = SocketAddr::from((SERVER, 51_999));
        // From here on it is killed whatever happens.
        let path = format!("/var/run/wireguard/{name}.sock");
        let rival = Rival { process, address, control: Some(path.clone()) };
        let begun = Instant::now();
        let mut control = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{path}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut text =
            format!("set=1\nprivate_key={}\nlisten_port={}\n", hex(&*key.to_bytes()), address.port());
        for (key, ip) in peers {
            text += &format!("public_key={}\nallowed_ip={ip}/32\n", hex(key.as_bytes()));
        }
        control.write_all((text + "\n").as_bytes()).expect("configuring it");
        let mut answer = [0; 64];
        let length = control.read(&mut answer).expect("its answer");
        assert!(answer[..length].starts_with(b"errno=0\n"), "{program} refuses its configuration");
        run(&format!("ip addr add 10.66.0.1/16 dev {name}"));
        run(&format!("ip link set {name} mtu 1420 up"));
        super::network::forward(name);
        Some(rival)
    }

    /// The CPU time in nanoseconds that it has used.
    pub fn cpu(&self) -> u64 {
        process_cpu(self.process.pid())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        if let Some(path) = &self.control {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spawn(command: &mut Command, cores: Cores) -> Option<Process> {
    Cores::pin(cores.server);
    let child = command.stdin(Stdio::null()).spawn();
    Cores::pin(cores.load);
    child.ok().map(Process)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`Rival::echo`] runs.
pub fn serve_echo(segment: usize) {
    let socket = UdpSocket::bind((SERVER, 0)).expect("a socket");
    if segment > 0 {
        let set = |name, value| sys::set_option(socket.as_fd(), libc::SOL_UDP, name, value);
        set(libc::UDP_GRO, 1).expect("UDP_GRO");
        set(libc::UDP_SEGMENT, segment as i32).expect("UDP_SEGMENT");
    }
    println!("{}", socket.local_addr().expect("its address"));
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((length, source)) = socket.recv_from(&mut buffer) {
            // What the kernel will not send back is missed by who sent it.
            let _ = socket.send_to(&buffer[..length], source);
        }
    }
}
