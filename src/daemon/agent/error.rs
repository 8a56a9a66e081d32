//! Why an agent ends, and what its owner can do.

use super::DaemonError;
use crate::agent::session::SessionEnd;
use std::fmt;

/// What helps against a refusal, by what lanrage's servers say; nothing if they say it themselves.
fn next_step(why: &str) -> &'static str {
    let known = [
        ("has a password", ". Ask the host for it, and add --password"),
        (
            "password is wrong",
            ". Ask the host for it: `lanrage join URL PARTY --password` asks you for it again",
        ),
        (
            "not found",
            ". Ask the host for the party's id, which `lanrage peers` shows there, or for an invite",
        ),
        ("are banned", ". The owner of the server can lift that: `lanrage peer unban`"),
    ];
    known.iter().find(|(part, _)| why.contains(part)).map_or("", |(_, next)| next)
}

/// Why an agent ends.
#[derive(Debug)]
pub enum AgentError {
    /// This is to be done by the owner.
    Owner(String),
    /// The membership is over.
    Ended(SessionEnd),
    /// As a daemon's.
    Daemon(DaemonError),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentError::Owner(text) => f.write_str(text),
            AgentError::Daemon(error) => error.fmt(f),
            AgentError::Ended(SessionEnd::Left) => f.write_str("left the party"),
            AgentError::Ended(SessionEnd::Removed) => {
                f.write_str("the host has removed this machine from the party")
            }
            AgentError::Ended(SessionEnd::PartyEnded) => f.write_str("the party has ended"),
            AgentError::Ended(SessionEnd::Refused(why)) => {
                write!(f, "the server refuses: {why}{}", next_step(why))
            }
        }
    }
}

impl std::error::Error for AgentError {}

impl<E: Into<DaemonError>> From<E> for AgentError {
    fn from(error: E) -> Self {
        AgentError::Daemon(error.into())
    }
}
