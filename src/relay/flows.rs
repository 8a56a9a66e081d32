//! The forward table (rule 5): blind sessions, one entry per direction.

use crate::datagram::Path;
use crate::figures::Volume;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::owners::table::{Merit, OwnedEntry, OwnedTable};
use crate::relay::flow_key::FlowKey;
use crate::relay::limits::{IDLE_LIFETIME, OFFER_LIFETIME, RelayLimits};
use crate::relay::roster::{MemberId, PartySlot, Roster};
use crate::relay::rules::Rule;
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::slots::Handle;
use crate::time::Instant;
use std::collections::HashMap;
use std::net::IpAddr;

/// Names one direction of a blind session.
pub type FlowId = Handle<OwnedEntry<FlowKey, Flow>>;

/// How far a blind session has come, seen from one of its directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowState {
    /// The answer to its sender's initiation was forwarded, and may be anybody's. Its sender's first data confirms that
    /// it was the responder's.
    Offered,
    /// As [`FlowState::Offered`], and a cookie reply to the answer was forwarded.
    Challenged,
    /// The other direction is only offered. Nothing may come yet: WireGuard's responder is silent until it has had data
    /// from the initiator.
    Held,
    /// Both ends are who they say, at addresses that receive what we send.
    Open,
}

/// One direction of a blind session.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Where its data goes.
    pub to: Path,
    /// The other direction, whose data comes from there.
    pub twin: Option<FlowId>,
    /// Who sends it.
    pub from: MemberId,
    /// Who gets it.
    pub receiver: MemberId,
    /// A party of both.
    pub party: PartySlot,
    /// The number of the sender's address bucket.
    pub bucket: u16,
    /// How far it has come.
    pub state: FlowState,
    /// When data last came, or it was set up.
    pub last: Instant,
    /// The data so far.
    pub count: Volume,
}

impl Flow {
    fn merit(&self) -> Merit {
        Merit { is_confirmed: self.state == FlowState::Open, since: self.last }
    }

    fn is_over(&self, now: Instant) -> bool {
        let lifetime = if self.state == FlowState::Open { IDLE_LIFETIME } else { OFFER_LIFETIME };
        now.since(self.last) >= lifetime
    }
}

/// All directions of all blind sessions.
pub struct Flows {
    table: OwnedTable<FlowKey, Flow>,
    /// Flows by their index alone; of those with the same one the last.
    by_index: HashMap<u32, FlowId, KeyedState>,
}

impl Flows {
    /// None yet.
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        Flows { table: OwnedTable::new(hasher, seed), by_index: HashMap::with_hasher(hasher) }
    }

    /// How many directions there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Who holds how many.
    pub fn held(&self) -> &Holdings {
        self.table.held()
    }

    /// The flow with this key: the one look-up that a data packet costs.
    pub fn with_key_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.table.with_key_mut(key)
    }

    /// A flow by its name.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.table.get_mut(id)
    }

    /// Whether a flow is there and confirmed.
    pub fn is_open(&self, id: FlowId) -> bool {
        self.table.get(id).is_some_and(|flow| flow.state == FlowState::Open)
    }

    /// A flow whose data bears this index, from wherever.
    pub fn with_index(&self, index: u32) -> Option<&Flow> {
        self.table.get(*self.by_index.get(&index)?)
    }

    /// Whether there is a flow with this key.
    pub fn contains(&self, key: &FlowKey) -> bool {
        self.table.find(key).is_some()
    }

    /// Both directions of all confirmed sessions, each session once: key and flow, and those of the other direction.
    pub fn sessions(&self) -> impl Iterator<Item = [(&FlowKey, &Flow); 2]> {
        self.table.iter().filter(|(_, _, flow)| flow.state == FlowState::Open).filter_map(
            |(id, key, flow)| {
                let twin = flow.twin.filter(|&twin| id < twin)?;
                Some([(key, flow), self.table.entry(twin)?])
            },
        )
    }

    /// Adds a session whose keys are free, charged to `payer`: the direction of its initiator, then the other one. If
    /// there is no room, the oldest of whoever holds most goes; if one of the two has too many, his own oldest.
    pub fn insert(
        &mut self,
        roster: &mut Roster,
        limits: &RelayLimits,
        payer: IpAddr,
        [there, back]: [(FlowKey, Flow); 2],
    ) {
        for member in [there.1.from, there.1.receiver] {
            while self.of(roster, member).len() + 2 > limits.flows_per_member.max(2) {
                let oldest =
                    |id: &FlowId| self.table.get(*id).map(Flow::merit).map(|m| (m.is_confirmed, m.since));
                let Some(&oldest) = self.of(roster, member).iter().min_by_key(|id| oldest(id)) else { break };
                self.remove(roster, oldest);
            }
        }
        while self.table.len() + 2 > limits.flows.max(2) {
            let Some(victim) = self.table.victim(|flow| Some(flow.merit())) else { break };
            self.remove(roster, victim);
        }
        let ids = [there, back].map(|(key, flow)| {
            let members = [flow.from, flow.receiver];
            let id = self.table.insert(key, payer, flow);
            self.by_index.insert(key.index(), id);
            for member in members {
                if let Some(state) = roster.state(member) {
                    state.appear().flows.push(id);
                }
            }
            id
        });
        for (id, twin) in [(ids[0], ids[1]), (ids[1], ids[0])] {
            if let Some(flow) = self.table.get_mut(id) {
                flow.twin = Some(twin);
            }
        }
    }

    /// The first data of an offered session has come: both directions are open from now on. Gives the other one.
    pub fn open(&mut self, id: FlowId, now: Instant) -> Option<FlowId> {
        let flow = self.table.get_mut(id)?;
        flow.state = FlowState::Open;
        let twin = flow.twin?;
        let other = self.table.get_mut(twin)?;
        (other.state, other.last) = (FlowState::Open, now);
        Some(twin)
    }

    /// Which flow has this key; or, without the rule that asks for the whole of it, this index.
    pub fn find(&self, key: &FlowKey, rule: Rule) -> Option<FlowId> {
        let id = self.table.find(key);
        if rule.holds() { id } else { id.or_else(|| self.by_index.get(&key.index()).copied()) }
    }

    /// All that a member sends or gets.
    fn of<'a>(&self, roster: &'a Roster, member: MemberId) -> &'a [FlowId] {
        let state = roster.get(member).and_then(|member| member.state.presence());
        state.map_or(&[], |presence| &presence.flows)
    }

    /// Removes a session.
    fn remove(&mut self, roster: &mut Roster, id: FlowId) {
        let twin = self.table.get(id).and_then(|flow| flow.twin);
        for id in [Some(id), twin].into_iter().flatten() {
            let Some((key, flow)) = self.table.remove(id) else { continue };
            self.forget(roster, id, &key, &flow);
        }
    }

    fn forget(&mut self, roster: &mut Roster, id: FlowId, key: &FlowKey, flow: &Flow) {
        if self.by_index.get(&key.index()) == Some(&id) {
            self.by_index.remove(&key.index());
        }
        for member in [flow.from, flow.receiver] {
            if let Some(presence) = roster.state(member).and_then(|state| state.presence_mut())
                && let Some(index) = presence.flows.iter().position(|other| *other == id)
            {
                presence.flows.swap_remove(index);
            }
        }
    }

    /// Ends those sessions of a member, whose flows these are, that it has with somebody whom `keep` denies.
    pub fn end(
        &mut self,
        roster: &mut Roster,
        member: MemberId,
        flows: &[FlowId],
        keep: impl Fn(&Roster, MemberId) -> bool,
    ) {
        for &id in flows {
            let other = self.table.get(id).map(|f| if f.from == member { f.receiver } else { f.from });
            if other.is_some_and(|other| !keep(roster, other)) {
                self.remove(roster, id);
            }
        }
    }

    /// Moves all open flows of `member` to `path`, whose other end is validated.
    pub fn relocate(&mut self, roster: &mut Roster, member: MemberId, path: Path, bucket: u16) {
        for id in self.of(roster, member).to_vec() {
            let Some((key, flow)) = self.table.entry(id) else { continue };
            if flow.from != member || flow.state != FlowState::Open {
                continue;
            }
            let (moved, twin) = (key.at(path.remote), flow.twin);
            if moved != *key {
                if self.contains(&moved) {
                    self.remove(roster, id);
                    continue;
                }
                self.table.rename(id, moved);
            }
            if let Some(flow) = self.table.get_mut(id) {
                flow.bucket = bucket;
            }
            if let Some(twin) = twin.and_then(|twin| self.table.get_mut(twin)) {
                twin.to = path;
            }
        }
    }

    /// Forgets sessions of which one direction is without traffic. What lives sends at least a keepalive now
    /// and then.
    pub fn sweep(&mut self, roster: &mut Roster, now: Instant) {
        let over: Vec<_> =
            self.table.iter().filter(|(_, _, flow)| flow.is_over(now)).map(|(id, _, _)| id).collect();
        over.into_iter().for_each(|id| self.remove(roster, id));
    }

    /// What tells one state of them from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let mut all: Vec<_> = self.table.iter().map(|(_, key, flow)| (key, flow)).collect();
        all.sort_unstable_by_key(|(key, _)| (key.address(), key.index()));
        for (key, flow) in all {
            let Flow { to: there, twin, from, receiver, state, last, .. } = flow;
            let twin = twin.and_then(|twin| self.table.key(twin)).map_or(0, |twin| twin.index());
            to.address(key.address()).address(there.remote).index(key.index()).index(twin);
            to.number(from.slot().into()).number(receiver.slot().into()).number(*state as u64).age(*last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_roster;
    use std::net::SocketAddr;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 9))
    }

    fn flow(to: SocketAddr, from: MemberId, receiver: MemberId, state: FlowState) -> Flow {
        Flow {
            to: Path::to(to),
            twin: None,
            from,
            receiver,
            party: 0,
            bucket: 0,
            state,
            last: START,
            count: Volume::default(),
        }
    }

    struct TestFlows {
        roster: Roster,
        members: Vec<MemberId>,
        flows: Flows,
        limits: RelayLimits,
    }

    impl TestFlows {
        fn new(members: u8, limits: RelayLimits) -> Self {
            let (roster, members) = some_roster(members);
            TestFlows { roster, members, flows: Flows::new(KeyedState::new(1, 2), 3), limits }
        }

        /// A session between two members: indices `index` there and `index + 1` back, at addresses by number.
        fn pair(&mut self, one: usize, other: usize, index: u32, open: bool) {
            let (a, b) = (self.members[one], self.members[other]);
            let states = if open { [FlowState::Open; 2] } else { [FlowState::Offered, FlowState::Held] };
            let there =
                (FlowKey::new(address(one as u8), index), flow(address(other as u8), a, b, states[0]));
            let back =
                (FlowKey::new(address(other as u8), index + 1), flow(address(one as u8), b, a, states[1]));
            let TestFlows { roster, flows, limits, .. } = self;
            flows.insert(roster, limits, address(one as u8).ip(), [there, back]);
        }

        fn count_of(&self, member: usize) -> usize {
            self.flows.of(&self.roster, self.members[member]).len()
        }
    }

    #[test]
    fn a_member_s_flows_move_together() {
        let mut house = TestFlows::new(3, RelayLimits::default());
        house.pair(0, 1, 10, true);
        house.pair(2, 0, 20, true);
        house.pair(2, 1, 30, true);
        let there = Path { remote: address(9), local: Some([10, 0, 0, 1].into()) };
        house.flows.relocate(&mut house.roster, house.members[0], there, 5);
        let flow = |key| house.flows.table.with_key(&key);
        assert!(flow(FlowKey::new(address(0), 10)).is_none());
        assert_eq!(flow(FlowKey::new(address(9), 10)).unwrap().bucket, 5);
        assert_eq!(flow(FlowKey::new(address(1), 11)).unwrap().to, there);
        assert_eq!(flow(FlowKey::new(address(2), 20)).unwrap().to, there);
        assert_eq!(flow(FlowKey::new(address(2), 30)).unwrap().to.remote, address(1));
        assert_eq!(house.flows.sessions().count(), 3);
    }

    #[test]
    fn what_ends_leaves_nothing() {
        let mut house = TestFlows::new(3, RelayLimits::default());
        house.pair(0, 1, 10, true);
        house.pair(0, 2, 20, false);
        let (of_first, second) = (house.flows.of(&house.roster, house.members[0]).to_vec(), house.members[1]);
        house.flows.end(&mut house.roster, house.members[0], &of_first, |_, other| other == second);
        assert_eq!((house.flows.len(), house.count_of(0), house.count_of(2)), (2, 2, 0));
        assert!(house.flows.with_index(20).is_none() && house.flows.with_index(11).is_some());
        house.flows.end(&mut house.roster, house.members[0], &of_first, |_, _| false);
        assert!(house.flows.is_empty() && house.flows.by_index.is_empty() && house.count_of(1) == 0);
    }

    #[test]
    fn a_session_lives_while_both_send_and_an_offer_not_long() {
        let mut house = TestFlows::new(3, RelayLimits::default());
        house.pair(0, 1, 10, true);
        house.pair(0, 2, 20, false);
        house.flows.sweep(&mut house.roster, START + OFFER_LIFETIME);
        assert_eq!(house.flows.len(), 2, "the offer is over");
        let late = START + IDLE_LIFETIME;
        for (host, index) in [(0, 10), (1, 11)] {
            house.flows.with_key_mut(&FlowKey::new(address(host), index)).unwrap().last = late;
        }
        house.flows.sweep(&mut house.roster, late);
        assert_eq!(house.flows.len(), 2);
        house.flows.with_key_mut(&FlowKey::new(address(1), 11)).unwrap().last = START;
        house.flows.sweep(&mut house.roster, late);
        assert!(house.flows.is_empty(), "one still sends, but gets no answer");
    }

    #[test]
    fn who_offers_much_makes_room_and_running_games_stay() {
        let limits = RelayLimits { flows: 40, flows_per_member: 30, ..RelayLimits::default() };
        let mut house = TestFlows::new(6, limits);
        house.pair(0, 1, 10, true);
        for index in 0..500 {
            house.pair(2 + index % 2, 4 + index % 2, 1000 + 2 * index as u32, false);
            assert!(house.flows.len() <= 40 && (2..6).all(|member| house.count_of(member) <= 30));
        }
        assert!(house.flows.with_index(10).is_some(), "what is confirmed stays");
        // His own newest are there.
        assert!(house.flows.with_index(1000 + 2 * 499).is_some());
        // Also if what he has is confirmed.
        for index in 0..500 {
            house.pair(2 + index % 2, 4 + index % 2, 3000 + 2 * index as u32, true);
        }
        assert!(house.flows.with_index(10).is_some());
    }
}
