//! What needs the insides: migrations, and the layer that holds back writes.

use super::disk::Disk;
use super::schema::{Migration, SCHEMA_VERSION, Schema, Table};
use super::*;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

fn clock() -> crate::time::Now {
    crate::time::Now::default()
}

/// A directory of its own that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lanrage-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn row(table: Table, key: &str, value: &str) -> Row {
    Row { table, key: key.into(), value: Some(value.into()) }
}

const ADD_A_FIELD: Migration = |transaction| {
    let mut peers = transaction.open_table(Table::Relays.definition())?;
    let keys = ["alice", "bob"];
    for key in keys {
        peers.insert(key, b"{\"migrated\":2}".as_slice())?;
    }
    Ok(())
};
const DROP_ONE: Migration = |transaction| {
    transaction.open_table(Table::Relays.definition())?.remove("bob")?;
    Ok(())
};
const FAIL: Migration = |transaction| {
    transaction.open_table(Table::Relays.definition())?.remove("alice")?;
    Err(redb::Error::Corrupted("can't".into()))
};
const NEWER: Schema =
    Schema { version: SCHEMA_VERSION + 2, migrations: &[schema::KEEP_ROWS, ADD_A_FIELD, DROP_ONE] };
const BROKEN: Schema = Schema { version: SCHEMA_VERSION + 1, migrations: &[schema::KEEP_ROWS, FAIL] };

#[test]
fn migrations_run_in_order_once_and_in_one_transaction() {
    let directory = Directory::new("migrate");
    let path = path_in(&directory.0);
    let (store, rows) = Store::open(&path, clock).unwrap();
    assert_eq!(rows, []);
    store.submit(vec![row(Table::Relays, "alice", "{}"), row(Table::Relays, "bob", "{}")]);
    store.close().unwrap();

    let (store, rows) = Store::open_as(&path, clock, &NEWER).unwrap();
    assert_eq!(rows, [row(Table::Relays, "alice", "{\"migrated\":2}")]);
    store.submit(vec![row(Table::Relays, "alice", "{\"later\":1}")]);
    store.close().unwrap();

    let (store, rows) = Store::open_as(&path, clock, &NEWER).unwrap();
    assert_eq!(rows, [row(Table::Relays, "alice", "{\"later\":1}")], "a second open migrates nothing");
    store.close().unwrap();

    let before = std::fs::read(&path).unwrap();
    let Err(error) = Store::open(&path, clock) else { panic!("a newer schema was opened") };
    assert!(
        matches!(error, OpenError { error: FileError::NewerSchema { found: 4, supported: 2 }, .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("version 4") && text.contains("up to 2") && text.contains("newer lanrage"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before, "the file of a newer version was touched");
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let directory = Directory::new("migrate-fails");
    let path = path_in(&directory.0);
    let (store, _) = Store::open(&path, clock).unwrap();
    store.submit(vec![row(Table::Relays, "alice", "{}")]);
    store.close().unwrap();
    let (file, _) = open::open_file(&path).unwrap();
    let fault = Store::begin(&mut open::file_factory(file), &BROKEN).err().unwrap();
    assert!(matches!(fault, FileError::Corrupt(_)));
    let (_store, rows) = Store::open(&path, clock).unwrap();
    assert_eq!(rows, [row(Table::Relays, "alice", "{}")]);
}

#[test]
fn a_held_back_disk_reads_like_the_real_one_and_ends_up_like_it() {
    fn content(backend: &dyn StorageBackend) -> io::Result<Vec<u8>> {
        let mut content = vec![0; backend.len()? as usize];
        backend.read(0, &mut content)?;
        Ok(content)
    }
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..50 {
        let (plain, under) = (InMemoryBackend::new(), InMemoryBackend::new());
        for backend in [&plain, &under] {
            backend.set_len(20_000).unwrap();
            backend.write(0, &[0xaa; 20_000]).unwrap();
        }
        let held = Disk::new(Box::new(under)).unwrap();
        for _ in 0..40 {
            let len = plain.len().unwrap();
            if random(5) == 0 {
                let len = random(40_000);
                plain.set_len(len).unwrap();
                held.set_len(len).unwrap();
            } else if len > 0 {
                let offset = random(len);
                let data = vec![random(256) as u8; random(len - offset + 1) as usize];
                plain.write(offset, &data).unwrap();
                held.write(offset, &data).unwrap();
            }
            assert_eq!(content(&held).unwrap(), content(&plain).unwrap());
        }
        assert!(held.read(plain.len().unwrap(), &mut [0]).is_err());
        held.release().unwrap();
        assert_eq!(content(&held).unwrap(), content(&plain).unwrap());
    }
}

#[test]
fn a_file_of_the_first_version_opens_with_its_rows_and_becomes_one_of_today() {
    const FIRST: Schema = Schema { version: 1, migrations: &[] };
    let directory = Directory::new("migrate-first");
    let path = path_in(&directory.0);
    let party = r#"{"name":"LAN","host":"alice","created_at":7,"joins":1,"bans":[]}"#;
    let (store, _) = Store::open_as(&path, clock, &FIRST).unwrap();
    store.submit(vec![row(Table::Parties, "p", party)]);
    store.close().unwrap();
    let (store, rows) = Store::open(&path, clock).unwrap();
    store.close().unwrap();
    let loaded = records::load(rows);
    assert_eq!(loaded.unreadable, [""; 0]);
    let record = &loaded.records.parties[0].1;
    assert_eq!((record.host.as_deref(), &record.access, &record.invites), (Some("alice"), &None, &None));
    // A program that would let everybody into every party does not open it any more.
    let Err(error) = Store::open_as(&path, clock, &FIRST) else { panic!("it was opened") };
    assert!(matches!(error.error, FileError::NewerSchema { found: 2, supported: 1 }));
}

/// What has to be done at times, however much is to be written.
struct Tended {
    began: std::time::Instant,
    times: Arc<AtomicU32>,
}

impl engine::Engine for Tended {
    const RETRY: [Duration; 2] = [Duration::from_millis(1); 2];

    fn is_open(&self) -> bool {
        true
    }

    fn reopen(&mut self) -> Result<bool, FileError> {
        Ok(false)
    }

    fn commit(&mut self, _: &queue::Rows, _: &str) -> Result<(), FileError> {
        // There is more to write by then.
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }

    fn dump(&self, _: dump_request::DumpRequest) {}

    /// Every 50 ms.
    fn due(&self) -> Option<crate::time::Instant> {
        let next = self.times.load(Ordering::Relaxed) * 50;
        let is_over = self.began.elapsed() >= Duration::from_millis(next.into());
        // By a clock that stands still: what is due is so now, or in a while.
        Some(crate::time::Instant::ZERO + Duration::from_millis(if is_over { 0 } else { 20 }))
    }

    fn tend(&mut self) -> Result<(), FileError> {
        self.times.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn close(self, _: bool) {}
}

#[test]
fn what_a_failed_batch_told_is_told_once() {
    for was_made in [false, true] {
        let shared = StoreShared::new(Ok(()), Values::default());
        shared.submit(vec![row(Table::Relays, "a", "{}")], "first");
        let batch = shared.take(false);
        shared.submit(vec![row(Table::Relays, "b", "{}")], "second");
        shared.failed(batch, WriteError::Failing);
        if was_made {
            shared.was_told();
            shared.was_told();
        }
        let batch = shared.take(false);
        assert_eq!(batch.told, if was_made { "second" } else { "first,second" });
        assert_eq!(batch.rows.len(), 2, "rows are given again");
        // What has failed and is told by now is no more in doubt.
        shared.submit(vec![row(Table::Relays, "c", "{}")], "third");
        shared.was_told();
        assert_eq!(shared.take(false).told, "third");
    }
}

#[test]
fn what_is_due_is_done_while_there_is_always_something_to_write() {
    let times = Arc::<AtomicU32>::default();
    let engine = Tended { began: std::time::Instant::now(), times: times.clone() };
    let shared = writer::start(Path::new("tended"), engine, None, clock).unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        shared.submit(vec![row(Table::Relays, "r", "{}")], "");
        std::thread::sleep(Duration::from_millis(1));
    }
    let times = times.load(Ordering::Relaxed);
    shared.queue().closing = true;
    shared.work.notify_one();
    assert!((5..=21).contains(&times), "{times} times in a second");
}
