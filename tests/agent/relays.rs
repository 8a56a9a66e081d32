//! A second relay, which the server lists and which knows nobody: how far it is, and what it tells of NATs.

use crate::host::{AgentHost, URL};
use crate::lab::{Lab, Mapping, Nat, public_ip};
use crate::server::Server;
use lanrage::wire::json::{Value, parse};

/// Where the second one is.
const FAR: u8 = 3;

/// Two daemons, of which the first one lists the second one's relay.
fn two_relays(lab: &Lab) -> [Server; 2] {
    let servers = [Server::new(lab), Server::on(lab.host(FAR))];
    let body = format!(
        "{{\"relay_id\":\"far\",\"public_ip\":\"{}\",\"port\":51820,\"region\":\"far\",\"capacity\":10,\"public_key\":\"{}\"}}",
        public_ip(FAR),
        servers[1].hub_key
    );
    let mut owner = servers[0].owner();
    owner.register("far-owner");
    owner.ask("POST", "/relays", &body).is(200);
    servers
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Relays with a distance.
fn measured(nat: &Value) -> Vec<String> {
    let Some(Value::Array(relays)) = nat.get("relays") else { panic!("{nat:?}") };
    let measured = relays.iter().filter(|relay| matches!(relay.get("rtt_us"), Some(Value::Number(_))));
    measured.map(|relay| text(relay, "relay_id").to_owned()).collect()
}

/// NATs, and what is told of each: its kind, what its ports depend on, and the words.
fn nats(lab: &Lab) -> [(Nat, &'static str, &'static str, &'static str); 4] {
    let by_address = lab.nat(22, Mapping::Preserving);
    by_address.map_by_address(public_ip(1), 30_001);
    by_address.map_by_address(public_ip(FAR), 30_004);
    let lines = lab.nat(23, Mapping::Preserving);
    lines.add_line(33, public_ip(FAR));
    [
        (
            lab.nat(20, Mapping::Preserving),
            "port_restricted_cone",
            "endpoint_independent",
            "one port for all",
        ),
        (
            lab.nat(21, Mapping::Symmetric),
            "symmetric",
            "address_and_port_dependent",
            "another port for each destination",
        ),
        (by_address, "symmetric", "address_dependent", "another port for each address"),
        (lines, "port_restricted_cone", "endpoint_independent", "several lines"),
    ]
}

#[test]
#[ignore = "needs root: network namespaces"]
fn nats_are_told_by_both_relays_with_an_agent_and_without() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _servers = two_relays(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    crate::eventually("both relays are measured", || measured(&alice.json("nat")).len() == 2);
    for (nat, kind, mapping, words) in nats(&lab) {
        let mut host = AgentHost::asleep(nat.host(2));
        let output = host.run(&["nat", URL, "--json"]);
        let told = parse(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!((text(&told, "nat_type"), text(&told, "mapping")), (kind, mapping), "{told:?}");
        let mut relays = measured(&told);
        relays.sort();
        assert!(relays.len() == 2 && relays.contains(&"far".to_owned()), "{told:?}");
        // For the next one the port is free again.
        nat.forget();
        let shown = String::from_utf8(host.run(&["nat", URL]).stdout).unwrap();
        assert!(shown.contains(words) && shown.contains("far: "), "{shown}");
        println!("{shown}");
        nat.forget();

        host.start(&["join", URL, &alice.party.clone(), "--name", "Bob"]);
        crate::eventually("the agent tells the same", || {
            let told = host.json("nat");
            (text(&told, "nat_type"), text(&told, "mapping")) == (kind, mapping) && measured(&told).len() == 2
        });
        let shown = String::from_utf8(host.run(&["nat"]).stdout).unwrap();
        assert!(shown.contains(words), "{shown}");
        host.ping(alice.ip);
        crate::eventually("the way is direct", || {
            host.ping(alice.ip);
            host.path(alice.ip) == "direct"
        });
        // One that knows nobody carries nothing.
        let member = host.member(alice.ip).unwrap();
        assert!(text(&member, "relay") != "far" && text(&member, "standby") != "far", "{member:?}");
        assert!(host.run(&["leave"]).status.success());
    }
}
