//! `lanrage peers` and `lanrage nat`.

use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{size, span};
use super::output::Style;
use super::table::{Facts, TextTable, escape};
use super::{CommandFailure, output};
use lanrage::agent::view::MappingBehaviour;
use lanrage::daemon::agent::check_nat;
use lanrage::wire::endpoint::is_private_address;
use lanrage::wire::json::{self, Value};
use lanrage::wire::nat_type::NatType;
use lanrage::wire::server_url::ServerUrl;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Between two looks.
const SECOND: Duration = Duration::from_secs(1);
/// Said of a NAT whose ports depend on the destination's address alone.
const PORT_BY_ADDRESS: &str =
    "symmetric by address: another port for each address, the same for all ports there";
/// Said where several addresses are seen.
const SEVERAL_ADDRESSES: &str = "There are several public addresses, and which one is used depends on the destination: so it is with several lines \
                                 (load balancing), or with a provider's pool of addresses. Members try all of them. With several lines, it helps to \
                                 have the router send this machine out by one of them.\n";
/// Clears a terminal (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// `lanrage peers`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let client = DaemonClient::of_agent(invocation)?;
    loop {
        let reply = client.ask("GET", "/peers", &[])?;
        let watch = invocation.has("watch");
        reply.show(invocation, |value| {
            let shown = human(value, Style::of_stdout());
            if watch { format!("{CLEAR}{shown}") } else { shown }
        })?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(SECOND);
    }
}

fn human(value: &Value, style: Style) -> String {
    let mut facts = Facts::default();
    facts.add("party", &format!("{} ({})", text(value, "party"), text(value, "party_id")));
    facts.add("server", text(value, "server"));
    facts.add("own address", &format!("{} on {}", text(value, "ip"), text(value, "interface")));
    if value.get("local") == Some(&Value::Bool(true)) {
        facts.styled("state", style.bad("the server is away; games go on, and it is asked again and again"));
    }
    let members = list(value, "members");
    if members.is_empty() {
        return format!("{}\nNobody else is in the party yet.\n", facts.text(style));
    }
    let mut table = TextTable::new(&[
        "NAME",
        "ADDRESS",
        "STATE",
        "PATH",
        "RELAY",
        "RTT",
        "LOSS",
        "IN",
        "OUT",
        "HANDSHAKE",
        "WHY NOT DIRECT",
    ]);
    for member in members {
        let is_known = |name: &str| matches!(member.get(name), Some(Value::Number(_)));
        let shown = |name: &str, show: &dyn Fn(u64) -> String| match is_known(name) {
            true => show(number(member, name)),
            false => String::new(),
        };
        table.row(vec![
            text(member, "name").to_owned(),
            text(member, "ip").to_owned(),
            text(member, "state").to_owned(),
            text(member, "path").to_owned(),
            relays(member),
            shown("rtt_us", &millis),
            shown("loss_per_mille", &|mille| format!("{}.{} %", mille / 10, mille % 10)),
            size(number(member, "received")),
            size(number(member, "sent")),
            shown("handshake_seconds", &|seconds| format!("{} ago", span(seconds))),
            text(member, "why_not_direct").to_owned(),
        ]);
    }
    format!("{}\n{}", facts.text(style), table.text(style))
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros / 100 % 10)
}

/// The relay of a member, and the one that takes over when it dies.
fn relays(member: &Value) -> String {
    match (text(member, "relay"), text(member, "standby")) {
        (relay, "") => relay.to_owned(),
        (relay, standby) => format!("{relay}, then {standby}"),
    }
}

/// `lanrage nat`.
pub fn nat(invocation: &Invocation) -> Result<(), CommandFailure> {
    let server = invocation.argument(0).map(ServerUrl::parse).transpose().map_err(CommandFailure::usage)?;
    let agent = DaemonClient::of_agent(invocation)?;
    if server.is_none() && agent.socket.exists() {
        let running = agent.ask("GET", "/nat", &[]);
        if let Ok(reply) = running {
            return reply.show(invocation, |value| human_nat(value, Style::of_stdout()));
        }
    }
    let told = check_nat(server, &agent.state_dir).map_err(CommandFailure::failed)?;
    match (invocation.has("json"), json::parse(told.as_bytes())) {
        (false, Ok(value)) => output::write(&human_nat(&value, Style::of_stdout())),
        _ => output::write(&(told + "\n")),
    }
}

fn human_nat(value: &Value, style: Style) -> String {
    let nat = NatType::parse(text(value, "nat_type")).unwrap_or_default();
    let (what, works) = in_words(nat);
    let texts = |name: &str| -> Vec<String> {
        list(value, name).iter().filter_map(|text| text.as_str().map(escape)).collect()
    };
    let (local, also) = (texts("local"), texts("also_public"));
    let mut facts = Facts::default();
    facts.add("NAT", if is_by_address(value) { PORT_BY_ADDRESS } else { what });
    let shown = |name: &str, none: &str| match text(value, name) {
        "" => none.to_owned(),
        address => escape(address),
    };
    facts.styled("seen as", shown("public", "not known yet"));
    if !also.is_empty() {
        facts.styled("by other relays", also.join(", "));
    }
    facts.styled("forwarded by the router", shown("mapped", "nothing"));
    facts.styled("own addresses", if local.is_empty() { "none".to_owned() } else { local.join(", ") });
    for relay in list(value, "relays") {
        let distance = match relay.get("rtt_us") {
            Some(Value::Number(_)) => millis(number(relay, "rtt_us")),
            _ => "no answer yet".to_owned(),
        };
        let used = match number(relay, "members") {
            0 => String::new(),
            count => format!(", for {count} of the party"),
        };
        facts.styled("relay", format!("{}: {distance}{used}", escape(text(relay, "relay_id"))));
    }
    let port = number(value, "port");
    if port != 0 {
        facts.add("UDP port", &port.to_string());
    }
    let has_ipv6 = value.get("ipv6") == Some(&Value::Bool(true));
    facts.add("IPv6", if has_ipv6 { "yes: friends who have it too are reached directly" } else { "no" });
    let several = if also.is_empty() { "" } else { SEVERAL_ADDRESSES };
    format!("{}\n{works}\n{several}{}", facts.text(style), advice(value, nat))
}

/// Whether the NAT is known to choose one port for all ports of an address.
fn is_by_address(value: &Value) -> bool {
    text(value, "mapping") == MappingBehaviour::AddressDependent.as_str()
}

/// What the owner could change.
fn advice(value: &Value, nat: NatType) -> String {
    let relay = text(value, "relay");
    let outside = text(value, "router_outside").parse::<Ipv4Addr>().ok();
    let port = match number(value, "port") {
        0 => "a UDP port (which one, this shows once the machine takes part)".to_owned(),
        port => format!("UDP port {port}"),
    };
    match (nat, text(value, "mapped"), outside) {
        (NatType::Open | NatType::FullCone, ..) => String::new(),
        (NatType::Unknown, ..) if text(value, "public").is_empty() && !relay.is_empty() => format!(
            "The relay {} gives no answer by UDP. What helps: let UDP out at this machine's firewall and at the router; at the \
             server, open that UDP port and the next one.\n",
            escape(relay)
        ),
        (_, "", Some(outside)) if is_private_address(outside.into()) => format!(
            "The router itself has no public address ({outside}): another NAT follows, of another router or of the provider. \
             What helps: a public IPv4 address or IPv6 from the provider; or, if the other router is yours, forward {port} \
             there and here.\n"
        ),
        (_, "", _) => {
            format!(
                "What helps: switch on UPnP or NAT-PMP at the router, or forward {port} to this machine.\n"
            )
        }
        (_, mapped, _) if !is_seen(value, mapped) => format!(
            "The router forwards a port to this machine, at {}, but others see it at {}: another NAT follows, of another router or of \
             the provider, and nobody gets through by that port.\n",
            escape(mapped),
            escape(text(value, "public"))
        ),
        _ => "The router forwards a port to this machine, so everybody gets through to it directly.\n"
            .to_owned(),
    }
}

/// Whether others see this machine at the address of this endpoint, as far as that is known.
fn is_seen(value: &Value, endpoint: &str) -> bool {
    let ip = |endpoint: &str| endpoint.parse::<SocketAddr>().map(|endpoint| endpoint.ip()).ok();
    let Some(own) = ip(endpoint) else { return true };
    let others = list(value, "also_public").iter().filter_map(Value::as_str);
    let seen = others.chain([text(value, "public")]).filter_map(ip);
    let mut seen = seen.filter(|seen| seen.is_ipv4() == own.is_ipv4()).peekable();
    seen.peek().is_none() || seen.any(|seen| seen == own)
}

/// What a NAT is, and what works with it.
fn in_words(nat: NatType) -> (&'static str, &'static str) {
    match nat {
        NatType::Unknown => ("not known yet", "Games run through the relay in any case."),
        NatType::Open => {
            ("none: this machine is reached directly", "Everybody reaches this machine directly.")
        }
        NatType::FullCone => {
            ("full cone: one port for all, open to everybody", "Everybody reaches this machine directly.")
        }
        NatType::RestrictedCone => (
            "restricted cone: one port for all, open to whom this machine has sent to",
            "Direct paths work with everybody.",
        ),
        NatType::PortRestrictedCone => (
            "port-restricted cone: one port for all, open to addresses with ports that this machine has sent to",
            "Direct paths work with most; with symmetric NATs at the other end it takes tries.",
        ),
        NatType::Symmetric => (
            "symmetric: another port for each destination",
            "Direct paths work where the other end is open or has a cone; between two of this kind the relay carries games.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lanrage::wire::json::parse;

    #[test]
    fn peers_are_shown_with_why_they_are_not_direct() {
        let value = parse(
            br#"{"party":"Friday","party_id":"abc","server":"http://h:1","ip":"10.66.0.2","interface":"lanrage0",
            "local":true,"members":[{"name":"Bob\u001b[2J","ip":"10.66.0.3","state":"connected","path":"relay",
            "relay":"home","standby":"far","rtt_us":12345,"loss_per_mille":15,"received":1500,"sent":0,"handshake_seconds":61,
            "why_not_direct":"not tried yet"}]}"#,
        );
        let shown = human(&value.unwrap(), Style::PLAIN);
        for part in [
            "Friday (abc)",
            "10.66.0.2 on lanrage0",
            "12.3 ms",
            "home, then far",
            "1.5 %",
            "1.5 kB",
            "1 min 1 s ago",
            "not tried yet",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}') && shown.contains("the server is away"), "{shown}");
        let alone = human(&parse(br#"{"members":[]}"#).unwrap(), Style::PLAIN);
        assert!(alone.contains("Nobody else"));
    }

    #[test]
    fn every_nat_is_told_in_words_with_what_to_do() {
        for nat in NatType::ALL {
            let value =
                format!("{{\"nat_type\":\"{}\",\"port\":50000,\"local\":[\"192.168.1.2\"]}}", nat.as_str());
            let shown = human_nat(&parse(value.as_bytes()).unwrap(), Style::PLAIN);
            let is_open = matches!(nat, NatType::Open | NatType::FullCone);
            assert_eq!(shown.contains("UDP port 50000"), !is_open, "{shown}");
            assert!(shown.contains("192.168.1.2"), "{shown}");
        }
        let told =
            |fields: &str| human_nat(&parse(format!("{{{fields}}}").as_bytes()).unwrap(), Style::PLAIN);
        let silent = told(r#""nat_type":"unknown","relay":"192.0.2.1:51820","port":0"#);
        assert!(
            silent.contains("192.0.2.1:51820 gives no answer") && !silent.contains("UDP port  "),
            "{silent}"
        );
        let behind =
            told(r#""nat_type":"symmetric","public":"203.0.113.7:9","router_outside":"100.64.3.4","port":0"#);
        assert!(behind.contains("100.64.3.4") && behind.contains("provider"), "{behind}");
        let by_address = told(r#""nat_type":"symmetric","mapping":"address_dependent""#);
        assert!(by_address.contains("another port for each address,"), "{by_address}");
        let [one, several] = ["", "\"203.0.114.9:9\""].map(|also| {
            told(&format!(
                r#""nat_type":"port_restricted_cone","public":"203.0.113.7:9","also_public":[{also}]"#
            ))
        });
        assert!(!one.contains("several"), "{one}");
        assert!(several.contains("203.0.114.9:9") && several.contains("several lines"), "{several}");
        let mapped = told(r#""nat_type":"symmetric","public":"203.0.113.7:9","mapped":"203.0.113.7:9""#);
        assert!(mapped.contains("everybody gets through"), "{mapped}");
        let in_vain = told(r#""nat_type":"symmetric","public":"203.0.113.7:9","mapped":"192.0.2.1:9""#);
        assert!(in_vain.contains("another NAT follows"), "{in_vain}");
        let by_ipv6 = told(r#""nat_type":"symmetric","public":"[2001:db8::7]:9","mapped":"192.0.2.1:9""#);
        assert!(by_ipv6.contains("everybody gets through"), "{by_ipv6}");
    }
}
