//! Members with nothing but a WireGuard app.

use super::change::Departure;
use super::entry::DeviceWish;
use super::party::{Member, Party, PeerInfo};
use super::refusal::Refusal;
use super::standing::{Actor, Identity, Lineage, Standing};
use super::{Control, PeerId};
use crate::crypto::{blake2s, constant_time, hex, random};
use crate::time::{Instant, Now};
use crate::wire::nat_type::NatType;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What ids of devices begin with.
const PREFIX: &str = "device-";
/// What a device does not say of itself.
const UNKNOWN: &str = "unknown";

type DeviceNumber = [u8; 8];

/// The id of a device by its number.
fn device_id(number: &DeviceNumber) -> PeerId {
    PeerId::new(&format!("{PREFIX}{}", hex::encode(number))).expect("letters, a dash and digits are an id")
}

impl Control {
    /// Who a new device is. Nobody has a token of its lineage.
    pub(super) fn new_device(&self, wish: &DeviceWish<'_>) -> (Identity, PeerInfo) {
        let peer = loop {
            let peer = device_id(&random::bytes());
            // Stock clients take it for an error.
            if !peer.as_str().contains("404") && self.parties_of(&peer).is_empty() {
                break peer;
            }
        };
        let info = PeerInfo {
            peer_id: peer.clone(),
            name: wish.name.into(),
            public_key: wish.key.encode().into(),
            nat_type: NatType::default(),
            public_ip: UNKNOWN.into(),
            public_port: 0,
            local_ip: UNKNOWN.into(),
            local_port: 0,
            last_seen: None,
        };
        (Identity { peer, standing: Standing::Token(Lineage::random()) }, info)
    }

    /// Puts a device into a party, for its host or an admin. With the same key again it is the same device.
    pub fn add_device(
        &mut self,
        by: &Actor,
        party: &str,
        wish: &DeviceWish<'_>,
        now: Now,
    ) -> Result<PeerId, Refusal> {
        let party = self.owned_party(by, party)?;
        if let Some((member, _)) = party.devices().find(|(member, _)| member.key == Some(wish.key)) {
            return Ok(member.info.peer_id.clone());
        }
        if party.bans(&device_id(&[0; 8]), Some(wish.key)) {
            return Err(Refusal::Banned);
        }
        let id = party.id.clone();
        Ok(self.enter_device(&id, wish, now)?.peer)
    }

    /// Takes a device out of a party, for its host or an admin.
    pub fn remove_device(&mut self, by: &Actor, party: &str, peer: &str) -> Result<(), Refusal> {
        let party = self.owned_party(by, party)?;
        let member = party.members.get(peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_owned()))?;
        if member.device().is_none() {
            return Err(Refusal::NotDevice);
        }
        let (party, peer) = (party.id.clone(), member.info.peer_id.clone());
        self.remove_member(&party, &peer, Departure::Kicked);
        Ok(())
    }

    /// The device of this id, and its party.
    pub fn device(&self, peer: &PeerId) -> Option<(&Party, &Member)> {
        let party = self.parties_of(peer).first().and_then(|party| self.parties.get(party))?;
        let member = &**party.members.get(peer)?;
        member.device().map(|_| (party, member))
    }

    /// When a session of a device last came up at the hub.
    pub fn device_seen(&self, peer: &PeerId) -> Option<Instant> {
        self.device(peer)?.1.device()?.handshake
    }

    /// What lets a device read its own state: its number, and a MAC. It is the same whenever it is asked for, and
    /// nothing of it is kept.
    pub fn device_token(&self, peer: &PeerId) -> Option<String> {
        let number: DeviceNumber = hex::decode(peer.as_str().strip_prefix(PREFIX)?)?;
        let mut token = [0; 32];
        token[..8].copy_from_slice(&number);
        token[8..].copy_from_slice(&self.device_mac(&number));
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    fn device_mac(&self, number: &DeviceNumber) -> [u8; 24] {
        let mac = blake2s::mac32(&self.storage_key[..], &[b"lanrage v1 device", number]);
        *mac.first_chunk().expect("it is longer")
    }

    /// The device that such a token is of, and its party.
    pub fn device_of(&self, token: &str) -> Result<(&Party, &Member), Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or(Refusal::TokenUnknown)?;
        let number: DeviceNumber = *bytes.first_chunk().expect("it is longer");
        if !constant_time::eq(&bytes[8..], &self.device_mac(&number)) {
            return Err(Refusal::TokenUnknown);
        }
        self.device(&device_id(&number)).ok_or(Refusal::TokenUnknown)
    }
}
