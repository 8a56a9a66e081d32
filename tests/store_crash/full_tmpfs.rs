//! A file system that is really full.

use crate::{Directory, by_key, eventually, open, put, wait};
use lanrage::durability::WriteError;
use lanrage::store::schema::Table;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MOUNT: &str = "LANRAGE_TEST_SMALL_TMPFS";

#[test]
#[ignore = "needs root, to mount a small tmpfs in a mount namespace of its own"]
fn a_full_file_system_loses_nothing_and_recovers() {
    if let Some(mount) = std::env::var_os(MOUNT) {
        return inside(mount.as_ref());
    }
    let directory = Directory::new();
    let script = format!("mount -t tmpfs -o size=2m tmpfs \"${MOUNT}\" && exec \"$0\" \"$@\"");
    let name = "full_tmpfs::a_full_file_system_loses_nothing_and_recovers";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env(MOUNT, &*directory)
        .status()
        .unwrap();
    assert!(status.success());
}

fn inside(mount: &Path) {
    let path = mount.join("lanrage.redb");
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let (store, _) = open(&path);
    let mut acknowledged = BTreeMap::new();
    let mut next = 0u64;
    let refused = loop {
        let rows: Vec<_> = (0..20)
            .map(|id| {
                put(Table::Relays, &format!("{:04}", next * 20 + id), format!("\"{}\"", "f".repeat(300)))
            })
            .collect();
        next += 1;
        let ticket = store.submit(rows.clone());
        match wait(&store, ticket) {
            Ok(()) => acknowledged.extend(by_key(rows)),
            Err(error) => {
                assert_eq!(error, WriteError::Full);
                acknowledged.extend(by_key(rows));
                break ticket;
            }
        }
        assert!(next < 1000, "two megabytes never fill up");
    };
    assert!(next > 5);
    assert_eq!(store.health(), Err(WriteError::Full));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(store.health(), Err(WriteError::Full), "there is no more room than before");
    std::fs::remove_file(&ballast).unwrap();
    assert!(eventually(Duration::from_secs(12), || store.health() == Ok(())));
    wait(&store, refused).unwrap();
    let ticket = store.submit(vec![put(Table::Relays, "after", "1")]);
    wait(&store, ticket).unwrap();
    store.close().unwrap();
    acknowledged.insert((Table::Relays, "after".to_owned()), b"1".to_vec());
    let (store, rows) = open(&path);
    assert_eq!(store.recovery(), None);
    assert!(by_key(rows) == acknowledged);
    println!("full after {} rows", next * 20);
}
