//! The way of a relay in another place to its control server: it shows that it has its key, waits for its approval, and keeps
//! its roster as it is told. While the server is away it goes on with what it was told last.

use crate::crypto::channel::{NONCE_LENGTH, SealedChannel, Side};
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::crypto::{hex, random};
use crate::ids::PartyId;
use crate::relay::Relay;
use crate::relay::roster::JoinError;
use crate::subnet::Subnet;
use crate::time::Instant;
use crate::wire::json::{self, object};
use crate::wire::roster::{
    self, KEY_PREFIX, PartyRoster, RelayIntroduction, RelayReport, RosterEntry, RosterMessage, RosterPlace,
    relay_id,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Between a connection and the next attempt: at first, and at most.
const REOPEN: Duration = Duration::from_secs(1);
const MAX_REOPEN: Duration = Duration::from_secs(30);
/// How often the server hears how the relay is doing, and how soon of a handshake.
const NEWS: Duration = Duration::from_secs(15);
const HANDSHAKE_NEWS: Duration = Duration::from_millis(500);
/// A server that says nothing for so long, though it was told news, is away.
const SILENCE: Duration = Duration::from_secs(40);
/// Handshakes that wait to be told. One that is lost comes again in two minutes.
const MAX_HANDSHAKES: usize = 256;
/// What is kept of the roster.
const FEED: &str = "feed";
const PARTIES: &str = "parties";

/// What the relay says of itself.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Its hub's key.
    pub key: PrivateKey,
    /// The key of the control server, if it is known.
    pub control: Option<PublicKey>,
    /// Its virtual LAN.
    pub subnet: Subnet,
    /// Its UDP port.
    pub port: u16,
    /// Where it stands.
    pub region: String,
    /// How many clients it says it takes.
    pub capacity: u32,
    /// How many members it can be told of.
    pub room: u32,
}

enum LinkStage {
    Closed {
        open_at: Instant,
    },
    Opening,
    /// It has said which key it has.
    Greeted {
        nonce: [u8; NONCE_LENGTH],
    },
    Sealed {
        control: PublicKey,
        channel: Box<SealedChannel>,
    },
}

/// What the server thinks of the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Approval {
    /// It was not heard of yet.
    Unknown,
    /// The owner has to approve it.
    Waits,
    /// It is told of parties.
    Given,
}

/// The way to the control server, and what came by it.
pub struct ControlLink {
    settings: LinkSettings,
    /// Where it is reached, if that is not where it speaks from.
    ip: Option<IpAddr>,
    stage: LinkStage,
    reopen: Duration,
    approval: Approval,
    roster: BTreeMap<PartyId, Vec<RosterEntry>>,
    /// Of those it is not known yet whether they are still there.
    doubtful: BTreeSet<PartyId>,
    /// What was taken in as a whole, and what is being taken in.
    feed: Option<String>,
    coming: String,
    handshakes: VecDeque<(PublicKey, IpAddr)>,
    news_at: Instant,
    heard_at: Instant,
    says: VecDeque<String>,
    is_refused: bool,
    has_changed: bool,
}

impl ControlLink {
    /// Of a relay that was told nothing yet.
    pub fn new(settings: LinkSettings, now: Instant) -> Self {
        ControlLink {
            settings,
            ip: None,
            stage: LinkStage::Closed { open_at: now },
            reopen: REOPEN,
            approval: Approval::Unknown,
            roster: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            feed: None,
            coming: String::new(),
            handshakes: VecDeque::new(),
            news_at: now,
            heard_at: now,
            says: VecDeque::new(),
            is_refused: false,
            has_changed: false,
        }
    }

    /// The key of the control server, once it has shown that it has it.
    pub fn control(&self) -> Option<&PublicKey> {
        self.settings.control.as_ref()
    }

    /// What the server thinks of the relay, as far as it is known.
    pub fn approval(&self) -> Approval {
        self.approval
    }

    /// Whether the server is there.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, LinkStage::Sealed { .. })
    }

    /// How many parties it knows.
    pub fn party_count(&self) -> usize {
        self.roster.len()
    }

    /// Whether the connection is to be opened now.
    pub fn opens(&mut self, now: Instant) -> bool {
        let is_due = matches!(self.stage, LinkStage::Closed { open_at } if open_at <= now);
        if is_due {
            self.stage = LinkStage::Opening;
        }
        is_due
    }

    /// Whether the connection is to be closed: nothing comes of it.
    pub fn closes(&self, now: Instant) -> bool {
        self.is_refused || now.since(self.heard_at) >= SILENCE
    }

    /// The connection is open. `ip` is where others reach the relay, if that is not where it speaks from.
    pub fn opened(&mut self, ip: Option<IpAddr>, now: Instant) {
        (self.ip, self.heard_at) = (ip, now);
        let nonce = random::bytes();
        self.stage = LinkStage::Greeted { nonce };
        self.says.push_back(roster::hello(&self.settings.key.public_key(), &nonce));
    }

    /// It could not be opened, or is closed.
    pub fn closed(&mut self, why: &str, now: Instant) {
        if self.is_open() {
            log::warn!(
                "the control server is away: games go on without it, and it is asked again and again: {why}"
            );
        } else {
            log::debug!("no control server: {why}");
        }
        let half = self.reopen / 2;
        let wait = half + half * u32::from(u16::from_le_bytes(random::bytes())) / 65_536;
        self.stage = LinkStage::Closed { open_at: now + wait };
        self.reopen = (self.reopen * 2).min(MAX_REOPEN);
        self.says.clear();
        self.is_refused = false;
    }

    /// A text to be sent.
    pub fn take_said(&mut self) -> Option<String> {
        self.says.pop_front()
    }

    fn report(&mut self, report: &RelayReport) {
        let LinkStage::Sealed { channel, .. } = &mut self.stage else { return };
        let sealed = channel.seal(&report.text());
        self.says.push_back(roster::sealed(&sealed));
    }

    /// A handshake was completed at the hub.
    pub fn handshake(&mut self, key: PublicKey, from: IpAddr, now: Instant) {
        if self.handshakes.len() >= MAX_HANDSHAKES {
            self.handshakes.pop_front();
        }
        self.handshakes.push_back((key, from));
        self.news_at = self.news_at.min(now + HANDSHAKE_NEWS);
    }

    /// When [`ControlLink::opens`] or [`ControlLink::poll`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        match self.stage {
            LinkStage::Closed { open_at } => Some(open_at),
            LinkStage::Sealed { .. } => Some(self.news_at.min(self.heard_at + SILENCE)),
            LinkStage::Greeted { .. } => Some(self.heard_at + SILENCE),
            LinkStage::Opening => None,
        }
    }

    /// Tells how the relay is doing, if it is time for that.
    pub fn poll(&mut self, load: u32, now: Instant) {
        if self.is_open() && self.news_at <= now {
            self.news_at = now + NEWS;
            let handshakes = std::mem::take(&mut self.handshakes).into();
            self.report(&RelayReport::News { load, handshakes });
        }
    }

    /// The server said something.
    pub fn heard(&mut self, text: &str, relay: &mut Relay, now: Instant) {
        self.heard_at = now;
        if let Err(fault) = self.take(text, relay, now) {
            log::warn!("the control server can't be followed: {fault}");
            self.is_refused = true;
        }
    }

    fn take(&mut self, text: &str, relay: &mut Relay, now: Instant) -> Result<(), String> {
        let value = json::parse(text.as_bytes()).map_err(|error| error.reason.to_owned())?;
        let said = |name: &str| value.get(name).and_then(json::Value::as_str).unwrap_or_default();
        match (said("type"), &mut self.stage) {
            ("relay_hello", LinkStage::Greeted { nonce }) => {
                let control = PublicKey::decode(said("public_key")).ok_or("it has no key")?;
                let own = hex::decode(said("nonce")).ok_or("it has no nonce")?;
                if self.settings.control.is_some_and(|known| known != control) {
                    return Err(format!(
                        "its key is {}, and was another one before; if it was set up anew, say so with --control-key",
                        control.encode()
                    ));
                }
                let secret = self.settings.key.diffie_hellman(&control).ok_or("its key is none")?;
                let channel = Box::new(SealedChannel::new(&secret, nonce, &own, Side::Client));
                self.stage = LinkStage::Sealed { control, channel };
                let LinkSettings { port, ref region, capacity, room, .. } = self.settings;
                let (region, feed) = (region.clone(), self.feed.clone());
                let introduction = RelayIntroduction { ip: self.ip, port, region, capacity, room, feed };
                self.report(&RelayReport::Introduction(introduction));
                Ok(())
            }
            ("relay", LinkStage::Sealed { control, channel }) => {
                let text = channel.open(said("sealed")).ok_or("it does not have the key that it says")?;
                self.settings.control = Some(*control);
                self.obey(RosterMessage::read(&text)?, relay, now)
            }
            ("error", _) => Err(said("message").to_owned()),
            _ => Err("it says what it should not: is it as new as this relay?".to_owned()),
        }
    }

    fn obey(&mut self, message: RosterMessage, relay: &mut Relay, now: Instant) -> Result<(), String> {
        match message {
            RosterMessage::Pending => {
                self.reopen = REOPEN;
                self.become_standing(Approval::Waits);
                (self.feed, self.doubtful) = (None, self.roster.keys().cloned().collect());
                self.drop_doubtful(relay, now);
            }
            RosterMessage::Heard => {}
            RosterMessage::Approved { subnet, feed, resumes } => {
                if subnet != self.settings.subnet {
                    return Err(format!(
                        "its virtual LAN is {subnet}: start this relay with --subnet {subnet}"
                    ));
                }
                self.reopen = REOPEN;
                self.become_standing(Approval::Given);
                self.doubtful.clear();
                if !resumes {
                    (self.feed, self.doubtful) = (None, self.roster.keys().cloned().collect());
                }
                self.coming = feed;
                self.news_at = now;
            }
            RosterMessage::Page { number, parties, is_whole } => {
                for party in parties {
                    self.doubtful.remove(&party.party);
                    self.take_party(party, relay, now);
                }
                if is_whole {
                    self.drop_doubtful(relay, now);
                    self.feed = Some(self.coming.clone());
                }
                self.has_changed = true;
                self.report(&RelayReport::Taken(number));
            }
        }
        Ok(())
    }

    fn become_standing(&mut self, approval: Approval) {
        if std::mem::replace(&mut self.approval, approval) == approval {
            log::info!("the control server is back");
            return;
        }
        match approval {
            Approval::Given => log::info!("approved: this relay serves the parties of the control server"),
            _ => {
                let public = self.settings.key.public_key();
                let key = public.encode();
                log::warn!(
                    "this relay serves nobody before it is approved: on the control server, compare the key with \
                     `lanrage relay list`, and say `lanrage relay approve {} {}`; the key is {key}",
                    relay_id(&public),
                    &key[..KEY_PREFIX]
                );
            }
        }
    }

    /// Forgets the parties that were not spoken of again.
    fn drop_doubtful(&mut self, relay: &mut Relay, now: Instant) {
        while self.drop_one_doubtful(relay, now) {}
        self.has_changed = true;
    }

    /// Forgets one of them, if there is any.
    fn drop_one_doubtful(&mut self, relay: &mut Relay, now: Instant) -> bool {
        let Some(party) = self.doubtful.pop_first() else { return false };
        self.take_party(PartyRoster { party, members: Vec::new() }, relay, now);
        true
    }

    /// Brings a party up to date.
    fn take_party(&mut self, roster: PartyRoster, relay: &mut Relay, now: Instant) {
        let PartyRoster { party, mut members } = roster;
        let before = self.roster.remove(&party).unwrap_or_default();
        // Who is served comes first: who has a key now goes on with the sessions that it has.
        let is_claim = |entry: &RosterEntry| matches!(entry.place, RosterPlace::Claimed { .. });
        for claims in [false, true] {
            // Who finds no room is not taken for known, and so is tried again when the party is told of again.
            members.retain(|entry| {
                let is_known = is_claim(entry) != claims || before.contains(entry);
                is_known || self.admit(relay, &party, entry, now)
            });
        }
        for RosterEntry { peer, .. } in &before {
            if !members.iter().any(|entry| entry.peer == *peer) {
                relay.leave(&party, peer, now);
            }
        }
        if !members.is_empty() {
            self.roster.insert(party, members);
        }
    }

    /// Whether a member is known to the relay now. Parties that may be gone make room.
    fn admit(&mut self, relay: &mut Relay, party: &PartyId, entry: &RosterEntry, now: Instant) -> bool {
        let RosterEntry { peer, key, place } = entry;
        let (ip, origin) = match *place {
            RosterPlace::Served { ip, origin } => (ip, origin),
            RosterPlace::Claimed { from } => {
                relay.claim(party, peer, *key, from, now);
                return true;
            }
        };
        loop {
            match relay.join(party, peer, *key, ip, now) {
                Ok(_) => break,
                Err(JoinError::Full) if self.drop_one_doubtful(relay, now) => {}
                Err(error) => {
                    log::warn!("the key {} gets no service: {error}", key.encode());
                    return error != JoinError::Full;
                }
            }
        }
        relay.set_origin(key, origin);
        true
    }

    /// What the relay was told, for the next process: at its end, or else if anything has changed since it was last kept. Only
    /// at the end it is all of what was taken in, so that the feed can go on from there.
    pub fn take_kept(&mut self, is_end: bool) -> Option<String> {
        let feed = self.feed.clone().filter(|_| is_end);
        self.has_changed |= is_end && !self.roster.is_empty();
        std::mem::take(&mut self.has_changed).then(|| {
            object(|json| {
                json.key(FEED).or_null(feed, |json, feed| json.string(&feed));
                json.key(PARTIES).array(|json| {
                    for (party, members) in &self.roster {
                        PartyRoster { party: party.clone(), members: members.clone() }.write(json);
                    }
                });
            })
        })
    }

    /// Takes over what the process before was told. Gives the number of parties.
    pub fn restore(&mut self, kept: &[u8], relay: &mut Relay, now: Instant) -> usize {
        let Ok(value) = json::parse(kept) else { return 0 };
        for party in PartyRoster::read_all(&value, PARTIES).unwrap_or_default() {
            self.take_party(party, relay, now);
        }
        self.feed = value.get(FEED).and_then(json::Value::as_str).map(str::to_owned);
        self.has_changed = true;
        self.roster.len()
    }
}
