//! Who is in the party.

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::ends::Ends;
use crate::agent::network::{NetworkMember, RelayAddress};
use crate::agent::pair::Pair;
use crate::agent::turn::AgentTurn;
use crate::datagram::Path;
use crate::ids::PeerId;
use crate::sorted::SortedMap;
use crate::subnet::Subnet;
use crate::time::{Instant, Now};
use crate::wireguard::allowed_ips::AllowedIp;
use crate::wireguard::device::Device;
use crate::wireguard::peer::{PeerIndex, PeerSettings};
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

/// Members that an agent has sessions with at most; the hub carries what is for others.
const MAX_MEMBERS: usize = 128;
/// The silence after which the hub is told that we are there.
pub(super) const HUB_KEEPALIVE: Duration = Duration::from_secs(25);
/// A session that did not come up is asked for again after this, if there is traffic: the device tries for 90 s.
const WANT_INTERVAL: Duration = Duration::from_secs(120);

/// The members by the device's index of them, and the relay.
#[derive(Default)]
pub(super) struct Peers {
    pub pairs: SortedMap<PeerIndex, Pair>,
    hub: Option<PeerIndex>,
}

impl Peers {
    /// Makes the device's peers those members.
    pub fn set_members(
        &mut self,
        device: &mut Device,
        relay: Option<RelayAddress>,
        mut members: Vec<NetworkMember>,
        now: Now,
    ) {
        members.truncate(MAX_MEMBERS);
        let stays = |pair: &Pair| {
            let told = members.iter().find(|member| member.key == pair.member.key);
            told.is_some_and(|told| told.ip == pair.member.ip && told.peer_id == pair.member.peer_id)
        };
        self.pairs.retain(|&peer, pair| stays(pair) || !device.remove_peer(peer));
        for member in members {
            if let Some(peer) = device.find_peer(&member.key) {
                if let Some(pair) = self.pairs.get_mut(&peer) {
                    pair.member = member;
                }
                continue;
            }
            let settings = PeerSettings {
                endpoint: relay.map(|relay| relay.endpoint),
                allowed_ips: vec![AllowedIp::host(member.ip.into())],
                roams: false,
                ..PeerSettings::new(member.key)
            };
            // A key that can't be one is the control plane's mistake; the hub knows such a member no better.
            let Ok(peer) = device.add_peer(settings, now.instant) else { continue };
            let relay = relay.map(|relay| Path::to(relay.endpoint));
            self.pairs.insert(peer, Pair::new(member, peer, relay));
            self.want_session(device, peer, now);
        }
    }

    /// Makes the hub of `relay` the one.
    pub fn set_relay(
        &mut self,
        device: &mut Device,
        subnet: Subnet,
        relay: Option<RelayAddress>,
        now: Instant,
    ) {
        if let Some(hub) = self.hub.take() {
            device.remove_peer(hub);
        }
        let Some(relay) = relay else { return };
        let settings = PeerSettings {
            endpoint: Some(relay.endpoint),
            persistent_keepalive: Some(HUB_KEEPALIVE),
            allowed_ips: AllowedIp::new(subnet.hub().into(), subnet.prefix()).into_iter().collect(),
            roams: false,
            carries_others: true,
            ..PeerSettings::new(relay.key)
        };
        self.hub = device.add_peer(settings, now).ok();
        for (&peer, pair) in self.pairs.iter_mut() {
            device.set_endpoint(peer, relay.endpoint, now);
            pair.use_home(Path::to(relay.endpoint));
        }
    }

    /// The hub, if there is a relay.
    pub fn hub(&self) -> Option<PeerIndex> {
        self.hub
    }

    pub fn is_hub(&self, peer: PeerIndex) -> bool {
        self.hub == Some(peer)
    }

    /// Whether a member has been heard from there.
    pub fn is_known(&self, address: SocketAddr) -> bool {
        let mut paths = self.pairs.values().flat_map(|pair| &pair.straight);
        paths.any(|path| path.path.remote == address && path.heard.is_some())
    }

    /// The member with this id.
    pub fn with_id(&mut self, id: &PeerId) -> Option<&mut Pair> {
        self.pairs.values_mut().find(|pair| pair.member.peer_id == *id)
    }

    /// Asks for a session, unless that was done just before, or can't come to anything.
    pub fn want_session(&mut self, device: &mut Device, peer: PeerIndex, now: Now) {
        let Some(pair) = self.pairs.get_mut(&peer).filter(|pair| !pair.member.is_device) else { return };
        if pair.wanted.is_none_or(|wanted| now.instant.since(wanted) >= WANT_INTERVAL) {
            (pair.wanted, pair.is_cleaned_up) = (Some(now.instant), false);
            device.connect(peer, now);
        }
    }

    /// Sends a sealed packet to a member by the path that is chosen for it.
    pub fn send_data(
        &mut self,
        locality: &Locality,
        peer: PeerIndex,
        datagram: &[u8],
        now: Instant,
        out: &mut dyn AgentOutput,
    ) -> Option<()> {
        let pair = self.pairs.get_mut(&peer)?;
        pair.send_data(pair.relay_path(locality), datagram, now, out);
        Some(())
    }

    /// The first agent behind `place`.
    pub fn next_agent(&self, last: Option<PeerIndex>) -> Option<PeerIndex> {
        let begin = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.pairs.range_from(begin).find(|(_, pair)| pair.is_agent).map(|(&peer, _)| peer)
    }

    /// Answers a copy of an initiation that was answered before; whether it was one.
    pub fn answer_copy(&mut self, turn: &mut AgentTurn<'_>, message: &[u8], from: Ends) -> bool {
        self.pairs.values_mut().any(|pair| pair.answer_copy(turn, message, from))
    }

    /// The hub has a session with us where we are now: the relay's flows are there, too.
    pub fn on_hub(&mut self, device: &mut Device, locality: &Locality, now: Now) {
        for (&peer, pair) in self.pairs.iter_mut() {
            let has_session = device.can_send(peer, now.instant);
            let relay = pair.relay_path(locality);
            if let Some(relay) = relay.filter(|_| std::mem::take(&mut pair.needs_flow) && has_session) {
                device.probe(peer, relay.remote, now);
            }
            let now = now.instant;
            pair.begin_attempts(now);
            if pair.is_agent {
                pair.begin_offer(now);
            }
        }
    }

    /// Something that others should know has changed.
    pub fn offer_all(&mut self, now: Instant) {
        for pair in self.pairs.values_mut() {
            pair.wants_signal = !pair.member.is_device;
            pair.begin_offer(now);
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, turn: &mut AgentTurn<'_>) {
        self.pairs.values_mut().for_each(|pair| pair.poll(turn));
        self.keep_hubs(turn);
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.pairs.values().filter_map(Pair::next).min()
    }

    /// How far relays are is known anew: perhaps others are to be used. Members are told if that `is_news`.
    pub fn on_distances(&mut self, turn: &mut AgentTurn<'_>, is_news: bool) {
        self.pairs.values_mut().for_each(|pair| pair.choose_relays(turn));
        if is_news {
            self.offer_all(turn.now.instant);
        }
    }
}
