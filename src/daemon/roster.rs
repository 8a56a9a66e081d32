//! Members of the control plane's parties in the relay's roster.

use super::relay_loop::RelayLoop;
use crate::control::Control;
use crate::control::change::Change;
use crate::control::keys::RelayService;
use crate::ids::{PartyId, PeerId};
use crate::time::Instant;

impl RelayLoop {
    /// Brings the roster up to date with a change of the control plane.
    pub fn follow(&self, control: &Control, change: &Change, now: Instant) {
        match change {
            Change::MemberJoined(party, peer)
            | Change::MemberChanged(party, peer)
            | Change::MemberMoved(party, peer) => {
                self.admit(control, party, peer, now);
            }
            Change::PartyRenamed { from, party, members } => {
                // In the new one first, so that nobody's sessions end.
                members.iter().for_each(|peer| self.admit(control, party, peer, now));
                members.iter().for_each(|peer| self.relay.borrow_mut().leave(from, peer, now));
            }
            Change::MemberLeft { party, who, .. } => self.relay.borrow_mut().leave(party, &who.peer, now),
            _ => {}
        }
    }

    /// Takes every member of every party into the roster.
    pub fn admit_all(&self, control: &Control, now: Instant) {
        for party in control.parties() {
            for peer in party.members.keys() {
                self.admit(control, &party.id, peer, now);
            }
        }
    }

    fn admit(&self, control: &Control, party: &PartyId, peer: &PeerId, now: Instant) {
        let Ok(found) = control.party(party.as_str()) else { return };
        let Some(member) = found.members.get(peer) else { return };
        let mut relay = self.relay.borrow_mut();
        let joined = match member.relay_service() {
            RelayService::Served { key } => {
                let joined = relay.join(party, peer, key, member.virtual_ip, now);
                relay.set_origin(&key, member.origin);
                joined
            }
            RelayService::Claimed { key, from } => {
                relay.claim(party, peer, key, from, now);
                return;
            }
            RelayService::None => {
                relay.leave(party, peer, now);
                return;
            }
        };
        if let Err(error) = joined {
            log::warn!("peer {peer} gets no relay service: {error}");
        }
    }

    /// How many members a party may have from now on.
    pub fn set_members_per_party(&self, count: usize) {
        self.relay.borrow_mut().set_members_per_party(count);
    }
}
