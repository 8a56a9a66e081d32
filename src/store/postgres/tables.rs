//! The tables in the database, and how they came to be.
//!
//! All realms of a database share them. What is in `rows` has a version of its own, as a state file has
//! (`store/schema.rs`): it is a row of each realm.

use super::connection::{Link, QueryFailure};
use crate::store::schema::SCHEMA_VERSION;
use std::time::Duration;
use tokio_postgres::Error;

/// The steps that made the tables. A database that has seen more of them belongs to a later version of this program.
const MIGRATIONS: [&str; 1] = ["\
    create table lanrage.realm (\
        name text collate \"C\" primary key, \
        owner text, \
        url text, \
        epoch bigint not null default 0, \
        seq bigint not null default 0, \
        expires timestamptz not null default '-infinity'); \
    create table lanrage.rows (\
        realm text collate \"C\", \
        tbl text collate \"C\", \
        key text collate \"C\", \
        value text not null, \
        primary key (realm, tbl, key)); \
    create table lanrage.log (\
        realm text collate \"C\", \
        seq bigint, \
        epoch bigint not null, \
        owner text not null, \
        at timestamptz not null, \
        entry text not null, \
        primary key (realm, seq))"];

/// Rows came to PostgreSQL with this version of theirs: there is nothing to migrate. The next one needs a step here.
const _: () = assert!(SCHEMA_VERSION == 2);

/// Of those that make the tables, one comes after the other: the number is this program's own.
const BEGIN: &str = "begin; select pg_advisory_xact_lock(7812437); create schema if not exists lanrage; \
                     create table if not exists lanrage.version (version integer not null)";
const PATIENCE: Duration = Duration::from_secs(5);

/// Sees to it that the tables are there. Nothing is done, and no right is needed, if they are.
pub(super) async fn prepare(link: &mut Link) -> Result<(), QueryFailure> {
    let exists = "select to_regclass('lanrage.version') is not null";
    let exists: bool =
        link.run(PATIENCE, async |client| client.query_one(exists, &[]).await).await?.try_get(0)?;
    if exists && version(link).await? == known() {
        return Ok(());
    }
    link.run(PATIENCE, async |client| client.batch_execute(BEGIN).await).await?;
    let found = version(link).await?;
    for (step, version) in MIGRATIONS.iter().zip(1..).skip(found) {
        let record = format!("delete from lanrage.version; insert into lanrage.version values ({version})");
        link.run(PATIENCE, async |client| client.batch_execute(&format!("{step}; {record}")).await).await?;
    }
    link.run(PATIENCE, async |client| client.batch_execute("commit").await).await
}

fn known() -> usize {
    MIGRATIONS.len()
}

async fn version(link: &mut Link) -> Result<usize, QueryFailure> {
    let text = "select coalesce(max(version), 0) from lanrage.version";
    let read = async |client: &tokio_postgres::Client| -> Result<i32, Error> {
        client.query_one(text, &[]).await?.try_get(0)
    };
    let found = usize::try_from(link.run(PATIENCE, read).await?).unwrap_or(usize::MAX);
    if found > known() {
        return Err(QueryFailure::refused(format_args!(
            "its tables have version {found}, and this lanrage knows versions up to {}: use a newer one",
            known()
        )));
    }
    Ok(found)
}
