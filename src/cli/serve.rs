//! `lanrage serve`: the daemon in the foreground.

use super::arguments::Invocation;
use super::{Failure, output, settings, table};
use lanrage::daemon::{Bell, Daemon, Supervisor, stop_signal};
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
    let bell = Bell::default();
    let stop = stop_signal(bell.clone()).map_err(Failure::failed)?;
    let again = invocation.clone();
    let daemon = Daemon::open(config).map_err(Failure::failed)?;
    let daemon = daemon
        .supervised(Rc::new(Supervisor::from_environment()))
        .reloaded_by(bell, move || settings::again(&again).map_err(|failure| failure.message));
    if let Err(failure) = output::write(&format!("{}\n", daemon.addresses())) {
        // Nobody reads it; that is no reason not to serve.
        log::debug!("the addresses were not printed: {}", failure.message);
    }
    daemon.run(stop).map_err(Failure::failed)
}

/// Logs to standard error, a line a record. Dates are for who collects it (procd, systemd) to add. The level
/// can be changed by `log::set_max_level`.
fn start_log(level: LevelFilter) {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Warn)
        .filter_module("lanrage", LevelFilter::Trace)
        .format(|out, record| {
            writeln!(out, "{} {}", record.level(), table::escape(&record.args().to_string()))
        })
        .init();
    log::set_max_level(level);
}
