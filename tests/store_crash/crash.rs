//! kill -9 in a loop.

use crate::{Directory, Random, by_key, delete, number, open};
use lanrage::store::schema::Table;
use lanrage::store::{Row, check};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const FILE: &str = "LANRAGE_TEST_CRASH_FILE";
const KEYS: u64 = 50;

/// One change: the same number in three tables under one of a few keys, the last number, and a ban that
/// replaces the one before.
fn batch(number_: u64) -> Vec<Row> {
    let key = format!("key-{}", number_ % KEYS);
    let mut rows: Vec<Row> = [Table::Parties, Table::Members, Table::Tokens]
        .into_iter()
        .map(|table| number(table, &key, number_))
        .collect();
    rows.push(number(Table::Meta, "last", number_));
    rows.push(number(Table::Addresses, &format!("{number_}"), number_));
    rows.push(delete(Table::Addresses, &format!("{}", number_ - 1)));
    rows
}

/// Not a test by itself: what is killed. It says which numbers are durable.
#[test]
#[ignore = "started by kill_9_loses_nothing_that_was_acknowledged"]
fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let (store, rows) = open(path.as_ref());
    let last = by_key(rows).remove(&(Table::Meta, "last".to_owned()));
    let mut next = last.map_or(1, |value| String::from_utf8(value).unwrap().parse::<u64>().unwrap() + 1);
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        loop {
            // Several in flight, as when many peers ask at once.
            let mut tasks = Vec::new();
            for _ in 0..1 + next % 5 {
                let durable = store.durable(store.submit(batch(next)));
                let number = next;
                tasks.push(executor.spawn(async move {
                    durable.await.unwrap();
                    writeln!(std::io::stdout(), "durable {number}").unwrap();
                }));
                store.lazily(vec![self::number(Table::Relays, &format!("lazy-{}", next % 100), next)]);
                next += 1;
                if next.is_multiple_of(3) {
                    smol::Timer::after(Duration::from_millis(2)).await;
                }
            }
            for task in tasks {
                task.await;
            }
        }
    }));
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds = std::env::var("LANRAGE_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let directory = Directory::new();
    let path = directory.join("lanrage.redb");
    let mut random = Random::new(3);
    let mut acknowledged = 0u64;
    let mut progress = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let numbers = lines.map_while(Result::ok).filter_map(|line| {
                // The line may have been cut off by the kill; the harness writes others.
                let number = line.split_once("durable ")?.1;
                number.parse::<u64>().ok()
            });
            numbers.max()
        });
        std::thread::sleep(Duration::from_millis(20 + random.below(150) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = reader.join().unwrap() {
            assert!(last > acknowledged, "round {round}: it went back to before {acknowledged}");
            acknowledged = last;
            progress += 1;
        }
        if path.exists() {
            check(&path).unwrap();
        }
        let (store, rows) = open(&path);
        assert_eq!(store.recovery(), None, "round {round}");
        let found = by_key(rows);
        let value = |table: Table, key: &str| -> u64 {
            let value = found.get(&(table, key.to_owned()));
            value.map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap())
        };
        let last = value(Table::Meta, "last");
        assert!(last >= acknowledged, "round {round}: {acknowledged} was acknowledged, {last} is there");
        for key in 0..KEYS {
            let name = format!("key-{key}");
            let expected =
                (1..=last).rev().take(KEYS as usize).find(|number| number % KEYS == key).unwrap_or(0);
            for table in [Table::Parties, Table::Members, Table::Tokens] {
                assert_eq!(value(table, &name), expected, "round {round}: {name} in {table:?}, last {last}");
            }
        }
        let addresses: Vec<_> = found.keys().filter(|(table, _)| *table == Table::Addresses).collect();
        assert_eq!(addresses.len(), usize::from(last > 0), "round {round}");
        assert!(last == 0 || addresses[0].1 == last.to_string(), "round {round}");
        // Every other time the file is closed in between.
        if round % 2 == 0 {
            store.close().unwrap();
        } else {
            drop(store);
            assert!(crate::eventually(Duration::from_secs(5), || check(&path).is_ok()));
        }
    }
    assert!(progress * 2 > rounds, "only {progress} of {rounds} rounds got as far as a commit");
    println!("{acknowledged} acknowledged in {rounds} rounds");
}
