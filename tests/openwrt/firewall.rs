//! The zone of the agent's interface: when it is there, what it lets through, and that the owner's changes stay.

use crate::agent::{PARTY, agent, router};
use crate::router::{Router, Run};
use crate::uci;
use std::fs;

/// What OpenWrt begins with.
const USUAL: &str = "config defaults
\toption input 'REJECT'
config zone
\toption name 'lan'
\tlist network 'lan'
config zone
\toption name 'wan'
\tlist network 'wan'
\toption masq '1'
";

const ZONE: &str = "config zone 'lanrage_agent'
\toption name 'lanrage'
\tlist device 'lanrage0'
\toption input 'REJECT'
\toption output 'ACCEPT'
\toption forward 'REJECT'
\toption masq '1'
config forwarding 'lanrage_agent_lan'
\toption src 'lan'
\toption dest 'lanrage'
";

/// A router with this file /etc/config/firewall.
fn with(text: &str) -> Router {
    let router = router();
    fs::write(router.path("uci/firewall"), uci::export("firewall", text)).unwrap();
    router.write_secrets(&agent(&[("party", PARTY)]));
    router
}

/// Starts the agent with these options besides the server.
fn start(router: &Router, options: &[(&str, &str)]) -> Run {
    let server = [("server", "http://router.example:8667")];
    let run = router.run("start", &agent(&[&server, options].concat()));
    assert!(run.succeeded && run.said.is_empty(), "{}", run.said);
    run
}

/// The file that `uci` makes of `text` by what the script asked of it; and whether the firewall was told.
fn changed(text: &str, run: &Run) -> Option<String> {
    // Named sections: name, and lines.
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("config ") {
            Some(head) => {
                let name = head.split('\'').nth(1).unwrap_or_default();
                sections.push((name.to_owned(), vec![line.to_owned()]));
            }
            None => sections.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    let mut is_committed = false;
    for call in run.of("uci") {
        let words: Vec<&str> = call.iter().map(String::as_str).filter(|word| *word != "-q").collect();
        let place = words[1].strip_prefix("firewall.").unwrap_or_default();
        let (place, value) = place.split_once('=').unwrap_or((place, ""));
        let (name, option) = place.split_once('.').unwrap_or((place, ""));
        let section = sections.iter().position(|(known, _)| known == name);
        match (words[0], section) {
            ("set", None) => sections.push((name.to_owned(), vec![format!("config {value} '{name}'")])),
            ("set", Some(at)) => sections[at].1.push(format!("\toption {option} '{value}'")),
            ("add_list", Some(at)) => sections[at].1.push(format!("\tlist {option} '{value}'")),
            ("delete", Some(at)) if option.is_empty() => _ = sections.remove(at),
            ("delete", Some(at)) => {
                sections[at].1.retain(|line| line.split_whitespace().nth(1) != Some(option));
            }
            ("delete", None) => {}
            ("commit", _) => is_committed = words[1] == "firewall",
            _ => panic!("{call:?}"),
        }
    }
    let is_told = run.of("procd_set_config_changed").contains(&&["firewall".to_owned()][..]);
    assert_eq!(is_told, is_committed, "{run:?}");
    is_committed
        .then(|| sections.iter().flat_map(|(_, lines)| lines).map(|line| line.clone() + "\n").collect())
}

#[test]
fn the_party_gets_nowhere_and_the_lan_into_the_party_while_the_agent_is_wanted() {
    let enabled = [("enabled", "1")];
    let made = changed(USUAL, &start(&with(USUAL), &enabled)).unwrap();
    assert_eq!(made, USUAL.to_owned() + ZONE);
    // Nothing leads from it anywhere.
    assert!(!made.contains("src 'lanrage'") && made.matches("ACCEPT").count() == 1, "{made}");
    // Once is enough: flash is written seldom, and what the owner has changed stays.
    assert_eq!(changed(&made, &start(&with(&made), &enabled)), None);
    let without = made.replace("\toption masq '1'\nconfig forwarding", "config forwarding");
    let own = without.split("config forwarding").next().unwrap().replace("input 'REJECT'", "input 'ACCEPT'");
    assert_eq!(changed(&own, &start(&with(&own), &enabled)), None);
    // It goes with the agent, or with the wish for it.
    for options in [&[("enabled", "0")][..], &[("enabled", "1"), ("firewall", "0")], &[]] {
        assert_eq!(changed(&made, &start(&with(&made), options)).as_deref(), Some(USUAL), "{options:?}");
        assert_eq!(changed(USUAL, &start(&with(USUAL), options)), None, "{options:?}");
    }
}

#[test]
fn it_follows_the_interface_and_leaves_the_owners_zones() {
    let enabled = [("enabled", "1"), ("interface", "party0")];
    let made = USUAL.to_owned() + ZONE;
    let moved = changed(&made, &start(&with(&made), &enabled)).unwrap();
    assert!(moved.contains("device 'party0'") && !moved.contains("device 'lanrage0'"), "{moved}");
    assert_eq!(changed(&moved, &start(&with(&moved), &enabled)), None);
    // The owner says by a network what is in it.
    let by_network = made.replace("list device 'lanrage0'", "list network 'party'");
    assert_eq!(changed(&by_network, &start(&with(&by_network), &enabled)), None);
    for own in [
        "config zone\n\toption name 'party'\n\tlist device 'tun9'\n\tlist device 'party0'\n",
        "config zone 'mine'\n\toption name 'party'\n\toption device 'tun9 party0'\n",
        "config zone\n\toption name 'lanrage'\n\tlist device 'tun9'\n",
    ] {
        let own = USUAL.to_owned() + own;
        assert_eq!(changed(&own, &start(&with(&own), &enabled)), None);
        // Ours would stand beside it.
        let both = own.clone() + ZONE;
        assert_eq!(changed(&both, &start(&with(&both), &enabled)), Some(own));
    }
}

#[test]
fn without_a_firewall_there_is_nothing_to_do_and_one_that_can_not_be_changed_is_said() {
    let router = router();
    router.write_secrets(&agent(&[("party", PARTY)]));
    let run = start(&router, &[("enabled", "1")]);
    assert!(run.has_instance() && run.of("uci").is_empty(), "{run:?}");
    let router = with(USUAL);
    fs::write(router.path("uci/refuses"), "").unwrap();
    let wanted = agent(&[("enabled", "1"), ("server", "http://router.example:8667")]);
    router.run("start", &wanted).assert_left_alone(&["/etc/config/firewall can not be changed"]);
    let odd = agent(&[("enabled", "1"), ("server", "http://h:1"), ("firewall", "perhaps")]);
    router.run("start", &odd).assert_left_alone(&["lanrage.agent.firewall is 'perhaps': expected 1 or 0"]);
}

/// The package's own script, with what OpenWrt calls it with.
#[test]
fn it_goes_with_the_package_and_stays_over_an_upgrade() {
    let makefile = fs::read_to_string(crate::shipped("lanrage/Makefile")).unwrap();
    let script =
        makefile.split("define Package/lanrage/prerm\n").nth(1).unwrap().split("\nendef").next().unwrap();
    let directory = crate::harness::directory::Directory::new();
    let stop = directory.text_path("stop");
    let script = script.replace("$$", "$").replace("/etc/init.d/", &format!("echo {stop} "));
    let run = |variables: &str| {
        let stub = "uci() { echo uci $*; }; ";
        let text = format!("{variables} {stub} ( {script} )");
        let output = crate::router::shell().arg("-c").arg(text).env_clear().output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().replace(&stop, "run")
    };
    assert_eq!(
        run("").lines().collect::<Vec<_>>(),
        [
            "run lanrage-agent stop",
            "uci -q delete firewall.lanrage_agent_lan",
            "uci delete firewall.lanrage_agent",
            "uci commit firewall",
            "run firewall reload",
        ]
    );
    assert_eq!(run("PKG_UPGRADE=1;"), "");
    assert_eq!(run("IPKG_INSTROOT=/somewhere;"), "");
}
