//! An instance of a cluster: a real `Control`, a real `Lease` or `Follower`, and of the daemon what lies between them.

use crate::cluster::{Answer, Op, Sent};
use crate::cluster_model::{Reply, Request};
use lanrage::cluster::digest;
use lanrage::cluster::entry;
use lanrage::cluster::follower::{Follower, LogQuestion};
use lanrage::cluster::lease::{Lease, Position, Settled};
use lanrage::control::change::Change;
use lanrage::control::keys::KeyClaim;
use lanrage::control::party::PeerInfo;
use lanrage::control::record::Records;
use lanrage::control::refusal::Refusal;
use lanrage::control::registration::Credentials;
use lanrage::control::standing::Actor;
use lanrage::control::{Control, ControlSettings};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::ids::{PartyId, PeerId};
use lanrage::store::{Row, records};
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::nat_type::NatType;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Duration;

/// Changes are gathered for so long.
const GATHER: Duration = Duration::from_millis(20);
/// An answer of the database that is not there by then is lost.
const PATIENCE: Duration = Duration::from_millis(1500);

static KEYS: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..40).map(|byte| PrivateKey::from_bytes([byte; 32]).public_key().encode()).collect());

/// What waits for a commit.
#[derive(Default)]
pub struct Batch {
    pub number: u64,
    rows: BTreeMap<(lanrage::store::schema::Table, String), Row>,
    changes: Vec<Change>,
    answers: Vec<(u64, Answer)>,
}

enum Role {
    Follower,
    /// It has the lease, and is behind.
    Heir(Lease),
    Writer(Lease),
}

pub struct Instance {
    pub number: usize,
    /// Its clock is another one.
    offset: Duration,
    pub control: Control,
    pub follower: Follower,
    role: Role,
    pub is_loaded: bool,
    /// Who has the lease, as far as it knows.
    owner: Option<usize>,
    pending: Batch,
    gathered_at: Option<Instant>,
    in_flight: Option<Batch>,
    /// The request whose answer is awaited, and since when.
    asked: Option<(u64, Request, Instant)>,
    /// What its relay knows.
    pub roster: BTreeSet<String>,
    /// What it wants to be sent.
    pub out: Vec<Sent>,
    /// Answers that it gave, and the commit that they rest on.
    pub acknowledged: Vec<(u64, Position)>,
    /// The commits that it took over.
    pub taken_over: Vec<u64>,
    /// Whether all records together ever contradicted themselves.
    pub is_at_odds: bool,
}

fn home(number: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number as u32))
}

fn info(peer: &PeerId, number: u64) -> PeerInfo {
    PeerInfo {
        peer_id: peer.clone(),
        name: "Me".into(),
        public_key: KEYS[number as usize % KEYS.len()].as_str().into(),
        nat_type: NatType::Unknown,
        public_ip: "unknown".into(),
        public_port: 0,
        local_ip: "unknown".into(),
        local_port: 0,
        last_seen: None,
    }
}

impl Instance {
    pub fn new(number: usize, time: Instant) -> Self {
        let offset = Duration::from_secs(1000 * (1 + number as u64));
        let now = now(time, offset);
        let hub = PrivateKey::from_bytes([7; 32]);
        let mut control = Control::new(ControlSettings::default(), hub, Records::default(), now);
        control.follow(now);
        let mut follower = Follower::loaded(Position::default(), now.instant);
        follower.diverged();
        Instance {
            number,
            offset,
            control,
            follower,
            role: Role::Follower,
            is_loaded: false,
            owner: None,
            pending: Batch::default(),
            gathered_at: None,
            in_flight: None,
            asked: None,
            roster: BTreeSet::new(),
            out: Vec::new(),
            acknowledged: Vec::new(),
            taken_over: Vec::new(),
            is_at_odds: false,
        }
    }

    pub fn is_writer(&self) -> bool {
        matches!(self.role, Role::Writer(_))
    }

    /// Whether it is the writer, and something waits for its next commit.
    pub fn is_gathering(&self) -> bool {
        self.is_writer() && self.gathered_at.is_some()
    }

    fn lease(&mut self) -> Option<&mut Lease> {
        match &mut self.role {
            Role::Follower => None,
            Role::Heir(lease) | Role::Writer(lease) => Some(lease),
        }
    }

    fn ask(&mut self, request: Request, batches: &mut u64, now: Now) {
        *batches += 1;
        self.asked = Some((*batches, request.clone(), now.instant));
        self.out.push(Sent::Request { id: *batches, request });
    }

    /// Does what is due. Returns when to look again.
    pub fn poll(&mut self, time: Instant, ids: &mut u64) -> Instant {
        let now = now(time, self.offset);
        if self.asked.as_ref().is_some_and(|(.., sent)| *sent + PATIENCE <= now.instant) {
            self.lose(ids, now);
        }
        if self.asked.is_none() {
            self.ask_what_is_due(ids, now);
        }
        if self.control.is_following() && self.is_loaded {
            let is_due = self.follower.digest_at(self.control.is_digest_urgent()) <= now.instant;
            if let Some(owner) = self.owner.filter(|owner| is_due && *owner != self.number) {
                let heard = self.control.take_digest(digest::MOST_HEARD, now);
                self.follower.digested(now.instant);
                self.out.push(Sent::Digest { to: owner, text: digest::write(&heard) });
            }
        }
        let mut due = vec![now.instant + Duration::from_secs(1)];
        match &self.asked {
            Some((.., sent)) => due.push(*sent + PATIENCE),
            None => {
                due.extend(self.follower.poll_timeout().filter(|_| !self.is_writer()));
                due.extend(self.gathered_at.map(|at| at + GATHER));
                due.extend(self.lease().map(|lease| lease.renew_at()));
            }
        }
        let due = due.into_iter().min().unwrap_or(now.instant).max(now.instant + Duration::from_millis(1));
        due - self.offset
    }

    fn ask_what_is_due(&mut self, ids: &mut u64, now: Now) {
        let gathered = self.gathered_at.is_some_and(|at| at + GATHER <= now.instant);
        match &mut self.role {
            Role::Writer(lease) if gathered => {
                let Some(follows) = lease.send(now.instant) else { return };
                let batch = std::mem::take(&mut self.pending);
                self.gathered_at = None;
                *ids += 1;
                let batch = Batch { number: *ids, ..batch };
                let rows: Vec<Row> = batch.rows.values().cloned().collect();
                let texts = rows.iter().map(|row| (row.table.name(), row.key.as_str(), row.value.as_deref()));
                let entry = entry::write(texts, &batch.changes);
                let request = Request::Commit { follows, rows, entry, batch: batch.number };
                self.in_flight = Some(batch);
                self.ask(request, ids, now);
            }
            Role::Heir(lease) | Role::Writer(lease) if lease.renew_at() <= now.instant => {
                let position = lease.position();
                self.ask(Request::Renew { position }, ids, now);
            }
            Role::Writer(_) => {}
            Role::Follower | Role::Heir(_) => {
                match self.follower.poll(now.instant) {
                    Some(LogQuestion::Entries { from }) => self.ask(Request::Look { from }, ids, now),
                    Some(LogQuestion::Everything) => self.ask(Request::Everything, ids, now),
                    None => {}
                };
            }
        }
    }

    /// The connection broke, or so it seems.
    fn lose(&mut self, ids: &mut u64, now: Now) {
        self.asked = None;
        match &mut self.role {
            Role::Follower => self.follower.failed(),
            Role::Heir(lease) | Role::Writer(lease) => {
                let (epoch, next) = (lease.position().epoch, lease.lost());
                if self.control.is_following() {
                    self.follower.failed();
                }
                self.ask(Request::Regain { epoch, next }, ids, now);
            }
        }
    }

    pub fn notice(&mut self, seq: u64) {
        self.follower.hint(seq);
    }

    /// The database answers.
    pub fn hear(&mut self, id: u64, reply: Reply, time: Instant, ids: &mut u64) {
        let now = now(time, self.offset);
        let Some((.., sent)) = self.asked.take_if(|(asked, ..)| *asked == id) else { return };
        match reply {
            Reply::Look { realm, log, owner, is_free } => {
                self.owner = owner;
                let before = self.follower.position().seq;
                for commit in self.follower.take(realm, log) {
                    if self.control.adopt(commit, now).is_err() {
                        self.follower.diverged();
                    }
                    self.drain_as_follower();
                }
                let seq = self.follower.position().seq;
                self.taken_over.extend((seq > before).then_some(seq));
                let is_current = self.follower.position() == realm;
                if is_free && is_current && matches!(self.role, Role::Follower) {
                    self.ask(Request::Take, ids, now);
                }
            }
            Reply::Everything { realm, rows, owner } => {
                self.owner = owner;
                let loaded = records::load(rows);
                assert!(loaded.unreadable.is_empty());
                self.is_at_odds |= self.control.catch_up(loaded.records, now).is_err();
                self.drain_as_follower();
                self.follower.reloaded(realm);
                self.is_loaded = true;
            }
            Reply::Taken(Some(position)) => {
                self.role = Role::Heir(Lease::taken(position, sent));
                self.follower.hint(position.seq);
            }
            Reply::Taken(None) => {}
            Reply::Renewed(true) => self.lease().into_iter().for_each(|lease| lease.renewed(sent)),
            Reply::Renewed(false) => self.let_go(now),
            Reply::Committed(true) => {
                self.lease().into_iter().for_each(|lease| lease.committed());
                self.settle_batch();
            }
            Reply::Committed(false) => self.let_go(now),
            Reply::Regained(answer) => {
                let Some(lease) = self.lease() else { return };
                let before = lease.position();
                match lease.regained(answer, sent) {
                    Settled::Committed => self.settle_batch_at(Position { seq: before.seq + 1, ..before }),
                    Settled::NotCommitted => {
                        if let Some(mut batch) = self.in_flight.take() {
                            batch.rows.append(&mut self.pending.rows);
                            batch.changes.append(&mut self.pending.changes);
                            batch.answers.append(&mut self.pending.answers);
                            self.pending = batch;
                            self.gathered_at.get_or_insert(now.instant);
                        }
                    }
                    Settled::Fenced { committed } => {
                        if committed {
                            self.settle_batch_at(Position { seq: before.seq + 1, ..before });
                        }
                        self.let_go(now);
                    }
                }
            }
        }
        if let Role::Heir(lease) = &self.role
            && self.is_loaded
            && self.follower.position().seq == lease.position().seq
        {
            let lease = lease.clone();
            self.control.lead(now);
            self.role = Role::Writer(lease);
            self.owner = Some(self.number);
        }
    }

    fn settle_batch(&mut self) {
        let position = self.lease().map(|lease| lease.position());
        self.settle_batch_at(position.unwrap_or_default());
    }

    /// What waited for its commit is let out.
    fn settle_batch_at(&mut self, position: Position) {
        let Some(batch) = self.in_flight.take() else { return };
        self.note_in_roster(&batch.changes);
        for (call, answer) in batch.answers {
            self.acknowledged.push((batch.number, position));
            self.out.push(Sent::Answer { call, answer });
        }
    }

    /// The lease is gone, and with it all that was not committed.
    fn let_go(&mut self, now: Now) {
        if let Role::Writer(lease) | Role::Heir(lease) = &mut self.role {
            lease.refused();
        }
        let lost = self.in_flight.take().into_iter().chain([std::mem::take(&mut self.pending)]);
        for (call, _) in lost.flat_map(|batch| batch.answers) {
            self.out.push(Sent::Answer { call, answer: Answer::Trouble });
        }
        (self.gathered_at, self.owner, self.role) = (None, None, Role::Follower);
        self.control.drain_changes();
        self.control.follow(now);
        self.follower = Follower::loaded(Position::default(), now.instant);
        self.follower.diverged();
        self.is_loaded = false;
    }

    fn drain_as_follower(&mut self) {
        let changes = self.control.drain_changes();
        self.note_in_roster(&changes);
    }

    fn note_in_roster(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::MemberJoined(party, peer) => drop(self.roster.insert(format!("{party}/{peer}"))),
                Change::MemberLeft { party, who, .. } => {
                    self.roster.remove(&format!("{party}/{}", who.peer));
                }
                _ => {}
            }
        }
    }

    /// Another instance tells what it has heard.
    pub fn take_digest(&mut self, text: &str, time: Instant) {
        if self.is_writer() {
            let digest = digest::read(text.as_bytes()).expect("it was written so");
            self.control.hear(&digest, now(time, self.offset));
            self.gather(now(time, self.offset), None);
        }
    }

    /// Somebody wants something, at this instance or at one that sends it here.
    pub fn call(&mut self, call: u64, op: &Op, is_forwarded: bool, time: Instant) {
        let now = now(time, self.offset);
        let trouble = Sent::Answer { call, answer: Answer::Trouble };
        if !self.is_loaded {
            self.out.push(trouble);
            return;
        }
        let is_held = match &self.role {
            Role::Writer(lease) => Some(lease.is_held(now.instant)),
            _ => None,
        };
        match (op, is_held, self.owner) {
            (_, Some(is_held), _) => match self.carry_out(op, now) {
                Ok(answer) if op.is_reading() && is_held => self.out.push(Sent::Answer { call, answer }),
                Ok(answer) if !op.is_reading() => self.gather(now, Some((call, answer))),
                Err(_) if is_held => self.out.push(Sent::Answer { call, answer: Answer::Refused }),
                _ => self.out.push(trouble),
            },
            (Op::Check { .. } | Op::Beat { .. }, ..) if !is_forwarded && self.carry_out(op, now).is_ok() => {
                self.drain_as_follower();
                self.out.push(Sent::Answer { call, answer: Answer::Done });
            }
            (_, _, Some(owner)) if !is_forwarded && owner != self.number => {
                self.out.push(Sent::Forward { to: owner, call });
            }
            _ => self.out.push(trouble),
        }
    }

    fn gather(&mut self, now: Now, answer: Option<(u64, Answer)>) {
        let changes = self.control.drain_changes();
        let mut rows = Vec::new();
        for change in &changes {
            records::rows(&self.control, change, now, &mut rows);
        }
        self.pending.rows.extend(rows.into_iter().map(|row| ((row.table, row.key.clone()), row)));
        let is_durable = changes.iter().any(Change::is_durable) || answer.is_some();
        self.pending.changes.extend(changes);
        self.pending.answers.extend(answer);
        if is_durable {
            self.gathered_at.get_or_insert(now.instant);
        }
    }

    fn carry_out(&mut self, op: &Op, now: Now) -> Result<Answer, Refusal> {
        let id = |text: &str| PeerId::new(text).expect("a good id");
        match op {
            Op::Register { peer } => {
                let issued = self.control.register(&id(peer), Credentials::default(), now)?;
                return Ok(Answer::Token(issued.token));
            }
            Op::Create { token, party, number, .. } => {
                let by = self.control.authenticate(token, now)?;
                let (info, claim) =
                    (info(&by.peer, *number), KeyClaim { origin: Some(home(*number)), proof: None });
                let party = PartyId::new(party).expect("a good id");
                self.control.create_party(&by, Some(party), "LAN", info, claim, now)?;
            }
            Op::Join { token, party, number, .. } => {
                let by = self.control.authenticate(token, now)?;
                let (info, claim) =
                    (info(&by.peer, *number), KeyClaim { origin: Some(home(*number)), proof: None });
                self.control.enter_party(&by, party, info, claim, None, now)?;
            }
            Op::Leave { token, party, peer } => {
                let by = self.control.authenticate(token, now)?;
                self.control.remove_peer(&Actor::Peer(by), party, peer)?;
            }
            Op::Kick { party, peer } => drop(self.control.remove_peer(&Actor::Admin, party, peer)?),
            Op::Check { token } => drop(self.control.authenticate(token, now)?),
            Op::Beat { party, peer, number } => {
                self.control.heartbeat(party, &id(peer), Some(home(*number)), now)?;
            }
        }
        Ok(Answer::Done)
    }
}

fn now(time: Instant, offset: Duration) -> Now {
    let unix = UnixTime::from_micros(1_795_176_000_000_000) + time.since(Instant::ZERO);
    Now { instant: time + offset, unix }
}
