//! Every setting of the daemon, from /etc/config/lanrage.

use crate::harness::directory::Directory;
use crate::router::{Router, enabled};
use crate::shipped;
use lanrage::daemon::settings::{SETTINGS, Setting, Settings};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Section and option of a setting.
pub fn place(setting: &Setting) -> (&'static str, &'static str) {
    setting.key.split_once('.').unwrap_or(("main", setting.key))
}

/// The package of settings that it is listed in.
pub fn package(setting: &Setting) -> &'static str {
    match setting.key {
        "admin_token" => "lanrage_secret",
        _ => "lanrage",
    }
}

/// Its default on OpenWrt.
pub fn default(setting: &Setting) -> String {
    match setting.key {
        "state_dir" => "/etc/lanrage".to_owned(),
        "runtime_dir" => "/var/run/lanrage".to_owned(),
        _ => setting.show(&Settings::default()),
    }
}

/// A value that can be used and is not the default.
fn sample(setting: &Setting, router: &Router) -> String {
    let shown = setting.show(&Settings::default());
    match setting.key {
        "state_dir" | "runtime_dir" => router.text_path(&format!("var/another-{}", setting.key)),
        "http" | "relay" => "127.0.0.2:1234".to_owned(),
        "public_endpoint" => "[2001:db8::7]:7".to_owned(),
        "public_url" => "https://play.example.org".to_owned(),
        "subnet" => "10.7.0.0/20".to_owned(),
        "region" => "elsewhere".to_owned(),
        "log" => "warn".to_owned(),
        "memory" => "128".to_owned(),
        "admin_token" => "0123456789abcdef".to_owned(),
        "trusted_proxies" => "192.0.2.1,::1".to_owned(),
        "allowed_hosts" => "router.lan,games.example".to_owned(),
        "allowed_origins" => "https://play.example.org,http://192.0.2.9:3000".to_owned(),
        key if key.starts_with("rates.") => "3/4".to_owned(),
        _ => match (shown.as_str(), shown.parse::<f64>()) {
            (_, Ok(number)) => (number + 1.0).to_string(),
            ("true" | "yes", _) => if shown == "true" { "false" } else { "no" }.to_owned(),
            ("no", _) => "no".to_owned(),
            ("false", _) => "true".to_owned(),
            _ => shown + "x",
        },
    }
}

/// The part of a package of settings that follows from what the daemon has.
fn listing(of: &str) -> String {
    let mut out = String::new();
    let mut section = "";
    for setting in SETTINGS.iter().filter(|setting| package(setting) == of) {
        let (section_here, name) = place(setting);
        if section_here != section {
            section = section_here;
            out += &format!("\nconfig settings '{section}'\n");
        }
        let value = default(setting);
        let value = if value.is_empty() { "..." } else { &value };
        out += &format!("\t# {}: {}\n#\toption {name} '{value}'\n", setting.help, setting.expected);
    }
    out
}

/// With LANRAGE_WRITE=1 set, they are written instead.
#[test]
fn what_lists_every_setting_is_up_to_date() {
    let whole = |file: &str, package: &str| {
        let path = shipped(file);
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find("\nconfig settings 'main'").expect("the first section of settings");
        (path, text[..start].to_owned() + &listing(package))
    };
    for (path, expected) in [
        whole("lanrage/files/lanrage.config", "lanrage"),
        whole("lanrage/files/lanrage.secret", "lanrage_secret"),
    ] {
        crate::words::assert_written(&path, &expected);
    }
}

#[test]
fn every_setting_reaches_the_daemon() {
    for setting in SETTINGS {
        let router = Router::new();
        let (section, name) = place(setting);
        let value = sample(setting, &router);
        let run = router.run("start", &enabled(&[(section, name, &value)]));
        assert!(run.succeeded, "{}", run.said);
        let shown = router.daemon_has(&run, setting.key).unwrap();
        match setting.key {
            // The printed file does not have it.
            "admin_token" => assert!(router.settings().unwrap().contains(&value)),
            _ => assert_eq!(shown, value, "{}", setting.key),
        }
    }
}

#[test]
fn the_settings_that_are_listed_can_be_used_as_they_are() {
    let router = Router::new();
    let text = fs::read_to_string(shipped("lanrage/files/lanrage.config")).unwrap();
    let text = text.replace("option enabled '0'", "option enabled '1'");
    let lines = text.lines().map(|line| match line.strip_prefix("#\toption ") {
        // These have no default.
        Some(option) if option.ends_with("'...'") => String::new(),
        // Nor are there such directories here.
        Some(option) if option.contains("_dir") => String::new(),
        Some(option) => format!("\toption {option}"),
        None => line.to_owned(),
    });
    let run = router.run("start", &lines.collect::<Vec<_>>().join("\n"));
    assert!(run.succeeded, "{}", run.said);
    for setting in SETTINGS.iter().filter(|setting| !setting.key.ends_with("_dir")) {
        assert_eq!(router.daemon_has(&run, setting.key).unwrap(), setting.show(&Settings::default()));
    }
}

#[test]
fn state_is_kept_on_flash_and_counters_in_memory() {
    let init = fs::read_to_string(shipped("lanrage/files/lanrage.init")).unwrap();
    for line in ["STATE_DIR=/etc/lanrage", "RUNTIME_DIR=/var/run/lanrage", "SETTINGS=/var/run/lanrage.toml"] {
        assert!(init.lines().any(|found| found == line), "{line}");
    }
    let router = Router::new();
    let run = router.run("start", &enabled(&[]));
    for name in ["etc/lanrage", "var/run/lanrage"] {
        let metadata = fs::metadata(router.path(name)).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (0o700, router.uid()), "{name}");
        assert!(run.of("chown").contains(&&["lanrage:lanrage".to_owned(), router.text_path(name)][..]));
    }
    assert_eq!(router.daemon_has(&run, "state_dir").unwrap(), router.text_path("etc/lanrage"));
    assert_eq!(router.daemon_has(&run, "runtime_dir").unwrap(), router.text_path("var/run/lanrage"));
    // The command line finds it there when root asks, wherever it is.
    assert_eq!(fs::read_link(router.path("var/lib/lanrage")).unwrap(), router.path("etc/lanrage"));
    let elsewhere = router.text_path("var/usb/lanrage");
    assert!(router.run("reload", &enabled(&[("main", "state_dir", &elsewhere)])).succeeded);
    assert_eq!(fs::read_link(router.path("var/lib/lanrage")).unwrap().to_str(), Some(elsewhere.as_str()));
}

#[test]
fn a_directory_of_somebody_else_is_not_taken() {
    let router = Router::new();
    let state = router.path("etc/lanrage");
    std::os::unix::fs::symlink(router.path("uci"), &state).unwrap();
    router.run("start", &enabled(&[])).assert_left_alone(&["is a link"]);
    fs::remove_file(&state).unwrap();
    let config = enabled(&[("main", "state_dir", "/usr/bin")]);
    router
        .run("start", &config)
        .assert_left_alone(&["/usr/bin is somebody else's", "chown -R lanrage:lanrage"]);
    // One of its own, with something in it, is.
    fs::create_dir(&state).unwrap();
    fs::write(state.join("lanrage.redb"), "").unwrap();
    std::os::unix::fs::chown(&state, Some(router.uid()), None).unwrap();
    assert!(router.run("start", &enabled(&[])).succeeded);
}

/// What a shell, a TOML reader or a pattern might take for something else.
#[test]
fn odd_values_arrive_as_they_are_and_run_nothing() {
    let router = Router::new();
    let canary = router.path("canary");
    let command = format!("touch {}", canary.display());
    let values = [
        "two  words ".to_owned(),
        "it's \"quoted\" 'twice'".to_owned(),
        format!("$({command})"),
        format!("`{command}`"),
        format!("';{command};'"),
        format!("\" \n\t{command}").replace(['\n', '\t'], ""),
        "back\\slash \\n \\u0041 \\".to_owned(),
        "$HOME ${PROG} $1 $* $@ %s %d *  ? [a] ~ & | < > # ! =".to_owned(),
        "\"\"\" = 1 # \"".to_owned(),
        "-n".to_owned(),
        "Zürich 東京 😀".to_owned(),
    ];
    for value in values {
        let run = router.run("start", &enabled(&[("main", "region", &value)]));
        assert!(run.succeeded, "{value}: {}", run.said);
        assert_eq!(router.daemon_has(&run, "region").unwrap(), value);
    }
    for (section, name) in
        [("service", "enabled"), ("main", "http"), ("main", "state_dir"), ("limits", "parties")]
    {
        let run = router.run("start", &enabled(&[(section, name, &format!("$({command})'`{command}`"))]));
        run.assert_left_alone(&[name]);
    }
    assert!(!canary.exists());
    // Lines that would be settings of their own.
    let run = router.run("start", &enabled(&[("main", "region", "x\"\nlog = \"off")]));
    run.assert_left_alone(&["region has a line break"]);
}

#[test]
fn lists_are_read_as_one_value() {
    let router = Router::new();
    let list = "config settings 'main'\n\tlist trusted_proxies '192.0.2.1'\n\tlist trusted_proxies '::1'\n";
    let run = router.run("start", &(enabled(&[]) + list + "\toption region 'r'\n"));
    assert_eq!(router.daemon_has(&run, "trusted_proxies").unwrap(), "192.0.2.1,::1");
    assert_eq!(router.daemon_has(&run, "region").unwrap(), "r");
    let run = router.run("start", &(enabled(&[]) + list + "config settings 'limits'\n\tlist parties '7'\n"));
    assert_eq!(router.daemon_has(&run, "limits.parties").unwrap(), "7");
    assert_eq!(router.daemon_has(&run, "trusted_proxies").unwrap(), "192.0.2.1,::1");
}

/// procd shows arguments and environment to whoever may list services.
#[test]
fn the_admin_token_is_in_a_file_for_the_service_alone() {
    let router = Router::new();
    let token = "s3cret-token-$(x)\"'\\";
    let run = router.run("start", &enabled(&[("main", "admin_token", token)]));
    assert!(run.succeeded, "{}", run.said);
    assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
    assert_eq!(run.param("env"), None);
    let file = fs::metadata(router.path("var/run/lanrage.toml")).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o640);
    let chgrp = run.of("chgrp");
    assert_eq!(chgrp, [["lanrage".to_owned(), router.text_path("var/run/lanrage.toml.new")]]);
    let mut config = Settings::default();
    config.read_file(&router.settings().unwrap(), "settings").unwrap();
    assert_eq!(config.admin_token.as_deref(), Some(token));

    for bad in ["s3cret short", "s3cret-but-with-a\nline"] {
        let run = router.run("reload", &enabled(&[("main", "admin_token", bad)]));
        run.assert_left_alone(&["admin_token", "expected"]);
        assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
    }
}

#[test]
fn the_admin_token_has_a_package_of_its_own() {
    let router = Router::new();
    let secret =
        |token: &str| format!("config settings 'main'\n{}", crate::uci::option("admin_token", token));
    let token_of = |router: &Router| {
        let mut config = Settings::default();
        config.read_file(&router.settings().unwrap(), "settings").unwrap();
        config.admin_token
    };
    let token = "s3cret-token-$(x)\"'\\";
    router.write_secrets(&secret(token));
    let run = router.run("start", &enabled(&[("limits", "parties", "7")]));
    assert!(run.succeeded && run.said.is_empty(), "{}", run.said);
    assert_eq!(token_of(&router).as_deref(), Some(token));
    assert_eq!(router.daemon_has(&run, "limits.parties").unwrap(), "7");

    // Where it was before, it works; but it is said that others see it. The package's own counts.
    let old = enabled(&[("main", "admin_token", "an-s3cret-from-before")]);
    let run = router.run("reload", &old);
    assert!(run.succeeded && run.said.contains("lanrage_secret.main.admin_token"), "{}", run.said);
    assert_eq!(token_of(&router).as_deref(), Some(token));
    fs::remove_file(router.path("uci/lanrage_secret")).unwrap();
    let run = router.run("reload", &old);
    assert!(run.succeeded && run.said.contains("lanrage_secret.main.admin_token"), "{}", run.said);
    assert_eq!(token_of(&router).as_deref(), Some("an-s3cret-from-before"));

    for (bad, expected) in [
        (secret("s3cret short"), "admin_token"),
        (secret("s3cret-but-with-a\nline"), "admin_token has a line break"),
        ("config settings 'main'\n\toption region 's3cret'\n".into(), "lanrage_secret.main.region"),
        ("config setting 'main'\n".into(), "lanrage_secret.main is of type 'setting'"),
    ] {
        router.write_secrets(&bad);
        let run = router.run("reload", &enabled(&[]));
        run.assert_left_alone(&[expected, "expected"]);
        assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
    }
}

/// `uci` as far as the script needs it: a file for each option.
const UCI: &str = r#"#!/bin/sh
[ "$1" = -q ] && shift
case "$1" in
get) cat "$STORE/$2" 2>/dev/null ;;
set) printf '%s' "${2#*=}" >"$STORE/${2%%=*}" ;;
delete) rm "$STORE/$2" ;;
commit) echo "$2" >>"$STORE/committed" ;;
*) exit 1 ;;
esac
"#;

#[test]
fn an_upgrade_moves_the_admin_token_once() {
    let directory = Directory::new();
    let (uci, store) = (directory.join("uci"), directory.join("store"));
    fs::create_dir(&store).unwrap();
    fs::write(&uci, UCI).unwrap();
    fs::set_permissions(&uci, fs::Permissions::from_mode(0o755)).unwrap();
    let script = fs::read_to_string(shipped("lanrage/files/lanrage.defaults")).unwrap();
    let secrets = directory.join("lanrage_secret");
    let script = script.replace("/etc/config/lanrage_secret", secrets.to_str().unwrap());
    // As OpenWrt does it: in a shell that goes on.
    let run = || {
        let path = format!("{}:/usr/bin:/bin", directory.display());
        let mut shell = crate::router::shell();
        shell.arg("-c").arg(format!("( {script}\n) || exit 7")).env_clear().env("PATH", path);
        let output = shell.env("STORE", &store).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
            "{output:?}"
        );
    };
    let option = |name: &str| fs::read_to_string(store.join(name)).ok();

    run();
    assert_eq!((option("committed"), secrets.exists()), (None, false));

    let token = "a'token\"with\\$(odd)`signs`=;&|*?#~%s";
    fs::write(store.join("lanrage.main.admin_token"), token).unwrap();
    run();
    assert_eq!(option("lanrage_secret.main").as_deref(), Some("settings"));
    assert_eq!(option("lanrage_secret.main.admin_token").as_deref(), Some(token));
    assert_eq!(option("lanrage.main.admin_token"), None);
    assert_eq!(option("committed").as_deref(), Some("lanrage_secret\nlanrage\n"));
    assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);

    // One that is there already counts.
    fs::write(store.join("lanrage.main.admin_token"), "another").unwrap();
    run();
    assert_eq!(option("lanrage_secret.main.admin_token").as_deref(), Some(token));
    assert_eq!(option("lanrage.main.admin_token"), None);
}
