//! An instance that follows: what is asked of the log is asked by the store's thread, which hears of commits, and looks
//! for the lease. Once this instance has that, the same thread writes.

use super::commit::from_sql;
use super::connection::{Link, QueryFailure};
use super::engine::PostgresEngine;
use super::rows::Pages;
use super::target::{Target, name_of};
use super::{AWAY, LOOK, PATIENCE, rows, take_lease};
use crate::cluster::follower::{ENTRIES_AT_A_TIME, LogQuestion, Logged};
use crate::cluster::lease::{LEASE_SPAN, Position};
use crate::durability::WriteError;
use crate::store::queue::StoreShared;
use crate::store::{FileError, Row};
use crate::time::{Clock, Instant};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt;
use std::sync::Arc;

/// Both as they are at one moment: a realm, and what its log has from a number on.
const ENTRIES: &str = "select realm.epoch, realm.seq, coalesce(owner, ''), url, log.seq, log.epoch, entry \
                       from lanrage.realm left join lateral (\
                           select seq, epoch, entry from lanrage.log \
                           where log.realm = $1 and log.seq >= $2 order by log.seq limit $3\
                       ) log on true where name = $1 order by log.seq";
const HEAD: &str = "select epoch, seq, coalesce(owner, ''), url from lanrage.realm where name = $1";
const BEGIN: &str = "begin isolation level repeatable read read only";

/// Who writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmWriter {
    /// Its name, and a mark that no other process has.
    pub owner: String,
    /// Where it is reached.
    pub url: Option<String>,
}

impl RealmWriter {
    /// Its name.
    pub fn name(&self) -> &str {
        name_of(&self.owner)
    }
}

/// How a realm is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmHead {
    /// Its last commit.
    pub position: Position,
    /// Who writes, or did last, if it did not say that it ends.
    pub writer: Option<RealmWriter>,
}

/// What the loop is told.
pub enum ReplicaNews {
    /// There is a commit with this number.
    Hint(u64),
    /// The answer to [`LogQuestion::Entries`].
    Log {
        /// The realm.
        head: RealmHead,
        /// What was asked for.
        log: Vec<Logged>,
    },
    /// The answer to [`LogQuestion::Everything`].
    Everything {
        /// The realm.
        head: RealmHead,
        /// Every row.
        rows: Vec<Row>,
    },
    /// There is no answer.
    Failed,
    /// This instance has the lease. Once all up to that commit is taken over it is to [write](Replica::write).
    Leads(Position),
}

enum Order {
    Ask(LogQuestion),
    ConnectAgain,
    Write,
}

/// The loop's end.
pub struct Replica {
    orders: Sender<Order>,
    news: Receiver<ReplicaNews>,
    /// The realm when the rows were loaded that the store was opened with.
    pub loaded: RealmHead,
}

impl Replica {
    /// Asks for something. There are [news](Replica::news) of it.
    pub fn ask(&self, question: LogQuestion) {
        // It fails when the thread is gone, and nothing comes then.
        let _ = self.orders.try_send(Order::Ask(question));
    }

    /// Has it leave the database that it is connected to, for the one that can be written to by now.
    pub fn connect_again(&self) {
        let _ = self.orders.try_send(Order::ConnectAgain);
    }

    /// Has the store take rows from now on.
    pub fn write(&self) {
        let _ = self.orders.try_send(Order::Write);
    }

    /// Ends the following.
    pub fn end(&self) {
        self.orders.close();
    }

    /// What comes next.
    pub async fn news(&self) -> ReplicaNews {
        match self.news.recv().await {
            Ok(news) => news,
            // The thread has ended, which the store says in its own way.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The thread's end.
pub(super) struct FollowingThread {
    target: Target,
    clock: Clock,
    orders: Receiver<Order>,
    news: Sender<ReplicaNews>,
    link: Option<Link>,
    /// With the lease.
    engine: Option<PostgresEngine>,
    look_at: Instant,
    /// When the link was opened last.
    opened_at: Instant,
    /// The lease is not looked for before: whoever wrote before the database went away comes first.
    not_before: Instant,
}

enum Wake {
    Order(Option<Order>),
    Notice(Result<String, QueryFailure>),
    Look,
}

impl FollowingThread {
    /// Both ends, by a connection that everything was loaded by.
    pub fn new(target: Target, link: Link, loaded: RealmHead, clock: Clock) -> (Self, Replica) {
        let (orders, take_orders) = smol::channel::unbounded();
        let (say_news, news) = smol::channel::unbounded();
        let following = FollowingThread {
            target,
            clock,
            orders: take_orders,
            news: say_news,
            link: Some(link),
            engine: None,
            look_at: Instant::ZERO,
            opened_at: clock().instant,
            not_before: Instant::ZERO,
        };
        (following, Replica { orders, news, loaded })
    }

    fn now(&self) -> Instant {
        (self.clock)().instant
    }

    fn link(&mut self) -> Option<&mut Link> {
        match &mut self.engine {
            Some(engine) => engine.link(),
            None => self.link.as_mut(),
        }
    }

    fn say(&self, news: ReplicaNews) {
        // It fails only at the end.
        let _ = self.news.try_send(news);
    }

    /// Follows until it is to write, or to end.
    pub async fn run(mut self, shared: &Arc<StoreShared>) -> Option<PostgresEngine> {
        loop {
            match self.wake().await {
                Wake::Order(Some(Order::Ask(question))) => {
                    let answer = self.answer(question).await;
                    let answer = answer.unwrap_or_else(|failure| self.lost(&failure, shared));
                    self.say(answer);
                }
                Wake::Order(Some(Order::ConnectAgain)) => {
                    // The next answer asks for it again.
                    if self.now().since(self.opened_at) >= AWAY {
                        self.link = None;
                        self.look_at = Instant::ZERO;
                    }
                }
                Wake::Order(Some(Order::Write)) => return self.engine,
                Wake::Order(None) => {
                    if let Some(engine) = self.engine {
                        engine.give_back().await;
                    }
                    return None;
                }
                Wake::Notice(Ok(payload)) => {
                    if let Some(seq) = announced(&payload, self.target.realm()) {
                        self.say(ReplicaNews::Hint(seq));
                    }
                }
                Wake::Notice(Err(failure)) => drop(self.lost(&failure, shared)),
                Wake::Look => {
                    self.look_at = self.now() + LOOK;
                    if let Err(failure) = self.look(shared).await {
                        self.look_at = self.now() + AWAY;
                        drop(self.lost(&failure, shared));
                    }
                    let dump = shared.queue().dump.take();
                    if let Some(request) = dump {
                        let target = self.target.clone();
                        request.serve(move |visit| rows::each_row(&target, visit));
                    }
                }
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let left = self.look_at.since(self.now());
        if left.is_zero() {
            return Wake::Look;
        }
        let orders = self.orders.clone();
        let ordered = async { Wake::Order(orders.recv().await.ok()) };
        let looks = async {
            Timer::after(left).await;
            Wake::Look
        };
        let noticed = async {
            match self.link() {
                Some(link) => Wake::Notice(link.notice().await),
                None => std::future::pending().await,
            }
        };
        ordered.or(noticed).or(looks).await
    }

    /// The database is away.
    fn lost(&mut self, failure: &QueryFailure, shared: &Arc<StoreShared>) -> ReplicaNews {
        self.link = None;
        if let Some(engine) = &mut self.engine {
            engine.drop_link();
        }
        if shared.health().is_ok() {
            log::error!("{} does not answer: {failure}; what is known is read on", self.target.shown());
            shared.set_health(Err(WriteError::Failing));
            shared.wake();
        }
        ReplicaNews::Failed
    }

    fn found(&mut self, shared: &Arc<StoreShared>) {
        if shared.health() == Err(WriteError::Failing) {
            log::info!("{} answers again", self.target.shown());
            shared.set_health(Ok(()));
            shared.wake();
        }
    }

    async fn look(&mut self, shared: &Arc<StoreShared>) -> Result<(), QueryFailure> {
        if let Some(engine) = &mut self.engine {
            return match engine.keep().await {
                Ok(()) => {
                    self.found(shared);
                    Ok(())
                }
                Err(FileError::Fenced) => {
                    shared.set_health(Err(WriteError::Fenced));
                    shared.wake();
                    // The loop hears of it, and ends this.
                    self.look_at = self.now() + LEASE_SPAN;
                    Ok(())
                }
                Err(fault) => Err(QueryFailure::Undone(fault)),
            };
        }
        let mut link = match self.link.take() {
            Some(link) => link,
            None => {
                let link = open(&self.target).await?;
                self.opened_at = self.now();
                self.not_before = self.opened_at + LEASE_SPAN;
                self.found(shared);
                link
            }
        };
        if self.now() < self.not_before {
            self.link = Some(link);
            return Ok(());
        }
        match take_lease(&mut link, &self.target, self.clock).await? {
            Some(lease) => {
                let position = lease.position();
                let engine = PostgresEngine::new(self.target.clone(), link, lease, self.clock).await?;
                self.engine = Some(engine);
                self.say(ReplicaNews::Leads(position));
            }
            None => self.link = Some(link),
        }
        Ok(())
    }

    async fn answer(&mut self, question: LogQuestion) -> Result<ReplicaNews, QueryFailure> {
        let realm = self.target.realm().to_owned();
        let Some(link) = self.link() else {
            return Err(QueryFailure::Lost("it is not connected".to_owned()));
        };
        match question {
            LogQuestion::Everything => {
                let (head, rows) = everything(link, &realm).await?;
                Ok(ReplicaNews::Everything { head, rows })
            }
            LogQuestion::Entries { from } => {
                let from = super::commit::to_sql(from);
                let most = ENTRIES_AT_A_TIME as i64;
                let statement = link.repeated(PATIENCE, ENTRIES).await?;
                let ask = async |client: &tokio_postgres::Client| {
                    client.query(&statement, &[&realm, &from, &most]).await
                };
                let found = link.run(PATIENCE, ask).await?;
                let mut log = Vec::with_capacity(found.len());
                for row in &found {
                    let Some(seq) = row.try_get::<_, Option<i64>>(4)? else { break };
                    let position = Position { epoch: from_sql(row.try_get(5)?), seq: from_sql(seq) };
                    log.push(Logged { position, entry: row.try_get(6)? });
                }
                let head = found.first().ok_or_else(|| QueryFailure::Lost("the realm is gone".to_owned()))?;
                Ok(ReplicaNews::Log { head: head_of(head)?, log })
            }
        }
    }
}

/// A connection that hears of commits.
pub(super) async fn open(target: &Target) -> Result<Link, QueryFailure> {
    let mut link = Link::open(target).await?;
    link.run(PATIENCE, async |client| client.batch_execute("listen lanrage").await).await?;
    Ok(link)
}

fn head_of(row: &tokio_postgres::Row) -> Result<RealmHead, QueryFailure> {
    let position = Position { epoch: from_sql(row.try_get(0)?), seq: from_sql(row.try_get(1)?) };
    let owner: String = row.try_get(2)?;
    let url: Option<String> = row.try_get(3)?;
    let writer = (!owner.is_empty()).then_some(RealmWriter { owner, url });
    Ok(RealmHead { position, writer })
}

/// The realm and every row of it, as they are at one moment.
pub(super) async fn everything(link: &mut Link, realm: &str) -> Result<(RealmHead, Vec<Row>), QueryFailure> {
    link.run(PATIENCE, async |client| client.batch_execute(BEGIN).await).await?;
    let head = link.run(PATIENCE, async |client| client.query_one(HEAD, &[&realm]).await).await?;
    let head = head_of(&head)?;
    let mut loaded = Vec::new();
    let mut pages = Pages::of(realm);
    while let Some((table, page)) = pages.next(link).await? {
        loaded.extend(page.into_iter().filter_map(|(key, value)| rows::loaded(table, key, value)));
    }
    link.run(PATIENCE, async |client| client.batch_execute("commit").await).await?;
    Ok((head, loaded))
}

/// The number of the commit of this realm that a notification speaks of.
fn announced(payload: &str, realm: &str) -> Option<u64> {
    let mut words = payload.rsplitn(3, ' ');
    let (seq, _epoch) = (words.next()?, words.next()?);
    (words.next()? == realm).then(|| seq.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_for_its_realm() {
        assert_eq!(announced("club 3 17", "club"), Some(17));
        for other in ["other 3 17", "17", "3 17", "club 3 x", "", "a club 3 17"] {
            assert_eq!(announced(other, "club"), None, "{other}");
        }
    }
}
