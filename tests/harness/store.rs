//! What tests of the store work with.

use super::random::Random;
use super::sim_disk::SimDisk;
use lanrage::durability::WriteError;
use lanrage::store::schema::Table;
use lanrage::store::{Row, Store, Ticket};
use lanrage::time::{Instant, Now, UnixTime};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

pub fn clock() -> Now {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    // A fixed day, so that two files set aside in one second show whether names clash.
    Now { instant: Instant::ZERO + elapsed, unix: UnixTime::from_micros(1_800_000_000_000_000) }
}

pub fn put(table: Table, key: &str, value: impl Into<Vec<u8>>) -> Row {
    Row { table, key: key.into(), value: Some(value.into()) }
}

pub fn delete(table: Table, key: &str) -> Row {
    Row { table, key: key.into(), value: None }
}

pub fn number(table: Table, key: &str, value: u64) -> Row {
    put(table, key, value.to_string())
}

/// Rows by key, to compare.
pub fn by_key(rows: Vec<Row>) -> BTreeMap<(Table, String), Vec<u8>> {
    rows.into_iter().map(|row| ((row.table, row.key), row.value.unwrap())).collect()
}

pub fn open(path: &Path) -> (Store, Vec<Row>) {
    Store::open(path, clock).unwrap()
}

pub fn open_sim(disk: &SimDisk) -> (Store, Vec<Row>) {
    Store::open_backend(Path::new("sim"), disk.factory(), clock).unwrap()
}

/// Waits for a ticket; half a minute is taken for "never".
pub fn wait(store: &Store, ticket: Ticket) -> Result<(), WriteError> {
    let never = async {
        smol::Timer::after(Duration::from_secs(30)).await;
        panic!("a ticket was neither honoured nor refused");
    };
    smol::block_on(smol::future::or(store.durable(ticket), never))
}

/// Waits until `done`, for at most `limit`.
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < limit {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    done()
}

/// 1000 parties with 8 members and 8 tokens each, values of some 250 bytes.
pub fn full_house() -> Vec<Row> {
    let filler = "x".repeat(180);
    let value =
        |kind: &str, id: u64| format!("{{\"kind\":\"{kind}\",\"id\":\"{id:016x}\",\"filler\":\"{filler}\"}}");
    let mut random = Random::new(1);
    let mut rows = Vec::new();
    for party in 0..1000u64 {
        let party_id = format!("party-{:016x}", random.next());
        rows.push(put(Table::Parties, &party_id, value("party", party)));
        for member in 0..8u64 {
            let peer = format!("peer-{party:04}-{member}");
            rows.push(put(Table::Members, &format!("{party_id}/{peer}"), value("member", member)));
            rows.push(put(
                Table::Tokens,
                &format!("{:016x}{:016x}", random.next(), random.next()),
                value("token", member),
            ));
        }
    }
    rows
}
