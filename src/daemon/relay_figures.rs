//! What the relay has counted, as the API tells it.

use super::relay_loop::RelayLoop;
use crate::api::metrics::{MemberFigures, RelayFigures, RelayView, Traffic};
use crate::crypto::x25519::PublicKey;
use crate::owners::Usage;
use crate::relay::stats::{Count, Reach};
use crate::time::Instant;
use std::time::Duration;

/// How long the count of reachable members may be out of date: it looks at every member.
const LOAD_LIFETIME: Duration = Duration::from_secs(1);

fn traffic(count: Count) -> Traffic {
    Traffic { packets: count.packets, bytes: count.bytes }
}

impl RelayView for RelayLoop {
    fn figures(&self) -> RelayFigures {
        let relay = self.relay.borrow();
        let stats = relay.stats();
        RelayFigures {
            received: traffic(stats.received),
            sent: traffic(stats.sent),
            blind: traffic(stats.blind),
            hub: traffic(stats.hub),
            broadcast: traffic(stats.broadcast),
            stun: traffic(stats.stun),
            local: traffic(stats.local),
            flows: relay.flow_count() as u64,
            drops: stats.drops().chain(self.socket_drops()).collect(),
            gso: self.uses_gso(),
        }
    }

    fn member(&self, key: &PublicKey) -> Option<MemberFigures> {
        let relay = self.relay.borrow();
        let stats = relay.member_stats(key)?;
        Some(MemberFigures {
            path: match stats.reach {
                Reach::None => "none",
                Reach::Blind => "blind",
                Reach::Hub => "hub",
            },
            last_handshake: stats.last_handshake,
            from: traffic(stats.from),
            to: traffic(stats.to),
            drops: relay.member_drops(key).collect(),
        })
    }

    fn usage(&self) -> [Usage; 4] {
        self.relay.borrow().usage()
    }

    fn load(&self) -> u32 {
        let now = (self.clock)().instant;
        let (counted, load) = self.load.get();
        if now.since(counted) < LOAD_LIFETIME && counted != Instant::ZERO {
            return load;
        }
        let load = u32::try_from(self.relay.borrow().reachable_count()).unwrap_or(u32::MAX);
        self.load.set((now, load));
        load
    }
}
