//! Open WebSockets: who is behind each, and what each is told.

use super::admission::Client;
use super::render::{self, View};
use super::updates::{Topic, Updates};
use crate::control::Control;
use crate::control::change::{Change, Departure};
use crate::control::party::{Member, Party, host_id};
use crate::control::signals::Signal;
use crate::control::standing::Identity;
use crate::control::viewer::LocalClock;
use crate::ids::{PartyId, PeerId, SessionId};
use crate::time::{Instant, Now};
use crate::wire::http::Source;
use crate::wire::json::JsonWriter;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A party is repeated to its members this often: a stock client forgets peers after 5 minutes, and the
/// wire promises 2.
const REPEAT: Duration = Duration::from_secs(90);
/// Sessions that are due within this of each other are served in one turn.
const REPEAT_SLACK: Duration = Duration::from_secs(10);
/// More sessions than this for one peer end the oldest.
const SESSIONS_PER_PEER: usize = 4;

/// Names of parties that a session is known to use.
const NAMES_PER_SESSION: usize = 8;

/// One update is written at most so often, for readers in different times.
const TEXTS_PER_UPDATE: usize = 8;

/// One text and the sessions that get it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Who gets it.
    pub to: Vec<SessionId>,
    /// A whole text message.
    pub text: String,
}

struct OpenSession {
    client: Client,
    identity: Option<Identity>,
    /// What it calls parties that came by other names than their ids.
    names: Vec<(PartyId, Box<str>)>,
    /// When its parties were last sent to it whole.
    updated: Instant,
}

/// All open sessions.
#[derive(Default)]
pub struct Sessions {
    by_id: HashMap<SessionId, OpenSession>,
    /// Oldest first.
    by_peer: HashMap<PeerId, Vec<SessionId>>,
    updates: Updates,
    /// How often something was written for sessions.
    rounds: usize,
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
    pub fn open(&mut self, id: SessionId, client: Client, now: Now) {
        self.by_id
            .insert(id, OpenSession { client, identity: None, names: Vec::new(), updated: now.instant });
    }

    /// A WebSocket is gone. Memberships stay.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.remove(&id) {
            self.release(id, session.identity);
        }
    }

    /// Who opened a session.
    pub fn client(&self, id: SessionId) -> Option<Client> {
        self.by_id.get(&id).map(|session| session.client)
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

    /// Takes in what the peer behind a session calls its parties, so that it is told of them by those names: a stock
    /// client that joined by a code knows no other.
    pub fn learn_names(&mut self, id: SessionId, names: Vec<(PartyId, Box<str>)>) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        for (party, name) in names {
            session.names.retain(|(known, _)| *known != party);
            if session.names.len() >= NAMES_PER_SESSION {
                session.names.remove(0);
            }
            session.names.push((party, name));
        }
    }

    /// The same deliveries, where each session that calls a party by another name than its id is told of it by that.
    pub fn in_their_words(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        if self.by_id.values().all(|session| session.names.is_empty()) {
            return deliveries;
        }
        let mut out = Vec::with_capacity(deliveries.len());
        for Delivery { mut to, text } in deliveries {
            let mut own = Vec::new();
            to.retain(|id| {
                let names = self.by_id.get(id).map_or(&[][..], |session| &session.names);
                // What a message is about comes first in it.
                let said = names.iter().find_map(|(party, name)| {
                    let id = format!("\"party_id\":\"{party}\"");
                    text.contains(&id).then(|| text.replacen(&id, &format!("\"party_id\":\"{name}\""), 1))
                });
                let is_as_it_stands = said.is_none();
                own.extend(said.map(|text| Delivery { to: vec![*id], text }));
                is_as_it_stands
            });
            if !to.is_empty() {
                out.push(Delivery { to, text });
            }
            out.append(&mut own);
        }
        out
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
        &mut self,
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
                if self.updates.admit(Topic::Peer(party.id.clone(), peer.clone()), now.instant) {
                    self.tell_peer(control, party, peer, now, out);
                }
                let own = self.of(control, peer).into_iter().filter(|id| Some(*id) != origin).collect();
                self.tell_party(control, party, own, now, out);
            }
            Change::PartyChanged(party) | Change::PartyRenamed { party, .. } => {
                let Ok(party) = control.party(party.as_str()) else { return };
                let all = party.members.keys().flat_map(|peer| self.of(control, peer)).collect();
                self.tell_party(control, party, all, now, out);
            }
            Change::MemberLeft { party, who, why, .. } if *why != Departure::PartyDeleted => {
                let text = render::peer_left(party.as_str(), who.peer.as_str());
                let mut to: Vec<SessionId> = control
                    .party(party.as_str())
                    .into_iter()
                    .flat_map(|party| party.members.keys().flat_map(|peer| self.of(control, peer)))
                    .collect();
                let own = self.bound_as(who);
                to.extend(&own);
                push(out, to, text);
                let reason = match why {
                    Departure::Kicked | Departure::Banned => "You were removed from the party",
                    Departure::Stale => "You were not heard of for too long and are no longer in the party",
                    Departure::Left | Departure::Expired | Departure::PartyDeleted => return,
                };
                push(out, own, render::error(reason));
            }
            Change::PartyDeleted { party, host, members, .. } => {
                let to: Vec<SessionId> = members.iter().flat_map(|who| self.bound_as(who)).collect();
                push(out, to.clone(), render::peer_left(party.as_str(), host_id(host.as_ref())));
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
            let mut json = JsonWriter::default();
            render::signal(&mut json, party.as_str(), signal);
            push(out, to, json.finish());
        }
        delivered
    }

    /// Everything that a session's peer is in.
    pub fn catch_up(&mut self, control: &Control, id: SessionId, now: Now, out: &mut Vec<Delivery>) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        session.updated = now.instant;
        let Some(identity) = session.identity.clone().filter(|identity| control.stands(identity)) else {
            return;
        };
        for party in control.parties_of(&identity.peer) {
            if let Ok(party) = control.party(party.as_str()) {
                self.tell_party(control, party, vec![id], now, out);
            }
        }
    }

    /// When there is news for sessions that have to wait for it.
    pub fn update_timeout(&self) -> Option<Instant> {
        self.updates.poll_timeout()
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
        let repeat = self.by_id.values().map(|session| session.updated).min().map(|oldest| oldest + REPEAT);
        [repeat, self.update_timeout()].into_iter().flatten().min()
    }

    /// Tells what had to wait, repeats parties to those who have not heard of them for a while, and counts their
    /// open sessions as signs of life.
    pub fn poll(&mut self, control: &mut Control, now: Now, out: &mut Vec<Delivery>) {
        let mut by_party: BTreeMap<PartyId, BTreeSet<SessionId>> = BTreeMap::new();
        for topic in self.updates.take_due(now.instant) {
            match topic {
                Topic::Party(session, party) => drop(by_party.entry(party).or_default().insert(session)),
                Topic::Peer(party, peer) => {
                    if let Ok(party) = control.party(party.as_str())
                        && self.updates.admit(Topic::Peer(party.id.clone(), peer.clone()), now.instant)
                    {
                        self.tell_peer(control, party, &peer, now, out);
                    }
                }
            }
        }
        for (id, session) in &mut self.by_id {
            if session.updated + REPEAT > now.instant + REPEAT_SLACK {
                continue;
            }
            session.updated = now.instant;
            if let Some(identity) = session.identity.as_ref().filter(|identity| control.stands(identity)) {
                control.touch(identity, now);
                for party in control.parties_of(&identity.peer) {
                    by_party.entry(party.clone()).or_default().insert(*id);
                }
            }
        }
        for (party, sessions) in by_party {
            if let Ok(party) = control.party(party.as_str()) {
                self.tell_party(control, party, sessions.into_iter().collect(), now, out);
            }
        }
    }

    /// Tells the others in a party of one of its peers.
    fn tell_peer(
        &mut self,
        control: &Control,
        party: &Party,
        peer: &PeerId,
        now: Now,
        out: &mut Vec<Delivery>,
    ) {
        let Some(member) = party.members.get(peer) else { return };
        let others = party.members.iter().filter(|(other, _)| *other != peer);
        let to = others
            .flat_map(|(other, member)| self.of(control, other).into_iter().map(|id| (member.clock, id)))
            .collect();
        self.deliver(party, to, now, out, |view| render::peer_joined(party, member, view));
    }

    /// Tells a whole party to those of its sessions that were not told just now; the others hear of it later.
    fn tell_party(
        &mut self,
        control: &Control,
        party: &Party,
        sessions: Vec<SessionId>,
        now: Now,
        out: &mut Vec<Delivery>,
    ) {
        // By what a member has to be warned of, of which there are a few kinds.
        let mut by_trouble: Vec<(&Member, Vec<(LocalClock, SessionId)>)> = Vec::new();
        for id in sessions {
            if let Some(identity) = self.identity(id)
                && control.stands(identity)
                && let Some(member) = party.members.get(&identity.peer)
                && self.updates.admit(Topic::Party(id, party.id.clone()), now.instant)
            {
                let trouble = control.key_trouble(member);
                let known = by_trouble.iter_mut().find(|(other, _)| control.key_trouble(other) == trouble);
                match known {
                    Some((_, to)) => to.push((member.clock, id)),
                    None => by_trouble.push((member, vec![(member.clock, id)])),
                }
            }
        }
        for (member, to) in by_trouble {
            self.deliver(party, to, now, out, |view| render::own_party_update(control, party, member, view));
        }
    }

    /// Writes a text for each clock, or for several if there are too many. Sessions whose source was sent too
    /// much already are told of the whole party later instead.
    fn deliver(
        &mut self,
        party: &Party,
        mut to: Vec<(LocalClock, SessionId)>,
        now: Now,
        out: &mut Vec<Delivery>,
        write: impl Fn(View) -> String,
    ) {
        let shown = |clock: LocalClock| clock.show(now.instant, now);
        to.sort_by_key(|(clock, _)| shown(*clock));
        let clocks: Vec<&[_]> = to.chunk_by(|(a, _), (b, _)| shown(*a) == shown(*b)).collect();
        let per_text = clocks.len().div_ceil(TEXTS_PER_UPDATE).max(1);
        let mut groups: Vec<Vec<(LocalClock, SessionId)>> =
            clocks.chunks(per_text).map(<[_]>::concat).collect();
        // If there is not enough for all, it is not always the same who wait.
        self.rounds = self.rounds.wrapping_add(1);
        let first = self.rounds % groups.len().max(1);
        groups.rotate_left(first);
        for mut group in groups {
            // Of several clocks the latest: nobody minds times that are ahead.
            let Some((clock, _)) = group.last() else { continue };
            let text = write(View { clock: *clock, now });
            let first = self.rounds % group.len();
            group.rotate_left(first);
            let mut told = Vec::with_capacity(group.len());
            for (_, id) in group {
                let source = self.client(id).map_or(Source::Unix, |client| client.source);
                if self.updates.spend(source, text.len(), now.instant) {
                    told.push(id);
                } else {
                    self.updates.postpone(Topic::Party(id, party.id.clone()), now.instant);
                }
            }
            push(out, told, text);
        }
    }
}

fn push(out: &mut Vec<Delivery>, to: Vec<SessionId>, text: String) {
    if !to.is_empty() {
        out.push(Delivery { to, text });
    }
}
