//! Damaged files.

use crate::{Directory, Random, by_key, clock, number, open, put, wait};
use lanrage::store::schema::Table;
use lanrage::store::{FileError, OpenError, Row, Store, check};
use std::collections::BTreeMap;

type State = BTreeMap<(Table, String), Vec<u8>>;

/// What a file held after each of its commits, and the file itself, closed or as a crash leaves it.
fn specimen(closed: bool) -> (Vec<u8>, Vec<State>) {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let (store, _) = open(&path);
    let mut states = vec![State::new()];
    for commit in 0..12u64 {
        let rows: Vec<Row> = (0..40)
            .map(|id| {
                let value = format!("{{\"commit\":{commit},\"filler\":\"{}\"}}", "y".repeat(150));
                put(Table::ALL[id % 6], &format!("row-{}", id + commit as usize * 3), value)
            })
            .collect();
        wait(&store, store.submit(rows.clone())).unwrap();
        let mut state = states[states.len() - 1].clone();
        state.extend(by_key(rows));
        states.push(state);
    }
    let image = if closed {
        store.close().unwrap();
        std::fs::read(&path).unwrap()
    } else {
        std::fs::read(&path).unwrap()
    };
    (image, states)
}

/// Somewhere in the file, but not in the long hole of a young one.
fn position(image: &[u8], random: &mut Random) -> usize {
    loop {
        // The first page is the header, where most of the interesting bytes are.
        let end = if random.below(4) == 0 { 512 } else { image.len() };
        let at = random.below(end);
        let page = &image[at & !4095..image.len().min((at & !4095) + 4096)];
        if page.iter().any(|byte| *byte != 0) {
            return at;
        }
    }
}

fn damage(image: &mut Vec<u8>, random: &mut Random) -> String {
    let at = position(image, random);
    let span = 1 + random.below(5000);
    let end = (at + span).min(image.len());
    match random.below(6) {
        0 | 1 => {
            let bit = random.below(8);
            image[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        2 => {
            image[at..end].fill(0);
            format!("{at}..{end} zeroed")
        }
        3 => {
            image[at..end].fill_with(|| random.next() as u8);
            format!("{at}..{end} made noise")
        }
        4 => {
            image.truncate(at);
            format!("cut off at {at}")
        }
        _ => {
            let from = position(image, random) & !4095;
            let page = image[from..image.len().min(from + 4096)].to_vec();
            let to = at & !4095;
            let end = (to + page.len()).min(image.len());
            image[to..end].copy_from_slice(&page[..end - to]);
            format!("page at {from} copied over that at {to}")
        }
    }
}

#[test]
fn damage_is_noticed_and_never_mixed_into_the_state() {
    let mut random = Random::new(5);
    let (mut kept, mut rolled_back, mut set_aside) = (0, 0, 0);
    for closed in [true, false] {
        let (image, states) = specimen(closed);
        for round in 0..250 {
            let directory = Directory::new();
            let path = directory.join("lanrage.redb");
            let mut damaged = image.clone();
            let what = format!("closed: {closed}, round {round}: {}", damage(&mut damaged, &mut random));
            std::fs::write(&path, &damaged).unwrap();
            // Looking does not touch.
            let looked = check(&path);
            assert!(std::fs::read(&path).unwrap() == damaged, "{what}: touched by a check");

            let (store, rows) = match Store::open(&path, clock) {
                Ok(opened) => opened,
                Err(error) => panic!("{what}: {error}"),
            };
            let found = by_key(rows);
            match store.recovery().cloned() {
                None => {
                    assert!(!looked.unwrap().needs_repair, "{what}");
                    if damaged.is_empty() {
                        assert!(found.is_empty(), "{what}");
                    } else {
                        // In a file that was not closed, a bad last commit is what a crash leaves that came
                        // before its acknowledgement: nobody can tell, and the one before it counts.
                        let allowed = &states[states.len() - if closed { 1 } else { 2 }..];
                        assert!(allowed.contains(&found), "{what}: silently changed");
                    }
                    kept += 1;
                }
                Some(recovery) if recovery.moved_to.is_none() => {
                    assert!(looked.unwrap().needs_repair, "{what}");
                    assert!(closed && states.contains(&found), "{what}: no state that ever was");
                    rolled_back += 1;
                }
                Some(recovery) => {
                    assert!(
                        matches!(looked, Err(OpenError { error: FileError::Corrupt(_), .. })),
                        "{what}: {looked:?}"
                    );
                    assert!(found.is_empty(), "{what}");
                    assert!(std::fs::read(recovery.moved_to.unwrap()).unwrap() == damaged, "{what}");
                    set_aside += 1;
                }
            }
            // And on it goes.
            wait(&store, store.submit(vec![number(Table::Relays, "new", 1)])).unwrap();
            store.close().unwrap();
            let (store, rows) = open(&path);
            assert_eq!(store.recovery(), None, "{what}");
            assert_eq!(rows.len(), found.len() + 1, "{what}");
        }
    }
    println!("kept {kept}, rolled back {rolled_back}, set aside {set_aside}");
    assert!(kept > 0 && set_aside > 100, "kept {kept}, rolled back {rolled_back}, set aside {set_aside}");
}

#[test]
fn older_files_that_were_set_aside_stay() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    for round in 0..3 {
        std::fs::write(&path, format!("damaged {round}")).unwrap();
        let (store, rows) = open(&path);
        assert_eq!(rows, []);
        let recovery = store.recovery().unwrap();
        let kept = std::fs::read_to_string(recovery.moved_to.as_ref().unwrap()).unwrap();
        assert_eq!(kept, format!("damaged {round}"));
        assert!(!recovery.reason.is_empty());
        store.close().unwrap();
    }
    assert_eq!(
        directory.names(),
        [
            "lanrage.redb",
            "lanrage.redb.corrupt-1800000000",
            "lanrage.redb.corrupt-1800000000-2",
            "lanrage.redb.corrupt-1800000000-3",
        ]
    );
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    const THEIRS: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("theirs");
    transaction.open_table(THEIRS).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (store, rows) = open(&path);
    assert_eq!(rows, []);
    assert!(store.recovery().unwrap().reason.contains("another program"));
}

#[test]
fn a_newer_file_is_refused_and_left_alone_even_if_it_was_not_closed() {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let directory = Directory::new();
    let (live, path) = (directory.join("live"), directory.join("lanrage.redb"));
    let database = redb::Database::create(&live).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema_version", b"3".as_slice()).unwrap();
    transaction.commit().unwrap();
    std::fs::copy(&live, &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let Err(error) = Store::open(&path, clock) else { panic!("opened a newer file") };
    assert!(
        matches!(error, OpenError { error: FileError::NewerSchema { found: 3, supported: 2 }, .. }),
        "{error:?}"
    );
    assert!(matches!(check(&path), Err(OpenError { error: FileError::NewerSchema { .. }, .. })));
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(directory.names(), ["lanrage.redb", "live"]);
}

#[test]
fn a_check_reports_what_is_there() {
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    assert!(matches!(check(&path), Err(OpenError { error: FileError::Io(_), .. })));
    let (store, _) = open(&path);
    store.submit(vec![
        put(Table::Relays, "a", "{}"),
        put(Table::Relays, "b", "{}"),
        put(Table::Addresses, "mangled", "{\"a\":"),
    ]);
    store.close().unwrap();
    let report = check(&path).unwrap();
    assert_eq!(report.schema_version, Some(2));
    let count = |table| report.rows.iter().find(|(counted, _)| *counted == table).unwrap().1;
    assert_eq!((count(Table::Meta), count(Table::Relays), count(Table::Tokens)), (1, 2, 0));
    assert_eq!(report.bad_rows, [(Table::Addresses, "mangled".to_owned())]);
    assert_eq!(report.file_length, path.metadata().unwrap().len());
    assert!(!report.unclean && !report.needs_repair && !report.is_good());
}
