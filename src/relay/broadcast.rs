//! Game discovery: broadcast and multicast from one member reaches all others of its party.
//!
//! A stock WireGuard interface has a /32 or a /16 and no broadcast address: what is sent to one would not be
//! taken for its own by the receiving system. So each copy goes to the receiver's own virtual address.

use crate::datagram::Path;
use crate::relay::Output;
use crate::relay::books::Books;
use crate::relay::hub::Hub;
use crate::relay::roster::MemberId;
use crate::relay::stats::DropReason;
use crate::time::Now;
use crate::wire::ip::{Ipv4, UDP};
use crate::wireguard::message::{KEEPALIVE_LENGTH, TRANSPORT_HEADER_LENGTH};
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::Sent;
use std::net::SocketAddr;

impl Hub {
    /// Sends copies of the packet of `length` bytes in `datagram`, from `member`, to all who share a party
    /// with it and have a session.
    pub(super) fn broadcast(
        &mut self,
        books: &mut Books,
        member: MemberId,
        datagram: &mut [u8],
        length: usize,
        now: Now,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let packet = &mut datagram[TRANSPORT_HEADER_LENGTH..][..length];
        // Only UDP: ICMP would draw an answer from everybody, and IGMP has no business here.
        let is_udp = Ipv4::parse(packet).is_some_and(|packet| packet.protocol() == UDP);
        if !is_udp || length + KEEPALIVE_LENGTH > self.scratch.len() {
            return Err(DropReason::InnerDestination);
        }
        if !books.admission.broadcast(member, &books.limits, now.instant) {
            return Err(DropReason::BroadcastLimit);
        }
        self.rounds += 1;
        if let Some(own) = self.peer_of(member).and_then(|peer| self.spokes.get_mut(&peer)) {
            own.round = self.rounds;
        }
        let packet = &datagram[TRANSPORT_HEADER_LENGTH..][..length];
        let mut result = Ok(());
        if self.is_local {
            result = self.deliver_copy(books, packet, out);
        }
        for place in 0.. {
            let parties = books.roster.get(member).map_or(&[][..], |member| member.parties());
            let Some(&party) = parties.get(place) else { break };
            for mate in 0.. {
                let Some(receiver) = books.roster.member_at(party, mate) else { break };
                let Some(peer) = self.takes_copy(receiver, now) else { continue };
                let sealed = self.device.sealed_length(length);
                if !books.admission.copy(party, sealed, &books.limits, now.instant) {
                    result = Err(DropReason::BroadcastLimit);
                } else if let Some((to, sealed)) = self.copy(books, peer, receiver, packet, now) {
                    books.count_data(member, receiver, 1, sealed);
                    books.stats.hub.add(sealed);
                    books.stats.broadcast.add(sealed);
                    books.send(Path::to(to), &self.scratch[..sealed], out);
                }
            }
        }
        result
    }

    /// Whether the member has a session and has not had this broadcast, by way of another party.
    fn takes_copy(&mut self, receiver: MemberId, now: Now) -> Option<PeerIndex> {
        let peer = self.peer_of(receiver)?;
        let spoke = self.spokes.get_mut(&peer)?;
        let had = std::mem::replace(&mut spoke.round, self.rounds) == self.rounds;
        (!had && self.device.can_send(peer, now.instant)).then_some(peer)
    }

    /// Seals a copy for `receiver` in the scratch buffer.
    pub(super) fn copy(
        &mut self,
        books: &mut Books,
        peer: PeerIndex,
        receiver: MemberId,
        packet: &[u8],
        now: Now,
    ) -> Option<(SocketAddr, usize)> {
        let copy = &mut self.scratch[TRANSPORT_HEADER_LENGTH..][..packet.len()];
        copy.copy_from_slice(packet);
        Ipv4::parse(copy)?.set_destination(books.roster.get(receiver)?.ip);
        match self.device.send(peer, &mut self.scratch, packet.len(), now) {
            Sent::Sealed { to, length } if self.may_send(peer, to) => Some((to, length)),
            _ => None,
        }
    }
}
