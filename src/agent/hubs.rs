//! The hubs of relays that pairs use: they are told where we are. And what the owner hears of relays.

use crate::agent::Agent;
use crate::agent::peers::{HUB_KEEPALIVE, Peers};
use crate::agent::relays::{KnownRelay, KnownRelays};
use crate::agent::turn::AgentTurn;
use crate::agent::view::MeasuredRelay;
use crate::time::Instant;
use crate::wireguard::peer::PeerSettings;
use std::time::Duration;

/// Between initiations to a hub that does not answer, of which there are so many.
const HUB_TRIES: [Duration; 3] =
    [Duration::from_millis(700), Duration::from_secs(2), Duration::from_secs(60)];

impl Agent {
    /// The relays that the control plane lists.
    pub fn relays(&self) -> impl Iterator<Item = MeasuredRelay<'_>> {
        let Agent { locality, peers, .. } = self;
        let used =
            |mark| peers.pairs.values().filter(|pair| locality.told_mark(pair.relay_mark) == mark).count();
        locality.relays.known.iter().map(move |known| known.measured(used(known.mark)))
    }
}

impl Peers {
    /// Hubs of relays that are in use are told where we are, so that what is for us gets here; others are left.
    pub fn keep_hubs(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        for known in &mut turn.locality.relays.known {
            let is_used = !known.is_home
                && known.round_trip.is_some()
                && self.pairs.values().any(|pair| pair.uses_relay(known.mark));
            match (known.hub, known.listed.key) {
                (Some(hub), _) if !is_used => {
                    turn.device.remove_peer(hub);
                    known.hub = None;
                }
                // A key that a member or the party's hub has is nobody else's.
                (None, Some(key)) if is_used && turn.device.find_peer(&key).is_none() => {
                    let settings = PeerSettings {
                        endpoint: Some(known.listed.endpoint),
                        roams: false,
                        ..PeerSettings::new(key)
                    };
                    known.hub = turn.device.add_peer(settings, now).ok();
                    (known.hub_due, known.hub_tries) = (now, 0);
                }
                _ => {}
            }
            let Some(hub) = known.hub else { continue };
            if turn.device.can_send(hub, now) {
                if known.hub_tries > 0 {
                    known.hub_tries = 0;
                    turn.device.set_persistent_keepalive(hub, Some(HUB_KEEPALIVE), now);
                }
            } else if known.hub_due <= now
                && let Some(&wait) = HUB_TRIES.get(known.hub_tries)
            {
                turn.device.probe(hub, known.listed.endpoint, turn.now);
                known.hub_tries += 1;
                known.hub_due = now + wait;
            }
        }
    }

    /// When [`Peers::keep_hubs`] has something to do.
    pub fn hubs_due(relays: &KnownRelays) -> Option<Instant> {
        let waits =
            |known: &&KnownRelay| known.hub.is_some() && (1..HUB_TRIES.len()).contains(&known.hub_tries);
        relays.known.iter().filter(waits).map(|known| known.hub_due).min()
    }
}
