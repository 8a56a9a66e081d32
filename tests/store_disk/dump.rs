//! Dumps, backups and what is made of them.

use crate::sim_disk::SimDisk;
use crate::{Directory, by_key, full_house, number, open, open_sim, put, wait};
use lanrage::store::backup::{RestoreError, restore, save};
use lanrage::store::dump::{Busy, Secrets, file};
use lanrage::store::schema::Table;
use lanrage::store::{FileError, OpenError, Store, check};
use smol::channel::Receiver;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn read_all(pieces: &Receiver<Vec<u8>>) -> String {
    let mut all = Vec::new();
    while let Ok(piece) = pieces.recv_blocking() {
        assert!(piece.len() < 20 << 10, "a piece of {} bytes", piece.len());
        all.extend(piece);
    }
    String::from_utf8(all).unwrap()
}

fn awkward_rows() -> Vec<lanrage::store::Row> {
    vec![
        put(Table::Meta, "hub_private_key", "\"do-not-tell\""),
        put(Table::Meta, "tai64n", "17"),
        put(
            Table::Parties,
            "quo\"te\\back\u{1}slash é\u{10ffff}\n",
            "{\n  \"a\": \"}\\n\\\"\",\r\n \"b\": null }",
        ),
        put(Table::Relays, "", "[]"),
    ]
}

#[test]
fn a_backup_is_the_same_again() {
    let directory = Directory::new();
    let (path, copy) = (directory.join("lanrage.redb"), directory.join("backup.redb"));
    let (store, _) = open(&path);
    wait(&store, store.submit(awkward_rows())).unwrap();
    wait(&store, store.submit(full_house())).unwrap();
    let text = read_all(&store.dump(Secrets::Include).unwrap());
    assert!(text.lines().any(|line| line == r#"{"table":"meta","key":"schema_version","value":2}"#));
    assert!(text.ends_with("\n{\"rows\":17005}\n"), "{}", &text[text.len() - 40..]);
    assert_eq!(text.lines().count(), 17007);
    assert!(text.starts_with("{\"secret\":\"Keep this file like a password."), "{}", &text[..80]);

    // Kept as it is. Of a dump of an older version, without its first line, the same comes.
    let (kept, older) = (directory.join("kept"), text.split_once('\n').unwrap().1);
    for mut lines in [text.as_bytes(), older.as_bytes()] {
        assert_eq!(save(&mut lines, &kept).unwrap(), 17005);
        assert!(std::fs::read(&kept).unwrap() == text.as_bytes());
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (state, report) = (check(&path), check(&kept).unwrap());
    assert!(
        state.is_err() && report.is_good() && report.rows.iter().map(|(_, rows)| rows).sum::<u64>() == 17005
    );
    assert!(matches!(save(&mut older.as_bytes(), &path), Err(RestoreError::InUse(_))));
    let mut redacted = Vec::new();
    assert_eq!(file(&kept, Secrets::Redact, &mut redacted).unwrap(), 17005);
    assert!(String::from_utf8(redacted).unwrap() == older.replace("\"do-not-tell\"", "null"));
    assert_eq!(restore(&mut older.as_bytes(), &copy).unwrap(), 17005);
    std::fs::remove_file(&kept).unwrap();

    std::fs::write(&copy, "an older backup").unwrap();
    assert_eq!(restore(&mut text.as_bytes(), &copy).unwrap(), 17005);
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(directory.names(), ["backup.redb", "lanrage.redb"]);
    assert!(check(&copy).unwrap().is_good());
    assert!(!check(&copy).unwrap().unclean);

    // Nobody restores over the file of a running daemon.
    assert!(matches!(restore(&mut text.as_bytes(), &path), Err(RestoreError::InUse(_))));
    store.close().unwrap();
    let (rows, mut copied) = (by_key(open(&path).1), by_key(open(&copy).1));
    // A dump has no space between tokens, and so no line breaks.
    let key = (Table::Parties, awkward_rows()[2].key.clone());
    assert_eq!(copied[&key], b"{\"a\":\"}\\n\\\"\",\"b\":null}");
    copied.insert(key.clone(), rows[&key].clone());
    assert!(rows == copied);
}

#[test]
fn people_see_no_secrets_and_cannot_restore_without() {
    let directory = Directory::new();
    let (path, copy) = (directory.join("lanrage.redb"), directory.join("copy"));
    let (store, _) = open(&path);
    wait(&store, store.submit(awkward_rows())).unwrap();
    let text = read_all(&store.dump(Secrets::Redact).unwrap());
    assert!(!text.contains("do-not-tell"));
    assert!(text.contains(r#"{"table":"meta","key":"hub_private_key","value":null}"#));
    assert!(matches!(restore(&mut text.as_bytes(), &copy), Err(RestoreError::Redacted)));
    assert_eq!(directory.names(), ["lanrage.redb"]);

    let mut out = Vec::new();
    assert!(matches!(file(&path, Secrets::Redact, &mut out), Err(OpenError { error: FileError::InUse, .. })));
    store.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(file(&path, Secrets::Redact, &mut out).unwrap(), 5);
    assert_eq!(String::from_utf8(out).unwrap(), text);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_dump_while_rows_change_shows_one_moment() {
    let directory = Directory::new();
    let (store, _) = open(&directory.join("lanrage.redb"));
    let batch = |round: u64| -> Vec<_> {
        let filler = "z".repeat(200);
        (0..400u64)
            .map(|id| {
                let table = Table::ALL[1 + id as usize % 5];
                put(table, &format!("{id}"), format!("{{\"round\":{round},\"filler\":\"{filler}\"}}"))
            })
            .collect()
    };
    wait(&store, store.submit(batch(0))).unwrap();
    let mut round = 1;
    let mut seen = Vec::new();
    for _ in 0..10 {
        let pieces = store.dump(Secrets::Include).unwrap();
        let mut text = Vec::new();
        loop {
            // Between any two pieces, everything is written anew.
            wait(&store, store.submit(batch(round))).unwrap();
            round += 1;
            match pieces.recv_blocking() {
                Ok(piece) => text.extend(piece),
                Err(_) => break,
            }
        }
        let text = String::from_utf8(text).unwrap();
        let mut rounds = text.lines().filter_map(|line| line.split_once("\"round\":")?.1.split(',').next());
        let first = rounds.next().unwrap();
        assert_eq!(rounds.clone().count(), 399);
        assert!(rounds.all(|round| round == first), "two moments in one dump");
        seen.push(first.parse::<u64>().unwrap());
        let copy = directory.join("copy");
        assert_eq!(restore(&mut text.as_bytes(), &copy).unwrap(), 401);
        assert_eq!(open(&copy).1.len(), 400);
    }
    assert!(seen.is_sorted() && seen[0] < seen[9], "{seen:?}");
}

#[test]
fn one_dump_at_a_time_and_an_abandoned_one_ends() {
    let directory = Directory::new();
    let (store, _) = open(&directory.join("lanrage.redb"));
    wait(&store, store.submit(full_house())).unwrap();
    let first = store.dump(Secrets::Include).unwrap();
    assert_eq!(store.dump(Secrets::Include).err(), Some(Busy));
    first.recv_blocking().unwrap();
    assert_eq!(store.dump(Secrets::Include).err(), Some(Busy));
    // Few pieces wait for the reader.
    std::thread::sleep(Duration::from_millis(50));
    assert!(first.len() <= 2);
    drop(first);
    let mut second = None;
    assert!(crate::eventually(Duration::from_secs(5), || {
        second = store.dump(Secrets::Include).ok();
        second.is_some()
    }));
    assert!(read_all(&second.unwrap()).ends_with("{\"rows\":17001}\n"));
    // Closing ends one that is being read.
    let third = store.dump(Secrets::Include).unwrap();
    third.recv_blocking().unwrap();
    store.close().unwrap();
    assert!(!read_all(&third).contains("{\"rows\":"));
}

#[test]
fn what_is_no_dump_makes_no_file() {
    let directory = Directory::new();
    let copy = directory.join("copy");
    let version = r#"{"table":"meta","key":"schema_version","value":1}"#;
    let row = r#"{"table":"relays","key":"a","value":{}}"#;
    let whole = format!("{version}\n{row}\n{{\"rows\":2}}\n");
    for end in 0..whole.len() {
        assert!(
            matches!(restore(&mut &whole.as_bytes()[..end], &copy), Err(RestoreError::Incomplete)),
            "{end}"
        );
    }
    for bad in [
        format!("{version}\n{row}\n{{\"rows\":3}}\n"),
        format!("{version}\n{row}\n{{\"rows\":2}}\nmore"),
        format!("{row}\n{{\"rows\":1}}\n"),
        format!("{version}\n{row}\n{row}\n{{\"rows\":3}}\n"),
        format!("{version}\n{{\"table\":\"nonsense\",\"key\":\"a\",\"value\":1}}\n{{\"rows\":2}}\n"),
        format!("{version}\n{{\"table\":\"relays\",\"key\":\"a\\x\",\"value\":1}}\n{{\"rows\":2}}\n"),
        format!("{version}\n{{\"table\":\"relays\",\"key\":\"\\ud800\",\"value\":1}}\n{{\"rows\":2}}\n"),
        format!("{version}\n{{\"table\":\"relays\",\"key\":\"a\",\"value\":1}}}}\n{{\"rows\":2}}\n"),
        format!("{version}\n\n{{\"rows\":2}}\n"),
        "<html>404</html>\n".to_owned(),
    ] {
        assert!(matches!(restore(&mut bad.as_bytes(), &copy), Err(RestoreError::Malformed(_))), "{bad}");
    }
    let newer = "{\"table\":\"meta\",\"key\":\"schema_version\",\"value\":3}\n{\"rows\":1}\n";
    assert!(matches!(restore(&mut newer.as_bytes(), &copy), Err(RestoreError::NewerSchema(3))));
    let mut endless = std::io::BufReader::new(std::io::Read::take(std::io::repeat(b'a'), 1 << 30));
    assert!(matches!(restore(&mut endless, &copy), Err(RestoreError::Incomplete)));
    assert_eq!(directory.names(), [""; 0]);
    assert_eq!(restore(&mut whole.as_bytes(), &copy).unwrap(), 2);
}

#[test]
fn a_dump_from_a_disk_that_fails_is_not_complete() {
    let disk = SimDisk::default();
    let (store, _): (Store, _) = open_sim(&disk);
    disk.fail_syncs(u32::MAX);
    assert!(wait(&store, store.submit(vec![number(Table::Relays, "a", 1)])).is_err());
    let pieces = store.dump(Secrets::Include).unwrap();
    drop(store);
    assert_eq!(read_all(&pieces), "");
}
