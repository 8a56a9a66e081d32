//! Floor 7: the command line. It reads arguments and settings, starts the daemon or talks to it, and shows
//! what comes back.

mod agent;
mod arguments;
mod ask;
mod backup;
mod bench;
mod client;
mod command;
mod commands;
mod db;
mod device;
mod doctor;
mod events;
mod help;
mod invite;
mod keys;
mod measures;
mod output;
mod overview;
mod party;
mod peer;
mod peers;
mod qr;
mod relay;
mod restore;
mod secret;
mod serve;
mod settings;
// What is shipped is about the build without features.
#[cfg(all(test, not(feature = "cluster")))]
mod shipped;
mod spelling;
mod status;
mod table;
mod ui;

use arguments::Wish;
use lanrage::daemon::log_output;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Something did not work.
const FAILED: u8 = 1;
/// The command or a setting was not understood.
const USAGE: u8 = 2;

/// Why a command ends with something other than success.
#[derive(Debug)]
pub struct CommandFailure {
    code: u8,
    /// For people; empty if there is nothing to say.
    message: String,
}

impl CommandFailure {
    /// The command was understood and did not work.
    pub fn failed(message: impl fmt::Display) -> Self {
        CommandFailure { code: FAILED, message: message.to_string() }
    }

    /// The arguments or settings are wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        CommandFailure { code: USAGE, message: message.to_string() }
    }

    /// Says on standard error what there is to say, without waiting for a reader.
    pub fn said_at_once(self) -> Self {
        if !self.message.is_empty() {
            log_output::print_error(&format!("lanrage: {}\n", table::escape_lines(&self.message)));
        }
        CommandFailure { message: String::new(), ..self }
    }

    /// What our output could not be written. That nobody reads it any more, as in `lanrage db dump | head`,
    /// is no mistake.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandFailure { code: 0, message: String::new() },
            _ => Self::failed(format_args!("can't write the output: {error}")),
        }
    }
}

/// Does what the arguments of the process ask for.
pub fn main() -> ExitCode {
    lanrage::sys::report_traps();
    let result = arguments::read(lexopt::Parser::from_env()).and_then(|wish| match wish {
        Wish::Run(invocation) => (invocation.command.run)(&invocation),
        Wish::Show(text) => output::write(&text),
    });
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if !failure.message.is_empty() {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "lanrage: {}", table::escape_lines(&failure.message));
    }
    ExitCode::from(failure.code)
}
