//! Open WebSockets: who is behind each, and what each is told.

use super::render::{self, View};
use crate::control::Control;
use crate::control::change::{Change, Departure};
use crate::control::party::{Member, Party};
use crate::control::signals::Signal;
use crate::control::standing::Identity;
use crate::control::viewer::LocalClock;
use crate::ids::{PartyId, PeerId, SessionId};
use crate::time::{Instant, Now};
use crate::wire::http::Source;
use crate::wire::json::Writer;
use std::collections::HashMap;
use std::time::Duration;

/// A party is repeated to its members this often: a stock client forgets peers after 5 minutes, and the
/// wire promises 2.
const REPEAT: Duration = Duration::from_secs(90);
/// Sessions that are due within this of each other are served in one turn.
const REPEAT_SLACK: Duration = Duration::from_secs(10);
/// More sessions than this for one peer end the oldest.
const SESSIONS_PER_PEER: usize = 4;

/// One text and the sessions that get it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Who gets it.
    pub to: Vec<SessionId>,
    /// A whole text message.
    pub text: String,
}

struct Session {
    source: Source,
    identity: Option<Identity>,
    /// When its parties were last sent to it whole.
    updated: Instant,
}

/// All open sessions.
#[derive(Default)]
pub struct Sessions {
    by_id: HashMap<SessionId, Session>,
    /// Oldest first.
    by_peer: HashMap<PeerId, Vec<SessionId>>,
}

impl Sessions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A WebSocket was opened.
    pub fn open(&mut self, id: SessionId, source: Source, now: Now) {
        self.by_id.insert(id, Session { source, identity: None, updated: now.instant });
    }

    /// A WebSocket is gone. Memberships stay.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.remove(&id) {
            self.release(id, session.identity);
        }
    }

    /// Where a session comes from.
    pub fn source(&self, id: SessionId) -> Option<Source> {
        self.by_id.get(&id).map(|session| session.source)
    }

    /// Who is behind a session.
    pub fn identity(&self, id: SessionId) -> Option<&Identity> {
        self.by_id.get(&id)?.identity.as_ref()
    }

    /// The sessions of a peer that may speak and hear for it.
    pub fn of(&self, control: &Control, peer: &PeerId) -> Vec<SessionId> {
        let bound = self.by_peer.get(peer).map_or(&[][..], Vec::as_slice);
        bound.iter().copied().filter(|id| self.identity(*id).is_some_and(|who| control.stands(who))).collect()
    }

    /// The sessions that made exactly this claim. Whoever else claims the id, now that it may be free, has
    /// no business with what its former holder was in.
    pub fn bound_as(&self, who: &Identity) -> Vec<SessionId> {
        let bound = self.by_peer.get(&who.peer).map_or(&[][..], Vec::as_slice);
        bound.iter().copied().filter(|id| self.identity(*id) == Some(who)).collect()
    }

    /// Says who is behind a session. Returns a session that has to go because that one has too many.
    pub fn bind(&mut self, id: SessionId, identity: Identity) -> Option<SessionId> {
        let session = self.by_id.get_mut(&id)?;
        let old = session.identity.replace(identity.clone());
        self.release(id, old);
        self.by_peer.entry(identity.peer.clone()).or_default().push(id);
        let bound = self.bound_as(&identity);
        (bound.len() > SESSIONS_PER_PEER).then(|| bound[0])
    }

    /// Nobody is behind a session any more.
    pub fn unbind(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id) {
            let old = session.identity.take();
            self.release(id, old);
        }
    }

    fn release(&mut self, id: SessionId, identity: Option<Identity>) {
        let Some(peer) = identity.map(|identity| identity.peer) else { return };
        if let Some(bound) = self.by_peer.get_mut(&peer) {
            bound.retain(|other| *other != id);
            if bound.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
    }

    /// What the sessions have to be told of a change. `origin` is the session that caused it, which gets its
    /// own answer. Signals come back if their recipient has no session.
    pub fn announce(
        &self,
        control: &Control,
        change: &Change,
        origin: Option<SessionId>,
        now: Now,
        out: &mut Vec<Delivery>,
    ) {
        if self.by_id.is_empty() {
            return;
        }
        match change {
            Change::MemberJoined(party, peer) | Change::MemberChanged(party, peer) => {
                let Ok(party) = control.party(party.as_str()) else { return };
                let Some(member) = party.members.get(peer) else { return };
                let others = members(party).filter(|(other, _)| *other != peer);
                self.deliver(control, others, None, now, out, |view| {
                    render::peer_joined(party, member, view)
                });
                self.deliver(control, [(peer, &**member)], origin, now, out, |view| {
                    render::own_party_update(control, party, member, view)
                });
            }
            Change::PartyChanged(party) => {
                let Ok(party) = control.party(party.as_str()) else { return };
                self.deliver(control, members(party), None, now, out, |view| {
                    render::party_update(party, view)
                });
            }
            Change::MemberLeft { party, who, why, .. } if *why != Departure::PartyDeleted => {
                let text = render::peer_left(party.as_str(), &who.peer);
                let mut to: Vec<SessionId> = control
                    .party(party.as_str())
                    .into_iter()
                    .flat_map(|party| party.members.keys().flat_map(|peer| self.of(control, peer)))
                    .collect();
                let own = self.bound_as(who);
                to.extend(&own);
                push(out, to, text);
                let reason = match why {
                    Departure::Kicked => "You were removed from the party",
                    Departure::Stale => "You were not heard of for too long and are no longer in the party",
                    Departure::Left | Departure::PartyDeleted => return,
                };
                push(out, own, render::error(reason));
            }
            Change::PartyDeleted { party, host, members, .. } => {
                let to: Vec<SessionId> = members.iter().flat_map(|who| self.bound_as(who)).collect();
                push(out, to.clone(), render::peer_left(party.as_str(), host));
                push(out, to, render::party_ended(change).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Hands a signal to its recipient's sessions. `false` if there is none.
    pub fn deliver_signal(
        &self,
        control: &Control,
        party: &PartyId,
        signal: &Signal,
        out: &mut Vec<Delivery>,
    ) -> bool {
        let to = self.of(control, &signal.to);
        let delivered = !to.is_empty();
        if delivered {
            let mut json = Writer::default();
            render::signal(&mut json, party.as_str(), signal);
            push(out, to, json.finish());
        }
        delivered
    }

    /// Everything that a session's peer is in.
    pub fn catch_up(&mut self, control: &Control, id: SessionId, now: Now, out: &mut Vec<Delivery>) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        session.updated = now.instant;
        let Some(identity) = session.identity.as_ref().filter(|identity| control.stands(identity)) else {
            return;
        };
        for party in control.parties_of(&identity.peer) {
            if let Ok(party) = control.party(party.as_str())
                && let Some(member) = party.members.get(&identity.peer)
            {
                let view = View { clock: member.clock, now };
                push(out, vec![id], render::own_party_update(control, party, member, view));
            }
        }
    }

    /// Counts the open sessions of a peer as a sign of life.
    pub fn touch(&self, control: &mut Control, peer: &PeerId, now: Now) {
        let open = self.of(control, peer);
        if let Some(identity) = open.first().and_then(|id| self.identity(*id)) {
            control.touch(identity, now);
        }
    }

    /// When [`Sessions::poll`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_id.values().map(|session| session.updated).min().map(|oldest| oldest + REPEAT)
    }

    /// Repeats parties to those who have not heard of them for a while, and counts their open sessions as
    /// signs of life.
    pub fn poll(&mut self, control: &mut Control, now: Now, out: &mut Vec<Delivery>) {
        let due = |session: &Session| session.updated + REPEAT <= now.instant + REPEAT_SLACK;
        let due: Vec<SessionId> =
            self.by_id.iter().filter(|(_, session)| due(session)).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(identity) = self.identity(id)
                && control.stands(identity)
            {
                control.touch(identity, now);
            }
            self.catch_up(control, id, now, out);
        }
    }

    /// Writes one text for each clock among the sessions of `members`.
    fn deliver<'a>(
        &self,
        control: &Control,
        members: impl IntoIterator<Item = (&'a PeerId, &'a Member)>,
        except: Option<SessionId>,
        now: Now,
        out: &mut Vec<Delivery>,
        write: impl Fn(View) -> String,
    ) {
        let mut by_clock: HashMap<LocalClock, Vec<SessionId>> = HashMap::new();
        for (peer, member) in members {
            let sessions = self.of(control, peer);
            if !sessions.is_empty() {
                by_clock
                    .entry(member.clock)
                    .or_default()
                    .extend(sessions.into_iter().filter(|id| Some(*id) != except));
            }
        }
        for (clock, to) in by_clock {
            push(out, to, write(View { clock, now }));
        }
    }
}

fn members(party: &Party) -> impl Iterator<Item = (&PeerId, &Member)> {
    party.members.iter().map(|(peer, member)| (peer, &**member))
}

fn push(out: &mut Vec<Delivery>, to: Vec<SessionId>, text: String) {
    if !to.is_empty() {
        out.push(Delivery { to, text });
    }
}
