//! What a command is, and what it is called with.

use super::CommandFailure;

/// What can be asked of `lanrage`.
pub struct Command {
    /// Its words, with a space between them.
    pub name: &'static str,
    /// What has to follow; what may follow is in brackets.
    pub arguments: &'static [&'static str],
    /// What it does, in a line.
    pub about: &'static str,
    /// What else there is to know, in lines of its own; may be empty.
    pub details: &'static str,
    /// Its options, but for `--help`.
    pub options: &'static [Opt],
    /// Whether every setting of the daemon is an option too.
    pub takes_settings: bool,
    /// Does it.
    pub run: fn(&Invocation) -> Result<(), CommandFailure>,
}

/// An option.
pub struct Opt {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What its value is; `None` for a switch.
    pub value: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
}

/// A command with its arguments, which fit it in number and kind.
#[derive(Clone)]
pub struct Invocation {
    /// The command.
    pub command: &'static Command,
    /// Names without dashes, and values; a switch has none.
    pub(super) options: Vec<(String, Option<String>)>,
    pub(super) arguments: Vec<String>,
}

impl Invocation {
    /// The value of an option; the last one counts.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(given, _)| given == name)?.1.as_deref()
    }

    /// Whether a switch was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| given == name)
    }

    /// The argument at `index`, if it was given.
    pub fn argument(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).map(String::as_str)
    }

    /// A usage error of this command.
    pub fn wrong(&self, message: &str) -> CommandFailure {
        usage(message, self.command.name)
    }
}

/// A usage error, with where to read more. `about` is a command, a group or nothing.
pub fn usage(message: &str, about: &str) -> CommandFailure {
    let space = if about.is_empty() { "" } else { " " };
    CommandFailure::usage(format_args!("{message}; see `lanrage{space}{about} --help`"))
}
