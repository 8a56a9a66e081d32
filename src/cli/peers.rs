//! `lanrage peers` and `lanrage nat`.

use super::CommandFailure;
use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{size, span};
use super::output::Style;
use super::table::{Facts, TextTable, escape};
use lanrage::wire::json::Value;
use lanrage::wire::nat_type::NatType;
use std::time::Duration;

/// Between two looks.
const SECOND: Duration = Duration::from_secs(1);
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
            shown("rtt_us", &|micros| format!("{}.{} ms", micros / 1000, micros / 100 % 10)),
            shown("loss_per_mille", &|mille| format!("{}.{} %", mille / 10, mille % 10)),
            size(number(member, "received")),
            size(number(member, "sent")),
            shown("handshake_seconds", &|seconds| format!("{} ago", span(seconds))),
            text(member, "why_not_direct").to_owned(),
        ]);
    }
    format!("{}\n{}", facts.text(style), table.text(style))
}

/// `lanrage nat`.
pub fn nat(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of_agent(invocation)?.ask("GET", "/nat", &[])?;
    reply.show(invocation, |value| human_nat(value, Style::of_stdout()))
}

fn human_nat(value: &Value, style: Style) -> String {
    let nat = NatType::parse(text(value, "nat_type")).unwrap_or_default();
    let (what, works) = in_words(nat);
    let local: Vec<String> = list(value, "local").iter().filter_map(|ip| ip.as_str().map(escape)).collect();
    let mut facts = Facts::default();
    facts.add("NAT", what);
    let shown = |name: &str, none: &str| match text(value, name) {
        "" => none.to_owned(),
        address => escape(address),
    };
    facts.styled("seen as", shown("public", "not known yet"));
    facts.styled("forwarded by the router", shown("mapped", "nothing"));
    facts.styled("own addresses", if local.is_empty() { "none".to_owned() } else { local.join(", ") });
    facts.add("UDP port", &number(value, "port").to_string());
    let has_ipv6 = value.get("ipv6") == Some(&Value::Bool(true));
    facts.add("IPv6", if has_ipv6 { "yes: friends who have it too are reached directly" } else { "no" });
    let advice = match (nat, text(value, "mapped")) {
        (NatType::Open | NatType::FullCone, _) => String::new(),
        (_, "") => format!(
            "What helps: switch on UPnP or NAT-PMP at the router, or forward UDP port {} to this machine.\n",
            number(value, "port")
        ),
        _ => String::new(),
    };
    format!("{}\n{works}\n{advice}", facts.text(style))
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
            "rtt_us":12345,"loss_per_mille":15,"received":1500,"sent":0,"handshake_seconds":61,
            "why_not_direct":"not tried yet"}]}"#,
        );
        let shown = human(&value.unwrap(), Style::PLAIN);
        for part in [
            "Friday (abc)",
            "10.66.0.2 on lanrage0",
            "12.3 ms",
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
    }
}
