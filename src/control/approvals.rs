//! Relays in other places: those that the owner has approved, and those that wait for that. A relay shows that it has its key
//! before it gets here; its id comes from that key. Open relays collect freeloaders, so one that waits is given nothing.

use super::Control;
use super::change::Change;
use super::following::HeardRelay;
use super::party::Member;
use super::placement;
use super::refusal::Refusal;
use super::relays::RelayInfo;
use crate::control::keys::RelayService;
use crate::crypto::blake2s;
use crate::crypto::hex;
use crate::crypto::x25519::{PublicKey, SharedSecret};
use crate::ids::{PartyId, PeerId, RelayId};
use crate::owners::Holdings;
use crate::sorted::SortedMap;
use crate::time::{Instant, Now, UnixTime};
use crate::wire::roster::{KEY_PREFIX, PartyRoster, RosterEntry, RosterPlace, relay_id};
use std::net::IpAddr;
use std::time::Duration;

/// Relays that may be approved at once, and wait.
const APPROVED: usize = 64;
const WAITING: usize = 16;
/// How often other instances are told of a relay that was heard of, which is a commit.
pub(super) const TELL_OTHERS: Duration = Duration::from_secs(60);
/// A relay that another instance has spoken of so lately is still there: two digests may be under way meanwhile.
const ELSEWHERE: Duration = Duration::from_secs(60);

/// How much a relay was told, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FeedSize {
    /// Parties.
    pub parties: u32,
    /// Members in them.
    pub members: u32,
    /// Parties for which it has no room.
    pub left_out: u32,
}

/// A relay that the owner has approved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovedRelay {
    /// What it said of itself last.
    pub info: RelayInfo,
    /// Its key.
    pub key: PublicKey,
    /// When it was approved.
    pub approved_at: UnixTime,
    /// When it was last heard of.
    pub seen: Instant,
    /// How much it was told when it was last heard of.
    pub told: FeedSize,
    /// By what parties find their homes among relays.
    pub(super) mark: u64,
    /// When another instance last said that it is there.
    pub(super) elsewhere: Option<Instant>,
    /// When the others were last told that it is there.
    pub(super) told_others: Option<Instant>,
}

impl ApprovedRelay {
    /// As it is to begin with.
    pub(super) fn new(info: RelayInfo, key: PublicKey, approved_at: UnixTime, seen: Instant) -> Self {
        let (told, mark) = (FeedSize::default(), placement::mark(info.relay_id.as_str()));
        ApprovedRelay { info, key, approved_at, seen, told, mark, elsewhere: None, told_others: None }
    }

    /// Whether it is at another instance, as far as is known.
    pub fn is_elsewhere(&self, now: Instant) -> bool {
        self.elsewhere.is_some_and(|at| now.since(at) < ELSEWHERE)
    }
}

/// A relay that would like to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingRelay {
    /// What it says of itself.
    pub info: RelayInfo,
    /// From where it says so, which pays for its place.
    pub payer: IpAddr,
    /// When it was last heard of.
    pub seen: Instant,
}

/// All of them.
pub struct Approvals {
    approved: SortedMap<RelayId, ApprovedRelay>,
    /// By key: anybody may make one whose id is another's.
    waiting: SortedMap<String, WaitingRelay>,
    holdings: Holdings,
    /// Whether there are other instances, which hear of relays by this one.
    pub(super) has_others: bool,
}

impl Approvals {
    /// None, of nobody.
    pub(super) fn new(holdings: Holdings) -> Self {
        Approvals { approved: SortedMap::new(), waiting: SortedMap::new(), holdings, has_others: false }
    }

    /// Those that are approved, by id.
    pub fn approved(&self) -> impl Iterator<Item = &ApprovedRelay> {
        self.approved.values()
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &WaitingRelay> {
        self.waiting.values()
    }

    /// The approved relay with this id.
    pub fn get(&self, id: &str) -> Option<&ApprovedRelay> {
        self.approved.get(id)
    }

    /// The approved relay with this key.
    pub fn with_key(&self, key: &PublicKey) -> Option<&ApprovedRelay> {
        self.approved.get(&relay_id(key)).filter(|relay| relay.key == *key)
    }

    /// Takes in one that was approved before.
    pub(super) fn insert(&mut self, relay: ApprovedRelay) {
        self.approved.insert(relay.info.relay_id.clone(), relay);
    }

    /// Takes in what is now known of one that is approved.
    pub(super) fn adopt(&mut self, relay: ApprovedRelay) {
        self.forget(&relay.key.encode());
        let known = self.approved.remove(&relay.info.relay_id).filter(|known| known.key == relay.key);
        self.insert(match known {
            Some(known) => ApprovedRelay {
                info: RelayInfo { load: known.info.load, ..relay.info },
                approved_at: relay.approved_at,
                ..known
            },
            None => relay,
        });
    }

    /// Another instance says that an approved relay was heard of, and perhaps how many it reaches and how many parties it leaves
    /// out.
    pub(super) fn note_heard(&mut self, id: &RelayId, figures: Option<(u32, u32)>, now: Instant) {
        if let Some(relay) = self.approved.get_mut(id) {
            let known = (relay.info.load, relay.told.left_out);
            relay.seen = now;
            (relay.info.load, relay.told.left_out) = figures.unwrap_or(known);
        }
    }

    /// Whether a relay with this key is approved, or waits.
    pub(super) fn knows(&self, key: &PublicKey) -> bool {
        self.with_key(key).is_some() || self.waiting.contains_key(&key.encode())
    }

    /// The relay with this key, for the instance that decides.
    pub(super) fn heard_relay(&self, key: &PublicKey) -> Option<HeardRelay> {
        let (info, payer, told) = match (self.with_key(key), self.waiting.get(&key.encode())) {
            (Some(relay), _) => (&relay.info, None, relay.told),
            (None, Some(relay)) => (&relay.info, Some(relay.payer), FeedSize::default()),
            (None, None) => return None,
        };
        Some(HeardRelay { info: info.clone(), key: *key, payer, told })
    }

    /// One is not approved any more, if it ever was.
    pub(super) fn remove(&mut self, id: &RelayId) {
        self.approved.remove(id);
    }

    /// Counts this as a sign of life of all that are approved.
    pub(super) fn note_all(&mut self, now: Instant) {
        self.approved.values_mut().for_each(|relay| relay.seen = now);
    }

    fn forget(&mut self, key: &str) -> Option<WaitingRelay> {
        let gone = self.waiting.remove(key)?;
        self.holdings.remove(gone.payer, 1);
        Some(gone)
    }

    /// Forgets those that wait and were not heard of for `life`.
    pub(super) fn expire(&mut self, life: Duration, now: Instant) {
        let is_stale = |relay: &WaitingRelay| relay.seen + life <= now;
        let stale: Vec<String> =
            self.waiting.iter().filter(|(_, relay)| is_stale(relay)).map(|(key, _)| key.clone()).collect();
        stale.iter().for_each(|key| drop(self.forget(key)));
    }

    /// Whether nothing of this comes to an end by itself.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Control {
    /// The relays in other places.
    pub fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// What only this server and the holder of a key know.
    pub fn shared_with(&self, key: &PublicKey) -> Option<SharedSecret> {
        self.prover.shared_with(key)
    }

    /// A relay waits for its approval, from now on or still. Of too many, the one of whoever has most goes that was not heard
    /// of for longest.
    pub fn await_approval(&mut self, info: RelayInfo, key: &PublicKey, payer: IpAddr, now: Instant) {
        let Approvals { waiting, holdings, .. } = &mut self.approvals;
        let name = key.encode();
        let is_news = waiting.get(&name).is_none_or(|before| before.info != info);
        match waiting.get(&name) {
            Some(before) => holdings.remove(before.payer, 1),
            None if waiting.len() >= WAITING => {
                let entries = waiting.iter().map(|(key, relay)| (key.clone(), relay.payer, relay.seen));
                let victim = holdings.victim(entries);
                victim.and_then(|victim| self.approvals.forget(&victim));
            }
            None => {}
        }
        self.approvals.holdings.add(payer, 1);
        self.approvals.waiting.insert(name, WaitingRelay { info, payer, seen: now });
        self.tell_of_relay(key, is_news);
    }

    /// Approves the relay that waits under this id with this key, or one that begins so. Gives its key.
    pub fn approve_relay(&mut self, id: &str, key: &str, now: Now) -> Result<PublicKey, Refusal> {
        let is_it = |name: &str, relay: &WaitingRelay| {
            relay.info.relay_id.as_str() == id && key.len() >= KEY_PREFIX && name.starts_with(key)
        };
        let mut found = self.approvals.waiting.iter().filter(|(name, relay)| is_it(name, relay));
        let (Some((name, _)), None) = (found.next(), found.next()) else {
            return Err(Refusal::RelayUnknown);
        };
        let name = name.clone();
        let key = PublicKey::decode(&name).ok_or(Refusal::RelayUnknown)?;
        if self.approvals.approved.len() >= APPROVED {
            return Err(Refusal::Limit { what: "approved relays", limit: APPROVED });
        }
        if self.approvals.approved.contains_key(&relay_id(&key)) {
            return Err(Refusal::RelayTaken);
        }
        let Some(WaitingRelay { info, seen, .. }) = self.approvals.forget(&name) else {
            return Err(Refusal::RelayUnknown);
        };
        // Somebody may have registered the same id by a token.
        self.relays.remove(&info.relay_id);
        self.changes.push(Change::RelayChanged(info.relay_id.clone()));
        self.approvals.insert(ApprovedRelay::new(info, key, now.unix, seen));
        Ok(key)
    }

    /// A relay is not approved any more.
    pub fn revoke_relay(&mut self, id: &str) -> Result<(), Refusal> {
        let relay = self.approvals.approved.remove(id).ok_or(Refusal::RelayUnknown)?;
        self.changes.push(Change::RelayExpired(relay.info.relay_id));
        Ok(())
    }

    /// An approved relay says what it is like.
    pub fn refresh_relay(&mut self, info: RelayInfo, now: Instant) {
        let Some(relay) = self.approvals.approved.get_mut(&info.relay_id) else { return };
        relay.seen = now;
        let info = RelayInfo { load: relay.info.load, ..info };
        let key = relay.key;
        if relay.info != info {
            self.changes.push(Change::RelayChanged(info.relay_id.clone()));
            relay.info = info;
        }
        self.tell_of_relay(&key, true);
    }

    /// The relay with this key, approved or not, is heard of: how many it reaches, and how much it was told.
    pub fn relay_heard(&mut self, key: &PublicKey, load: u32, told: FeedSize, now: Instant) {
        let tells = self.tells_of_relays();
        if let Some(relay) = self.approvals.approved.get_mut(&relay_id(key)).filter(|relay| relay.key == *key)
        {
            (relay.seen, relay.info.load, relay.told) = (now, load, told);
            if tells && relay.told_others.is_none_or(|at| now.since(at) >= TELL_OTHERS) {
                relay.told_others = Some(now);
                let (relay, left_out) = (relay.info.relay_id.clone(), told.left_out);
                self.changes.push(Change::RelayHeard { relay, load, left_out });
            }
        } else if let Some(relay) = self.approvals.waiting.get_mut(&key.encode()) {
            relay.seen = now;
        }
        self.tell_of_relay(key, false);
    }

    /// Takes in what another instance has heard of a relay.
    pub(super) fn relay_heard_elsewhere(&mut self, heard: &HeardRelay, now: Instant) {
        let HeardRelay { info, key, payer, told } = heard;
        if self.approvals.with_key(key).is_some() {
            self.refresh_relay(info.clone(), now);
            self.relay_heard(key, info.load, *told, now);
            if let Some(relay) = self.approvals.approved.get_mut(&info.relay_id) {
                relay.elsewhere = Some(now);
            }
        } else if let Some(payer) = payer {
            self.await_approval(info.clone(), key, *payer, now);
        }
    }

    /// Whether other instances hear by this one how relays are.
    pub(super) fn tells_of_relays(&self) -> bool {
        self.approvals.has_others && !self.is_following()
    }

    /// Whether there are other instances, which hear of approved relays by this one.
    pub fn set_others(&mut self, has_others: bool) {
        self.approvals.has_others = has_others;
    }

    /// Whether clients are told of an approved relay: it was heard of not too long ago.
    pub fn is_listed(&self, relay: &ApprovedRelay, now: Instant) -> bool {
        now.since(relay.seen) < self.settings.lifetimes.relay
    }

    /// What a relay in another place has to know of a party as it is now; without members if there is none.
    pub fn party_roster(&self, party: &PartyId) -> PartyRoster {
        let entry = |peer: &PeerId, member: &Member| {
            let (key, place) = match member.relay_service() {
                RelayService::Served { key } => {
                    (key, RosterPlace::Served { ip: member.virtual_ip, origin: member.origin })
                }
                RelayService::Claimed { key, from } => (key, RosterPlace::Claimed { from }),
                RelayService::None => return None,
            };
            Some(RosterEntry { peer: PeerId::new(&self.roster_name(party, peer.as_str()))?, key, place })
        };
        let members = self.parties.get(party).map(|party| &party.members);
        PartyRoster {
            members: members.into_iter().flatten().filter_map(|(peer, member)| entry(peer, member)).collect(),
            ..self.gone_roster(party)
        }
    }

    /// What a relay in another place has to know of a party that it is to forget.
    pub fn gone_roster(&self, party: &PartyId) -> PartyRoster {
        let party = PartyId::new(&self.roster_name(party, "")).expect("hexadecimal digits fit an id");
        PartyRoster { party, members: Vec::new() }
    }

    /// How many members [`Control::party_roster`] has.
    pub fn roster_size(&self, party: &PartyId) -> usize {
        let members = self.parties.get(party).into_iter().flat_map(|party| party.members.values());
        members.filter(|member| !matches!(member.relay_service(), RelayService::None)).count()
    }

    /// The name of a member, or of the party itself, at relays in other places, which need not know its id.
    fn roster_name(&self, party: &PartyId, peer: &str) -> String {
        let parts = [b"lanrage v1 roster", party.as_str().as_bytes(), b"/", peer.as_bytes()];
        hex::encode(&blake2s::mac(&*self.storage_key, &parts))
    }
}
