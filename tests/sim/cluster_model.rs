//! A model of the database: one position that commits follow, rows, and a log. Everything that it takes is on the
//! standby, too, before anybody hears of it.

use lanrage::cluster::follower::{ENTRIES_AT_A_TIME, Logged};
use lanrage::cluster::lease::{LEASE_SPAN, Position, Regained};
use lanrage::store::Row;
use lanrage::store::schema::Table;
use lanrage::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// Entries are kept so long, in commits: short enough for some followers to miss them.
const KEPT: usize = 40;

/// What of a commit's position the database looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checks {
    /// All of it.
    Position,
    /// Its number alone.
    Seq,
    /// Nothing.
    Nothing,
}

/// What an instance asks of the database.
#[derive(Clone, Debug)]
pub enum Request {
    Look { from: u64 },
    Everything,
    Take,
    Renew { position: Position },
    Regain { epoch: u64, next: u64 },
    Commit { follows: Position, rows: Vec<Row>, entry: String, batch: u64 },
}

/// What it says.
#[derive(Clone, Debug)]
pub enum Reply {
    Look { realm: Position, log: Vec<Logged>, owner: Option<usize>, is_free: bool },
    Everything { realm: Position, rows: Vec<Row>, owner: Option<usize> },
    Taken(Option<Position>),
    Renewed(bool),
    Regained(Regained),
    Committed(bool),
}

/// A commit that was made.
pub struct Made {
    pub batch: u64,
    pub at: Instant,
    pub position: Position,
    /// The realm's epoch then.
    pub epoch: u64,
    /// Who was a member afterwards, as rows say.
    pub members: BTreeSet<String>,
}

pub struct Database {
    pub realm: Position,
    owner: Option<usize>,
    expires: Instant,
    rows: BTreeMap<(Table, String), Vec<u8>>,
    log: BTreeMap<u64, Logged>,
    /// All commits, by number. What was overwritten is gone.
    pub history: BTreeMap<u64, Made>,
    checks: Checks,
}

impl Database {
    pub fn new(checks: Checks) -> Self {
        Database {
            realm: Position::default(),
            owner: None,
            expires: Instant::ZERO,
            rows: BTreeMap::new(),
            log: BTreeMap::new(),
            history: BTreeMap::new(),
            checks,
        }
    }

    pub fn rows(&self) -> Vec<Row> {
        let row = |((table, key), value): (&(Table, String), &Vec<u8>)| Row {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.rows.iter().map(row).collect()
    }

    pub fn answer(&mut self, from: usize, request: Request, now: Instant) -> Reply {
        match request {
            Request::Look { from } => Reply::Look {
                realm: self.realm,
                log: self
                    .log
                    .range(from..)
                    .take(ENTRIES_AT_A_TIME)
                    .map(|(_, logged)| logged.clone())
                    .collect(),
                owner: self.owner,
                is_free: self.expires <= now,
            },
            Request::Everything => {
                Reply::Everything { realm: self.realm, rows: self.rows(), owner: self.owner }
            }
            Request::Take => {
                let is_free = self.expires <= now;
                if is_free {
                    self.hand(from, now);
                }
                Reply::Taken(is_free.then_some(self.realm))
            }
            Request::Renew { position } => {
                let is_theirs = self.owner == Some(from) && self.follows(position);
                if is_theirs {
                    self.expires = now + LEASE_SPAN;
                }
                Reply::Renewed(is_theirs)
            }
            Request::Regain { epoch, next } => {
                let is_ours = self.owner == Some(from) && self.realm.epoch == epoch;
                if is_ours {
                    self.hand(from, now);
                }
                let next_epoch = self.log.get(&next).map(|logged| logged.position.epoch);
                Reply::Regained(Regained { is_ours, position: self.realm, next_epoch })
            }
            Request::Commit { follows, rows, entry, batch } => {
                let is_made = self.follows(follows);
                if is_made {
                    self.commit(from, follows.epoch, rows, entry, batch, now);
                }
                Reply::Committed(is_made)
            }
        }
    }

    fn hand(&mut self, to: usize, now: Instant) {
        self.owner = Some(to);
        self.realm.epoch += 1;
        self.expires = now + LEASE_SPAN;
    }

    fn follows(&self, position: Position) -> bool {
        match self.checks {
            Checks::Position => position == self.realm,
            Checks::Seq => position.seq == self.realm.seq,
            Checks::Nothing => true,
        }
    }

    fn commit(&mut self, from: usize, epoch: u64, rows: Vec<Row>, entry: String, batch: u64, now: Instant) {
        for Row { table, key, value } in rows {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
        self.realm.seq += 1;
        if self.owner == Some(from) {
            self.expires = now + LEASE_SPAN;
        }
        let position = Position { epoch, seq: self.realm.seq };
        self.log.insert(position.seq, Logged { position, entry });
        if self.log.len() > KEPT {
            self.log.pop_first();
        }
        let members = self.rows.keys().filter(|(table, _)| *table == Table::Members);
        let members = members.map(|(_, key)| key.clone()).collect();
        let made = Made { batch, at: now, position, epoch: self.realm.epoch, members };
        self.history.insert(position.seq, made);
    }
}
