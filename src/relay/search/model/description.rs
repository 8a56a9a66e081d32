//! What there is, as far as it makes a difference to what can happen.

use super::{Model, REMEMBERED, SECOND};
use crate::relay::blind::Blind;
use crate::relay::limits::SWEEP_INTERVAL;
use crate::relay::search::actions::{Forgery, Second};
use crate::relay::search::fingerprint::Fingerprint;
use crate::relay::search::messages::sender_index;
use crate::relay::state::RelayState;

impl Model {
    pub fn describe(&self) -> Fingerprint {
        let mut to = Fingerprint::new(self.now);
        let RelayState { roster, sources, .. } = &self.relay.state;
        for (id, member) in roster.iter() {
            to.number(id.slot().into());
            if let Some(presence) = member.state.presence() {
                presence.endpoints.describe(to.age(presence.heard));
            }
        }
        let Blind { flows, pending, pacer } = &self.relay.blind;
        flows.describe(&mut to);
        pending.describe(&mut to);
        pacer.describe(&mut to);
        sources.describe(&mut to);
        to.left(self.relay.swept + SWEEP_INTERVAL);
        self.players.iter().for_each(|player| player.describe(&mut to));
        to.number(self.on_its_way.len() as u64);
        for (there, bytes) in &self.on_its_way {
            to.address(*there).number(bytes[0].into()).index(sender_index(bytes));
        }
        to.number(self.has_left.into()).number(self.playing_since.is_some().into());
        for bytes in self.got.iter().rev().take(REMEMBERED) {
            to.index(sender_index(bytes));
        }
        to.number(55);
        for &index in self.indices.iter().rev().take(2 * REMEMBERED) {
            to.index(index);
            to.number(
                self.sources().iter().filter(|&&source| self.told.contains(&(source, index))).count() as u64
            );
        }
        for &(source, forgery, at) in &self.knocks {
            if self.now.since(at) < 3 * SECOND {
                let Forgery::Initiation(whom) = forgery else { continue };
                to.number(source as u64).number(whom as u64).age(at);
            }
        }
        let spoofed = self.accounts.get(&self.second()).copied().unwrap_or_default();
        if self.setup.second == Second::Spoofed {
            to.number(spoofed.from.saturating_sub(spoofed.to));
        }
        to
    }
}
