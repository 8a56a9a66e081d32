//! Slow, full and failing disks, and power cuts.

use crate::sim_disk::SimDisk;
use crate::{Random, by_key, delete, eventually, number, open_sim, put, wait};
use lanrage::durability::WriteError;
use lanrage::figures::Figure;
use lanrage::store::Store;
use lanrage::store::schema::Table;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than the longest pause between two attempts that these tests come to.
const RECOVERY: Duration = Duration::from_secs(8);

#[test]
fn a_full_disk_loses_nothing_and_recovers() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    wait(&store, store.submit(vec![number(Table::Relays, "before", 1)])).unwrap();
    disk.set_room(Some(0));
    let during = store.submit(vec![number(Table::Relays, "during", 1), number(Table::Relays, "before", 2)]);
    assert_eq!(wait(&store, during), Err(WriteError::Full));
    assert_eq!(store.health(), Err(WriteError::Full));
    // Handed over all the same: refused at once, and kept.
    let more = store.submit(vec![number(Table::Relays, "during", 2)]);
    assert_eq!(wait(&store, more), Err(WriteError::Full));
    store.lazily(vec![number(Table::Tokens, "t", 1)]);

    // What the disk holds meanwhile is what was acknowledged, also for the next process.
    let found = by_key(open_sim(&disk.after_power_cut(|| true)).1);
    assert_eq!(found, by_key(vec![number(Table::Relays, "before", 1)]));

    disk.set_room(None);
    assert!(eventually(RECOVERY, || store.health() == Ok(())));
    wait(&store, more).unwrap();
    wait(&store, during).unwrap();
    let stats = store.stats();
    assert!(stats.of(Figure::StoreErrors) >= 1 && stats.of(Figure::StoreCommits) >= 2, "{stats:?}");
    let found = by_key(open_sim(&disk.after_power_cut(|| false)).1);
    assert_eq!(found[&(Table::Relays, "during".into())], b"2");
    assert_eq!(found[&(Table::Relays, "before".into())], b"2");
    store.close().unwrap();
    assert_eq!(open_sim(&disk).1.len(), 3);
}

#[test]
fn a_disk_that_fills_up_anywhere_keeps_what_was_acknowledged() {
    let mut random = Random::new(11);
    for room in (0..60_000).step_by(1371) {
        let disk = SimDisk::default();
        let (store, _) = open_sim(&disk);
        let mut acknowledged = BTreeMap::new();
        disk.set_room(Some(room));
        for round in 0..4u64 {
            let rows: Vec<_> =
                (0..30).map(|id| number(Table::Relays, &format!("{id}"), round * 100 + id)).collect();
            match wait(&store, store.submit(rows.clone())) {
                Ok(()) => acknowledged = by_key(rows),
                Err(error) => {
                    assert_eq!(error, WriteError::Full);
                    break;
                }
            }
        }
        let survivor = disk.after_power_cut(|| random.below(2) == 0);
        let (_, rows) = open_sim(&survivor);
        let found = by_key(rows);
        // A commit that failed may yet be there, but whole.
        let later = found.values().next().is_some_and(|value| {
            let first: u64 = std::str::from_utf8(value).unwrap().parse().unwrap();
            found.len() == 30
                && found.iter().all(|((_, id), value)| {
                    *value == (first / 100 * 100 + id.parse::<u64>().unwrap()).to_string().into_bytes()
                })
        });
        assert!(found == acknowledged || later, "room {room}: {found:?}");
        if !acknowledged.is_empty() {
            assert!(found[&(Table::Relays, "0".into())] >= acknowledged[&(Table::Relays, "0".into())]);
        }
        drop(store);
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_can_be_read() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    store.submit(vec![put(Table::Parties, "p", "{}")]);
    store.close().unwrap();
    disk.set_room(Some(0));
    let (store, rows) = open_sim(&disk);
    assert_eq!(rows, [put(Table::Parties, "p", "{}")]);
    assert_eq!(store.health(), Err(WriteError::Full));
    disk.set_room(None);
    assert!(eventually(RECOVERY, || store.health() == Ok(())));
    wait(&store, store.submit(vec![put(Table::Parties, "q", "{}")])).unwrap();
    store.close().unwrap();
    assert_eq!(open_sim(&disk).1.len(), 2);

    // The same with a file that does not hold anything yet.
    let fresh = SimDisk::default();
    fresh.set_room(Some(0));
    let (store, rows) = open_sim(&fresh);
    assert_eq!((rows.len(), store.health()), (0, Err(WriteError::Full)));
    fresh.set_room(None);
    assert!(eventually(RECOVERY, || store.health() == Ok(())));
    wait(&store, store.submit(vec![put(Table::Parties, "q", "{}")])).unwrap();
}

#[test]
fn a_slow_disk_makes_nobody_wait_but_those_who_ask_to() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    wait(&store, store.submit(vec![number(Table::Relays, "a", 0)])).unwrap();
    disk.set_sync_delay(Duration::from_millis(500));
    let begun = Instant::now();
    let mut times = Vec::new();
    let mut last = store.submit(vec![]);
    for round in 0..1000u64 {
        let call = Instant::now();
        last = store.submit(vec![number(Table::Relays, &format!("peer-{}", round % 300), round)]);
        store.lazily(vec![number(Table::Tokens, &format!("token-{}", round % 300), round)]);
        assert_eq!(store.health(), Ok(()));
        let _ = store.stats();
        times.push(call.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "too quick to have met a commit");
    times.sort();
    // The scheduler may take the processor away now and then; the store may not.
    assert!(times[times.len() * 98 / 100] < Duration::from_millis(1), "{:?}", &times[970..]);
    assert!(times[times.len() - 1] < Duration::from_millis(250), "{:?}", &times[970..]);
    wait(&store, last).unwrap();
    assert!(store.stats().of(Figure::StoreLastCommit) >= 500_000);
    let commits = store.stats().of(Figure::StoreCommits);
    assert!((2..=6).contains(&commits), "{commits} commits in some two seconds");
}

#[test]
fn closing_takes_its_time_but_no_more() {
    for (delay, outcome) in [(100, Ok(())), (500, Ok(())), (3000, Err(WriteError::TooSlow))] {
        let disk = SimDisk::default();
        let (store, _) = open_sim(&disk);
        wait(&store, store.submit(vec![number(Table::Relays, "a", 0)])).unwrap();
        disk.set_sync_delay(Duration::from_millis(delay));
        store.lazily(vec![number(Table::Tokens, "t", 1)]);
        let begun = Instant::now();
        assert_eq!(store.close(), outcome, "{delay} ms");
        assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
        if outcome.is_ok() {
            assert_eq!(open_sim(&disk.after_power_cut(|| false)).1.len(), 2, "{delay} ms");
        }
    }
}

#[test]
fn closing_in_the_middle_of_a_slow_commit_includes_what_came_after() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    disk.set_sync_delay(Duration::from_millis(400));
    store.submit(vec![number(Table::Relays, "a", 0)]);
    std::thread::sleep(Duration::from_millis(100));
    let durable = store.durable(store.submit(vec![number(Table::Relays, "b", 0)]));
    let begun = Instant::now();
    assert_eq!(store.close(), Ok(()));
    assert!(begun.elapsed() < Duration::from_millis(1800));
    smol::block_on(durable).unwrap();
    assert_eq!(open_sim(&disk.after_power_cut(|| false)).1.len(), 2);
}

#[test]
fn dropping_does_not_wait() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    disk.set_sync_delay(Duration::from_millis(500));
    let durable = store.durable(store.submit(vec![number(Table::Relays, "a", 0)]));
    let begun = Instant::now();
    drop(store);
    assert!(begun.elapsed() < Duration::from_millis(200));
    smol::block_on(durable).unwrap();
}

#[test]
fn a_disk_that_stays_broken_is_reported_and_left() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    disk.fail_syncs(u32::MAX);
    let ticket = store.submit(vec![number(Table::Relays, "a", 0)]);
    assert_eq!(wait(&store, ticket), Err(WriteError::Failing));
    assert_eq!(store.health(), Err(WriteError::Failing));
    let begun = Instant::now();
    assert_eq!(store.close(), Err(WriteError::Failing));
    assert!(begun.elapsed() < Duration::from_millis(1800));
}

#[test]
fn a_disk_that_was_read_only_for_a_while_loses_nothing() {
    let disk = SimDisk::default();
    let (store, _) = open_sim(&disk);
    wait(&store, store.submit(vec![number(Table::Relays, "before", 1)])).unwrap();
    disk.set_read_only(true);
    let during = store.submit(vec![number(Table::Relays, "during", 1)]);
    assert_eq!(wait(&store, during), Err(WriteError::Failing));
    disk.set_read_only(false);
    assert!(eventually(RECOVERY, || store.health() == Ok(())));
    wait(&store, during).unwrap();
    assert_eq!(by_key(open_sim(&disk.after_power_cut(|| false)).1).len(), 2);
    store.close().unwrap();
}

#[test]
fn a_sync_that_failed_is_made_good() {
    // After a failed sync Linux takes the pages for written. Whoever merely syncs again, and is told
    // that all went well, has lost them.
    for failures in 1..=2 {
        let disk = SimDisk::default();
        let (store, _) = open_sim(&disk);
        let rows: Vec<_> = (0..200).map(|id| number(Table::Relays, &format!("{id}"), id)).collect();
        wait(&store, store.submit(rows.clone())).unwrap();
        disk.fail_syncs(failures);
        // Deletions are what a second attempt has nothing to write for, if the first one seems to be there.
        let (gone, kept) = rows.split_at(100);
        let deletions = gone.iter().map(|row| delete(row.table, &row.key)).collect();
        let ticket = store.submit(deletions);
        assert_eq!(wait(&store, ticket), Err(WriteError::Failing));
        assert!(eventually(RECOVERY, || store.health() == Ok(())));
        wait(&store, ticket).unwrap();
        let found = by_key(open_sim(&disk.after_power_cut(|| false)).1);
        assert_eq!(found, by_key(kept.to_vec()), "after {failures} failures");
    }
}

#[test]
fn a_power_cut_at_any_moment_keeps_what_was_acknowledged() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let disk = SimDisk::default();
        disk.set_sync_delay(Duration::from_micros(300));
        let (store, _) = open_sim(&disk);
        let mut tickets = Vec::new();
        for batch in 0..=random.below(30) as u64 {
            let rows = (0..5).map(|table| number(Table::ALL[table + 1], &format!("k{}", batch % 7), batch));
            tickets.push(store.submit(rows.chain([number(Table::Meta, "last", batch)]).collect()));
            std::thread::sleep(Duration::from_micros(random.below(1500) as u64));
        }
        // Whatever is acknowledged before the cut must outlive it.
        let acknowledged = acknowledged(&store, &tickets);
        let survivor = disk.after_power_cut(|| random.below(2) == 0);
        let (survivor, rows) = open_sim(&survivor);
        assert_eq!(survivor.recovery(), None, "a power cut is no damage");
        let found = by_key(rows);
        let value = |table, key: &str| -> Option<u64> {
            Some(std::str::from_utf8(found.get(&(table, key.to_owned()))?).unwrap().parse().unwrap())
        };
        let last = value(Table::Meta, "last");
        assert!(last >= acknowledged, "seed {seed}: {last:?} after {acknowledged:?}");
        for key in (0..7).map(|key| format!("k{key}")) {
            let values: Vec<_> = (0..5).map(|table| value(Table::ALL[table + 1], &key)).collect();
            assert!(values.iter().all(|value| *value == values[0]), "seed {seed}: a torn batch: {values:?}");
        }
    }
}

/// The last batch that is acknowledged right now.
fn acknowledged(store: &Store, tickets: &[lanrage::store::Ticket]) -> Option<u64> {
    let done = tickets.iter().take_while(|ticket| {
        smol::block_on(smol::future::poll_once(store.durable(**ticket))).is_some_and(|result| result.is_ok())
    });
    (done.count() as u64).checked_sub(1)
}
