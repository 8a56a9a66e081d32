//! `lanrage serve`: the daemon in the foreground.

use super::arguments::Invocation;
use super::{Failure, output, settings, table};
use lanrage::daemon::{Daemon, Supervisor, stop_signal};
use log::LevelFilter;
use std::io::Write;
use std::rc::Rc;

/// `lanrage serve`.
pub fn run(invocation: &Invocation) -> Result<(), Failure> {
    let config = settings::effective(invocation)?;
    if invocation.has("print-config") {
        return output::write(&settings::as_file(&config));
    }
    start_log(config.log);
    // Before anything is opened: a signal that comes early must find it closed in good order too.
    let supervisor = Rc::new(Supervisor::from_environment());
    let stop = stop_signal(supervisor.clone()).map_err(Failure::failed)?;
    let daemon = Daemon::open(config).map_err(Failure::failed)?.supervised(supervisor);
    if let Err(failure) = output::write(&format!("{}\n", daemon.addresses())) {
        // Nobody reads it; that is no reason not to serve.
        log::debug!("the addresses were not printed: {}", failure.message);
    }
    daemon.run(stop).map_err(Failure::failed)
}

/// Logs to standard error, a line a record. Dates are for who collects it (procd, systemd) to add.
fn start_log(level: LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("lanrage", level)
        .format(|out, record| {
            writeln!(out, "{} {}", record.level(), table::escape(&record.args().to_string()))
        })
        .init();
}
