//! What this machine can bear: totals by its memory.

use super::settings::Settings;
use crate::control;
use crate::net::http::HttpLimits;
use crate::relay::limits::RelayLimits;
use crate::sys;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a machine is taken for that does not say how much memory it has.
const SMALLEST: usize = 64 * MIB;

/// How much of the memory may be taken by whom, whatever strangers do. With 64 MiB: 5 MiB for parties, 2 for tokens,
/// 4 for what waits to be sent, 3 for blind sessions, 256 connections and 256 sessions with up to 12 KiB in
/// the kernel each way, and 1 for the relay's datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Bytes of parties and members.
    pub parties: usize,
    /// Tokens, some 300 bytes each.
    pub tokens: usize,
    /// Bytes that wait to be read.
    pub buffers: usize,
    /// Bytes in the kernel for each connection.
    pub socket_buffer: usize,
    /// HTTP connections, and as many sessions.
    pub connections: usize,
    /// Bytes of datagrams that the kernel keeps for the relay, of which it counts each twice.
    pub datagrams: usize,
    /// Directions of blind sessions, 400 bytes each; a quarter as many addresses and handshakes.
    pub flows: usize,
}

impl Totals {
    /// Those of a machine with so many bytes of memory.
    pub fn of(memory: usize) -> Self {
        Totals {
            parties: (memory / 12).clamp(MIB, 256 * MIB),
            tokens: (memory / (8 * KIB)).max(1024),
            buffers: (memory / 16).clamp(MIB, 64 * MIB),
            socket_buffer: (memory / (16 * KIB)).clamp(4 * KIB, 64 * KIB),
            connections: (memory / (256 * KIB)).max(32),
            datagrams: (memory / 128).clamp(128 * KIB, MIB),
            flows: (memory / (8 * KIB)).clamp(2048, 32_768),
        }
    }

    /// Those of the machine that `settings` name.
    pub fn by(settings: &Settings) -> Self {
        let configured = settings.memory.map(|mebibytes| mebibytes.saturating_mul(MIB));
        Self::of(configured.or_else(sys::memory).unwrap_or(SMALLEST))
    }

    /// The limits of the control plane, held to these.
    pub fn control(&self, settings: &Settings) -> control::ControlSettings {
        let mut settings = settings.control.clone();
        settings.limits.memory = self.parties;
        settings.limits.tokens = settings.limits.tokens.min(self.tokens);
        settings
    }

    /// The limits of the relay.
    pub fn relay(&self) -> RelayLimits {
        let limits = RelayLimits::default();
        RelayLimits {
            flows: limits.flows.min(self.flows),
            sources: limits.sources.min(self.flows / 4),
            pending: limits.pending.min(self.flows / 4),
            ..limits
        }
    }

    /// The limits of the door, held to these.
    pub fn door(&self, settings: &Settings) -> HttpLimits {
        HttpLimits {
            proxies: settings.trusted_proxies.clone(),
            connections: settings.door.connections.min(self.connections),
            sessions: settings.door.sessions.min(self.connections),
            buffers: self.buffers,
            socket_buffer: self.socket_buffer,
            ..settings.door.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_memory() {
        let small = Totals::of(64 * MIB);
        assert_eq!((small.connections, small.socket_buffer, small.buffers), (256, 4 * KIB, 4 * MIB));
        let kernel = 2 * small.connections * 2 * 2 * small.socket_buffer;
        assert!(small.parties + small.buffers + kernel < 64 * MIB / 2);
        let large = Totals::of(usize::MAX);
        assert_eq!((large.parties, large.buffers), (256 * MIB, 64 * MIB));
        assert!(Totals::of(0).connections > 0);
    }

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert!(sys::memory().is_some_and(|memory| memory > 8 * MIB));
        let settings = Settings { memory: Some(64), ..Settings::default() };
        assert_eq!(Totals::by(&settings), Totals::of(64 * MIB));
        assert_eq!(Totals::by(&settings).door(&settings).sessions, 256);
    }
}
