//! The forward table (rule 5): blind sessions, one entry per direction.

use crate::keyed_hash::KeyedState;
use crate::relay::flow_key::FlowKey;
use crate::relay::limits::IDLE_LIFETIME;
use crate::relay::roster::{MemberId, PartySlot};
use crate::relay::stats::Count;
use crate::time::Instant;
use std::collections::HashMap;
use std::net::SocketAddr;

/// One direction of a blind session.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Where its data goes.
    pub to: SocketAddr,
    /// The index of the other direction, whose data comes from `to`.
    pub twin: u32,
    /// Who sends it.
    pub from: MemberId,
    /// Who gets it.
    pub receiver: MemberId,
    /// A party of both.
    pub party: PartySlot,
    /// The number of the sender's address bucket.
    pub bucket: u16,
    /// Whether nothing is left to be checked but the buckets: both addresses are proven.
    pub settled: bool,
    /// Whether the first data from the source will prove it: the index was told nowhere else.
    pub echo: bool,
    /// Whether it waits for the first data of the other direction, as WireGuard itself does: until then nobody
    /// has shown that its receiver wants it.
    pub held: bool,
    /// Whether a cookie reply to the handshake's answer was forwarded.
    pub challenged: bool,
    /// When data last came, or it was set up.
    pub last: Instant,
    /// The data so far.
    pub count: Count,
}

impl Flow {
    /// The key of the other direction.
    pub fn twin_key(&self) -> FlowKey {
        FlowKey::new(self.to, self.twin)
    }
}

/// All directions of all blind sessions.
pub struct Flows {
    map: HashMap<FlowKey, Flow, KeyedState>,
    /// Keys by their index alone; of those with the same one the last.
    by_index: HashMap<u32, FlowKey, KeyedState>,
    /// The keys of each member's flows, by slot: of those it sends and of those it gets.
    by_member: Vec<Vec<FlowKey>>,
}

impl Flows {
    /// None yet.
    pub fn new(hasher: KeyedState) -> Self {
        Flows {
            map: HashMap::with_hasher(hasher),
            by_index: HashMap::with_hasher(hasher),
            by_member: Vec::new(),
        }
    }

    /// Makes room for members with slots below `count`.
    pub fn reserve(&mut self, count: usize) {
        if self.by_member.len() < count {
            self.by_member.resize_with(count, Vec::new);
        }
    }

    /// How many directions there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many directions a member sends or gets.
    pub fn count_of(&self, member: MemberId) -> usize {
        self.by_member.get(member.slot()).map_or(0, Vec::len)
    }

    /// The flow with this key: the one look-up that a data packet costs.
    pub fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.map.get_mut(key)
    }

    /// A flow whose data bears this index, from wherever.
    pub fn with_index(&self, index: u32) -> Option<&Flow> {
        self.map.get(self.by_index.get(&index)?)
    }

    /// Whether there is a flow with this key.
    pub fn contains(&self, key: &FlowKey) -> bool {
        self.map.contains_key(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &Flow)> {
        self.map.iter()
    }

    /// Adds a flow whose key is free.
    pub fn insert(&mut self, key: FlowKey, flow: Flow) {
        for member in [flow.from, flow.receiver] {
            if let Some(keys) = self.by_member.get_mut(member.slot()) {
                keys.push(key);
            }
        }
        self.by_index.insert(key.index(), key);
        self.map.insert(key, flow);
    }

    fn remove(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.map.remove(key)?;
        if self.by_index.get(&key.index()) == Some(key) {
            self.by_index.remove(&key.index());
        }
        for member in [flow.from, flow.receiver] {
            forget_key(&mut self.by_member, member, key);
        }
        Some(flow)
    }

    /// Removes those flows of `member` that `keep`, told the other end, denies.
    pub fn cut(&mut self, member: MemberId, keep: impl Fn(MemberId) -> bool) {
        let keys = self.by_member.get(member.slot()).cloned().unwrap_or_default();
        for key in keys {
            let other = self.map.get(&key).map(|f| if f.from == member { f.receiver } else { f.from });
            if other.is_some_and(|other| !keep(other)) {
                self.remove(&key);
            }
        }
    }

    /// Moves all flows of `member` to `address`. Whether that is proven is checked anew.
    pub fn relocate(&mut self, member: MemberId, address: SocketAddr, bucket: u16) {
        let keys = self.by_member.get(member.slot()).cloned().unwrap_or_default();
        for key in keys.into_iter().filter(|key| key.address() != address) {
            if self.map.get(&key).is_none_or(|flow| flow.from != member) {
                continue;
            }
            let Some(mut flow) = self.remove(&key) else { continue };
            let twin = flow.twin_key();
            let moved = key.at(address);
            if self.contains(&moved) {
                self.remove(&twin);
                continue;
            }
            (flow.settled, flow.echo, flow.bucket) = (false, false, bucket);
            self.insert(moved, flow);
            if let Some(twin) = self.map.get_mut(&twin) {
                (twin.to, twin.settled) = (address, false);
            }
        }
    }

    /// Forgets sessions of which one direction is without traffic. What lives sends at least a keepalive now
    /// and then.
    pub fn sweep(&mut self, now: Instant) {
        let silent = |flow: &Flow| now.since(flow.last) >= IDLE_LIFETIME;
        let silent: Vec<_> = self
            .map
            .iter()
            .filter(|(_, flow)| silent(flow))
            .map(|(key, flow)| (*key, flow.twin_key()))
            .collect();
        for (key, twin) in silent {
            self.remove(&key);
            self.remove(&twin);
        }
    }
}

fn forget_key(by_member: &mut [Vec<FlowKey>], member: MemberId, key: &FlowKey) {
    if let Some(keys) = by_member.get_mut(member.slot())
        && let Some(place) = keys.iter().position(|other| other == key)
    {
        keys.swap_remove(place);
        if keys.is_empty() {
            *keys = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn flows() -> Flows {
        let mut flows = Flows::new(KeyedState::new(1, 2));
        flows.reserve(8);
        flows
    }

    /// Both directions between `one`, at port 1 with `index`, and `other`, at port 2 with index 20.
    fn insert_pair(flows: &mut Flows, one: MemberId, index: u32, other: MemberId) {
        let flow = |from, receiver, to, twin| Flow {
            to,
            twin,
            from,
            receiver,
            party: 0,
            bucket: 0,
            settled: true,
            echo: true,
            held: false,
            challenged: false,
            last: START,
            count: Count::default(),
        };
        flows.insert(FlowKey::new(address(1), 20), flow(one, other, address(2), index));
        flows.insert(FlowKey::new(address(2), index), flow(other, one, address(1), 20));
    }

    #[test]
    fn moving_takes_both_directions_along() {
        let (mut flows, members) = (flows(), some_members(2));
        insert_pair(&mut flows, members[0], 10, members[1]);
        flows.relocate(members[0], address(9), 7);
        assert!(!flows.contains(&FlowKey::new(address(1), 20)));
        assert!(flows.with_index(20).is_some_and(|flow| flow.from == members[0]));
        let there = flows.get_mut(&FlowKey::new(address(9), 20)).unwrap().clone();
        assert_eq!((there.to, there.settled, there.echo, there.bucket), (address(2), false, false, 7));
        let back = flows.get_mut(&there.twin_key()).unwrap().clone();
        assert_eq!((back.to, back.settled, back.bucket), (address(9), false, 0));
        assert_eq!((flows.len(), flows.count_of(members[0]), flows.count_of(members[1])), (2, 2, 2));
        // Where its place is taken, the session ends.
        insert_pair(&mut flows, members[0], 11, members[1]);
        flows.relocate(members[0], address(9), 7);
        assert!(flows.contains(&FlowKey::new(address(9), 20)));
        assert_eq!((flows.len(), flows.count_of(members[0])), (2, 2));
    }

    #[test]
    fn cutting_takes_what_it_should() {
        let (mut flows, members) = (flows(), some_members(3));
        insert_pair(&mut flows, members[0], 10, members[1]);
        flows.cut(members[0], |other| other == members[1]);
        assert_eq!(flows.len(), 2);
        assert!(flows.with_index(10).is_some_and(|flow| flow.from == members[1]));
        flows.cut(members[1], |_| false);
        assert!(flows.with_index(10).is_none() && flows.by_index.is_empty());
        assert!(flows.is_empty() && flows.count_of(members[0]) == 0 && flows.count_of(members[1]) == 0);
    }

    #[test]
    fn a_session_lives_while_both_send() {
        let (mut flows, members) = (flows(), some_members(2));
        insert_pair(&mut flows, members[0], 10, members[1]);
        let late = START + IDLE_LIFETIME;
        for (source, index) in [(1, 20), (2, 10)] {
            flows.get_mut(&FlowKey::new(address(source), index)).unwrap().last = late;
        }
        flows.sweep(late);
        assert_eq!(flows.len(), 2);
        flows.get_mut(&FlowKey::new(address(1), 20)).unwrap().last = START;
        flows.sweep(late);
        assert!(flows.is_empty(), "one still sends, but gets no answer");
    }
}
