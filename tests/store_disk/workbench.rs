//! What tests of the store work with.

use crate::sim_disk::SimDisk;
use lanrage::durability::WriteError;
use lanrage::store::schema::Table;
use lanrage::store::{Row, Store, Ticket};
use lanrage::time::{Instant, Now, UnixTime};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub fn clock() -> Now {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    // A fixed day, so that two files set aside in one second show whether names clash.
    Now { instant: Instant::ZERO + elapsed, unix: UnixTime::from_micros(1_800_000_000_000_000) }
}

/// A directory of its own that goes with it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lanrage-store-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("lanrage.redb")
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// splitmix64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
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
    let mut random = Random(1);
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
