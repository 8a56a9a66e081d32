//! All rows of a realm, in pages.

use super::connection::{Link, QueryFailure};
use super::target::Target;
use crate::store::dump::RowVisitor;
use crate::store::schema::{self, SCHEMA_VERSION, Table, VERSION_KEY};
use crate::store::{FileError, Row};
use redb::Error;
use std::io;
use std::time::Duration;

/// How many rows are read or written at once.
pub(super) const PAGE: usize = 2000;
/// How long a page may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

const READ: &str =
    "select key, value from lanrage.rows where realm = $1 and tbl = $2 and key > $3 order by key limit $4";

/// Reads all rows of a realm, table by table and in key order.
pub(super) struct Pages<'a> {
    realm: &'a str,
    /// Those that are not read yet, the next one last.
    tables: Vec<Table>,
    /// The last key that was read of that one.
    after: String,
}

impl<'a> Pages<'a> {
    pub fn of(realm: &'a str) -> Self {
        Pages { realm, tables: Table::ALL.into_iter().rev().collect(), after: String::new() }
    }

    /// The next rows of a table, their keys and values; `None` at the end.
    pub async fn next(
        &mut self,
        link: &mut Link,
    ) -> Result<Option<(Table, Vec<(String, String)>)>, QueryFailure> {
        let Some(table) = self.tables.last().copied() else { return Ok(None) };
        let statement = link.repeated(PATIENCE, READ).await?;
        let limit = PAGE as i64;
        let ask = async |client: &tokio_postgres::Client| {
            client.query(&statement, &[&self.realm, &table.name(), &self.after, &limit]).await
        };
        let rows = link.run(PATIENCE, ask).await?;
        let page = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let page = page.collect::<Result<Vec<(String, String)>, QueryFailure>>()?;
        match page.get(PAGE - 1) {
            Some((key, _)) => self.after.clone_from(key),
            None => {
                self.tables.pop();
                self.after.clear();
            }
        }
        Ok(Some((table, page)))
    }
}

/// The version of a realm's rows; `None` if there are none yet. A later one than this program's is refused.
pub(super) async fn version(link: &mut Link, realm: &str) -> Result<Option<u32>, QueryFailure> {
    let text = "select value from lanrage.rows where realm = $1 and tbl = $2 and key = $3";
    let meta = Table::Meta.name();
    let row = link
        .run(PATIENCE, async |client| client.query_opt(text, &[&realm, &meta, &VERSION_KEY]).await)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let value: String = row.try_get(0)?;
    match schema::parse_version(value.as_bytes()) {
        None => {
            Err(QueryFailure::refused(format_args!("the schema version of realm \"{realm}\" is unreadable")))
        }
        Some(found) if found > SCHEMA_VERSION => {
            Err(QueryFailure::Refused(FileError::NewerSchema { found, supported: SCHEMA_VERSION }))
        }
        Some(found) => Ok(Some(found)),
    }
}

/// The row, if it is one for the caller.
pub(super) fn loaded(table: Table, key: String, value: String) -> Option<Row> {
    let own = schema::is_version(table, &key);
    (!own).then(|| Row { table, key, value: Some(value.into_bytes()) })
}

/// Calls `visit` with every row, by a connection and in a transaction of its own.
pub(super) fn each_row(target: &Target, visit: &mut RowVisitor<'_>) -> Result<(), Error> {
    let failed = |failure: QueryFailure| Error::Io(io::Error::other(failure.to_string()));
    // Who reads the rows may be slow.
    let begin = "set idle_in_transaction_session_timeout = '90s'; \
                 begin isolation level repeatable read read only";
    let mut link = smol::block_on(async {
        let mut link = Link::open(target).await?;
        link.run(PATIENCE, async |client| client.batch_execute(begin).await).await?;
        Ok(link)
    })
    .map_err(failed)?;
    let mut pages = Pages::of(target.realm());
    while let Some((table, page)) = smol::block_on(pages.next(&mut link)).map_err(failed)? {
        for (key, value) in &page {
            visit(table, key, value.as_bytes())?;
        }
    }
    Ok(())
}
