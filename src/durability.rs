//! Floor 1: what keeps a change from being durable. The disk may be that of a database.

use std::fmt;

/// Why something is not on the disk (yet).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// There is no room. What is to be written waits, and is tried again.
    Full,
    /// The disk fails. What is to be written waits, and is tried again.
    Failing,
    /// The disk was too slow for the time there was at the end.
    TooSlow,
    /// Another instance writes. What is to be written never will be.
    Fenced,
}

impl WriteError {
    /// What who asks for a change is told.
    pub fn detail(self) -> &'static str {
        match self {
            WriteError::Full => {
                "storage full: nothing can be changed until there is room in the server's storage"
            }
            WriteError::Failing | WriteError::TooSlow => {
                "storage failing: nothing can be changed until the server's storage works again"
            }
            WriteError::Fenced => "another instance of the server has taken over: try again",
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::Full => "storage full",
            WriteError::Failing => "storage failing",
            WriteError::TooSlow => "storage too slow",
            WriteError::Fenced => "another instance has taken over",
        })
    }
}

impl std::error::Error for WriteError {}
