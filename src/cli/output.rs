//! Standard output.

use super::CommandFailure;
use std::io::{self, IsTerminal, Write};

/// Writes `text` to standard output and sees that it gets out.
pub fn write(text: &str) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| CommandFailure::output(&error))
}

/// Whether text may be coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub const PLAIN: Style = Style { colour: false };

    /// Colours on a terminal that knows them, unless `NO_COLOR` is set (no-color.org).
    pub fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Style { colour: io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb }
    }

    /// For headings.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what is well.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what needs attention.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For pictures made of blocks: white ones on black, whatever the colours of the terminal.
    pub fn white_on_black(self, text: &str) -> String {
        self.paint("97;40", text)
    }

    /// Whether somebody looks at it.
    pub fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
