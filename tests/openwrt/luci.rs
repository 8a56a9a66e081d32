//! The pages for LuCI.

use crate::router::enabled;
use crate::service::{router, start};
use crate::shipped;
use lanrage::wire::json::{self, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn members(value: &Value) -> Vec<&str> {
    let Value::Object(members) = value else { panic!("{value:?}") };
    members.iter().map(|(name, _)| name.as_str()).collect()
}

fn read_json(name: &str) -> Value {
    json::parse(&fs::read(shipped(name)).unwrap()).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

#[test]
fn menu_and_lists_are_json_and_name_what_there_is() {
    let menu = read_json("luci-app-lanrage/root/usr/share/luci/menu.d/luci-app-lanrage.json");
    let mut views = 0;
    for entry in members(&menu) {
        let action = menu.get(entry).unwrap().get("action").unwrap();
        if let Some(view) = action.get("path").and_then(Value::as_str) {
            views += 1;
            let page = format!("luci-app-lanrage/htdocs/luci-static/resources/view/{view}.js");
            assert!(shipped(&page).exists(), "{page}");
        }
    }
    assert_eq!(views, 3);

    let acl = read_json("luci-app-lanrage/root/usr/share/rpcd/acl.d/luci-app-lanrage.json");
    let acl = acl.get("luci-app-lanrage").unwrap();
    assert_eq!(members(acl), ["description", "read", "write"]);
    for role in ["read", "write"] {
        let rights = acl.get(role).unwrap();
        assert_eq!(members(rights), ["file", "uci"]);
        match (role, rights.get("uci").unwrap()) {
            // The secrets are in another package, which only who may write may read.
            ("read", Value::Array(packages)) => {
                assert_eq!(packages.iter().filter_map(Value::as_str).collect::<Vec<_>>(), ["lanrage"]);
            }
            ("write", packages) => {
                assert_eq!(members(packages), ["lanrage", "lanrage_secret"]);
                let Some(Value::Array(rights)) = packages.get("lanrage_secret") else {
                    panic!("{packages:?}")
                };
                assert_eq!(rights.iter().filter_map(Value::as_str).collect::<Vec<_>>(), ["read", "write"]);
            }
            other => panic!("{other:?}"),
        }
        for line in members(rights.get("file").unwrap()) {
            // A whole command; what may follow is behind `--`, where nothing is an option.
            let command = line.strip_suffix(" -- *").unwrap_or(line);
            // A sign of a set, without spaces, is the one freedom before it.
            let sets = command.split('[').skip(1).map(|rest| rest.split_once(']').unwrap().0);
            assert!(sets.into_iter().all(|set| set == "0-9" || set == "A-Za-z0-9+/"), "{line}");
            assert!(command.starts_with("/usr/bin/lanrage ") && !command.contains(['*', '?']), "{line}");
        }
    }
}

#[test]
fn capabilities_are_none_but_for_the_tun() {
    for (name, capabilities) in [("lanrage.json", &[][..]), ("lanrage-tun.json", &["CAP_NET_ADMIN"])] {
        let value = read_json(&format!("lanrage/files/{name}"));
        // A set that is not there would be all of them.
        assert_eq!(members(&value), ["bounding", "effective", "ambient", "permitted", "inheritable"]);
        for set in members(&value) {
            let Some(Value::Array(items)) = value.get(set) else { panic!("{set}") };
            assert_eq!(items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>(), capabilities);
        }
    }
}

#[test]
fn pages_make_no_html_of_texts() {
    let mut found = Vec::new();
    files(&shipped("luci-app-lanrage/htdocs"), &mut found);
    assert_eq!(found.len(), 8);
    for path in found {
        let source = fs::read_to_string(&path).unwrap();
        for word in
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", ".format("]
        {
            assert!(!source.contains(word), "{word} in {}", path.display());
        }
    }
}

#[test]
#[ignore = "needs node"]
fn the_pages_work_with_a_real_daemon() {
    let router = router();
    let config = enabled(&[("main", "http", "127.0.0.1:0"), ("main", "relay", "127.0.0.1:0")]);
    let service = start(&router, &router.run("start", &config));

    let party_name = "<img src=x onerror=alert(1)>\\\"'&amp; ${x}";
    let (alice, odd) = ("<script>alert(1)</script>", "<b>O&apos;dd</b>");
    let peer = |id: &str, name: &str, key: u8| {
        let key = format!("{}{}=", "A".repeat(41), char::from(key).to_string() + "A");
        format!(r#"{{"peer_id":"{id}","name":"{name}","public_key":"{key}"}}"#)
    };
    let body = format!(r#"{{"name":"{party_name}","host_peer_info":{}}}"#, peer("alice", alice, b'B'));
    let id = service.client().register("alice").ask("POST", "/parties", &body).is(200).text(&["party_id"]);
    for (peer_id, name, key) in [("k--key", odd, b'C'), ("bob", "Bob", b'D')] {
        let body = format!(r#"{{"party_id":"{id}","peer_info":{}}}"#, peer(peer_id, name, key));
        service.client().register(peer_id).ask("POST", &format!("/parties/{id}/join"), &body).is(200);
    }

    let names = format!(r#"{{"party":"{party_name}","alice":"{alice}","odd":"{odd}","id":"{id}"}}"#);
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openwrt/luci.js"))
        .args([&router.program, &router.path("etc/lanrage"), &shipped("luci-app-lanrage")])
        .arg(names)
        .output()
        .expect("node is not installed");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("ok: ").count(), 15, "{said}");
}
