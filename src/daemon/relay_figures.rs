//! What the relay has counted, as the API tells it.

use super::relay_loop::RelayLoop;
use crate::api::metrics::RelayView;
use crate::crypto::x25519::PublicKey;
use crate::figures::{Drops, Figure, MemberStats, Meter, Readings};
use crate::time::Instant;
use std::time::Duration;

/// How long the count of reachable members may be out of date: it looks at every member.
const LOAD_LIFETIME: Duration = Duration::from_secs(1);

impl Meter for RelayLoop {
    fn report(&self, out: &mut Readings) {
        self.relay.borrow().report(out);
        self.count_socket_drops(&mut out.stats);
        out.set(Figure::Gso, u64::from(self.uses_gso()));
    }
}

impl RelayView for RelayLoop {
    fn member(&self, key: &PublicKey) -> Option<(MemberStats, Drops)> {
        let relay = self.relay.borrow();
        Some((*relay.member_stats(key)?, relay.member_drops(key).cloned().unwrap_or_default()))
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
