//! The writer's side: commits, the lease, and what to do when a reply is lost.

use super::commit::{self, Group, SPAN_MILLIS, from_sql, to_sql};
use super::connection::{Link, QueryFailure};
use super::rows;
use super::target::Target;
use crate::cluster::lease::{Lease, Position, Regained, Settled};
use crate::store::FileError;
use crate::store::dump_request::DumpRequest;
use crate::store::engine::Engine;
use crate::store::queue::Rows;
use crate::time::{Clock, Instant};
use smol::Timer;
use smol::future::FutureExt;
use std::io::ErrorKind;
use std::time::Duration;
use tokio_postgres::Statement;

/// How long the database may take for an answer. Whoever waits for a change is not kept longer: it is told that it can't
/// be made, and if it was made all the same, that does no harm.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long the end in good order waits to give back the lease.
const FAREWELL: Duration = Duration::from_millis(300);
/// Between two attempts at a database that does not answer.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two times that the log is trimmed and the size looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

const RENEW: &str = "update lanrage.realm set expires = clock_timestamp() + $4 * interval '1 ms' \
                     where name = $1 and owner = $2 and epoch = $3";
/// A new epoch: what was sent under the old one and is still on its way comes too late from now on.
const REGAIN: &str = "update lanrage.realm set epoch = epoch + 1, expires = clock_timestamp() + $3 * interval '1 ms' \
                      where name = $1 and owner = $2 returning epoch, seq";
const POSITION: &str = "select epoch, seq from lanrage.realm where name = $1";
/// Of two histories of a database, as a standby that is promoted too early makes them, each may have this epoch.
const ENTRY: &str = "select epoch from lanrage.log where realm = $1 and seq = $2 and owner = $3";
const GIVE_BACK: &str = "update lanrage.realm set owner = null, url = null, expires = clock_timestamp() \
                         where name = $1 and owner = $2 and epoch = $3";
/// Entries of the last ten minutes stay, for those that follow.
const TRIM: &str = "delete from lanrage.log where realm = $1 and at < clock_timestamp() - interval '10 minutes' \
                    and seq in (select seq from lanrage.log where realm = $1 order by seq limit 5000)";
const SIZE: &str = "select pg_total_relation_size('lanrage.rows') + pg_total_relation_size('lanrage.log')";

/// The database while this instance has the lease.
pub(super) struct PostgresEngine {
    target: Target,
    lease: Lease,
    /// `None` after a failure.
    open: Option<(Link, Statement)>,
    clock: Clock,
    kept_house: Instant,
    size: u64,
}

impl PostgresEngine {
    /// With a lease that was just taken by way of `link`.
    pub async fn new(
        target: Target,
        mut link: Link,
        lease: Lease,
        clock: Clock,
    ) -> Result<Self, QueryFailure> {
        let statement = link.run(PATIENCE, commit::prepare).await?;
        let open = Some((link, statement));
        Ok(PostgresEngine { target, lease, open, clock, kept_house: Instant::ZERO, size: 0 })
    }

    pub fn link(&mut self) -> Option<&mut Link> {
        self.open.as_mut().map(|(link, _)| link)
    }

    /// The connection is of no use any more.
    pub fn drop_link(&mut self) {
        self.open = None;
    }

    fn now(&self) -> Instant {
        (self.clock)().instant
    }

    /// Sends a commit once.
    async fn send(&mut self, group: &Group<'_>) -> Result<(), QueryFailure> {
        let sent = self.now();
        let (Some((link, statement)), Some(follows)) = (&mut self.open, self.lease.send(sent)) else {
            return Err(QueryFailure::Lost("the connection was closed".to_owned()));
        };
        let whose = (self.target.realm(), self.target.owner());
        let work =
            async |client: &tokio_postgres::Client| group.send(client, statement, whose, follows).await;
        match link.run(PATIENCE, work).await {
            Ok(true) => self.lease.committed(),
            Ok(false) => self.lease.refused(),
            Err(QueryFailure::Undone(fault)) => {
                self.lease.undone();
                self.open = None;
                return Err(QueryFailure::Undone(fault));
            }
            Err(failure) => {
                self.open = None;
                return Err(failure);
            }
        }
        self.unless_fenced().map_err(QueryFailure::Refused)
    }

    fn unless_fenced(&mut self) -> Result<(), FileError> {
        if self.lease.is_over() {
            self.open = None;
            return Err(FileError::Fenced);
        }
        Ok(())
    }

    /// Connects again and asks for the lease, under a new epoch.
    async fn regain(&mut self) -> Result<Settled, QueryFailure> {
        let next = to_sql(self.lease.lost());
        let (realm, owner) = (self.target.realm(), self.target.owner());
        let mut link = Link::open(&self.target).await?;
        let sent = self.now();
        let work = async |client: &tokio_postgres::Client| {
            let ours = client.query_opt(REGAIN, &[&realm, &owner, &SPAN_MILLIS]).await?;
            let row = match &ours {
                Some(_) => None,
                None => client.query_opt(POSITION, &[&realm]).await?,
            };
            let position = match ours.as_ref().or(row.as_ref()) {
                Some(row) => (row.try_get(0)?, row.try_get(1)?),
                None => (0, 0),
            };
            // Asked only now: a commit that the first question had to wait for is in the log.
            let entry = client.query_opt(ENTRY, &[&realm, &next, &owner]).await?;
            let entry: Option<i64> = entry.map(|row| row.try_get(0)).transpose()?;
            Ok((ours.is_some(), position, entry))
        };
        let (is_ours, (epoch, seq), entry) = link.run(PATIENCE, work).await?;
        let position = Position { epoch: from_sql(epoch), seq: from_sql(seq) };
        let before = self.lease.position();
        let answer = Regained { is_ours, position, next_epoch: entry.map(from_sql) };
        let statement = if is_ours { Some(link.run(PATIENCE, commit::prepare).await?) } else { None };
        let settled = self.lease.regained(answer, sent);
        if is_ours && position.seq < before.seq {
            log::error!(
                "the database went back from commit {} to {}: it lost what it had confirmed. A standby that takes over \
                 must be a synchronous one",
                before.seq,
                position.seq
            );
        }
        if !self.lease.is_over() {
            self.open = statement.map(|statement| (link, statement));
        }
        Ok(settled)
    }

    /// [`PostgresEngine::regain`] until it works, or until `end`. One that is cut short has changed nothing here.
    async fn regain_until(&mut self, end: Instant) -> Result<Settled, QueryFailure> {
        let left = end.since(self.now());
        let attempts = async {
            loop {
                match self.regain().await {
                    Err(_) => Timer::after(PAUSE).await,
                    settled => return settled,
                };
            }
        };
        let is_over = async {
            Timer::after(left).await;
            Err(QueryFailure::Lost("the database does not answer in time".into()))
        };
        attempts.or(is_over).await
    }

    /// Commits, and finds out what became of it if the reply is lost.
    pub async fn commit_rows(&mut self, rows: &Rows, told: &str) -> Result<(), FileError> {
        let group = Group::of(rows, told);
        let end = self.now() + PATIENCE;
        loop {
            match self.send(&group).await {
                Ok(()) => return Ok(()),
                Err(QueryFailure::Lost(why)) => log::debug!("the reply to a commit was lost: {why}"),
                Err(failure) => return Err(failure.into_fault()),
            }
            match self.regain_until(end).await.map_err(QueryFailure::into_fault)? {
                // Who is fenced after that is told so next.
                Settled::Committed | Settled::Fenced { committed: true } => return Ok(()),
                Settled::NotCommitted => {}
                Settled::Fenced { committed: false } => return Err(FileError::Fenced),
            }
            if self.now() >= end {
                self.open = None;
                return Err(FileError::Io(ErrorKind::TimedOut.into()));
            }
        }
    }

    /// Renews the lease.
    pub async fn renew(&mut self) -> Result<(), FileError> {
        self.unless_fenced()?;
        let sent = self.now();
        let epoch = to_sql(self.lease.position().epoch);
        let (realm, owner) = (self.target.realm(), self.target.owner());
        let Some((link, _)) = &mut self.open else {
            return Err(FileError::Io(ErrorKind::NotConnected.into()));
        };
        let work = async |client: &tokio_postgres::Client| {
            client.execute(RENEW, &[&realm, &owner, &epoch, &SPAN_MILLIS]).await
        };
        match link.run(PATIENCE, work).await {
            Ok(0) => self.lease.refused(),
            Ok(_) => self.lease.renewed(sent),
            Err(why) => {
                log::debug!("the lease was not renewed: {why}");
                self.open = None;
                let end = self.now() + PATIENCE;
                self.regain_until(end).await.map_err(QueryFailure::into_fault)?;
            }
        }
        self.unless_fenced()
    }

    /// Renews the lease if that is due, and asks for it again after a failure.
    pub async fn keep(&mut self) -> Result<(), FileError> {
        if self.open.is_some() {
            return self.renew_if_due().await;
        }
        self.unless_fenced()?;
        self.regain().await.map_err(QueryFailure::into_fault)?;
        self.unless_fenced()
    }

    /// Renews the lease if that is due.
    pub async fn renew_if_due(&mut self) -> Result<(), FileError> {
        if self.now() >= self.lease.renew_at() { self.renew().await } else { Ok(()) }
    }

    /// Trims the log and looks at the size. What fails here is found by the next commit.
    async fn keep_house(&mut self) {
        self.kept_house = self.now();
        let realm = self.target.realm();
        let Some((link, _)) = &mut self.open else { return };
        let work = async |client: &tokio_postgres::Client| {
            client.execute(TRIM, &[&realm]).await?;
            client.query_one(SIZE, &[]).await?.try_get::<_, i64>(0)
        };
        match link.run(PATIENCE, work).await {
            Ok(size) => self.size = from_sql(size),
            Err(QueryFailure::Lost(why)) => {
                log::debug!("the log was not trimmed: {why}");
                self.open = None;
            }
            Err(failure) => log::warn!("the log was not trimmed: {failure}"),
        }
    }

    /// Lets another have the lease at once.
    pub async fn give_back(mut self) {
        let epoch = to_sql(self.lease.position().epoch);
        let (realm, owner) = (self.target.realm(), self.target.owner());
        let Some((link, _)) = &mut self.open else { return };
        let work = async |client: &tokio_postgres::Client| {
            client.execute(GIVE_BACK, &[&realm, &owner, &epoch]).await
        };
        if let Err(failure) = link.run(FAREWELL, work).await {
            log::debug!("the lease was not given back: {failure}");
        }
    }
}

impl Engine for PostgresEngine {
    const RETRY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn reopen(&mut self) -> Result<bool, FileError> {
        // If it was made its rows are given again, and are the same.
        match smol::block_on(self.regain()).map_err(QueryFailure::into_fault)? {
            Settled::Committed => Ok(true),
            Settled::NotCommitted => Ok(false),
            Settled::Fenced { .. } => Err(FileError::Fenced),
        }
    }

    fn commit(&mut self, rows: &Rows, told: &str) -> Result<(), FileError> {
        if self.lease.is_over() {
            return Err(FileError::Fenced);
        }
        smol::block_on(self.commit_rows(rows, told))
    }

    fn position(&self) -> Option<Position> {
        Some(self.lease.position())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn dump(&self, request: DumpRequest) {
        let target = self.target.clone();
        request.serve(move |visit| rows::each_row(&target, visit));
    }

    fn due(&self) -> Option<Instant> {
        Some(self.lease.renew_at().min(self.kept_house + HOUSEKEEPING))
    }

    fn tend(&mut self) -> Result<(), FileError> {
        smol::block_on(async {
            self.renew_if_due().await?;
            if self.now().since(self.kept_house) >= HOUSEKEEPING {
                self.keep_house().await;
            }
            match self.open {
                Some(_) => Ok(()),
                None => Err(FileError::Io(ErrorKind::NotConnected.into())),
            }
        })
    }

    fn close(self, _quick: bool) {
        if !self.lease.is_over() {
            smol::block_on(self.give_back());
        }
    }
}
