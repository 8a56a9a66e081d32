//! The agent's init script: what it asks procd for, and what it refuses.

use crate::router::{Router, enabled};
use crate::{shipped, uci};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The parties' secret that is in none of the arguments.
pub const PARTY: &str = "0123456789ab";

pub fn router() -> Router {
    let mut router = Router::new();
    router.script = shipped("lanrage/files/lanrage-agent.init");
    router
}

pub fn agent(options: &[(&str, &str)]) -> String {
    let options: String = options.iter().map(|(name, value)| uci::option(name, value)).collect();
    format!("config agent 'agent'\n{options}")
}

pub fn wanted() -> String {
    agent(&[("enabled", "1"), ("server", "http://router.example:8667"), ("name", "Den")])
}

#[test]
fn procd_is_asked_for_what_the_agent_needs_and_told_no_secret() {
    let router = router();
    router.write_secrets(&agent(&[("party", PARTY), ("password", "sesame open")]));
    let run = router.run("start", &wanted());
    assert!(run.succeeded && run.said.is_empty(), "{}", run.said);
    let (program, state) = (router.program.display().to_string(), router.text_path("etc/lanrage"));
    let (party, password) = (router.text_path("var/run/party"), router.text_path("var/run/password"));
    let command = ["command", &program, "join", "--state-dir", &state, "--interface", "lanrage0"];
    assert!(run.place(&["procd_set_param"]) < run.place(&["procd_append_param"]));
    assert_eq!(run.of("procd_set_param")[0], command);
    let more = [
        ["command", "--name", "Den"],
        ["command", "--party-file", &party],
        ["command", "--password-file", &password],
    ];
    assert_eq!(run.of("procd_append_param"), more);
    assert_eq!(fs::read_to_string(&party).unwrap(), format!("http://router.example:8667 {PARTY}\n"));
    assert_eq!(fs::read_to_string(&password).unwrap(), "sesame open\n");
    for file in [&party, &password] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o640);
    }
    let words = run.calls.iter().flatten();
    assert!(words.clone().all(|word| !word.contains(PARTY) && !word.contains("sesame")), "{run:?}");
    assert_eq!(run.param("capabilities").unwrap(), ["/etc/capabilities/lanrage-tun.json"]);
    assert_eq!(run.param("user").unwrap(), ["lanrage"]);
    assert_eq!(run.param("respawn").unwrap(), ["3600", "60", "0"]);
    assert_eq!(run.of("procd_add_jail"), [["lanrage-agent", "log", "procfs", "ronly"]]);
    assert_eq!(run.of("procd_add_jail_mount").concat(), [party, password]);
    assert_eq!(run.of("procd_add_jail_mount_rw").concat(), ["/dev/null", &state]);
    assert_eq!(run.of("procd_add_reload_trigger"), [["lanrage", "lanrage_secret"]]);
    // Where `lanrage peers` of root's, and so LuCI, finds it.
    assert_eq!(fs::read_link(router.path("var/lib/lanrage")).unwrap(), router.path("etc/lanrage"));
}

#[test]
fn it_is_off_by_default_and_the_party_of_before_needs_no_words() {
    let router = router();
    let shipped = fs::read_to_string(shipped("lanrage/files/lanrage.config")).unwrap();
    let run = router.run("start", &shipped);
    assert!(run.succeeded && !run.has_instance(), "{run:?}");
    let link = agent(&[("enabled", "1"), ("server", "http://router.example:8667/join#secret")]);
    assert!(router.run("start", &link).has_instance());
    fs::write(router.path("etc/lanrage/agent.json"), "{}").unwrap();
    let run = router.run("start", &agent(&[("enabled", "1"), ("interface", "party0")]));
    assert!(run.has_instance() && run.of("procd_append_param").is_empty(), "{run:?}");
    assert_eq!(run.of("procd_set_param")[0].last().unwrap(), "party0");
    assert!(!router.path("var/run/party").exists());
}

#[test]
fn what_can_not_work_is_said_and_changes_nothing() {
    let mut router = router();
    let on = |options: &[(&str, &str)]| agent(&[&[("enabled", "1")], options].concat());
    let server = ("server", "http://h:1");
    for (config, because) in [
        (on(&[]), "agent.server is missing"),
        (on(&[server]), "agent.party is missing"),
        (on(&[server, ("party", "a b")]), "space"),
        (on(&[server, ("party", "a\nb")]), "line break"),
        (on(&[server, ("party", "a"), ("speed", "1")]), "there is no lanrage.agent.speed"),
        (agent(&[("enabled", "maybe")]) + &on(&[server]), "expected 1 or 0"),
        (
            on(&[server, ("party", "a")]) + &enabled(&[("main", "tun", "yes")]),
            "choose another lanrage.agent.interface",
        ),
        (
            on(&[server, ("party", "a")]) + &enabled(&[("main", "state_dir", "/mnt/../x")]),
            "expected a directory",
        ),
    ] {
        router.run("start", &config).assert_left_alone(&[because]);
        router.run("restart", &config).assert_left_alone(&[because]);
    }
    let works = on(&[server, ("party", "a")]);
    router.has_jail = false;
    router.run("start", &works).assert_left_alone(&["procd-ujail"]);
    router.has_jail = true;
    router.tun = router.path("none");
    router.run("start", &works).assert_left_alone(&["kmod-tun"]);
    router.tun = "/dev/null".into();
    router.has_user = false;
    router.run("start", &works).assert_left_alone(&["no user lanrage"]);
}

#[test]
fn the_daemon_s_script_leaves_the_agent_alone() {
    let router = Router::new();
    router.write_secrets(&agent(&[("party", PARTY)]));
    let run = router.run("start", &(enabled(&[]) + &wanted()));
    assert!(run.succeeded && run.said.is_empty(), "{}", run.said);
    assert!(
        !router.settings().unwrap().contains("router.example") && !router.settings().unwrap().contains(PARTY)
    );
}
