//! A router that forwards a port when it is asked to: Debian's miniupnpd, by PCP and by UPnP. And one that does not.

use crate::harness::directory::Directory;
use crate::harness::namespace::{Namespace, feed};
use crate::harness::process::Process;
use crate::host::{AgentHost, URL};
use crate::lab::{Lab, Mapping};
use crate::server::Server;
use lanrage::wire::json::{Value, parse};
use std::process::Stdio;
use std::rc::Rc;

/// The router's address outside. That of the lab is reserved, and miniupnpd forwards none of those.
const OUTSIDE: &str = "11.22.33.44";

/// What miniupnpd needs of a firewall, and a NAT.
const RULES: &str = "table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority 0; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname eth0 masquerade; }
}
";

#[test]
#[ignore = "needs root: network namespaces, miniupnpd"]
fn a_port_is_forwarded_for_as_long_as_the_agent_runs() {
    forwards("enable_natpmp=yes\nenable_upnp=no\n");
}

#[test]
#[ignore = "needs root: network namespaces, miniupnpd"]
fn a_router_that_speaks_upnp_alone_forwards_too() {
    forwards("enable_natpmp=no\nenable_upnp=yes\nhttp_port=5000\n");
}

/// By a miniupnpd with these settings.
#[track_caller]
fn forwards(protocols: &str) {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let router = lab.host(20);
    let inside = Namespace::new();
    router.ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
    router.ip(&format!("link add lan type veth peer name eth0 netns {}", inside.name()));
    router.ip("addr add 192.168.7.1/24 dev lan");
    router.ip("link set lan up");
    inside.ip("addr add 192.168.7.2/24 dev eth0");
    inside.ip("link set eth0 up");
    inside.ip("route add default via 192.168.7.1");
    router.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    feed(&format!("ip netns exec {} nft -f -", router.name()), RULES);

    let directory = Directory::new();
    let config = directory.text_path("miniupnpd.conf");
    let settings = format!(
        "ext_ifname=eth0\next_ip={OUTSIDE}\nlistening_ip=lan\n{protocols}secure_mode=yes\n\
         uuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 192.168.7.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut command = router.command("miniupnpd");
    let log = std::fs::File::create(directory.text_path("miniupnpd.log")).unwrap();
    command.args(["-d", "-f", &config, "-P", &directory.text_path("pid")]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let _miniupnpd = Process(command.spawn().unwrap());

    let mut bob = AgentHost::joining(Rc::new(inside), &alice.party, "Bob");
    let port = match bob.json("nat").get("port") {
        Some(Value::Number(port)) => port.to_string(),
        other => panic!("{other:?}"),
    };
    let mapped = Value::String(format!("{OUTSIDE}:{port}"));
    crate::eventually("the router forwards", || bob.json("nat").get("mapped") == Some(&mapped));
    let forwards = || router.run("nft list table inet filter").contains(&format!("192.168.7.2:{port}"));
    assert!(forwards());
    bob.ping(alice.ip);
    assert!(bob.process().terminate().0.success());
    crate::eventually("the router forwards nothing any more", || !forwards());
    // A look leaves nothing there.
    let told = parse(&bob.run(&["nat", URL, "--json"]).stdout).unwrap();
    let mapped = told.get("mapped").and_then(Value::as_str).unwrap_or_default();
    assert!(mapped.starts_with(OUTSIDE), "{told:?}");
    let rules = router.run("nft list table inet filter");
    assert!(!rules.contains("192.168.7.2:"), "{rules}");
}

#[test]
#[ignore = "needs root: network namespaces"]
fn the_nat_is_told_without_an_agent_and_what_would_help() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    for (number, mapping, kind) in
        [(20, Mapping::Preserving, "port_restricted_cone"), (21, Mapping::Symmetric, "symmetric")]
    {
        let nat = lab.nat(number, mapping);
        let host = AgentHost::asleep(nat.host(2));
        let output = host.run(&["nat", URL, "--json"]);
        let told = parse(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(told.get("nat_type").and_then(Value::as_str), Some(kind), "{told:?}");
        let text = String::from_utf8(host.run(&["nat", URL]).stdout).unwrap();
        assert!(text.contains("What helps") && !host.has_interface(), "{text}");
    }
    let open = AgentHost::asleep(lab.host(12));
    let text = String::from_utf8(open.run(&["nat", URL]).stdout).unwrap();
    assert!(text.contains("reached directly"), "{text}");

    let blocked = lab.host(13);
    let rules =
        "table inet filter { chain out { type filter hook output priority 0; meta l4proto udp drop; }\n }\n";
    feed(&format!("ip netns exec {} nft -f -", blocked.name()), rules);
    let text = String::from_utf8(AgentHost::asleep(blocked).run(&["nat", URL]).stdout).unwrap();
    assert!(text.contains("gives no answer by UDP"), "{text}");

    let nothing = open.run(&["nat"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("lanrage nat URL"), "{nothing:?}");
    server.kill();
    let away = open.run(&["nat", URL]);
    assert!(!away.status.success() && String::from_utf8_lossy(&away.stderr).contains(URL), "{away:?}");
}
