//! The machine that the relay runs on, as one more in the virtual LAN: its address is the hub's, and it is in every
//! party. What enters it is for that address alone and what leaves it comes from there, so nothing passes through it
//! from one party to another, whatever it may forward besides.

use crate::figures::{DropReason, Traffic};
use crate::relay::LOCAL_HEADROOM;
use crate::relay::hub::{Hub, path_to};
use crate::relay::roster::MemberId;
use crate::relay::state::{RelayState, Turn};
use crate::wire::ip::{IPV4_HEADER_LENGTH, Ipv4, UDP};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::KEEPALIVE_LENGTH;
use crate::wireguard::verdict::SendOutcome;
use std::net::{IpAddr, SocketAddr};

/// The first byte of an IPv4 header without options.
const NO_OPTIONS: u8 = 0x40 | (IPV4_HEADER_LENGTH / 4) as u8;

/// Hands a packet from `member`, who is at `source`, for the hub's address to this machine.
pub(super) fn deliver(
    turn: &mut Turn<'_>,
    member: MemberId,
    packet: &[u8],
    source: SocketAddr,
) -> Result<(), DropReason> {
    let RelayState { roster, admission, .. } = &mut *turn.state;
    let party = roster.shared_party(member, member).ok_or(DropReason::OtherParty)?;
    let bucket = admission.address_bucket(source);
    if !admission.data(roster, member, party, bucket, packet.len(), turn.now.instant) {
        return Err(DropReason::DataLimit);
    }
    hand_over(turn, packet)?;
    if let Some(from) = turn.state.roster.presence_mut(member) {
        from.stats.from.add(packet.len());
    }
    Ok(())
}

/// Hands a copy of a member's broadcast to this machine, to its own address as every member gets it.
pub(super) fn deliver_copy(hub: &mut Hub, turn: &mut Turn<'_>, packet: &[u8]) -> Result<(), DropReason> {
    let copy = hub.scratch.get_mut(..packet.len()).ok_or(DropReason::InnerDestination)?;
    copy.copy_from_slice(packet);
    Ipv4::parse(copy).ok_or(DropReason::InnerDestination)?.set_destination(hub.ip);
    hand_over(turn, copy)
}

/// Sends a packet of this machine's to a member, or to all, over the same bytes.
pub(super) fn send(
    hub: &mut Hub,
    turn: &mut Turn<'_>,
    buffer: &mut [u8],
    length: usize,
) -> Result<(), DropReason> {
    let packet = buffer.get(LOCAL_HEADROOM..).and_then(|packet| packet.get(..length));
    let inner = packet.and_then(InnerPacket::parse).filter(|inner| inner.source == hub.ip);
    let InnerPacket { destination, length, .. } = inner.ok_or(DropReason::LocalSource)?;
    if let IpAddr::V4(to) = destination
        && hub.is_for_all(to)
    {
        return broadcast(hub, turn, &mut buffer[LOCAL_HEADROOM..][..length]);
    }
    let next = hub.device.route(destination).ok_or(DropReason::InnerDestination)?;
    let &receiver = hub.members.get(&next).ok_or(DropReason::InnerDestination)?;
    let RelayState { roster, admission, .. } = &mut *turn.state;
    let party = roster.shared_party(receiver, receiver).ok_or(DropReason::OtherParty)?;
    if !admission.local_data(roster, party, length, turn.now.instant) {
        return Err(DropReason::DataLimit);
    }
    match hub.device.send(next, buffer, length, turn.now) {
        SendOutcome::Sealed { to, length } => {
            let path = path_to(turn.state, receiver, to).ok_or(DropReason::Unproven)?;
            turn.state.count_local(receiver, length);
            turn.send(path, &buffer[..length]);
            Ok(())
        }
        SendOutcome::Staged => Ok(()),
        SendOutcome::Dropped => Err(DropReason::NoSession),
    }
}

/// Sends copies of a packet to all members that have a session.
fn broadcast(hub: &mut Hub, turn: &mut Turn<'_>, packet: &mut [u8]) -> Result<(), DropReason> {
    let now = turn.now;
    let is_udp = Ipv4::parse(packet).is_some_and(|packet| packet.protocol() == UDP);
    if !is_udp || packet.len() + KEEPALIVE_LENGTH > hub.scratch.len() {
        return Err(DropReason::InnerDestination);
    }
    if !turn.state.admission.local_broadcast(&turn.state.limits, now.instant) {
        return Err(DropReason::BroadcastLimit);
    }
    let sealed = hub.device.sealed_length(packet.len());
    let mut result = Ok(());
    for slot in 0..turn.state.roster.slot_count() {
        let RelayState { roster, admission, limits, .. } = &mut *turn.state;
        let Some((receiver, member)) = roster.in_slot(slot) else { continue };
        let Some(peer) = member.state.hub().map(|session| session.peer) else { continue };
        let Some(&party) = member.parties().first() else { continue };
        if !hub.device.can_send(peer, now.instant) {
            continue;
        }
        if !admission.local_copy(roster, party, sealed, limits, now.instant) {
            result = Err(DropReason::BroadcastLimit);
        } else if let Some((path, sealed)) = hub.seal_copy(turn, peer, receiver, packet) {
            turn.state.count_local(receiver, sealed);
            turn.state.stats.add(Traffic::Broadcast, sealed);
            turn.send(path, &hub.scratch[..sealed]);
        }
    }
    result
}

/// Hands a packet to this machine. One with options is nobody's: by a source route it would ask to be passed on.
fn hand_over(turn: &mut Turn<'_>, packet: &[u8]) -> Result<(), DropReason> {
    if packet.first() != Some(&NO_OPTIONS) {
        return Err(DropReason::InnerDestination);
    }
    if !turn.out.deliver(packet) {
        return Err(DropReason::LocalRefused);
    }
    turn.state.stats.add(Traffic::Local, packet.len());
    Ok(())
}
