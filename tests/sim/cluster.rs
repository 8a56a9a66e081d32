//! Several instances over a model of the database, by schedules from seeds: lost replies before and after the commit,
//! lost notices, late requests, a database that fails over to its standby, pauses beyond the lease, partitions of
//! anybody from anybody, crashes. A ledger keeps what was answered with 200, and watches.

use crate::cluster_instance::Instance;
use crate::cluster_model::{Checks, Database, Reply, Request};
use lanrage::control::Control;
use lanrage::crypto::random::Seeded;
use lanrage::time::Instant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Faults begin before this, and clients come until then.
const TROUBLE: Duration = Duration::from_secs(10);
/// Then everything has time to settle.
const END: Duration = Duration::from_secs(24);

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Op {
    Register { peer: String },
    Create { token: String, party: String, peer: String, number: u64 },
    Join { token: String, party: String, peer: String, number: u64 },
    Leave { token: String, party: String, peer: String },
    Kick { party: String, peer: String },
    Check { token: String },
    Beat { party: String, peer: String, number: u64 },
}

impl Op {
    pub fn is_reading(&self) -> bool {
        matches!(self, Op::Check { .. } | Op::Beat { .. })
    }
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    Token(String),
    /// 401, 404 and the like.
    Refused,
    /// 503, or nothing at all.
    Trouble,
}

/// What an instance sends.
#[derive(Debug)]
pub enum Sent {
    Request { id: u64, request: Request },
    Forward { to: usize, call: u64 },
    Digest { to: usize, text: String },
    Answer { call: u64, answer: Answer },
}

enum Event {
    Wake(usize),
    AtDatabase {
        from: usize,
        life: u64,
        id: u64,
        request: Request,
    },
    Replied {
        to: usize,
        life: u64,
        id: u64,
        reply: Reply,
    },
    Notice {
        to: usize,
        seq: u64,
    },
    Call {
        to: usize,
        call: u64,
        is_forwarded: bool,
    },
    Digest {
        to: usize,
        text: String,
    },
    Answered {
        by: usize,
        call: u64,
        answer: Answer,
    },
    Client,
    Fault,
    Start(usize),
    /// Whoever was well all the time has heard of a kick by now.
    Kicked {
        member: String,
        at: Instant,
    },
}

struct Timed(Instant, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What is known for sure of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    In,
    Out,
    /// Something about it was not answered, and may still happen.
    Open,
}

struct Call {
    op: Op,
    at: usize,
    is_answered: bool,
}

/// An instance's place in the world.
struct Node {
    /// `None` while it is down.
    instance: Option<Instance>,
    /// Counts its starts: what was sent to an earlier one is lost.
    life: u64,
    paused_until: Instant,
    /// Until when it is cut off from the database, and from others.
    cut_until: Instant,
    pair_cut_until: Vec<Instant>,
    /// When it was well again.
    well_from: Instant,
    wakes_at: Option<Instant>,
}

#[derive(Default, Debug)]
pub struct Figures {
    fan_out: Vec<Duration>,
    failovers: Vec<Duration>,
    acknowledged: usize,
    faults: usize,
    epochs: u64,
}

struct Cluster {
    time: Instant,
    random: Seeded,
    events: BinaryHeap<Reverse<Timed>>,
    count: u64,
    ids: u64,
    database: Database,
    database_down_until: Instant,
    lossy_until: Instant,
    nodes: Vec<Node>,
    calls: BTreeMap<u64, Call>,
    peers: u64,
    tokens: Vec<(String, String, u64)>,
    /// And who hosts them.
    parties: Vec<(String, String)>,
    members: BTreeMap<String, (Fate, bool, u64, String)>,
    /// When that was settled last.
    decided: BTreeMap<String, Instant>,
    figures: Figures,
    /// Clients and faults come until then.
    calm_from: Instant,
    /// How many milliseconds pass at most from one client to the next.
    pace: u64,
    /// Since when the writer is dead, if nobody was answered since.
    orphaned: Option<Instant>,
    complaints: Vec<String>,
}

impl Cluster {
    fn new(seed: u64, count: usize, checks: Checks) -> Self {
        let mut cluster = Cluster {
            time: Instant::ZERO + SECOND,
            random: Seeded::new(seed),
            events: BinaryHeap::new(),
            count: 0,
            ids: 0,
            database: Database::new(checks),
            database_down_until: Instant::ZERO,
            lossy_until: Instant::ZERO,
            nodes: Vec::new(),
            calls: BTreeMap::new(),
            peers: 0,
            tokens: Vec::new(),
            parties: Vec::new(),
            members: BTreeMap::new(),
            decided: BTreeMap::new(),
            figures: Figures::default(),
            calm_from: Instant::ZERO + TROUBLE,
            // In a quiet realm a lease changes hands without a commit.
            pace: [120, 120, 1000][(seed % 3) as usize],
            orphaned: None,
            complaints: Vec::new(),
        };
        for number in 0..count {
            cluster.nodes.push(Node {
                instance: None,
                life: 0,
                paused_until: Instant::ZERO,
                cut_until: Instant::ZERO,
                pair_cut_until: vec![Instant::ZERO; count],
                well_from: Instant::ZERO,
                wakes_at: None,
            });
            cluster.start(number);
        }
        cluster.after(800 * MILLI, Event::Client);
        let wait = 2 * SECOND + cluster.span(2000);
        cluster.after(wait, Event::Fault);
        cluster
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// Up to so many milliseconds.
    fn span(&mut self, most: u64) -> Duration {
        Duration::from_micros(200 + self.random.below(most * 1000))
    }

    fn after(&mut self, span: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Timed(self.time + span, self.count, event)));
    }

    fn has_ended(&self) -> bool {
        self.time >= Instant::ZERO + END
    }

    fn is_troubled(&self) -> bool {
        self.time < self.calm_from
    }

    fn start(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.life += 1;
        node.instance = Some(Instance::new(number, self.time));
        node.wakes_at = None;
        self.settle(number);
    }

    fn complain(&mut self, text: String) {
        self.complaints.push(format!("{:?}: {text}", self.time.since(Instant::ZERO)));
    }

    fn run(&mut self) {
        self.run_until(|_| false);
        self.check_all();
    }

    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        while let Some(Reverse(Timed(at, _, event))) = self.events.pop() {
            self.time = at;
            if self.has_ended() {
                break;
            }
            self.happen(event);
            if is_done(self) {
                break;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        // What is for somebody who stands still waits for him.
        let whom = match &event {
            Event::Wake(to) | Event::Replied { to, .. } | Event::Notice { to, .. } => Some(*to),
            Event::Call { to, .. } | Event::Digest { to, .. } => Some(*to),
            _ => None,
        };
        if let Some(whom) = whom
            && self.nodes[whom].paused_until > self.time
        {
            let wait = self.nodes[whom].paused_until.since(self.time);
            return self.after(wait, event);
        }
        match event {
            Event::Wake(number) => {
                if self.nodes[number].wakes_at.is_some_and(|at| at <= self.time) {
                    self.nodes[number].wakes_at = None;
                    self.settle(number);
                }
            }
            Event::AtDatabase { from, life, id, request } => self.at_database(from, life, id, request),
            Event::Replied { to, life, id, reply } => {
                let (time, is_cut) = (self.time, self.nodes[to].cut_until > self.time);
                let node = &mut self.nodes[to];
                if let Some(instance) = node.instance.as_mut().filter(|_| node.life == life && !is_cut) {
                    instance.hear(id, reply, time, &mut self.ids);
                    self.settle(to);
                }
            }
            Event::Notice { to, seq } => {
                if let Some(instance) = &mut self.nodes[to].instance {
                    instance.notice(seq);
                    self.settle(to);
                }
            }
            Event::Call { to, call, is_forwarded } => {
                let time = self.time;
                if let (Some(instance), Some(known)) = (&mut self.nodes[to].instance, self.calls.get(&call)) {
                    instance.call(call, &known.op, is_forwarded, time);
                    self.settle(to);
                }
            }
            Event::Digest { to, text } => {
                let time = self.time;
                if let Some(instance) = &mut self.nodes[to].instance {
                    instance.take_digest(&text, time);
                    self.settle(to);
                }
            }
            Event::Answered { by, call, answer } => self.answered(by, call, answer),
            Event::Client => {
                self.client();
                if self.is_troubled() {
                    let wait = self.span(self.pace);
                    self.after(wait, Event::Client);
                }
            }
            Event::Fault => {
                if self.is_troubled() {
                    self.fault();
                    let wait = self.span(3000);
                    self.after(wait, Event::Fault);
                }
            }
            Event::Start(number) => {
                if self.nodes[number].instance.is_none() {
                    self.start(number);
                }
            }
            Event::Kicked { member, at } => {
                for number in 0..self.nodes.len() {
                    let node = &self.nodes[number];
                    let Some(instance) = node.instance.as_ref().filter(|_| node.well_from <= at) else {
                        continue;
                    };
                    let is_known = self
                        .members
                        .get(&member)
                        .is_some_and(|(fate, is_busy, ..)| *fate == Fate::Out && !is_busy);
                    // Nobody wanted it back, and it did not go again, in between.
                    let is_known = is_known && self.decided.get(&member) == Some(&at);
                    if instance.is_loaded && is_known && instance.roster.contains(&member) {
                        self.complain(format!("{member} was kicked and is in the roster of {number}"));
                    }
                }
            }
        }
    }

    /// Sends what an instance wants sent, and sees when it is to be asked again.
    fn settle(&mut self, number: usize) {
        let time = self.time;
        let node = &mut self.nodes[number];
        let Some(instance) = &mut node.instance else { return };
        let due = instance.poll(time, &mut self.ids);
        let (out, life) = (std::mem::take(&mut instance.out), node.life);
        let acknowledged = std::mem::take(&mut instance.acknowledged);
        let taken_over = std::mem::take(&mut instance.taken_over);
        let is_new = node.wakes_at.is_none_or(|at| at > due);
        if is_new {
            node.wakes_at = Some(due);
            self.after(due.since(time), Event::Wake(number));
        }
        for (batch, position) in acknowledged {
            let made = self.database.history.get(&position.seq);
            match made.filter(|made| made.batch == batch) {
                None => self
                    .complain(format!("{number} acknowledged {position:?}, which is no commit of its own")),
                Some(made) if made.epoch != made.position.epoch => {
                    let epoch = made.epoch;
                    self.complain(format!("{number} acknowledged {position:?} in epoch {epoch}"));
                }
                Some(_) => {}
            }
        }
        for seq in taken_over {
            let Some(made) = self.database.history.get(&seq) else { continue };
            let node = &self.nodes[number];
            let Some(instance) = node.instance.as_ref().filter(|one| one.follower.position().seq == seq)
            else {
                continue;
            };
            if node.well_from <= made.at {
                self.figures.fan_out.push(self.time.since(made.at));
            }
            if instance.is_loaded && !instance.is_writer() && members(&instance.control) != made.members {
                self.complain(format!("{number} has at {seq} what nobody wrote"));
            }
        }
        for sent in out {
            let wait = self.span(3);
            match sent {
                Sent::Request { id, request } => {
                    // Some buffer on the way keeps it.
                    let is_late = matches!(request, Request::Commit { .. }) && self.below(30) == 0;
                    let wait = if is_late { 100 * MILLI + self.span(5000) } else { wait };
                    if self.nodes[number].cut_until <= self.time || is_late {
                        self.after(wait, Event::AtDatabase { from: number, life, id, request });
                    }
                }
                Sent::Forward { to, call } => {
                    if self.reaches(number, to) {
                        self.after(wait, Event::Call { to, call, is_forwarded: true });
                    }
                }
                Sent::Digest { to, text } => {
                    if self.reaches(number, to) {
                        self.after(wait, Event::Digest { to, text });
                    }
                }
                Sent::Answer { call, answer } => {
                    self.after(wait, Event::Answered { by: number, call, answer })
                }
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.nodes[from].pair_cut_until[to] <= self.time
    }

    fn at_database(&mut self, from: usize, life: u64, id: u64, request: Request) {
        if self.database_down_until > self.time {
            return;
        }
        let is_lossy = self.lossy_until > self.time;
        if is_lossy && self.below(4) == 0 {
            return;
        }
        let before = self.database.realm.seq;
        let reply = self.database.answer(from, request, self.time);
        let seq = self.database.realm.seq;
        if seq > before {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                if self.below(5) != 0 && self.nodes[to].cut_until <= self.time {
                    let wait = self.span(3);
                    self.after(wait, Event::Notice { to, seq });
                }
            }
        }
        if is_lossy && self.below(3) == 0 {
            return;
        }
        let wait = self.span(3);
        self.after(wait, Event::Replied { to: from, life, id, reply });
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())].clone())
    }

    /// Somebody wants something of some instance.
    fn client(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let (some, what) = (self.one(&tokens), self.below(12));
        self.tokens = tokens;
        let (parties, free) = (self.parties.clone(), self.members.clone());
        let free = |fate: Fate| -> Vec<(String, u64, String)> {
            let known = free.iter().filter(|(_, (known, is_busy, ..))| *known == fate && !is_busy);
            known.map(|(member, (_, _, number, token))| (member.clone(), *number, token.clone())).collect()
        };
        let op = match (what, some) {
            (0..=2, _) | (_, None) => {
                self.peers += 1;
                Op::Register { peer: format!("u{}", self.peers) }
            }
            (3, Some((peer, token, number))) => {
                Op::Create { token, peer, party: format!("p{}", self.ids), number }
            }
            (4..=6, Some((peer, token, number))) => {
                let Some((party, host)) = self.one(&parties) else { return };
                if host == peer {
                    return;
                }
                let member = format!("{party}/{peer}");
                match self.members.get(&member) {
                    None | Some((Fate::Out, false, ..)) => {}
                    _ => return,
                }
                self.members.insert(member, (Fate::Out, true, number, token.clone()));
                Op::Join { token, party, peer, number }
            }
            (7 | 8, _) => {
                let Some((member, number, token)) = self.one(&free(Fate::In)) else { return };
                let (party, peer) = member.split_once('/').expect("a member's key");
                let (party, peer) = (party.to_owned(), peer.to_owned());
                self.members.insert(member, (Fate::In, true, number, token.clone()));
                match what {
                    7 => Op::Leave { token, party, peer },
                    _ => Op::Kick { party, peer },
                }
            }
            (9, _) => {
                let Some((member, number, _)) = self.one(&free(Fate::In)) else { return };
                let (party, peer) = member.split_once('/').expect("a member's key");
                Op::Beat { party: party.to_owned(), peer: peer.to_owned(), number }
            }
            (_, Some((_, token, _))) => Op::Check { token },
        };
        let to = self.below(self.nodes.len());
        self.ask(to, op);
    }

    fn ask(&mut self, to: usize, op: Op) {
        self.ids += 1;
        self.calls.insert(self.ids, Call { op, at: to, is_answered: false });
        let (wait, call) = (self.span(2), self.ids);
        self.after(wait, Event::Call { to, call, is_forwarded: false });
    }

    /// An answer comes to the instance that was asked, and to the client.
    fn answered(&mut self, by: usize, call: u64, answer: Answer) {
        let Some(known) = self.calls.get(&call) else { return };
        let at = known.at;
        let is_lost = by != at && (!self.reaches(by, at) || self.nodes[at].instance.is_none());
        if known.is_answered || is_lost || self.nodes[at].paused_until > self.time {
            return;
        }
        let op = known.op.clone();
        self.calls.get_mut(&call).expect("looked up above").is_answered = true;
        if matches!(answer, Answer::Done | Answer::Token(_)) && !op.is_reading() {
            self.figures.acknowledged += 1;
            if let Some(since) = self.orphaned.take() {
                self.figures.failovers.push(self.time.since(since));
            }
        }
        let fate = match answer {
            Answer::Done | Answer::Token(_) => None,
            Answer::Refused | Answer::Trouble => Some(Fate::Open),
        };
        match (op, answer) {
            (Op::Register { peer }, Answer::Token(token)) => {
                self.tokens.push((peer, token.clone(), self.peers));
                // It is good everywhere at once.
                (0..self.nodes.len()).for_each(|to| self.ask(to, Op::Check { token: token.clone() }));
            }
            (Op::Check { token }, Answer::Refused) => {
                let whose =
                    self.tokens.iter().find(|(_, known, _)| *known == token).map(|(peer, ..)| peer.clone());
                self.complain(format!("the token of {whose:?} is refused"));
            }
            (Op::Create { party, peer, .. }, Answer::Done) => self.parties.push((party, peer)),
            (Op::Join { party, peer, .. }, _) => {
                self.decide(format!("{party}/{peer}"), fate.unwrap_or(Fate::In))
            }
            (Op::Leave { party, peer, .. }, _) => {
                self.decide(format!("{party}/{peer}"), fate.unwrap_or(Fate::Out))
            }
            (Op::Kick { party, peer }, _) => {
                let member = format!("{party}/{peer}");
                self.decide(member.clone(), fate.unwrap_or(Fate::Out));
                if fate.is_none() {
                    let at = self.time;
                    self.after(SECOND, Event::Kicked { member, at });
                }
            }
            _ => {}
        }
    }

    fn decide(&mut self, member: String, fate: Fate) {
        if let Some((known, is_busy, ..)) = self.members.get_mut(&member) {
            (*known, *is_busy) = (fate, false);
            self.decided.insert(member, self.time);
        }
    }

    fn fault(&mut self) {
        self.figures.faults += 1;
        let (number, other) = (self.below(self.nodes.len()), self.below(self.nodes.len()));
        // Shorter than a lease by far, or longer.
        let (least, most) = [(Duration::ZERO, 800), (3 * SECOND, 3500)][self.below(2)];
        let span = least + self.span(most);
        let until = self.time + span;
        let writer =
            self.nodes.iter().position(|node| node.instance.as_ref().is_some_and(Instance::is_writer));
        // Most often whom it hurts.
        let number = writer.filter(|_| self.random.below(2) == 0).unwrap_or(number);
        let everybody = 0..self.nodes.len();
        match self.below(8) {
            0 | 1 => {
                self.nodes[number].cut_until = until;
                self.unwell(number, until);
                if self.below(2) == 0 {
                    for other in everybody {
                        self.cut_pair(number, other, until);
                    }
                }
            }
            2 => self.cut_pair(number, other, until),
            3 | 4 => {
                self.nodes[number].paused_until = until;
                self.unwell(number, until);
            }
            5 => {
                let Some(instance) = self.nodes[number].instance.take() else { return };
                if instance.is_writer() {
                    self.orphaned.get_or_insert(self.time);
                }
                self.after(span, Event::Start(number));
                self.unwell(number, until + SECOND);
            }
            6 => {
                // The standby takes over. What was on its way there, or back, is lost.
                let until = self.time + span.min(2500 * MILLI);
                self.database_down_until = until;
                self.nodes.iter_mut().for_each(|node| node.life += 1);
                everybody.for_each(|number| self.unwell(number, until));
            }
            _ => {
                self.lossy_until = until;
                everybody.for_each(|number| self.unwell(number, until));
            }
        }
    }

    fn cut_pair(&mut self, one: usize, other: usize, until: Instant) {
        self.nodes[one].pair_cut_until[other] = until;
        self.nodes[other].pair_cut_until[one] = until;
    }

    /// From when on an instance is up to date again: it finds out that an answer is lost, and asks again.
    fn unwell(&mut self, number: usize, until: Instant) {
        let node = &mut self.nodes[number];
        node.well_from = node.well_from.max(until + 2 * SECOND);
    }

    fn check_all(&mut self) {
        let expected = load(&self.database);
        let is_good = |member: &str| expected.contains_key(&format!("member {member}"));
        let mut complaints = Vec::new();
        for (member, (fate, is_busy, ..)) in &self.members {
            let is_in = is_good(member);
            if !is_busy && ((*fate == Fate::In && !is_in) || (*fate == Fate::Out && is_in)) {
                complaints.push(format!("{member} should be {fate:?}"));
            }
        }
        for (party, _) in &self.parties {
            if !expected.contains_key(&format!("party {party}")) {
                complaints.push(format!("party {party} is lost"));
            }
        }
        let mut writers = 0;
        for node in &self.nodes {
            let Some(instance) = &node.instance else {
                complaints.push("it did not come back".into());
                continue;
            };
            let number = instance.number;
            writers += usize::from(instance.is_writer());
            if instance.is_at_odds {
                complaints.push("all records contradict themselves".into());
            }
            let own = state(&instance.control);
            if own != expected {
                let differ: Vec<_> = own
                    .iter()
                    .filter(|(key, value)| expected.get(*key) != Some(value))
                    .chain(expected.iter().filter(|(key, _)| !own.contains_key(*key)))
                    .take(3)
                    .collect();
                complaints.push(format!("{number} is not where the realm is: {differ:?}"));
            }
            if instance.roster != members(&instance.control) {
                complaints.push(format!("the roster of {number} is not that of its members"));
            }
            complaints.extend(twice(&instance.control).map(|what| format!("{number}: {what}")));
            let tokens: BTreeSet<&str> = self.tokens.iter().map(|(_, token, _)| token.as_str()).collect();
            let at = Instant::ZERO;
            if let Some(lost) =
                tokens.iter().find(|token| instance.control.tokens().check(token, at).is_err())
            {
                complaints.push(format!("{number} does not know the token {lost}"));
            }
        }
        if writers != 1 {
            complaints.push(format!("{writers} writers"));
        }
        self.figures.epochs = self.database.realm.epoch;
        self.complaints.extend(complaints);
    }
}

/// Who is in which party.
fn members(control: &Control) -> BTreeSet<String> {
    let parties = control.parties();
    parties.flat_map(|party| party.members.keys().map(|peer| format!("{}/{peer}", party.id))).collect()
}

/// What an address, or a key, is given to twice.
fn twice(control: &Control) -> Option<String> {
    let (mut addresses, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for member in control.parties().flat_map(|party| party.members.values()) {
        let (name, peer) = (&member.address_name, &member.info.peer_id);
        let known = addresses.insert(member.virtual_ip, name.clone());
        if known.is_some_and(|known| known != *name) {
            return Some(format!("{} is given twice", member.virtual_ip));
        }
        let known = member.relay_key().and_then(|key| keys.insert(key, peer.clone()));
        if known.is_some_and(|known| known != *peer) {
            return Some(format!("the key of {peer} is served twice"));
        }
    }
    None
}

/// All that instances agree on, by name.
fn state(control: &Control) -> BTreeMap<String, String> {
    let now = Default::default();
    let mut all = BTreeMap::new();
    for party in control.parties() {
        let record = control.party_record(&party.id, now).expect("it is there");
        all.insert(
            format!("party {}", party.id),
            format!("{:?} {:?} {}", record.name, record.host, record.created_at),
        );
        for (peer, member) in &party.members {
            let said = (member.virtual_ip, &member.address_name, member.claim, member.standing);
            all.insert(format!("member {}/{peer}", party.id), format!("{said:?}"));
            let address = control.address_record(&member.address_name).expect("it is there");
            let address = (address.address, address.owner, address.proven);
            all.insert(format!("address {}", member.address_name), format!("{address:?}"));
        }
    }
    for (hash, token) in control.tokens().iter() {
        all.insert(format!("token {hash:?}"), format!("{} {:?}", token.peer, token.lineage));
    }
    all
}

/// What an instance would have that started now.
fn load(database: &Database) -> BTreeMap<String, String> {
    let records = lanrage::store::records::load(database.rows()).records;
    let hub = lanrage::crypto::x25519::PrivateKey::from_bytes([7; 32]);
    state(&Control::new(Default::default(), hub, records, Default::default()))
}

/// A run, its figures, and what was wrong.
fn run(seed: u64, checks: Checks) -> (Figures, Vec<String>) {
    let count = 2 + (seed % 4) as usize;
    let mut cluster = Cluster::new(seed, count, checks);
    cluster.run();
    (cluster.figures, cluster.complaints)
}

/// Tries these schedules, and prints what came of them.
fn try_all(seeds: std::ops::Range<u64>) {
    let runs = seeds.clone().count();
    let mut all = Figures::default();
    for seed in seeds {
        let (figures, complaints) = run(seed, Checks::Position);
        assert!(complaints.is_empty(), "seed {seed}: {complaints:#?}");
        all.acknowledged += figures.acknowledged;
        all.faults += figures.faults;
        all.epochs += figures.epochs;
        all.failovers.extend(figures.failovers);
        all.fan_out.extend(figures.fan_out);
    }
    all.failovers.sort();
    all.fan_out.sort();
    let part = |of: &[Duration], hundredth: usize| of[of.len() * hundredth / 100];
    println!("{runs} runs: {} acknowledged, {} faults, {} epochs", all.acknowledged, all.faults, all.epochs);
    println!(
        "{} writers died; the next answer after {:?} (p50), {:?} (p99)",
        all.failovers.len(),
        part(&all.failovers, 50),
        part(&all.failovers, 99)
    );
    println!(
        "{} commits at followers that are well, a fifth of the notices lost: {:?} (p50), {:?} (p99)",
        all.fan_out.len(),
        part(&all.fan_out, 50),
        part(&all.fan_out, 99)
    );
    assert!(all.acknowledged > 20 * runs && all.faults > 2 * runs && all.failovers.len() > runs / 10);
}

#[test]
fn whatever_breaks_every_200_survives() {
    try_all(0..60);
}

/// Run with `cargo test --release --test sim -- --ignored --nocapture cluster`.
#[test]
#[ignore = "takes a while"]
fn whatever_breaks_in_thousands_of_ways_every_200_survives() {
    try_all(1000..6000);
}

/// What the database looks at is what keeps the rest together: without it, the ledger finds out.
#[test]
fn without_the_check_of_the_epoch_it_fails() {
    let found = (0..60).map(|seed| run(seed, Checks::Nothing).1);
    let failed: Vec<_> = found.filter(|found| !found.is_empty()).collect();
    println!("{} of 60 runs fail, as by {:?}", failed.len(), failed.first().map(|found| &found[0]));
    assert!(failed.len() > 3);
}

/// The number of the last commit does not do alone: who stood still while its lease went to another, which has
/// not written yet, would answer.
#[test]
fn a_writer_that_stood_still_answers_nothing() {
    for (checks, is_right) in [(Checks::Position, true), (Checks::Seq, false)] {
        let mut cluster = Cluster::new(1, 3, checks);
        let writer = |cluster: &Cluster| {
            let is_writer = |node: &Node| node.instance.as_ref().is_some_and(Instance::is_gathering);
            cluster.nodes.iter().position(is_writer)
        };
        cluster.run_until(|cluster| writer(cluster).is_some());
        let writer = writer(&cluster).expect("it was waited for");
        cluster.calm_from = cluster.time;
        cluster.nodes[writer].paused_until = cluster.time + 5 * SECOND;
        let epoch = cluster.database.realm.epoch;
        cluster.run();
        assert!(cluster.database.realm.epoch > epoch, "another had the lease");
        assert_eq!(cluster.complaints.is_empty(), is_right, "{checks:?}: {:?}", cluster.complaints);
    }
}
