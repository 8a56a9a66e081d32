//! A network between the writer and the database that loses what it likes.

use crate::database::Database;
use crate::harness::{alone, eventually};
use crate::instances::{setup, writer, writes};
use crate::load::{World, run, verify};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// What the proxy does next with a commit, once.
const NOTHING: u8 = 0;
/// The connection ends before it is passed on.
const BEFORE: u8 = 1;
/// It is passed on, and the connection ends before the answer comes.
const AFTER: u8 = 2;
/// It is passed on, the answer is swallowed, and the connection stays.
const SILENCE: u8 = 3;
/// The connection ends towards the writer, and the commit is passed on a second later.
const LATE: u8 = 4;

/// In every commit's parameters: the end of the log's entry, and how long the number behind it is.
const COMMIT: &[u8] = b"}\0\0\0\x08";

/// Passes connections on to a database.
struct Proxy {
    port: u16,
    fault: Arc<AtomicU8>,
    done: Arc<AtomicUsize>,
    late: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
}

impl Proxy {
    fn to(database: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            fault: Arc::default(),
            done: Arc::default(),
            late: Arc::default(),
        };
        let (fault, done, late) = (proxy.fault.clone(), proxy.done.clone(), proxy.late.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", database)) else { continue };
                let (fault, done, late) = (fault.clone(), done.clone(), late.clone());
                std::thread::spawn(move || pass(client, server, &fault, &done, &late));
            }
        });
        proxy
    }
}

fn pass(
    client: TcpStream,
    server: TcpStream,
    fault: &AtomicU8,
    done: &AtomicUsize,
    late: &Mutex<Vec<std::thread::JoinHandle<()>>>,
) {
    let swallow = Arc::new(AtomicU8::new(0));
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let swallows = swallow.clone();
    let back = std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = from_server.read(&mut buffer) {
            if swallows.load(Ordering::SeqCst) == 0 && to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from_client.read(&mut buffer) {
        let bytes = &buffer[..length];
        let is_commit = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        let now = if is_commit { fault.swap(NOTHING, Ordering::SeqCst) } else { NOTHING };
        if now != NOTHING {
            done.fetch_add(1, Ordering::SeqCst);
        }
        if now == BEFORE {
            break;
        }
        if now == AFTER || now == SILENCE || now == LATE {
            swallow.store(1, Ordering::SeqCst);
        }
        if now == LATE {
            let _ = from_client.shutdown(Shutdown::Both);
            let (bytes, mut to_server) = (bytes.to_vec(), to_server.try_clone().unwrap());
            let sending = std::thread::spawn(move || {
                sleep(Duration::from_secs(1));
                // The answer does not matter to anybody.
                let _ = to_server.write_all(&bytes);
                sleep(Duration::from_millis(200));
                let _ = to_server.shutdown(Shutdown::Both);
            });
            late.lock().unwrap().push(sending);
            let _ = back.join();
            return;
        }
        if to_server.write_all(bytes).is_err() {
            break;
        }
        if now == AFTER {
            // So that the database has made it.
            sleep(Duration::from_millis(50));
            break;
        }
    }
    let _ = from_client.shutdown(Shutdown::Both);
    let _ = to_server.shutdown(Shutdown::Both);
    let _ = back.join();
}

/// As a standby makes it that is promoted while its primary goes on: after the same commit another instance made one under the
/// same epoch. Nothing is taken for one's own that another made.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_commit_of_another_history_is_not_taken_for_ones_own() {
    let _alone = alone();
    let database = Database::start();
    let proxy = Proxy::to(database.port);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port);
    let writer = writer(setup(&url, &[]).0);
    writer.client().ask("POST", "/auth/register?peer_id=first", "").is(200);
    // The next commit is lost on its way, and this is what the writer finds when it connects again.
    proxy.fault.store(BEFORE, Ordering::SeqCst);
    database.query(
        "update lanrage.realm set owner = 'other', seq = seq + 1, expires = clock_timestamp(); \
         insert into lanrage.log (realm, seq, epoch, owner, at, entry) \
         select name, seq, epoch, owner, clock_timestamp(), '{\"rows\":[],\"changes\":[]}' from lanrage.realm",
    );
    writer.client().ask("POST", "/auth/register?peer_id=second", "").is(503);
    assert!(writer.log().contains("the reply to a commit was lost"), "{}", writer.log());
    let rows = "select count(*) from lanrage.rows where tbl = 'tokens' and value like '%second%'";
    assert_eq!(database.query(rows).as_deref(), Some("0"));
    eventually("it writes again", || writes(&writer));
    writer.client().ask("POST", "/auth/register?peer_id=second", "").is(200);
    assert_eq!(database.query(rows).as_deref(), Some("1"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_reply_that_is_lost_is_found_out_about() {
    let _alone = alone();
    let database = Database::start();
    let proxy = Proxy::to(database.port);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port);
    let mut writer = writer(setup(&url, &[]).0);
    let mut worlds: Vec<World> = (0..4).map(World::new).collect();
    for (name, fault, rounds) in [
        ("cut off before it arrives", BEFORE, 5),
        ("cut off before the answer", AFTER, 5),
        ("no answer", SILENCE, 2),
        ("arrives when its connection is long gone", LATE, 3),
    ] {
        let before: usize = worlds.iter().map(|world| world.acknowledged).sum();
        for round in 0..rounds {
            let (proxy, seen) = (&proxy, proxy.done.load(Ordering::SeqCst));
            worlds = run(worlds, &mut writer, move |writer| {
                sleep(Duration::from_millis(100));
                proxy.fault.store(fault, Ordering::SeqCst);
                eventually("a commit is hit", || proxy.done.load(Ordering::SeqCst) > seen);
                eventually("it goes on", || {
                    let path = format!("/auth/register?peer_id=after{fault}x{round}");
                    writer.client().ask("POST", &path, "").status == 200
                });
                sleep(Duration::from_millis(200));
                // Ends what still runs.
                writer.signal(rustix::process::Signal::TERM);
            });
            proxy.late.lock().unwrap().drain(..).for_each(|sending| sending.join().unwrap());
            assert!(writer.wait().success());
            writer.restart();
            eventually("it writes", || writes(&writer));
            verify(&mut worlds, &writer);
        }
        let after: usize = worlds.iter().map(|world| world.acknowledged).sum();
        println!("commit {name}, {rounds} times: all {} changes acknowledged are there", after - before);
    }
    let log = writer.log();
    let lost = log.matches("the reply to a commit was lost").count();
    assert!(lost >= 15, "{lost}\n{log}");
    assert!(!log.contains("taken over"), "{log}");
    // Without a gap.
    assert_eq!(
        database.query("select count(*) = max(seq) from lanrage.log").as_deref(),
        Some("t"),
        "every commit has its entry"
    );
}
