//! `lanrage serve`: the daemon in the foreground.

use super::command::Invocation;
use super::{CommandFailure, output, settings, table};
use lanrage::daemon::log_output::{self, LogOutput};
use lanrage::daemon::settings::Settings;
use lanrage::daemon::{Bell, Daemon, Ending, SignalWatch, Supervisor, check_threads};
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
    let supervisor = Rc::new(Supervisor::from_environment());
    #[cfg(feature = "cluster")]
    let mut stop = Box::pin(stop);
    #[cfg(feature = "cluster")]
    let daemon = match Daemon::open_in_turn(settings, &supervisor, &mut stop) {
        Ok(Some(daemon)) => daemon,
        Ok(None) => return Ok(()),
        Err(error) => return Err(CommandFailure::failed(error)),
    };
    #[cfg(not(feature = "cluster"))]
    let daemon = Daemon::open(settings).map_err(CommandFailure::failed)?;
    let daemon = daemon
        .supervised(supervisor)
        .reloaded_by(bell, move || settings::again(&invocation).map_err(|failure| failure.message));
    if !log_output::print(&format!("{}\n", daemon.addresses())) {
        // Nobody reads it; that is no reason not to serve.
        log::debug!("the addresses were not printed");
    }
    // Nothing of the daemon before is left then, and whoever looks after the service sees the same process.
    let failure = match daemon.run(stop).map_err(CommandFailure::failed)? {
        Ending::Stopped => return Ok(()),
        Ending::Restart => lanrage::sys::execute_again(),
        #[cfg(feature = "cluster")]
        Ending::Fenced => lanrage::sys::execute_fenced(),
    };
    Err(CommandFailure::failed(format_args!("it could not be started anew: {failure}; start lanrage again")))
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
