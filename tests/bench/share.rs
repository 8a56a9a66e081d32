//! Where a process spends its own time, as `perf` samples it.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const NO_PERF: &str = "perf, of Debian's package linux-perf";
const NO_SYMBOLS: &str = "symbols in the binary: build with CARGO_PROFILE_BENCH_STRIP=none";
const TOO_FEW: &str = "sample of perf's, or too few";
/// How long perf needs to begin.
const BEGIN: Duration = Duration::from_millis(500);
/// Fewer samples tell nothing.
const FEWEST: usize = 100;

/// perf at work.
pub struct Profile {
    perf: Child,
    file: PathBuf,
}

impl Profile {
    /// Samples the process, outside of the kernel, until it is asked for the outcome. What is missing, if something is.
    pub fn start(process: u32, directory: &Path) -> Result<Self, &'static str> {
        let file = directory.join("perf.data");
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-e", "cpu-clock:u", "-F", "4000", "-p", &process.to_string(), "-o"]);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let perf = command.spawn().map_err(|_| NO_PERF)?;
        std::thread::sleep(BEGIN);
        Ok(Profile { perf, file })
    }

    /// The part of the samples, from 0 to 1, that are in ChaCha20 or Poly1305.
    pub fn share_of_aead(mut self) -> Result<f64, &'static str> {
        kill_process(Pid::from_child(&self.perf), Signal::INT).map_err(|_| NO_PERF)?;
        self.perf.wait().map_err(|_| NO_PERF)?;
        let mut script = Command::new("perf");
        script.args(["script", "-F", "ip,sym", "-i"]).arg(&self.file).stderr(Stdio::null());
        let output = script.output().map_err(|_| NO_PERF)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let known = names.iter().filter(|name| **name != "[unknown]").count();
        if names.len() < FEWEST {
            return Err(TOO_FEW);
        }
        if known < names.len() / 2 {
            return Err(NO_SYMBOLS);
        }
        let of_aead =
            |name: &&&str| ["chacha20", "poly1305"].iter().any(|part| name.to_lowercase().contains(part));
        Ok(names.iter().filter(of_aead).count() as f64 / names.len() as f64)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}
