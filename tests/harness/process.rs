//! Processes, and what the kernel says of them.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it with a signal. Returns how it ended, and after how long.
    pub fn end_by(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let status = self.wait();
        (status, start.elapsed())
    }

    /// SIGTERM. Returns how it ended, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.end_by(Signal::TERM)
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid()).into()
    }

    /// Threads it has now.
    pub fn threads(&self) -> usize {
        self.tasks().len()
    }

    /// The directories of its threads in /proc.
    pub fn tasks(&self) -> Vec<PathBuf> {
        tasks(self.pid())
    }

    /// Memory it has now, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS")
    }

    /// A number of its status, such as `VmHWM` in KiB.
    pub fn status(&self, field: &str) -> u64 {
        number_in(self.proc("status"), field)
    }

    /// Processor time so far of the threads that it has now.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid())
    }

    /// Processor time so far in steps of 10 ms. Threads that have ended count.
    pub fn cpu_ticks(&self) -> Duration {
        let text = std::fs::read_to_string(self.proc("stat")).unwrap();
        let fields = text.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        Duration::from_millis(fields.map(|ticks| 10 * ticks.parse::<u64>().unwrap()).sum())
    }

    /// Times its threads have gone to sleep so far.
    pub fn sleeps(&self) -> u64 {
        let tasks = self.tasks().into_iter();
        tasks.map(|task| number_in(task.join("status"), "voluntary_ctxt_switches")).sum()
    }

    /// Descriptors it has open now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Bytes that it has caused to be written to any disk so far.
    pub fn bytes_written(&self) -> u64 {
        number_in(self.proc("io"), "write_bytes")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Processor time that the threads of a process have had so far.
pub fn cpu(pid: u32) -> Duration {
    tasks(pid).iter().map(|task| thread_cpu(task)).sum()
}

/// Processor time that a thread has had so far, by its directory in /proc.
pub fn thread_cpu(task: &Path) -> Duration {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn number_in(file: PathBuf, field: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
