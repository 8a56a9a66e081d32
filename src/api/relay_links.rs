//! Relays in other places, each at its WebSocket: it shows that it has its key, waits for its approval, and is then told of
//! parties as they change. All that is said after the greeting is sealed with the keys of both ends.

use super::fields::{Problems, Text};
use super::messages::{MessageReply, MessageTrouble, Said};
use super::relay_feed::RelayFeed;
use super::sessions::Delivery;
use super::{Api, Effects, bodies};
use crate::control::Control;
use crate::control::approvals::FeedSize;
use crate::control::change::Change;
use crate::control::relays::{RelayInfo, is_relay_address, unembedded};
use crate::crypto::channel::{NONCE_LENGTH, SealedChannel, Side};
use crate::crypto::x25519::PublicKey;
use crate::crypto::{hex, random};
use crate::figures::Figure;
use crate::ids::{PartyId, RelayId, SessionId};
use crate::sorted::SortedMap;
use crate::time::Now;
use crate::wire::roster::{self, KEY_PREFIX, RelayIntroduction, RelayReport, RosterMessage, relay_id};
use std::net::IpAddr;

/// A relay at its session.
struct RelayLink {
    key: PublicKey,
    channel: SealedChannel,
    /// How many members it takes, and what it was told already, once it has said who it is.
    introduced: Option<(u32, Option<String>)>,
    /// Whether it is told of parties here.
    is_fed: bool,
}

/// All of them.
#[derive(Default)]
pub struct RelayLinks {
    by_session: SortedMap<SessionId, RelayLink>,
    feeds: SortedMap<RelayId, RelayFeed>,
    /// Among which parties have their homes.
    approved: Vec<RelayId>,
    /// What was said and is to be sent.
    out: Vec<Delivery>,
    /// Whether relays are told when what happened is kept, and not before: see [`Api::tell_relays`].
    pub tells_later: bool,
}

impl RelayLinks {
    /// Whether an approved relay is at this session.
    pub fn is_fed(&self, session: SessionId) -> bool {
        self.by_session.get(&session).is_some_and(|link| link.is_fed)
    }

    /// Whether the approved relay with this key is here.
    pub fn is_here(&self, key: &PublicKey) -> bool {
        self.by_session.values().any(|link| link.is_fed && link.key == *key)
    }

    /// How much an approved relay has been told from here, if it ever was.
    pub fn told(&self, id: &RelayId) -> Option<FeedSize> {
        self.feeds.get(id).map(RelayFeed::size)
    }

    /// Whether the approved relay with this key has no room for a party; `None` if it is not here.
    pub fn leaves_out(&self, key: &PublicKey, party: &PartyId) -> Option<bool> {
        let feed = self.feeds.get(&relay_id(key)).filter(|_| self.is_here(key))?;
        Some(feed.leaves_out(party))
    }

    /// A session is gone. What its relay has been told is remembered: it may come back.
    pub fn close(&mut self, session: SessionId) {
        if let Some(link) = self.by_session.remove(&session)
            && link.is_fed
            && let Some(feed) = self.feeds.get_mut(&relay_id(&link.key))
        {
            feed.interrupt();
        }
    }

    /// The sessions of a relay.
    fn of(&self, key: &PublicKey) -> Vec<SessionId> {
        let own = self.by_session.iter().filter(|(_, link)| link.key == *key);
        own.map(|(session, _)| *session).collect()
    }

    fn say(&mut self, session: SessionId, message: &RosterMessage) {
        if let Some(link) = self.by_session.get_mut(&session) {
            let sealed = link.channel.seal(&message.text());
            self.out.push(Delivery { to: vec![session], text: roster::sealed(&sealed) });
        }
    }

    /// Tells of parties from now on.
    fn feed_from_now_on(&mut self, session: SessionId, control: &Control) {
        let Some(link) = self.by_session.get_mut(&session) else { return };
        let (Some((room, known)), false) = (&link.introduced, link.is_fed) else { return };
        let (id, room) = (relay_id(&link.key), *room);
        let resumes = self.feeds.get(&id).is_some_and(|feed| feed.continues(known.as_deref(), room));
        link.is_fed = true;
        if !resumes {
            let name = hex::encode(&random::bytes::<8>());
            self.feeds.insert(id.clone(), RelayFeed::new(name, id.clone(), room, control));
        }
        let feed = self.feeds[&id].name().to_owned();
        self.say(session, &RosterMessage::Approved { subnet: control.settings().subnet, feed, resumes });
    }

    /// A relay that is away, or at another instance, and missed too much, is told everything when it comes back.
    fn forget_backlogs(&mut self) {
        if self.feeds.values().any(RelayFeed::is_too_far_behind) {
            let here = self.by_session.values().filter(|link| link.is_fed).map(|link| relay_id(&link.key));
            let here: Vec<RelayId> = here.collect();
            self.feeds.retain(|id, feed| here.contains(id) || !feed.is_too_far_behind());
        }
    }

    /// The relays have changed: if others are approved now, parties have other homes.
    fn place_parties(&mut self, control: &Control) {
        let approved: Vec<_> =
            control.approvals().approved().map(|relay| relay.info.relay_id.clone()).collect();
        if self.approved != approved {
            self.approved = approved;
            self.feeds.values_mut().for_each(RelayFeed::reconsider);
        }
    }

    /// Takes what is to be sent, and has to be at once: it counts in this order.
    fn take(&mut self, control: &Control, out: &mut Vec<Delivery>) {
        let fed = self.by_session.iter().filter(|(_, link)| link.is_fed);
        let fed: Vec<_> = fed.map(|(session, link)| (*session, relay_id(&link.key))).collect();
        for (session, id) in fed {
            let page = self.feeds.get_mut(&id).and_then(|feed| feed.page(control));
            if let Some((number, parties, is_whole)) = page {
                self.say(session, &RosterMessage::Page { number, parties, is_whole });
            }
        }
        out.append(&mut self.out);
    }
}

impl Api {
    /// `relay_hello`: somebody says to be the relay with a key. What it says next shows whether it is.
    pub(super) fn greet_relay(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let key = bodies::wireguard_key(&said.fields, &mut problems);
        let nonce = said.fields.text("nonce", Text::KEY, &mut problems);
        problems.check()?;
        let key = key.filter(|key| key.canonical() == *key);
        let nonce = nonce.and_then(hex::decode::<NONCE_LENGTH>);
        let (Some(key), Some(nonce)) = (key, nonce) else {
            return Err(MessageTrouble::new("The nonce is 32 hexadecimal digits"));
        };
        let secret = self.control.shared_with(&key).filter(|_| key != self.control.hub());
        let Some(secret) = secret else {
            return Err(MessageTrouble::new("A relay has a key of its own"));
        };
        let own = random::bytes();
        let channel = SealedChannel::new(&secret, &nonce, &own, Side::Server);
        let text = roster::hello(&self.control.hub(), &own);
        self.relay_links.close(said.session);
        let link = RelayLink { key, channel, introduced: None, is_fed: false };
        self.relay_links.by_session.insert(said.session, link);
        self.relay_links.out.push(Delivery { to: vec![said.session], text });
        Ok(MessageReply::None)
    }

    /// `relay`: what only the holder of the key can have said.
    pub(super) fn hear_relay(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let sealed = said.fields.required("sealed", &mut problems).and_then(|sealed| sealed.as_str());
        problems.check()?;
        let link = self.relay_links.by_session.get_mut(&said.session);
        let opened = link.zip(sealed).and_then(|(link, sealed)| Some((link.key, link.channel.open(sealed)?)));
        let Some((key, text)) = opened else {
            self.closures.push((said.session, "this is not sealed with the key of that relay"));
            return Ok(MessageReply::None);
        };
        match RelayReport::read(&text).map_err(MessageTrouble::new)? {
            RelayReport::Introduction(introduction) => self.introduce_relay(said, key, introduction)?,
            RelayReport::Taken(number) => {
                if self.relay_links.is_fed(said.session)
                    && let Some(feed) = self.relay_links.feeds.get_mut(&relay_id(&key))
                {
                    feed.taken(number);
                }
            }
            RelayReport::News { load, handshakes } => {
                let id = relay_id(&key);
                let told = self.relay_links.told(&id).unwrap_or_default();
                self.control.relay_heard(&key, load, told, said.now.instant);
                for (member, from) in handshakes {
                    self.handshake_elsewhere(&id, &member, from, said.now);
                }
                self.relay_links.say(said.session, &RosterMessage::Heard);
            }
        }
        Ok(MessageReply::None)
    }

    fn introduce_relay(
        &mut self,
        said: &Said<'_>,
        key: PublicKey,
        introduction: RelayIntroduction,
    ) -> Result<(), MessageTrouble> {
        let RelayIntroduction { ip, port, region, capacity, room, feed } = introduction;
        let (Some(source), now) = (said.client.source.address(), said.now.instant) else {
            return Err(MessageTrouble::new("A relay comes over the network"));
        };
        let public_ip = unembedded(ip.unwrap_or(source));
        if !is_relay_address(public_ip, said.client.is_local) {
            return Err(MessageTrouble::new("Nobody reaches a relay at that address"));
        }
        let info = RelayInfo {
            relay_id: relay_id(&key),
            public_ip,
            port,
            region,
            capacity,
            public_key: Some(key.encode()),
            load: 0,
        };
        // It may have lost the connection before we have.
        for other in self.relay_links.of(&key).into_iter().filter(|other| *other != said.session) {
            self.relay_links.close(other);
            self.closures.push((other, "this relay has come again"));
        }
        if let Some(link) = self.relay_links.by_session.get_mut(&said.session) {
            link.introduced = Some((room, feed));
        }
        if self.control.approvals().with_key(&key).is_some() {
            self.control.refresh_relay(info, now);
            self.relay_links.feed_from_now_on(said.session, &self.control);
            return Ok(());
        }
        let is_news = !self.control.approvals().waiting().any(|relay| relay.info.relay_id == info.relay_id);
        if is_news {
            let key = key.encode();
            log::info!(
                "relay {id} ({public_ip}) waits for you: `lanrage relay approve {id} {}`, if its key is {key}",
                &key[..KEY_PREFIX],
                id = info.relay_id
            );
        }
        self.control.await_approval(info, &key, source, now);
        self.relay_links.say(said.session, &RosterMessage::Pending);
        Ok(())
    }

    /// Takes a handshake that was completed at the hub of a relay in another place. It is believed for the parties that this
    /// relay was told of.
    fn handshake_elsewhere(&mut self, relay: &RelayId, key: &PublicKey, from: IpAddr, now: Now) {
        let Some(feed) = self.relay_links.feeds.get(relay) else { return };
        let claimants = self.control.claimants(key);
        let parties = claimants.iter().flat_map(|peer| self.control.parties_of(peer));
        if parties.into_iter().any(|party| feed.has(party)) {
            self.take_handshake(key, from, now);
        }
    }

    /// Has relays told of what has happened, and of what else they are to be told, after all that this gave before is sent.
    /// With other instances that is when it is committed: what a message to a relay says is sealed in the order in which it
    /// goes out, and the answer to what it reports does not wait for the database. A party is told as it is by then.
    pub fn tell_relays(&mut self, effects: &mut Effects) {
        let mut has_other_relays = false;
        for change in &effects.changes {
            if let Change::RelayChanged(id) | Change::RelayExpired(id) = change {
                self.follow_approval(id, &mut effects.closures);
                has_other_relays = true;
            }
            self.relay_links.feeds.values_mut().for_each(|feed| feed.note(change));
        }
        if has_other_relays {
            self.relay_links.place_parties(&self.control);
        }
        self.relay_links.forget_backlogs();
        let before = effects.deliveries.len();
        self.relay_links.take(&self.control, &mut effects.deliveries);
        let told = effects.deliveries.len() - before;
        self.counters.values.add(Figure::Deliveries, told as u64);
    }

    /// Has relays told by [`Api::tell_relays`] alone from now on.
    pub fn tell_relays_later(&mut self) {
        self.relay_links.tells_later = true;
    }

    /// A relay was approved, and is told of parties; or it is not approved any more.
    fn follow_approval(&mut self, id: &RelayId, closures: &mut Vec<(SessionId, &'static str)>) {
        let key = self.control.approvals().get(id.as_str()).map(|relay| relay.key);
        let others = self.relay_links.by_session.iter();
        let others = others.filter(|(_, link)| link.is_fed && relay_id(&link.key) == *id);
        let others = others.filter(|(_, link)| Some(link.key) != key).map(|(session, _)| *session);
        let others: Vec<SessionId> = others.collect();
        if key.is_none() || !others.is_empty() {
            self.relay_links.feeds.remove(id);
        }
        for session in others {
            self.relay_links.say(session, &RosterMessage::Pending);
            self.relay_links.close(session);
            closures.push((session, "this relay is not approved any more"));
        }
        for session in key.map_or_else(Vec::new, |key| self.relay_links.of(&key)) {
            self.relay_links.feed_from_now_on(session, &self.control);
        }
    }

    /// Has another instance, which decides from now on, told of the relays that are here.
    pub fn tell_of_relays(&mut self) {
        for link in self.relay_links.by_session.values().filter(|link| link.introduced.is_some()) {
            self.control.tell_of_relay(&link.key, true);
        }
    }
}
