//! Floor 2: the rules of parties. Requests and `now` go in, refusals and [`Change`]s come out; who keeps,
//! tells or forwards anything is not known here.

pub mod addresses;
pub mod adopt;
pub mod approvals;
pub mod change;
mod costs;
pub mod devices;
pub mod entry;
pub mod expiry;
pub mod following;
pub mod invites;
pub mod keys;
pub mod limits;
pub mod membership;
pub mod ownership;
pub mod party;
pub mod placement;
pub mod proof;
pub mod record;
pub mod refusal;
pub mod registration;
pub mod relays;
pub mod signals;
pub mod standing;
mod sweep;
pub mod tokens;
pub mod viewer;

#[cfg(test)]
mod tests;

use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::dense_map::DenseMap;
use crate::few::Few;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::owners::Holdings;
use crate::subnet::Subnet;
use crate::time::{Instant, Now};
use addresses::{Acquired, AddressPool};
use approvals::Approvals;
use change::{Change, Departure};
use following::Following;
use invites::InviteId;
use limits::{ControlLimits, Lifetimes};
use party::{Member, Party};
use proof::Prover;
use record::{AddressRecord, MemberRecord, PartyRecord, Records, RelayRecord, TokenRecord};
use refusal::Refusal;
use relays::{RelayInfo, Relays};
use standing::{Identity, Standing};
use sweep::SweepRound;
use tokens::{TokenHash, Tokens};
use zeroize::Zeroizing;

/// A party's bans are kept with it: so many cost as much as a commit does anyway, some 33 KB.
const BANS_PER_COMMIT: usize = 64;

/// What the owner of a daemon can choose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlSettings {
    /// The virtual LAN.
    pub subnet: Subnet,
    /// The caps.
    pub limits: ControlLimits,
    /// The time-outs.
    pub lifetimes: Lifetimes,
}

impl Default for ControlSettings {
    fn default() -> Self {
        ControlSettings {
            subnet: Subnet::DEFAULT,
            limits: ControlLimits::default(),
            lifetimes: Lifetimes::default(),
        }
    }
}

/// All control state.
pub struct Control {
    settings: ControlSettings,
    parties: DenseMap<PartyId, Party>,
    /// Which parties a peer is in, and so which ids are live.
    memberships: DenseMap<PeerId, Few<PartyId>>,
    /// Bytes of parties and members.
    memory: Holdings,
    /// Bytes of signals that wait in all parties.
    signals: Holdings,
    tokens: Tokens,
    relays: Relays,
    approvals: Approvals,
    addresses: AddressPool,
    prover: Prover,
    /// Where friends reach the relay, as the owner said on a page.
    endpoint: Option<(String, u16)>,
    /// Hashes secrets that are kept.
    storage_key: Zeroizing<[u8; 32]>,
    /// Which party each invite is to.
    invites: DenseMap<InviteId, PartyId>,
    /// How many claims to keys there have been.
    claims: u64,
    changes: Vec<Change>,
    /// What another instance is to be told, if that decides.
    following: Option<Box<Following>>,
    /// When the last round of sweeping began.
    swept: Instant,
    /// The one that is under way.
    round: Option<SweepRound>,
}

impl Control {
    /// Starts with what a store held. What in it contradicts itself is left out.
    pub fn new(settings: ControlSettings, hub: PrivateKey, records: Records, now: Now) -> Self {
        let prover = Prover::new(hub);
        let mut control = Control {
            addresses: AddressPool::new(settings.subnet, settings.limits.addresses_remembered),
            settings,
            parties: DenseMap::default(),
            memberships: DenseMap::default(),
            memory: costs::holdings(),
            signals: costs::holdings(),
            tokens: Tokens::new(costs::holdings()),
            relays: Relays::new(costs::holdings()),
            approvals: Approvals::new(costs::holdings()),
            endpoint: records.endpoint.clone(),
            storage_key: prover.storage_key(),
            prover,
            invites: DenseMap::default(),
            claims: 0,
            changes: Vec::new(),
            following: None,
            swept: now.instant,
            round: None,
        };
        control.restore(records, now);
        control
    }

    fn restore(&mut self, records: Records, now: Now) {
        let mut addresses = records.addresses;
        addresses.sort_by_key(|(_, record)| record.order);
        // Otherwise every table is made anew each time that it doubles.
        self.addresses.reserve(addresses.len());
        for (name, record) in addresses {
            if let Ok(address) = record.address.parse() {
                self.addresses.restore(&name, address, record.order, record.owner());
            }
        }
        self.parties.reserve(records.parties.len());
        self.memberships.reserve(records.members.len());
        for (id, record) in records.parties {
            if let Some(party) = record.restore(&id, now) {
                let id = party.id.clone();
                for invite in &party.invites {
                    self.invites.insert(invite.id, id.clone());
                }
                self.parties.insert(id.clone(), party);
                self.count_party(None, &id);
            }
        }
        // Whoever has an address takes it up before another needs a new one: in a full pool that is one which nobody
        // holds.
        let mut without_address = Vec::new();
        for (party, peer, record) in records.members {
            let Some(member) = record.restore(&peer, now) else { continue };
            // The text of its id is there already.
            if let Some(found) = self.parties.get(party.as_str()) {
                let id = found.id.clone();
                match self.addresses.acquire_known(&member.address_name, &member.info.peer_id) {
                    Some(acquired) => self.restore_member(id, member, acquired),
                    None => without_address.push((id, member)),
                }
            } else if let Some(party) = PartyId::stored(&party) {
                // The party's end was kept and this was not.
                let is_device = member.device().is_some();
                self.changes.push(Change::MemberLeft {
                    party,
                    who: Identity { peer: member.info.peer_id, standing: member.standing },
                    is_device,
                    name: member.info.name,
                    key: member.key,
                    why: Departure::PartyDeleted,
                });
            }
        }
        self.addresses.settle_all();
        for (party, member) in without_address {
            // After a change of the subnet, or when the row of the address is missing.
            let name = self.restored_name(&member).into_owned();
            if let Ok(acquired) = self.addresses.acquire(&name, &member.info.peer_id) {
                // Otherwise its row would claim the address again at the next start.
                let forgotten = acquired.forgotten.as_ref();
                self.changes.extend(forgotten.map(|name| Change::AddressForgotten(name.to_string())));
                self.restore_member(party, member, acquired);
            }
        }
        // One more than a peer may have replaces its oldest, and all lives are the same length.
        let mut tokens = records.tokens;
        tokens.sort_by_key(|(_, record)| record.expires_at);
        self.tokens.reserve(tokens.len());
        for (hash, record) in tokens {
            // As a rule the text of the peer's id is there already.
            let known = self.memberships.get_key_value(record.peer_id.as_str()).map(|(peer, _)| peer.clone());
            let Some(peer) = known.or_else(|| PeerId::stored(&record.peer_id)) else { continue };
            let life = self.settings.lifetimes.token;
            self.tokens.insert(hash, record.restore(peer, records.stopped_at, life, now));
        }
        for (id, record) in records.relays {
            match record.is_approved() {
                true => record
                    .restore_approved(&id, now)
                    .into_iter()
                    .for_each(|relay| self.approvals.insert(relay)),
                false => record.restore(&id, now).into_iter().for_each(|relay| self.relays.insert(relay)),
            }
        }
        self.mend_keys();
        // A host whose row is missing, or a party without any member, is what a sweep would mend.
        self.mend();
    }

    fn restore_member(&mut self, party: PartyId, mut member: Member, acquired: Acquired) {
        let peer = member.info.peer_id.clone();
        let is_renamed = acquired.name != member.address_name;
        member.virtual_ip = acquired.address;
        member.address_name = acquired.name.clone();
        member.info = member.info.sharing(&acquired.name);
        self.claims = self.claims.max(member.claim.saturating_add(1));
        self.restore_key(&member);
        let found = self.parties.get_mut(&party).expect("looked up by the caller");
        found.joins = found.joins.max(member.joined + 1);
        let by = Identity { peer: peer.clone(), standing: member.standing };
        found.members.insert(peer.clone(), Box::new(member));
        self.count_member(&peer, self.payer(&by), &party);
        self.remember_membership(peer.clone(), party.clone());
        if acquired.assigned {
            self.changes.push(Change::AddressAssigned(acquired.name.to_string()));
        }
        if acquired.assigned || is_renamed {
            self.changes.push(Change::MemberChanged(party, peer));
        }
    }

    /// Notes that `peer` is in `party`.
    fn remember_membership(&mut self, peer: PeerId, party: PartyId) {
        self.memberships.get_or_insert_with(peer, Few::default).push(party);
    }

    /// The settings.
    pub fn settings(&self) -> &ControlSettings {
        &self.settings
    }

    /// Has these limits and lifetimes count from now on, for whoever comes or stays; who is beyond a limit
    /// already is not sent away. The subnet stays.
    pub fn reconfigure(&mut self, settings: ControlSettings) {
        self.addresses.remember(settings.limits.addresses_remembered);
        self.settings = ControlSettings { subnet: self.settings.subnet, ..settings };
    }

    /// The hub's public key.
    pub fn hub(&self) -> PublicKey {
        self.prover.hub()
    }

    /// Where friends reach the relay, as the owner said on a page.
    pub fn endpoint(&self) -> Option<&(String, u16)> {
        self.endpoint.as_ref()
    }

    /// Takes in where friends reach the relay.
    pub fn set_endpoint(&mut self, endpoint: (String, u16)) {
        self.endpoint = Some(endpoint);
        self.changes.push(Change::EndpointChanged);
    }

    /// Takes what has changed since the last call.
    pub fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What it costs to keep what has changed since the last [`Control::drain_changes`], in commits: one, however
    /// much it is, and more only for what is rewritten as a whole.
    pub fn cost_of_changes(&self) -> u32 {
        let rewritten: usize = self
            .changes
            .iter()
            .map(|change| match change {
                Change::PartyChanged(party)
                | Change::EntryChanged(party)
                | Change::InviteUsed(party, ..)
                | Change::PartyRenamed { party, .. } => {
                    self.parties.get(party).map_or(0, |party| party.bans.len() / BANS_PER_COMMIT)
                }
                _ => 0,
            })
            .sum();
        let any = self.changes.iter().any(Change::is_durable);
        u32::try_from(rewritten).unwrap_or(u32::MAX).saturating_add(any.into())
    }

    /// Every party, in no order.
    pub fn parties(&self) -> impl Iterator<Item = &Party> {
        self.parties.values()
    }

    /// How many parties there are.
    pub fn party_count(&self) -> usize {
        self.parties.len()
    }

    /// How many different peers are in parties.
    pub fn peer_count(&self) -> usize {
        self.memberships.len()
    }

    /// The party with this id.
    pub fn party(&self, id: &str) -> Result<&Party, Refusal> {
        self.parties.get(id).ok_or_else(|| Refusal::PartyNotFound(id.to_owned()))
    }

    /// The parties that a peer is in.
    pub fn parties_of(&self, peer: &PeerId) -> &[PartyId] {
        self.memberships.get(peer).map_or(&[], Few::as_slice)
    }

    /// The tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The registered relays.
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Registers a relay for whoever holds a token.
    pub fn register_relay(&mut self, by: &Identity, info: RelayInfo, now: Now) -> Result<(), Refusal> {
        let Standing::Token(owner) = by.standing else { return Err(Refusal::TokenMissing) };
        if self.approvals.get(info.relay_id.as_str()).is_some() {
            return Err(Refusal::RelayTaken);
        }
        let id = info.relay_id.clone();
        let changes = self.relays.register(owner, info, &self.settings.limits, now)?;
        self.changes.extend(changes);
        if self.tells_of_relays() {
            self.changes.extend(self.relays.news_of(&id, now.instant));
        }
        Ok(())
    }

    /// A party as a record, if there is one of this id.
    pub fn party_record(&self, id: &PartyId, now: Now) -> Option<PartyRecord> {
        self.parties.get(id).map(|party| PartyRecord::of(party, now))
    }

    /// A member as a record.
    pub fn member_record(&self, party: &PartyId, peer: &PeerId, now: Now) -> Option<MemberRecord> {
        Some(MemberRecord::of(self.parties.get(party)?.members.get(peer)?, now))
    }

    /// A token as a record.
    pub fn token_record(&self, hash: &TokenHash, now: Now) -> Option<TokenRecord> {
        self.tokens.get(hash).map(|token| TokenRecord::of(token, now))
    }

    /// A relay as a record.
    pub fn relay_record(&self, id: &RelayId) -> Option<RelayRecord> {
        let approved = self.approvals.get(id.as_str()).map(RelayRecord::of_approved);
        approved.or_else(|| self.relays.get(id).map(RelayRecord::of))
    }

    /// An address as a record.
    pub fn address_record(&self, name: &str) -> Option<AddressRecord> {
        let (address, order) = self.addresses.get(name)?;
        Some(AddressRecord::of(address, order, self.addresses.owner(name)))
    }
}
