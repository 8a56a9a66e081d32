//! `lanrage status`.

use super::Failure;
use super::ask::{Daemon, list, number, text};
use super::command::Invocation;
use super::measures::{count, size, span};
use super::output::Style;
use super::table::{Facts, Table, escape};
use lanrage::wire::json::Value;

/// `lanrage status`.
pub fn run(invocation: &Invocation) -> Result<(), Failure> {
    let reply = Daemon::of(invocation)?.ask("GET", "/status", &[])?;
    reply.show(invocation, |status| human(status, Style::of_stdout()))
}

fn human(status: &Value, style: Style) -> String {
    let (relay, store) =
        (status.get("relay").unwrap_or(&Value::Null), status.get("store").unwrap_or(&Value::Null));
    let mut facts = Facts::default();
    facts.add("lanrage", text(status, "version"));
    facts.add("up for", &span(number(status, "uptime_seconds")));
    facts.add("HTTP", text(status, "http"));
    facts.add("relay", &format!("{} (UDP)", text(relay, "address")));
    facts.add("relay id", &format!("{} in {}", text(relay, "relay_id"), text(relay, "region")));
    facts.add("hub key", text(relay, "public_key"));
    facts.add("subnet", text(status, "subnet"));
    for (name, key) in [
        ("parties", "parties"),
        ("peers", "peers"),
        ("sessions", "websocket_sessions"),
        ("tokens", "tokens"),
        ("other relays", "relays"),
    ] {
        facts.add(name, &number(status, key).to_string());
    }
    facts.add("state", text(status, "state_dir"));
    let health = match text(store, "status") {
        "ok" => style.good("ok"),
        trouble => style.bad(&escape(trouble)),
    };
    let (errors, commits) = (number(store, "errors"), number(store, "commits"));
    let failed = if errors == 0 { String::new() } else { format!(", {errors} failed") };
    let figures =
        format!("{}, {}{failed}", size(number(store, "bytes")), count(commits, "commit", "commits"));
    facts.styled("store", format!("{health}, {figures}"));
    for table in list(status, "tables") {
        if let Some(taken) = taken(table) {
            facts.add("filling up", &taken);
        }
    }
    let lost = number(status, "log_lines_lost");
    if lost > 0 {
        let lost = count(lost, "line", "lines");
        facts.styled("log", style.bad(&format!("{lost} lost, because nobody read them")));
    }
    if let Some(traffic) = status.get("traffic") {
        for (name, kind) in [("blind", "blind"), ("hub", "hub"), ("broadcast", "broadcast")] {
            facts.add(name, &amount(traffic.get(kind).unwrap_or(&Value::Null)));
        }
        let local = traffic.get("local").unwrap_or(&Value::Null);
        if number(local, "packets") > 0 {
            facts.add("to this machine", &amount(local));
        }
        facts.add("flows", &number(traffic, "flows").to_string());
        if traffic.get("gso") == Some(&Value::Bool(false)) {
            facts.add("GSO", "off: every datagram is sent by itself");
        }
        facts.add("dropped", &dropped(traffic));
    }
    let members = list(status, "members");
    if members.is_empty() {
        return facts.text(style);
    }
    let mut table = Table::new(&["PEER", "PATH", "HANDSHAKE", "FROM IT", "TO IT", "DROPPED"]);
    for member in members {
        table.row(vec![
            text(member, "peer_id").to_owned(),
            text(member, "path").to_owned(),
            format!("{} ago", span(number(member, "handshake_seconds"))),
            amount(member.get("from").unwrap_or(&Value::Null)),
            amount(member.get("to").unwrap_or(&Value::Null)),
            dropped(member),
        ]);
    }
    format!("{}\n{}", facts.text(style), table.text(style))
}

/// What a table holds and of whom, once it is half full.
fn taken(table: &Value) -> Option<String> {
    let (used, limit) = (number(table, "used"), number(table, "limit"));
    let largest = table.get("largest").filter(|_| used >= limit / 2)?;
    let (network, own) = (text(largest, "network"), number(largest, "used"));
    Some(format!("{}: {used} of {limit}, {own} by {}", text(table, "table"), escape(network)))
}

/// Packets and bytes.
fn amount(traffic: &Value) -> String {
    format!("{}, {}", count(number(traffic, "packets"), "packet", "packets"), size(number(traffic, "bytes")))
}

/// What went nowhere, and why.
fn dropped(figures: &Value) -> String {
    let Some(Value::Object(reasons)) = figures.get("drops") else { return "nothing".to_owned() };
    let drops = figures.get("drops").unwrap_or(&Value::Null);
    let each = reasons.iter().map(|(reason, _)| (number(drops, reason), reason.replace('_', " ")));
    let each = each.filter(|(count, _)| *count > 0).map(|(count, reason)| format!("{count} {reason}"));
    let each: Vec<_> = each.collect();
    if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
}
