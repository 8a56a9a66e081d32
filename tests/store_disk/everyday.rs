//! The store on a disk that works.

use crate::sim_disk::SimDisk;
use crate::{Directory, by_key, clock, delete, full_house, number, open, open_sim, put, wait};
use lanrage::figures::Figure;
use lanrage::store::schema::Table;
use lanrage::store::{FileError, OpenError, Store};
use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn rows_come_back_after_a_restart() {
    let directory = Directory::new();
    let path = directory.join("state/deep/lanrage.redb");
    let (store, rows) = open(&path);
    assert_eq!(rows, []);
    assert_eq!(store.recovery(), None);
    store.submit(vec![
        put(Table::Parties, "p1", "{\"name\":\"friday\"}"),
        put(Table::Meta, "hub_private_key", "\"secret\""),
        put(Table::Relays, "gone", "{}"),
        put(Table::Relays, "", "{}"),
    ]);
    let ticket = store.submit(vec![delete(Table::Relays, "gone"), delete(Table::Addresses, "never was")]);
    wait(&store, ticket).unwrap();
    assert_eq!(store.health(), Ok(()));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    store.close().unwrap();

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (store, rows) = open(&path);
    assert_eq!(
        rows,
        [
            put(Table::Meta, "hub_private_key", "\"secret\""),
            put(Table::Parties, "p1", "{\"name\":\"friday\"}"),
            put(Table::Relays, "", "{}"),
        ]
    );
    assert_eq!(mode(&path), 0o600, "others can read the hub's key");
    store.close().unwrap();
}

#[test]
fn a_second_daemon_is_told_what_to_do() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let (store, _) = open(&path);
    let Err(error) = Store::open(&path, clock) else { panic!("opened twice") };
    assert!(matches!(error, OpenError { error: FileError::InUse, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(matches!(lanrage::store::check(&path), Err(OpenError { error: FileError::InUse, .. })));
    let ticket = store.submit(vec![number(Table::Relays, "a", 1)]);
    wait(&store, ticket).unwrap();
    store.close().unwrap();
    open(&path).0.close().unwrap();
}

#[test]
fn unusable_places_are_a_clear_error() {
    let directory = Directory::new();
    let blocked = directory.join("a file");
    std::fs::write(&blocked, "").unwrap();
    for path in [blocked.join("lanrage.redb"), directory.to_path_buf()] {
        let Err(error) = Store::open(&path, clock) else { panic!("{path:?} was opened") };
        assert!(matches!(error, OpenError { error: FileError::Io(_), .. }), "{error:?}");
        assert!(error.to_string().contains("a file") || path == *directory, "{error}");
    }
}

#[test]
fn many_wait_on_one_thread_and_may_give_up() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    disk.set_sync_delay(Duration::from_millis(30));
    let (done, ticks) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..200u64)
        .map(|id| {
            let ticket = store.submit(vec![number(Table::Relays, &format!("peer-{id}"), id)]);
            let (durable, done) = (store.durable(ticket), done.clone());
            executor.spawn(async move {
                durable.await.unwrap();
                done.set(done.get() + 1);
            })
        })
        .collect();
    let ticker = {
        let ticks = ticks.clone();
        executor.spawn(async move {
            loop {
                smol::Timer::after(Duration::from_millis(1)).await;
                ticks.set(ticks.get() + 1);
            }
        })
    };
    smol::block_on(executor.run(async {
        for (index, task) in tasks.into_iter().enumerate() {
            // Some are polled and then dropped while they wait.
            if index % 3 == 0 {
                smol::future::yield_now().await;
                drop(task);
            } else {
                task.await;
            }
        }
    }));
    drop(ticker);
    assert!(done.get() >= 133, "{}", done.get());
    assert!(ticks.get() >= 5, "the thread was blocked: {} ticks", ticks.get());
    let stats = store.stats();
    assert!(
        stats.of(Figure::StoreCommits) <= 2,
        "200 submissions in a row took {} commits",
        stats.of(Figure::StoreCommits)
    );
    assert_eq!((stats.of(Figure::StoreRows), stats.of(Figure::StoreErrors)), (200, 0));
    assert!(stats.of(Figure::StoreLastCommit) >= 30_000 && stats.of(Figure::StoreSize) > 0, "{stats:?}");
    store.close().unwrap();
    assert_eq!(open_sim(&disk).1.len(), 200);
}

#[test]
fn the_last_row_of_a_key_counts() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    for round in 0..1000 {
        store.submit(vec![number(Table::Addresses, "a", round), number(Table::Relays, "a", round)]);
        store.lazily(vec![number(Table::Addresses, "a", round + 1)]);
    }
    store.lazily(vec![number(Table::Tokens, "t", 1), number(Table::Tokens, "u", 1)]);
    store.submit(vec![delete(Table::Tokens, "t")]);
    // Nothing new: the ticket stands for what was submitted before.
    let ticket = store.submit(vec![]);
    wait(&store, ticket).unwrap();
    assert!(store.stats().of(Figure::StoreRows) < 200, "{:?}", store.stats());
    wait(&store, store.submit(vec![])).unwrap();
    store.close().unwrap();
    let rows = open_sim(&disk).1;
    assert_eq!(
        rows,
        [number(Table::Tokens, "u", 1), number(Table::Relays, "a", 999), number(Table::Addresses, "a", 1000)]
    );
}

#[test]
fn lazy_rows_write_nothing_until_somebody_else_does() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    let ticket = store.submit(vec![number(Table::Meta, "m", 1)]);
    wait(&store, ticket).unwrap();
    let before = disk.counts();
    for round in 0..50u64 {
        store.lazily((0..100).map(|id| number(Table::Tokens, &format!("token-{id}"), round)).collect());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(disk.counts(), before, "a heartbeat reached the disk");
    let written = store.stats().of(Figure::StoreRows);
    // They ride along, a bounded number at a time, and all of them get their turn.
    for ride in 1..=4u64 {
        let ticket = store.submit(vec![number(Table::Meta, "m", ride + 1)]);
        wait(&store, ticket).unwrap();
        assert_eq!(store.stats().of(Figure::StoreRows) - written, ride + (32 * ride).min(100));
    }
    store.lazily(vec![number(Table::Tokens, "token-5", 77), number(Table::Relays, "late", 1)]);
    store.close().unwrap();
    let rows = by_key(open_sim(&disk).1);
    assert_eq!(rows.len(), 102);
    assert_eq!(rows[&(Table::Tokens, "token-5".into())], b"77");
    assert_eq!(rows[&(Table::Tokens, "token-6".into())], b"49");
}

#[test]
fn an_idle_store_writes_nothing() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    let before = disk.counts();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(disk.counts(), before);
    drop(store);
}

#[test]
fn a_store_that_is_only_dropped_still_commits() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let (store, _) = open(&path);
    let durable = store.durable(store.submit(full_house()));
    drop(store);
    smol::block_on(durable).unwrap();
}

#[test]
fn deleted_rows_give_their_space_back_on_close() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let (store, _) = open(&path);
    let rows = full_house();
    let keys: Vec<_> = rows.iter().map(|row| delete(row.table, &row.key)).collect();
    store.submit(rows);
    store.close().unwrap();
    let full = path.metadata().unwrap().len();
    let (store, _) = open(&path);
    wait(&store, store.submit(keys)).unwrap();
    // A quick commit is the sign of a quick disk.
    wait(&store, store.submit(vec![number(Table::Meta, "m", 1)])).unwrap();
    let quick = store.stats().of(Figure::StoreLastCommit) < 20_000;
    store.close().unwrap();
    let empty = path.metadata().unwrap().len();
    assert!(full > 4_000_000, "{full}");
    assert!(!quick || empty < 100_000, "{empty} bytes for one row");
}
