//! A group of rows as one statement, which is made as a whole or not at all.

use crate::cluster::entry;
use crate::cluster::lease::{LEASE_SPAN, Position};
use crate::store::queue::Rows;
use std::borrow::Cow;
use tokio_postgres::{Client, Error, Statement};

/// Its first part lets it through only if it follows the realm's position, and renews the lease; all others depend on
/// that part. As one statement it needs one message in each direction, and no transaction is ever left open.
const COMMIT: &str = "\
    with held as (\
        update lanrage.realm set seq = seq + 1, expires = clock_timestamp() + $11 * interval '1 ms' \
        where name = $1 and owner = $2 and epoch = $3 and seq = $4 returning seq\
    ), put as (\
        insert into lanrage.rows (realm, tbl, key, value) \
        select $1, put.tbl, put.key, put.value from held, unnest($5::text[], $6::text[], $7::text[]) put(tbl, key, value) \
        on conflict (realm, tbl, key) do update set value = excluded.value\
    ), gone as (\
        delete from lanrage.rows using held, unnest($8::text[], $9::text[]) gone(tbl, key) \
        where rows.realm = $1 and rows.tbl = gone.tbl and rows.key = gone.key\
    ), entry as (\
        insert into lanrage.log (realm, seq, epoch, owner, at, entry) \
        select $1, held.seq, $3, $2, clock_timestamp(), $10 from held\
    )\
    select pg_notify('lanrage', $1 || ' ' || $3::text || ' ' || held.seq::text) from held";

/// A lease's span in milliseconds.
pub(super) const SPAN_MILLIS: f64 = LEASE_SPAN.as_millis() as f64;

/// Has the database read the statement.
pub(super) async fn prepare(client: &Client) -> Result<Statement, Error> {
    client.prepare(COMMIT).await
}

/// Rows as they are sent.
pub(super) struct Group<'a> {
    put: [Vec<Cow<'a, str>>; 3],
    gone: [Vec<&'a str>; 2],
    entry: String,
}

impl<'a> Group<'a> {
    pub fn of(rows: &'a Rows, told: &str) -> Self {
        let (mut put, mut gone) = ([Vec::new(), Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for ((table, key), value) in rows {
            match value {
                Some(value) => {
                    put[0].push(Cow::Borrowed(table.name()));
                    put[1].push(Cow::Borrowed(key.as_str()));
                    // Values are JSON, which is UTF-8.
                    put[2].push(String::from_utf8_lossy(value));
                }
                None => {
                    gone[0].push(table.name());
                    gone[1].push(key.as_str());
                }
            }
        }
        let texts = rows.iter().map(|((table, key), value)| (table.name(), key.as_str(), value.as_deref()));
        Group { put, gone, entry: entry::compose(texts, told) }
    }

    /// Sends it as what follows `position`. Returns whether it was let through.
    pub async fn send(
        &self,
        client: &Client,
        statement: &Statement,
        (realm, owner): (&str, &str),
        position: Position,
    ) -> Result<bool, Error> {
        let [epoch, seq] = [position.epoch, position.seq].map(to_sql);
        let Group { put: [tables, keys, values], gone: [gone_tables, gone_keys], entry } = self;
        let made = client
            .query(
                statement,
                &[
                    &realm,
                    &owner,
                    &epoch,
                    &seq,
                    tables,
                    keys,
                    values,
                    gone_tables,
                    gone_keys,
                    entry,
                    &SPAN_MILLIS,
                ],
            )
            .await?;
        Ok(!made.is_empty())
    }
}

/// PostgreSQL counts with a sign.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// And back.
pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
