//! What is known to go wrong with services on OpenWrt, one test each.

use crate::router::{Router, enabled};
use crate::shipped;
use std::fs;

fn config() -> String {
    fs::read_to_string(shipped("lanrage/files/lanrage.config")).unwrap()
}

/// procd compares only what it is told to: without the program among it an upgrade would leave the old one running.
#[test]
fn an_upgrade_restarts_it() {
    let router = Router::new();
    let run = router.run("start", &enabled(&[]));
    let files = run.param("file").unwrap();
    assert!(files.contains(&router.program.display().to_string()), "{files:?}");
    assert!(files.contains(&router.text_path("var/run/lanrage.toml")), "{files:?}");
}

/// Packages start what they install.
#[test]
fn installed_it_is_off_until_it_is_enabled() {
    let router = Router::new();
    let settings_alone = "config settings 'main'\n\toption region 'x'\n".to_owned();
    let nothing_said = "config service 'service'\n\toption jail '1'\n".to_owned();
    for (action, config) in [
        ("start", config()),
        ("boot", config()),
        ("reload", config()),
        ("start", settings_alone),
        ("start", nothing_said),
    ] {
        let run = router.run(action, &config);
        assert!(run.succeeded && !run.has_instance(), "{run:?}");
        assert!(
            run.of("procd_open_data").is_empty() && run.of("procd_add_raw_trigger").is_empty(),
            "{run:?}"
        );
        // Enabling it later needs no more than a change of the settings.
        assert_eq!(run.of("procd_add_reload_trigger"), [["lanrage", "lanrage_secret"]]);
        assert!(run.said.is_empty() && run.of("procd_set_config_changed").is_empty(), "{run:?}");
    }
    assert_eq!(router.settings(), None);
    assert!(!router.path("var/run/lanrage.toml.new").exists());

    let run = router.run("start", &config().replace("option enabled '0'", "option enabled '1'"));
    assert!(run.succeeded && run.has_instance(), "{run:?}");

    // Off again: the instance, what the firewall was told and the file with the settings are gone.
    let run = router.run("reload", &config());
    assert!(run.succeeded && !run.has_instance() && run.of("procd_open_data").is_empty(), "{run:?}");
    assert_eq!(run.of("procd_set_config_changed"), [["firewall"]]);
    assert_eq!(router.settings(), None);
}

/// Those events come for downs and updates too: a restart would cut every game.
#[test]
fn interfaces_that_change_are_told_by_a_signal() {
    let router = Router::new();
    let run = router.run("start", &enabled(&[]));
    let triggers = run.of("procd_add_raw_trigger");
    assert_eq!(triggers, [["interface.*", "2000", "/etc/init.d/lanrage", "network"]]);
    for other in [
        "procd_add_interface_trigger",
        "procd_add_reload_interface_trigger",
        "procd_add_restart_interface_trigger",
    ] {
        assert!(run.of(other).is_empty());
    }

    let run = router.act("network");
    assert_eq!(run.calls, [["procd_send_signal", "lanrage", "*", "HUP"]]);
}

/// With it, procd would no longer restart what has another command or program.
#[test]
fn procd_sends_no_signal_in_place_of_a_restart() {
    let run = Router::new().run("start", &enabled(&[]));
    assert_eq!(run.param("reload_signal"), None);
}

#[test]
fn firewall_and_mdns_are_told_within_the_instance_and_only_what_is_meant_for_them() {
    let router = Router::new();
    let run = router.run("start", &enabled(&[]));
    assert!(run.place(&["procd_open_instance"]) < run.place(&["procd_open_data"]));
    assert!(run.place(&["procd_close_data"]) < run.place(&["procd_close_instance"]));
    assert_eq!(
        run.data(),
        [
            &["json_add_array", "firewall"][..],
            &["json_add_object", ""],
            &["json_add_string", "type", "rule"],
            &["json_add_string", "src", "wan"],
            &["json_add_string", "proto", "udp"],
            &["json_add_string", "dest_port", "51820"],
            &["json_add_string", "target", "ACCEPT"],
            &["json_close_object"],
            &["json_close_array"],
            &["json_add_object", "mdns"],
            &["procd_add_mdns_service", "lanrage", "tcp", "8667"],
            &["json_close_object"],
        ]
    );
    assert_eq!(run.of("procd_set_config_changed"), [["firewall"]]);
    assert_eq!(router.act("stop").of("procd_set_config_changed"), [["firewall"]]);

    let moved = [("main", "relay", "[::]:5353"), ("main", "http", "192.168.1.1:80")];
    let run = router.run("start", &enabled(&moved));
    assert!(run.data().contains(&["json_add_string", "dest_port", "5353"].map(str::to_owned).to_vec()));
    assert!(
        run.data().contains(&["procd_add_mdns_service", "lanrage", "tcp", "80"].map(str::to_owned).to_vec())
    );

    let local = [("main", "relay", "127.0.0.1:51820"), ("main", "http", "[::1]:8667")];
    assert!(router.run("start", &enabled(&local)).data().is_empty());
    let off = [("service", "firewall", "0"), ("service", "mdns", "0")];
    assert!(router.run("start", &enabled(&off)).data().is_empty());
    let any_port = [("main", "relay", "0.0.0.0:0"), ("main", "http", "0.0.0.0:0")];
    assert!(router.run("start", &enabled(&any_port)).data().is_empty());
}

/// procd would run it as root, silently.
#[test]
fn without_its_user_it_does_not_run() {
    let mut router = Router::new();
    router.has_user = false;
    for action in ["start", "boot", "reload", "restart"] {
        let run = router.run(action, &enabled(&[]));
        run.assert_left_alone(&["there is no user lanrage", "install"]);
    }
    router.has_user = true;
    let run = router.run("start", &enabled(&[]));
    assert!(run.calls.contains(&vec!["id".into(), "-u".into(), "lanrage".into()]));
    assert_eq!(
        (run.param("user").unwrap(), run.param("group").unwrap()),
        (&["lanrage".into()][..], &["lanrage".into()][..])
    );
}

/// Capabilities mean nothing outside a jail, and a jail must know its user first.
#[test]
fn it_is_jailed_where_there_is_a_jail() {
    let mut router = Router::new();
    let run = router.run("start", &enabled(&[]));
    let order = [
        &["procd_set_param", "user"][..],
        &["procd_set_param", "group"],
        &["procd_add_jail", "lanrage", "log", "procfs", "ronly"],
        &["procd_set_param", "capabilities", "/etc/capabilities/lanrage.json"],
        &["procd_set_param", "no_new_privs", "1"],
    ];
    let places: Vec<usize> = order.iter().map(|call| run.place(call)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let writable = run.of("procd_add_jail_mount_rw").concat();
    assert_eq!(writable, [router.text_path("etc/lanrage"), router.text_path("var/run/lanrage")]);
    assert_eq!(run.of("procd_add_jail_mount").concat(), [router.text_path("var/run/lanrage.toml")]);

    let unjailed = |router: &Router, config: &str| {
        let run = router.run("start", config);
        assert!(run.has_instance());
        for name in ["procd_add_jail", "procd_add_jail_mount", "procd_add_jail_mount_rw"] {
            assert!(run.of(name).is_empty());
        }
        assert_eq!((run.param("capabilities"), run.param("no_new_privs")), (None, None));
        assert!(run.param("user").is_some());
    };
    unjailed(&router, &enabled(&[("service", "jail", "0")]));
    router.has_jail = false;
    unjailed(&router, &enabled(&[]));
}

/// An instance that is not there any more is stopped: a mistake must end before procd hears of it.
#[test]
fn settings_that_cannot_be_used_leave_the_running_service_alone() {
    let router = Router::new();
    let good = enabled(&[("main", "region", "before")]);
    assert!(router.run("start", &good).has_instance());
    let before = router.settings().unwrap();
    let mistakes = [
        (
            enabled(&[("limits", "parties", "0")]),
            "limits.parties = \"0\" can't be used: expected a whole number, at least 1",
        ),
        (enabled(&[("main", "http", "8667")]), "http = \"8667\" can't be used: expected an address and port"),
        (enabled(&[("main", "htttp", "x")]), "there is no setting \"htttp\""),
        (enabled(&[("limit", "parties", "1")]), "did you mean \"limits.parties\"?"),
        (enabled(&[("main", "region", "a\nb")]), "region has a line break"),
        (enabled(&[("service", "jail", "maybe")]), "lanrage.service.jail is 'maybe': expected 1 or 0"),
        (enabled(&[("service", "jial", "1")]), "lanrage.service.jial"),
        ("config service 'service'\n\toption enabled 'ja'\n".into(), "lanrage.service.enabled is 'ja'"),
        (
            enabled(&[]) + "config setings 'main'\n\toption region x\n",
            "'setings': expected service or settings",
        ),
        (enabled(&[]) + "config settings\n\toption region x\n", "did you mean \"region\"?"),
        (
            enabled(&[("main", "state_dir", "/etc")]),
            "lanrage.main.state_dir is '/etc': expected a directory such as",
        ),
        (enabled(&[("main", "state_dir", "/etc/../etc/x")]), "lanrage.main.state_dir"),
        (enabled(&[("main", "state_dir", "etc/x")]), "lanrage.main.state_dir"),
        (enabled(&[("main", "runtime_dir", "/mnt/my disk")]), "lanrage.main.runtime_dir"),
    ];
    for (i, (config, expected)) in mistakes.into_iter().enumerate() {
        let actions = ["reload", "start", "restart"];
        for action in if i == 0 { &actions[..] } else { &actions[..1] } {
            router.run(action, &config).assert_left_alone(&[
                expected,
                "nothing was changed",
                "/etc/init.d/lanrage reload",
            ]);
            assert_eq!(router.settings().unwrap(), before);
            assert!(!router.path("var/run/lanrage.toml.new").exists());
        }
    }
    fs::remove_file(router.path("uci/lanrage")).unwrap();
    router.act("reload").assert_left_alone(&["uci show lanrage"]);

    // And a service that is off does not mind.
    let run = router.run(
        "reload",
        "config service 'service'\n\toption enabled '0'\nconfig settings 'main'\n\toption x y\n",
    );
    assert!(run.succeeded && !run.has_instance(), "{run:?}");
}

/// The device is root's alone, and not in the jail by itself.
#[test]
fn the_tun_device_is_shared_only_if_it_is_wanted() {
    let mut router = Router::new();
    let run = router.run("start", &enabled(&[]));
    assert!(
        !run.calls.iter().flatten().any(|word| word.contains("/dev/") || word.contains("tun.json")),
        "{run:?}"
    );

    fs::write(router.path("tun"), "").unwrap();
    router.tun = router.path("tun");
    for word in ["yes", "true"] {
        let wanted = enabled(&[("main", "tun", word)]);
        router.run("start", &wanted).assert_left_alone(&["kmod-tun"]);
        router.tun = "/dev/null".into();
        let unjailed = wanted.clone() + "config service 'service'\n\toption jail 0\n";
        router.run("start", &unjailed).assert_left_alone(&["procd-ujail"]);
        router.has_jail = false;
        router.run("start", &wanted).assert_left_alone(&["procd-ujail"]);
        router.has_jail = true;

        let run = router.run("start", &wanted);
        assert!(run.succeeded, "{}", run.said);
        assert!(run.of("chgrp").contains(&&["lanrage".to_owned(), "/dev/null".to_owned()][..]));
        assert!(run.of("chmod").contains(&&["0660".to_owned(), "/dev/null".to_owned()][..]));
        assert!(run.of("procd_add_jail_mount_rw").concat().contains(&"/dev/null".to_owned()));
        let capabilities = run.param("capabilities").unwrap();
        assert_eq!(capabilities, ["/etc/capabilities/lanrage-tun.json"]);
        assert!(run.place(&["procd_add_jail"]) < run.place(&["procd_set_param", "capabilities"]));
        router.tun = router.path("tun");
    }
    let run = router.run("start", &enabled(&[("main", "tun", "no")]));
    assert!(run.succeeded && !run.calls.iter().flatten().any(|word| word.contains("/dev/")));
}
