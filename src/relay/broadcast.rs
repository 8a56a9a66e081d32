//! Game discovery: broadcast and multicast from one member reaches all others of its party.
//!
//! A stock WireGuard interface has a /32 or a /16 and no broadcast address: what is sent to one would not be
//! taken for its own by the receiving system. So each copy goes to the receiver's own virtual address.

use crate::figures::{DropReason, Traffic};
use crate::relay::admission::RateLimiter;
use crate::relay::hub::Hub;
use crate::relay::local;
use crate::relay::roster::MemberId;
use crate::relay::state::{RelayState, Turn};
use crate::time::Now;
use crate::wire::ip::{Ipv4, UDP};
use crate::wireguard::message::{KEEPALIVE_LENGTH, TRANSPORT_HEADER_LENGTH};
use crate::wireguard::peer::PeerIndex;

/// Sends copies of the packet of `length` bytes in `datagram`, from `member`, to all who share a party
/// with it and have a session.
pub(super) fn send(
    hub: &mut Hub,
    turn: &mut Turn<'_>,
    member: MemberId,
    datagram: &mut [u8],
    length: usize,
) -> Result<(), DropReason> {
    let packet = &mut datagram[TRANSPORT_HEADER_LENGTH..][..length];
    // Only UDP: to ICMP everybody would answer, and IGMP is for routers of the same network.
    let is_udp = Ipv4::parse(packet).is_some_and(|packet| packet.protocol() == UDP);
    if !is_udp || length + KEEPALIVE_LENGTH > hub.scratch.len() {
        return Err(DropReason::InnerDestination);
    }
    let RelayState { roster, limits, .. } = &mut *turn.state;
    if !RateLimiter::broadcast(roster, member, limits, turn.now.instant) {
        return Err(DropReason::BroadcastLimit);
    }
    hub.rounds += 1;
    if let Some(own) = roster.state(member).and_then(|state| state.hub_mut()) {
        own.round = hub.rounds;
    }
    let packet = &datagram[TRANSPORT_HEADER_LENGTH..][..length];
    let mut result = Ok(());
    if hub.is_local {
        result = local::deliver_copy(hub, turn, packet);
    }
    let sealed = hub.device.sealed_length(length);
    for index in 0.. {
        let parties = turn.state.roster.get(member).map_or(&[][..], |member| member.parties());
        let Some(&party) = parties.get(index) else { break };
        for mate in 0.. {
            let Some(receiver) = turn.state.roster.member_at(party, mate) else { break };
            let Some(peer) = takes_copy(hub, turn.state, receiver, turn.now) else { continue };
            let RelayState { roster, admission, limits, .. } = &mut *turn.state;
            if !admission.copy(roster, member, party, sealed, limits, turn.now.instant) {
                result = Err(DropReason::BroadcastLimit);
            } else if let Some((path, sealed)) = hub.seal_copy(turn, peer, receiver, packet) {
                turn.state.count_data(member, receiver, 1, sealed, turn.now);
                turn.state.stats.add(Traffic::Hub, sealed);
                turn.state.stats.add(Traffic::Broadcast, sealed);
                turn.send(path, &hub.scratch[..sealed]);
            }
        }
    }
    result
}

/// Whether the member has a session and has not had this broadcast, by way of another party.
fn takes_copy(hub: &Hub, state: &mut RelayState, receiver: MemberId, now: Now) -> Option<PeerIndex> {
    let session = state.roster.state(receiver)?.hub_mut()?;
    let had = std::mem::replace(&mut session.round, hub.rounds) == hub.rounds;
    (!had && hub.device.can_send(session.peer, now.instant)).then_some(session.peer)
}
