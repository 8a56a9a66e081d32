//! The init script where no pitfall is near: what it asks procd for.

use crate::router::{Router, enabled, shell};
use crate::shipped;
use std::fs;

#[test]
fn procd_is_asked_for_what_the_daemon_needs() {
    let router = Router::new();
    let run = router.run("start", &enabled(&[]));
    assert!(run.succeeded && run.said.is_empty(), "{}", run.said);
    let program = router.program.display().to_string();
    let settings = router.text_path("var/run/lanrage.toml");
    assert_eq!(run.param("command").unwrap(), [program.as_str(), "serve", "--config", settings.as_str()]);
    // The bare form gives up after a few crashes.
    assert_eq!(run.param("respawn").unwrap(), ["3600", "5", "0"]);
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let half = format!("data={}", total.unwrap().parse::<u64>().unwrap() * 512);
    assert_eq!(run.param("limits").unwrap(), ["nofile=4096 4096", "core=0", half.as_str()]);
    assert_eq!(run.param("term_timeout").unwrap(), ["10"]);
    assert_eq!(
        (run.param("stdout").unwrap(), run.param("stderr").unwrap()),
        (&["1".into()][..], &["1".into()][..])
    );
    assert_eq!(run.of("procd_open_instance").len(), 1);
    assert_eq!(run.calls.last().unwrap(), &["procd_set_config_changed", "firewall"]);
}

#[test]
fn it_starts_late_stops_early_and_is_for_procd() {
    let text = fs::read_to_string(shipped("lanrage/files/lanrage.init")).unwrap();
    assert_eq!(text.lines().next(), Some("#!/bin/sh /etc/rc.common"));
    for line in ["USE_PROCD=1", "START=95", "STOP=10"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn the_shell_can_read_it() {
    for file in [
        shipped("lanrage/files/lanrage.init"),
        shipped("lanrage/files/lanrage-agent.init"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openwrt/rc.common").into(),
    ] {
        let output = shell().arg("-n").arg(&file).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn words_for_on_and_off_are_those_of_uci() {
    let router = Router::new();
    for (word, on) in [
        ("1", true),
        ("on", true),
        ("true", true),
        ("yes", true),
        ("enabled", true),
        ("0", false),
        ("off", false),
        ("false", false),
        ("no", false),
        ("disabled", false),
    ] {
        let run = router.run("start", &format!("config service 'service'\n\toption enabled '{word}'\n"));
        assert_eq!((run.succeeded, run.has_instance()), (true, on), "{word}");
    }
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let router = Router::new();
    let run = router.run("restart", &enabled(&[]));
    assert!(run.place(&["procd_kill"]) < run.place(&["procd_open_instance"]));
}

/// What the command line says is what the daemon finds wrong, and where to look is said by whoever started it.
#[test]
fn a_program_that_does_not_run_is_noticed() {
    let mut router = Router::new();
    router.program = "/nonexistent/lanrage".into();
    router.run("start", &enabled(&[])).assert_left_alone(&["/nonexistent/lanrage"]);
}
