//! Every cap of the control plane in one place, with what it costs.

use std::time::Duration;

/// What a daemon takes on before it refuses. Each is a setting; the sizes are bytes of RAM per item
/// when all texts are as long as they may be (typical ones are a third of that).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlLimits {
    /// Parties in all: about 500 bytes each, without members.
    pub parties: usize,
    /// Parties that one peer may host.
    pub parties_hosted: usize,
    /// Parties that one peer may be a member of.
    pub parties_joined: usize,
    /// Bytes of all parties and members together, as estimated: 1 to 3 KB for each member, by its texts.
    pub memory: usize,
    /// Peers in one party.
    pub peers_per_party: usize,
    /// Tokens in all: about 250 bytes each.
    pub tokens: usize,
    /// Tokens of one peer; one more replaces the oldest.
    pub tokens_per_peer: usize,
    /// Relays in all: about 600 bytes each.
    pub relays: usize,
    /// Relays that one registration may own.
    pub relays_per_owner: usize,
    /// Bans in one party: about 150 bytes each.
    pub bans_per_party: usize,
    /// Invites to one party, those included that are over and not forgotten yet: about 200 bytes each.
    pub invites_per_party: usize,
    /// Invites in all.
    pub invites: usize,
    /// Signals that wait for one peer of one party.
    pub signals_per_peer: usize,
    /// Bytes of one signal's data.
    pub signal_size: usize,
    /// Bytes of all waiting signals together.
    pub signals_size: usize,
    /// Virtual addresses remembered for keys that are in no party now: about 300 bytes each.
    pub addresses_remembered: usize,
}

impl Default for ControlLimits {
    fn default() -> Self {
        ControlLimits {
            parties: 4096,
            parties_hosted: 8,
            parties_joined: 32,
            memory: 256 * 1024 * 1024,
            peers_per_party: 64,
            tokens: 20_000,
            tokens_per_peer: 8,
            relays: 256,
            relays_per_owner: 8,
            bans_per_party: 256,
            invites_per_party: 32,
            invites: 4096,
            signals_per_peer: 64,
            signal_size: 16 * 1024,
            signals_size: 2 * 1024 * 1024,
            addresses_remembered: 2048,
        }
    }
}

/// How long things last without a sign of life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// A token's life; use in its second half extends it.
    pub token: Duration,
    /// A peer without heartbeat leaves its parties after this.
    pub peer: Duration,
    /// A relay that is not registered again is forgotten after this.
    pub relay: Duration,
    /// How often the above are looked at.
    pub sweep: Duration,
    /// A create repeated within this gives the party already made.
    pub create_repeat: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Lifetimes {
            token: Duration::from_secs(24 * 3600),
            peer: Duration::from_secs(5 * 60),
            relay: Duration::from_secs(10 * 60),
            sweep: Duration::from_secs(60),
            create_repeat: Duration::from_secs(30),
        }
    }
}
