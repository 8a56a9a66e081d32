//! What the init script asks of procd, done: the very command with the real program.

use crate::router::enabled;
use crate::service::{router, start};
use rustix::process::Signal;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Everything that a shell could trip over and a token may have.
const TOKEN: &str = "a'token\"with\\$(odd)`signs`;&|*?#~%s";

#[test]
fn it_starts_keeps_its_process_over_interface_events_and_stops_in_good_order() {
    let router = router();
    let config = enabled(&[
        ("main", "http", "127.0.0.1:0"),
        ("main", "relay", "127.0.0.1:0"),
        ("main", "admin_token", TOKEN),
    ]);
    let run = router.run("start", &config);
    let mut service = start(&router, &run);
    service.client().get("/").is(200);

    // The settings arrived: this token opens what is the owner's.
    service.client().with_token(TOKEN).get("/parties").is(200);
    assert_ne!(service.client().with_token("another").get("/parties").status, 200);

    // Root's command line finds it where it always looks.
    let link = router.path("var/lib/lanrage");
    let mut status = Command::new(&router.program);
    let output = status.args(["status", "--json", "--state-dir"]).arg(&link).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"uptime_seconds\""));

    let mut alice = service.client();
    alice.register("alice");
    let party = r#"{"name":"Friday","host_peer_info":{"peer_id":"alice","name":"Alice","public_key":"k"}}"#;
    let party = alice.ask("POST", "/parties", party).is(200).text(&["party_id"]);
    let party = format!("/parties/{party}");

    // An interface changes: what procd is told to send is sent.
    let pid = service.pid();
    for _ in 0..3 {
        let event = router.act("network");
        let [signal] = &event.of("procd_send_signal")[..] else { panic!("{event:?}") };
        assert_eq!(signal.last().unwrap(), "HUP");
        service.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(50));
        assert!(service.is_running());
        service.client().with_token_of(&alice).get(&party).is(200);
        assert_eq!(service.pid(), pid);
    }

    // The same settings give procd no reason to restart it, other ones do.
    let (before, command) = (router.settings().unwrap(), run.param("command").unwrap().to_vec());
    let again = router.run("reload", &config);
    assert_eq!((router.settings().unwrap(), again.param("command").unwrap()), (before.clone(), &command[..]));
    let other = router.run("reload", &config.replace("127.0.0.1:0", "127.0.0.2:0"));
    assert_ne!(router.settings().unwrap(), before);

    assert!(service.terminate().0.success());

    // Nothing is lost, and it starts over what it left.
    let service = start(&router, &other);
    assert_eq!(service.http.ip().to_string(), "127.0.0.2");
    service.client().with_token_of(&alice).get(&party).is(200);
    assert!(fs::metadata(router.path("etc/lanrage/lanrage.redb")).is_ok());
}
