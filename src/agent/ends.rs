//! Where a datagram goes, or came from, by which socket.

use crate::agent::AgentOutput;
use crate::datagram::Path;

/// The two ends of a path, and by which socket of ours it goes: 0 is the one for everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    pub path: Path,
    pub socket: u16,
}

impl From<Path> for Ends {
    fn from(path: Path) -> Self {
        Ends { path, socket: 0 }
    }
}

impl Ends {
    pub fn send(&self, datagram: &[u8], out: &mut dyn AgentOutput) {
        match self.socket {
            0 => out.send(self.path, datagram),
            socket => out.send_from(socket, self.path, datagram),
        }
    }
}
