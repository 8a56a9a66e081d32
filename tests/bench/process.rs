//! The daemon as a process: starting it on a core of its own, and what the kernel says it costs.

use super::harness::daemon;
use super::harness::process::{self, thread_cpu};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The binary that is measured: the one of this build, or another to compare it with.
pub fn binary() -> PathBuf {
    std::env::var_os("LANRAGE_BENCH_BINARY").map_or_else(daemon::binary, PathBuf::from)
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
    process::cpu(id).as_nanos() as u64
}

/// A running daemon.
pub struct Daemon(daemon::Daemon);

impl Daemon {
    /// Starts one on `state` and waits until it listens.
    pub fn start(state: &Path, settings: &[(&str, &str)], cores: Cores) -> Daemon {
        Cores::pin(cores.server);
        let mut command = Command::new(binary());
        command.arg("serve");
        daemon::settings(&mut command, state, settings.iter().copied());
        let daemon = daemon::Daemon::start(&mut command, Path::new("/dev/null"));
        Cores::pin(cores.load);
        Daemon(daemon)
    }

    /// Stops it in good order.
    pub fn stop(mut self) {
        let (_, took) = self.0.terminate();
        assert!(took < STOP, "it took {took:?} to stop");
    }

    /// The CPU time that it has used.
    pub fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for task in self.tasks() {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let part = if name.trim_end() == "store" { &mut cpu.store } else { &mut cpu.main };
            *part += thread_cpu(&task).as_nanos() as u64;
        }
        cpu
    }

    /// CPU time in ms, that of processes it has started and that have ended included: these in steps of 10 ms.
    pub fn cpu_with_children(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("its stat");
        // The name, in brackets, may have spaces in it. Two fields later it is in ticks, which are 10 ms.
        let fields = stat.rsplit(") ").next().expect("fields").split(' ');
        let ticks: u64 = fields.skip(13).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        self.0.cpu().as_secs_f64() * 1e3 + 10.0 * ticks as f64
    }

    /// Resident memory in KiB: all of it, and what is its own and no file's.
    pub fn memory(&self) -> (u64, u64) {
        (self.0.memory(), self.status("RssAnon"))
    }
}

impl Deref for Daemon {
    type Target = daemon::Daemon;

    fn deref(&self) -> &daemon::Daemon {
        &self.0
    }
}
