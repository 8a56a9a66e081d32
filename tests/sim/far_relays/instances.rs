//! The same where several instances serve: the relay is at one that follows, or at the one that decides, which tells nothing
//! before it is committed.

use super::*;
use lanrage::cluster::digest::{self, MOST_HEARD};
use lanrage::cluster::entry;
use lanrage::cluster::follower::{DIGEST_EVERY, DIGEST_GAP};

/// How long it takes until a commit is made, where that is slow.
pub const COMMIT: Duration = Duration::from_secs(2);
/// How long it takes until another instance has it, and a digest comes.
const LAG: Duration = Duration::from_millis(50);

/// The instance that decides, and what is under way from it and to it.
pub struct Writer {
    pub api: Api,
    entries: VecDeque<(Instant, String)>,
    digested: Instant,
    /// Digests that were sent.
    digests: usize,
}

impl Realm {
    /// Has another instance decide.
    fn follow(&mut self) {
        let mut api = self.restored();
        api.set_others(true);
        self.api.control_mut().follow(self.now);
        let digested = self.now.instant;
        self.writer = Some(Writer { api, entries: VecDeque::new(), digested, digests: 0 });
    }

    /// Has what the relay is told wait for slow commits.
    fn hold(&mut self) {
        self.held = Some(VecDeque::new());
        self.api.tell_relays_later();
    }

    pub fn settle_writer(&mut self) {
        let now = self.now;
        let effects = self.writer.as_mut().map(|writer| writer.api.drain(None, now));
        effects.into_iter().for_each(|effects| self.commit(&effects.changes));
    }

    /// Keeps what the writer has decided, and puts it into the log.
    fn commit(&mut self, changes: &[Change]) {
        let Some(writer) = self.writer.as_mut().filter(|_| !changes.is_empty()) else { return };
        let mut rows = Vec::new();
        changes.iter().for_each(|change| records::rows(writer.api.control(), change, self.now, &mut rows));
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| ((row.table, row.key), row.value)).collect();
        let texts = rows.iter().map(|((table, key), value)| (table.name(), key.as_str(), value.as_deref()));
        writer.entries.push_back((self.now.instant + LAG, entry::write(texts, changes)));
        for (key, value) in rows {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }

    pub fn step_writer(&mut self) {
        let now = self.now;
        let Some(writer) = &mut self.writer else { return };
        let effects = writer.api.poll(None, now);
        self.commit(&effects.changes);
        while let Some((_, entry)) =
            self.writer.as_mut().and_then(|writer| writer.entries.pop_front_if(|(at, _)| *at <= now.instant))
        {
            let commit = entry::read(entry.as_bytes()).unwrap();
            self.api.control_mut().adopt(commit, now).unwrap();
            self.settle();
        }
        let Some(writer) = &mut self.writer else { return };
        let is_urgent = self.api.control().is_digest_urgent();
        if now.instant.since(writer.digested) >= if is_urgent { DIGEST_GAP } else { DIGEST_EVERY } {
            let heard = self.api.control_mut().take_digest(MOST_HEARD, now);
            writer.digested = now.instant;
            writer.digests += usize::from(!heard.is_empty());
            let heard = digest::read(digest::write(&heard).as_bytes()).unwrap();
            writer.api.control_mut().hear(&heard, now);
            self.settle_writer();
        }
    }

    /// The instance where the relay is dies. It comes to another one, which follows, too.
    fn lose_instance(&mut self) {
        self.cut();
        self.api = self.restored();
        self.api.control_mut().follow(self.now);
        // It was loaded when all of these were in it.
        self.writer.as_mut().unwrap().entries.clear();
    }

    /// The one that decides dies, and the one where the relay is goes on.
    fn lead(&mut self) {
        self.wait(2 * LAG);
        self.writer = None;
        self.api.control_mut().lead(self.now);
    }

    fn listed(&mut self) -> usize {
        let now = self.now.instant;
        let control = self.api.control();
        control.approvals().approved().filter(|relay| control.is_listed(relay, now)).count()
    }
}

#[test]
fn what_any_instance_decides_reaches_a_relay_at_another_one_within_a_second() {
    let mut realm = Realm::new(11, 1000);
    realm.follow();
    for peer in 1..=9 {
        realm.enter(if peer < 5 { "one" } else { "two" }, peer, peer);
    }
    // It comes to one that has not heard of it.
    realm.lose_instance();
    let begun = realm.now.instant;
    while realm.deciding().control().approvals().waiting().count() == 0 {
        realm.step();
        // It comes again after a second at most, and says who it is in three ways through the network.
        assert!(realm.now.instant.since(begun) < 3 * SECOND);
    }
    assert_eq!((realm.link.approval(), realm.relay.member_count()), (Approval::Waits, 0));
    realm.approve();
    realm.wait(LAG + 6 * DELAY);
    assert_eq!((realm.link.approval(), realm.relay.member_count()), (Approval::Given, 9));
    realm.kick("two", 7);
    realm.wait(LAG + 4 * DELAY);
    assert_eq!(realm.relay.member_count(), 8);
    realm.wait(40 * SECOND);
    let relay = realm.deciding().control().approvals().approved().next().unwrap();
    assert_eq!(relay.told.members, 8);
    // All know for as long as it is there, also when all members have fallen silent; and digests are no more than they are anyway.
    let digests = realm.writer.as_ref().unwrap().digests;
    realm.wait(Duration::from_secs(1800));
    assert!(realm.writer.as_ref().unwrap().digests - digests <= 1800 / 15 + 1);
    let now = realm.now.instant;
    let relay = realm.deciding().control().approvals().approved().next().unwrap();
    assert!(relay.is_elsewhere(now), "{relay:?}");
    let id = relay.info.relay_id.clone();
    assert_eq!(realm.listed(), 1);
    realm.own(Method::Delete, &format!("/relay-approvals/{id}"), "");
    realm.enter("three", 3, 3);
    realm.wait(LAG + 2 * DELAY);
    assert_eq!((realm.relay.member_count(), realm.listed(), realm.link.approval()), (0, 0, Approval::Waits));
    // It comes again, and waits.
    realm.wait(4 * SECOND);
    assert_eq!(realm.deciding().control().approvals().waiting().count(), 1);
}

#[test]
fn whatever_becomes_of_instances_the_relay_ends_up_with_what_the_one_that_decides_knows() {
    for seed in 20..26 {
        let mut realm = Realm::new(seed, 100_000);
        realm.follow();
        let mut random = Seeded::new(seed ^ 0xfa12);
        realm.wait(40 * SECOND);
        realm.approve();
        for round in 0..6 {
            for _ in 0..25 {
                let (party, peer) = (format!("party-{}", random.below(8)), random.below(30) as u8);
                match random.below(10) {
                    0..=4 => realm.enter(&party, peer, if random.below(6) == 0 { 3 } else { peer }),
                    5..=6 => realm.kick(&party, peer),
                    7 => realm.cut(),
                    8 if random.below(3) == 0 && realm.writer.is_some() => realm.lose_instance(),
                    _ => {}
                }
                realm.wait(Duration::from_millis(random.below(400)));
            }
            realm.meet();
            match round {
                2 => {
                    // It keeps its connection, and what it was told.
                    let (sessions, members) = (realm.sessions, realm.relay.member_count());
                    realm.lead();
                    realm.wait(SECOND);
                    assert_eq!((realm.sessions, realm.relay.member_count()), (sessions, members));
                }
                4 => {
                    realm.restart_server();
                    realm.follow();
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_relay_at_the_one_that_decides_is_answered_while_commits_are_slow_and_told_when_they_are_made() {
    let mut realm = Realm::new(31, 1000);
    realm.hold();
    realm.approve();
    realm.wait(COMMIT + SECOND);
    assert_eq!(realm.link.approval(), Approval::Given);
    let sessions = realm.sessions;
    let key = PrivateKey::from_bytes([7; 32]).public_key();
    let mut entered = 0;
    for round in 0..40 {
        for peer in [7, 8, 9] {
            if round % 2 == 0 {
                realm.enter("party", peer, peer)
            } else {
                realm.kick("party", peer)
            }
            entered += u64::from(round % 2 == 0);
            realm.wait(Duration::from_millis(130));
        }
        if round == 0 {
            assert!(!realm.knows(&key), "before the commit");
        }
    }
    realm.meet();
    // Those who entered had a session each, and the relay has the one that it had.
    assert_eq!(realm.sessions, sessions + entered);
}
