//! The state in PostgreSQL, where several instances of a realm have it.
//!
//! Who has the realm's lease writes; the others follow the log. Every commit is one statement that the database takes only if
//! it follows the realm's position, and that renews the lease: see [`crate::cluster::lease`].

mod commit;
mod connection;
mod engine;
mod following;
mod rows;
mod stream;
mod tables;
mod target;
mod timeline;
mod transfer;

use super::queue::{Rows, StoreShared};
use super::schema::{SCHEMA_VERSION, Table, VERSION_KEY};
use super::{FileError, OpenError, Row, Store, records, writer};
use crate::cluster::lease::{LEASE_SPAN, Lease, Position};
use crate::time::Clock;
use commit::{SPAN_MILLIS, from_sql};
use connection::{Link, QueryFailure};
use engine::PostgresEngine;
use following::FollowingThread;
use rows::Pages;
use smol::Timer;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use following::{RealmHead, RealmWriter, Replica, ReplicaNews};
pub use target::{Target, name_of};
pub use transfer::{export, import};

/// How often who stands by looks for the lease.
const LOOK: Duration = Duration::from_millis(250);
/// And for a database that is away.
const AWAY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

const REALM: &str = "insert into lanrage.realm (name) values ($1) on conflict do nothing";
const TAKE: &str = "update lanrage.realm set owner = $2, url = $3, epoch = epoch + 1, \
                    expires = clock_timestamp() + $4 * interval '1 ms' \
                    where name = $1 and expires <= clock_timestamp() returning epoch, seq";

/// A store in a database, as this instance has it.
pub struct Joined {
    /// The store. Of an instance that follows it takes no rows yet.
    pub store: Store,
    /// Every row.
    pub rows: Vec<Row>,
    /// What an instance has that follows.
    pub replica: Option<Replica>,
}

impl Store {
    /// Takes the lease of the realm if nobody has it, and follows whoever has it otherwise; loads every row, and starts
    /// the thread. `tell` is called with what is waited for, whenever that is something else. May be dropped at any time.
    pub async fn join(target: &Target, clock: Clock, tell: impl Fn(&str)) -> Result<Joined, OpenError> {
        let name = target.shown();
        let (mut link, mut told, mut was_away) = (None, String::new(), false);
        loop {
            let (says, pause) = match attempt(target, &mut link, &mut was_away, clock).await {
                Ok(JoinAttempt::Joined(begin)) => {
                    return begin(Path::new(&name))
                        .map_err(|error| FileError::Io(error).at(Path::new(&name)));
                }
                Ok(JoinAttempt::Waits(owner)) => {
                    (format!("standing by: realm \"{}\" is being set up by {owner}", target.realm()), LOOK)
                }
                Err(QueryFailure::Refused(fault)) => return Err(fault.at(Path::new(&name))),
                Err(failure) => {
                    was_away = true;
                    (format!("waiting for {name}: {failure}"), AWAY)
                }
            };
            if says != told {
                tell(&says);
                told = says;
            }
            Timer::after(pause).await;
        }
    }
}

type Begin = Box<dyn FnOnce(&Path) -> io::Result<Joined>>;

/// What came of looking for a place in the realm.
enum JoinAttempt {
    /// There is one. The thread is still to be started.
    Joined(Begin),
    /// The realm has no state yet, and somebody has its lease.
    Waits(String),
}

/// Tries to take the lease once, or else to follow. The connection is kept for the next time.
async fn attempt(
    target: &Target,
    link: &mut Option<Link>,
    was_away: &mut bool,
    clock: Clock,
) -> Result<JoinAttempt, QueryFailure> {
    let realm = target.realm();
    let mut own = match link.take() {
        Some(own) => own,
        None => {
            let mut new = following::open(target).await?;
            tables::prepare(&mut new).await?;
            new.run(PATIENCE, async |client| client.execute(REALM, &[&realm]).await).await?;
            // Who wrote before the database went away comes first: it can go on with all its sessions.
            if std::mem::take(was_away) {
                Timer::after(LEASE_SPAN).await;
            }
            new
        }
    };
    // Before the lease is taken: who can't read the rows is no use as their writer.
    rows::version(&mut own, realm).await?;
    if let Some(lease) = take_lease(&mut own, target, clock).await? {
        let mut engine = PostgresEngine::new(target.clone(), own, lease, clock).await?;
        let rows = load(&mut engine, realm).await?;
        return Ok(JoinAttempt::Joined(Box::new(move |name| {
            let shared = writer::start(name, engine, None, clock)?;
            Ok(Joined { store: Store { shared, recovery: None, path: None }, rows, replica: None })
        })));
    }
    let (head, rows) = following::everything(&mut own, realm).await?;
    if !rows.iter().any(records::is_hub_key) {
        *link = Some(own);
        let writer = head.writer.as_ref().map_or("nobody", RealmWriter::name);
        return Ok(JoinAttempt::Waits(writer.to_owned()));
    }
    let (following, replica) = FollowingThread::new(target.clone(), own, head, clock);
    Ok(JoinAttempt::Joined(Box::new(move |name| {
        let first = move |shared: &Arc<StoreShared>| smol::block_on(following.run(shared));
        let shared = writer::start_after(name, first, clock)?;
        let store = Store { shared, recovery: None, path: None };
        Ok(Joined { store, rows, replica: Some(replica) })
    })))
}

/// Takes the lease, if nobody has it.
async fn take_lease(link: &mut Link, target: &Target, clock: Clock) -> Result<Option<Lease>, QueryFailure> {
    let (realm, owner, url) = (target.realm(), target.owner(), target.url());
    let sent = clock().instant;
    let take = async |client: &tokio_postgres::Client| {
        client.query_opt(TAKE, &[&realm, &owner, &url, &SPAN_MILLIS]).await
    };
    let Some(row) = link.run(PATIENCE, take).await? else { return Ok(None) };
    let position = Position { epoch: from_sql(row.try_get(0)?), seq: from_sql(row.try_get(1)?) };
    log::info!(
        "realm \"{realm}\": this instance has the lease, epoch {} after commit {}",
        position.epoch,
        position.seq
    );
    Ok(Some(Lease::taken(position, sent)))
}

/// Every row of the realm. A new realm gets the version of its rows.
async fn load(engine: &mut PostgresEngine, realm: &str) -> Result<Vec<Row>, QueryFailure> {
    let mut loaded = Vec::new();
    let gone = || QueryFailure::Lost("the connection was closed".to_owned());
    let mut pages = Pages::of(realm);
    while let Some((table, page)) = pages.next(engine.link().ok_or_else(gone)?).await? {
        loaded.extend(page.into_iter().filter_map(|(key, value)| rows::loaded(table, key, value)));
        engine.renew_if_due().await.map_err(QueryFailure::Undone)?;
    }
    if rows::version(engine.link().ok_or_else(gone)?, realm).await?.is_none() {
        let version = SCHEMA_VERSION.to_string().into_bytes();
        let row = ((Table::Meta, VERSION_KEY.to_owned()), Some(version));
        engine.commit_rows(&Rows::from([row]), "").await.map_err(QueryFailure::Undone)?;
    }
    Ok(loaded)
}
