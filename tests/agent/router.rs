//! A router that forwards a port when it is asked to: Debian's miniupnpd, by PCP.

use crate::harness::directory::Directory;
use crate::harness::namespace::{Namespace, feed};
use crate::harness::process::Process;
use crate::host::AgentHost;
use crate::lab::Lab;
use crate::server::Server;
use lanrage::wire::json::Value;
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
        "ext_ifname=eth0\next_ip={OUTSIDE}\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=no\nsecure_mode=yes\n\
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
}
