//! The daemon as a process: starting it on a core of its own, and what the kernel says it costs.

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary that is measured: the one of this build, or another to compare it with.
pub fn binary() -> PathBuf {
    std::env::var_os("LANRAGE_BENCH_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_lanrage").into(), PathBuf::from)
}

/// How long the daemon may take to stop in good order.
const STOP: Duration = Duration::from_secs(5);

/// Which core the servers run on and which the load comes from: the same one if there is no other.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub load: usize,
}

impl Cores {
    /// The first two that this process may use.
    pub fn find() -> Self {
        let allowed = sched_getaffinity(None).expect("the allowed cores");
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores.next().expect("a core");
        Cores { server, load: cores.next().unwrap_or(server) }
    }

    /// Keeps the calling thread, and what it starts from now on, on one core.
    pub fn pin(core: usize) {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).expect("pinning to a core");
    }
}

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    /// All threads but the store's.
    pub main: u64,
    /// The thread that waits for the disk.
    pub store: u64,
}

impl Cpu {
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { main: self.main - earlier.main, store: self.store - earlier.store }
    }
}

/// The CPU time in nanoseconds of all threads of a process.
pub fn process_cpu(id: u32) -> u64 {
    let entries = fs::read_dir(format!("/proc/{id}/task")).expect("its threads");
    entries.map(|entry| thread_cpu(&entry.expect("a thread").path())).sum()
}

/// The CPU time in nanoseconds of one thread, from its `schedstat`.
pub fn thread_cpu(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).expect("schedstat");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number in schedstat")
}

/// A running daemon. It is killed when this is dropped.
pub struct Daemon {
    child: Child,
    /// Kept open: writing to a closed pipe would end the daemon.
    _stdout: BufReader<ChildStdout>,
    /// Where its API is.
    pub http: SocketAddr,
    /// Where its relay is.
    pub relay: SocketAddr,
}

impl Daemon {
    /// Starts one on `state` and waits until it listens.
    pub fn start(state: &Path, settings: &[(&str, &str)], cores: Cores) -> Daemon {
        Cores::pin(cores.server);
        let child = Command::new(binary())
            .arg("serve")
            .env_clear()
            .env("LANRAGE_STATE_DIR", state)
            .env("LANRAGE_HTTP", "127.0.0.1:0")
            .env("LANRAGE_RELAY", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Cores::pin(cores.load);
        let mut child = child.expect("the daemon starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line from the daemon");
        let address = |name| {
            let text = line.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
            let address = text.and_then(|text| text.parse().ok());
            address.unwrap_or_else(|| panic!("the daemon did not start to listen: {line:?}"))
        };
        let (http, relay) = (address("http="), address("relay="));
        Daemon { child, _stdout: stdout, http, relay }
    }

    /// Stops it in good order.
    pub fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("SIGTERM");
        let begun = Instant::now();
        while self.child.try_wait().expect("waiting for the daemon").is_none() {
            assert!(begun.elapsed() < STOP, "the daemon does not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id()))
    }

    fn tasks(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.proc().join("task")).expect("its threads");
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.tasks().len()
    }

    /// The CPU time that it has used.
    pub fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for task in self.tasks() {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let part = if name.trim_end() == "store" { &mut cpu.store } else { &mut cpu.main };
            *part += thread_cpu(&task);
        }
        cpu
    }

    /// CPU time in ms, that of processes it has started and that have ended included: these in steps of 10 ms.
    pub fn cpu_with_children(&self) -> f64 {
        let stat = fs::read_to_string(self.proc().join("stat")).expect("its stat");
        // The name, in brackets, may have spaces in it. Two fields later it is in ticks, which are 10 ms.
        let fields = stat.rsplit(") ").next().expect("fields").split(' ');
        let ticks: u64 = fields.skip(13).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        process_cpu(self.id()) as f64 / 1e6 + 10.0 * ticks as f64
    }

    /// How often its threads went to sleep.
    pub fn sleeps(&self) -> u64 {
        let status = |task: &PathBuf| fs::read_to_string(task.join("status")).unwrap_or_default();
        self.tasks().iter().map(|task| number_after(&status(task), "\nvoluntary_ctxt_switches:")).sum()
    }

    /// Resident memory in KiB: all of it, and what is its own and no file's.
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(self.proc().join("status")).expect("its status");
        (number_after(&status, "\nVmRSS:"), number_after(&status, "\nRssAnon:"))
    }

    /// Bytes that it made the kernel write to a disk.
    pub fn written(&self) -> u64 {
        number_after(&fs::read_to_string(self.proc().join("io")).expect("its io"), "\nwrite_bytes:")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_after(text: &str, name: &str) -> u64 {
    let rest = text.split(name).nth(1).unwrap_or_else(|| panic!("no {name:?} in /proc"));
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number in /proc")
}

/// A state directory on a real file system, removed when this is dropped.
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a state directory");
        StateDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // What stays is swept away with the build directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}
