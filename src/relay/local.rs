//! The machine that the relay runs on, as one more in the virtual LAN: its address is the hub's, and it is in every
//! party. What enters it is for that address alone and what leaves it comes from there, so nothing passes through it
//! from one party to another, whatever it may forward besides.

use crate::datagram::Path;
use crate::relay::books::Books;
use crate::relay::hub::Hub;
use crate::relay::stats::DropReason;
use crate::relay::{Arrival, LOCAL_HEADROOM, Output};
use crate::time::Now;
use crate::wire::ip::{IPV4_HEADER_LENGTH, Ipv4, UDP};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::KEEPALIVE_LENGTH;
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::Sent;
use std::net::IpAddr;

/// The first byte of an IPv4 header without options.
const NO_OPTIONS: u8 = 0x40 | (IPV4_HEADER_LENGTH / 4) as u8;

impl Hub {
    /// Hands a packet from `peer` for the hub's address to this machine.
    pub(super) fn deliver(
        &mut self,
        books: &mut Books,
        peer: PeerIndex,
        packet: &[u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now);
        let member = self.spokes.get(&peer).ok_or(DropReason::HubUnknownPeer)?.member;
        let party = books.roster.shared_party(member, member).ok_or(DropReason::OtherParty)?;
        let bucket = books.admission.address_bucket(source);
        if !books.admission.data(member, party, bucket, packet.len(), now.instant) {
            return Err(DropReason::DataLimit);
        }
        hand_over(books, packet, out)?;
        if let Some(stats) = books.members.get_mut(member.slot()) {
            stats.from.add(packet.len());
        }
        Ok(())
    }

    /// Hands a copy of a member's broadcast to this machine, to its own address as every member gets it.
    pub(super) fn deliver_copy(
        &mut self,
        books: &mut Books,
        packet: &[u8],
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let copy = self.scratch.get_mut(..packet.len()).ok_or(DropReason::InnerDestination)?;
        copy.copy_from_slice(packet);
        Ipv4::parse(copy).ok_or(DropReason::InnerDestination)?.set_destination(self.ip);
        hand_over(books, copy, out)
    }

    /// Sends a packet of this machine's to a member, or to all, over the same bytes.
    pub(super) fn send_local(
        &mut self,
        books: &mut Books,
        buffer: &mut [u8],
        length: usize,
        now: Now,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let packet = buffer.get(LOCAL_HEADROOM..).and_then(|packet| packet.get(..length));
        let inner = packet.and_then(InnerPacket::parse).filter(|inner| inner.source == self.ip);
        let InnerPacket { destination, length, .. } = inner.ok_or(DropReason::LocalSource)?;
        if let IpAddr::V4(to) = destination
            && self.is_for_all(to)
        {
            return self.broadcast_local(books, &mut buffer[LOCAL_HEADROOM..][..length], now, out);
        }
        let next = self.device.route(destination).ok_or(DropReason::InnerDestination)?;
        let receiver = self.spokes.get(&next).ok_or(DropReason::InnerDestination)?.member;
        let party = books.roster.shared_party(receiver, receiver).ok_or(DropReason::OtherParty)?;
        if !books.admission.local_data(party, length, now.instant) {
            return Err(DropReason::DataLimit);
        }
        match self.device.send(next, buffer, length, now) {
            Sent::Sealed { to, length } => {
                if !self.may_send(next, to) {
                    return Err(DropReason::Unproven);
                }
                if let Some(stats) = books.members.get_mut(receiver.slot()) {
                    stats.to.add(length);
                }
                books.stats.hub.add(length);
                books.send(Path::to(to), &buffer[..length], out);
                Ok(())
            }
            Sent::Staged => Ok(()),
            Sent::Dropped => Err(DropReason::NoSession),
        }
    }

    /// Sends copies of a packet to all members that have a session.
    fn broadcast_local(
        &mut self,
        books: &mut Books,
        packet: &mut [u8],
        now: Now,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let is_udp = Ipv4::parse(packet).is_some_and(|packet| packet.protocol() == UDP);
        if !is_udp || packet.len() + KEEPALIVE_LENGTH > self.scratch.len() {
            return Err(DropReason::InnerDestination);
        }
        if !books.admission.local_broadcast(&books.limits, now.instant) {
            return Err(DropReason::BroadcastLimit);
        }
        let sealed = self.device.sealed_length(packet.len());
        let mut result = Ok(());
        for slot in 0..self.member_slots() {
            let Some((peer, receiver)) = self.spoke_in(slot) else { continue };
            let Some(party) = books.roster.shared_party(receiver, receiver) else { continue };
            if !self.device.can_send(peer, now.instant) {
                continue;
            }
            if !books.admission.local_copy(party, sealed, &books.limits, now.instant) {
                result = Err(DropReason::BroadcastLimit);
            } else if let Some((to, sealed)) = self.copy(books, peer, receiver, packet, now) {
                if let Some(stats) = books.members.get_mut(receiver.slot()) {
                    stats.to.add(sealed);
                }
                books.stats.hub.add(sealed);
                books.stats.broadcast.add(sealed);
                books.send(Path::to(to), &self.scratch[..sealed], out);
            }
        }
        result
    }
}

/// Hands a packet to this machine. One with options is nobody's: by a source route it would ask to be passed on.
fn hand_over(books: &mut Books, packet: &[u8], out: &mut dyn Output) -> Result<(), DropReason> {
    if packet.first() != Some(&NO_OPTIONS) {
        return Err(DropReason::InnerDestination);
    }
    if !out.deliver(packet) {
        return Err(DropReason::LocalRefused);
    }
    books.stats.local.add(packet.len());
    Ok(())
}
