//! `lanrage serve`: the daemon in the foreground.

use super::command::Invocation;
use super::{CommandFailure, output, settings, table};
use lanrage::daemon::log_output::{self, LogOutput};
use lanrage::daemon::settings::Settings;
use lanrage::daemon::{Bell, Daemon, SignalWatch, Supervisor, check_threads};
use log::LevelFilter;
use std::io::Write;
use std::rc::Rc;

/// `lanrage serve`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    // Before anything that takes time: the settings may have to be waited for, and the disk.
    lanrage::sys::ignore_hangups();
    check_threads().map_err(CommandFailure::failed)?;
    let signals = SignalWatch::new().map_err(CommandFailure::failed)?;
    let (settings, warning) = settings::effective(invocation)?;
    if invocation.has("print-config") {
        return output::write(&settings::as_file(&settings));
    }
    start_log(settings.log);
    if let Some(warning) = warning {
        log::warn!("{warning}");
    }
    serve(settings, signals, invocation.clone()).map_err(CommandFailure::said_at_once)
}

fn serve(settings: Settings, signals: SignalWatch, invocation: Invocation) -> Result<(), CommandFailure> {
    // Before anything is opened: a signal that comes early must find it closed in good order too.
    let bell = Bell::default();
    let stop = signals.stop(bell.clone()).map_err(CommandFailure::failed)?;
    let daemon = Daemon::open(settings).map_err(CommandFailure::failed)?;
    let daemon = daemon
        .supervised(Rc::new(Supervisor::from_environment()))
        .reloaded_by(bell, move || settings::again(&invocation).map_err(|failure| failure.message));
    if !log_output::print(&format!("{}\n", daemon.addresses())) {
        // Nobody reads it; that is no reason not to serve.
        log::debug!("the addresses were not printed");
    }
    daemon.run(stop).map_err(CommandFailure::failed)
}

/// Logs to standard error, a line a record. Dates are for who collects it (procd, systemd) to add. The level
/// can be changed by `log::set_max_level`.
pub fn start_log(level: LevelFilter) {
    env_logger::Builder::new()
        .target(env_logger::Target::Pipe(Box::new(LogOutput::stderr())))
        .filter_level(LevelFilter::Warn)
        .filter_module("lanrage", LevelFilter::Trace)
        .format(|out, record| {
            writeln!(out, "{} {}", record.level(), table::escape(&record.args().to_string()))
        })
        .init();
    log::set_max_level(level);
}
