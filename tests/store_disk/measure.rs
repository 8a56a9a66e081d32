//! Figures: sizes and times with a full house. Limits are far from what is measured, so that only a change
//! of kind fails.

use crate::sim_disk::SimDisk;
use crate::{Directory, full_house, number, open, open_sim, wait};
use lanrage::figures::Figure;
use lanrage::store::schema::Table;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

#[test]
fn a_full_house_is_small_and_loads_quickly() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let (store, _) = open(&path);
    store.close().unwrap();
    let empty = path.metadata().unwrap().len();
    let (store, _) = open(&path);
    let rows = full_house();
    let payload: usize = rows.iter().map(|row| row.key.len() + row.value.as_ref().unwrap().len()).sum();
    for rows in rows.chunks(500) {
        wait(&store, store.submit(rows.to_vec())).unwrap();
    }
    let grown = store.stats().of(Figure::StoreSize);
    let on_disk = path.metadata().unwrap().blocks() * 512;
    let commit = store.stats().of(Figure::StoreLastCommit);
    store.close().unwrap();
    let closed = path.metadata().unwrap().len();
    let begun = Instant::now();
    let (store, loaded) = open(&path);
    let clean = begun.elapsed();
    assert_eq!(loaded.len(), rows.len());
    wait(&store, store.submit(vec![number(Table::Meta, "m", 1)])).unwrap();
    let crashed = directory.join("crashed");
    std::fs::copy(&path, &crashed).unwrap();
    store.close().unwrap();
    let begun = Instant::now();
    drop(open(&crashed));
    let unclean = begun.elapsed();
    println!(
        "payload {payload} B, empty file {empty} B, grown {grown} B ({on_disk} on disk), closed {closed} B; load {clean:?}, after a \
         crash {unclean:?}, commit of 500 rows {commit} us"
    );
    assert!(empty < 100_000 && closed < 3 * payload as u64);
    // A debug build on a busy machine; a release build takes a tenth.
    assert!(clean.as_millis() < 1000, "{clean:?}");
}

#[test]
fn a_small_commit_writes_little() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    wait(&store, store.submit(full_house())).unwrap();
    for what in ["one row", "one row again", "three tables"] {
        let before = disk.counts();
        let rows = match what {
            "three tables" => [Table::Parties, Table::Members, Table::Tokens]
                .map(|table| number(table, "key-7", 1))
                .to_vec(),
            _ => vec![number(Table::Relays, "peer", 1)],
        };
        wait(&store, store.submit(rows)).unwrap();
        let after = disk.counts();
        let (writes, bytes) = (after.writes - before.writes, after.bytes - before.bytes);
        println!("{what}: {writes} writes, {bytes} bytes, {} syncs", after.syncs - before.syncs);
        assert!(bytes < 200_000, "{what}: {bytes}");
        assert_eq!(after.syncs - before.syncs, 1, "{what}");
    }
    println!("length {}", disk.len());
}
