//! `lanrage status`.

use super::CommandFailure;
use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{count, size, span};
use super::output::Style;
use super::table::{Facts, TextTable, escape};
use lanrage::figures::{Traffic, status};
use lanrage::wire::endpoint;
use lanrage::wire::json::Value;

/// `lanrage status`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("GET", "/status", &[])?;
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
    facts.styled("friends use", friends_use(text(relay, "endpoint"), style));
    for trouble in list(status, "trouble") {
        let told = format!("{} {}", text(trouble, "text"), text(trouble, "do"));
        // The line above says it.
        if !text(trouble, "what").starts_with("endpoint_") {
            facts.styled("look here", style.bad(&escape(&told)));
        }
    }
    facts.add("relay id", &format!("{} in {}", text(relay, "relay_id"), text(relay, "region")));
    facts.add("hub key", text(relay, "public_key"));
    facts.add("subnet", text(status, "subnet"));
    #[cfg(feature = "cluster")]
    if let Some(instance) = status.get("instance") {
        let writes = "this instance writes".to_owned();
        let follows = instance.get("follows").map(|_| format!("follows {}", text(instance, "follows")));
        facts.add("realm", &follows.unwrap_or(writes));
    }
    add_figures(&mut facts, status, "");
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
    add_figures(&mut facts, store, "store");
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
        for kind in Traffic::ALL {
            let counted = traffic.get(kind.word()).unwrap_or(&Value::Null);
            // Few take part in the LAN themselves.
            let is_wanted = kind != Traffic::Local || number(counted, "packets") > 0;
            if let Some(line) = kind.line().filter(|_| is_wanted) {
                facts.add(line, &amount(counted));
            }
        }
        add_figures(&mut facts, traffic, "traffic");
        if traffic.get("gso") == Some(&Value::Bool(false)) {
            facts.add("GSO", "off: every datagram is sent by itself");
        }
        facts.add("dropped", &dropped(traffic));
    }
    let members = list(status, "members");
    if members.is_empty() {
        return facts.text(style);
    }
    let mut table = TextTable::new(&["PEER", "PATH", "HANDSHAKE", "FROM IT", "TO IT", "DROPPED"]);
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

/// The endpoint that friends outside use.
fn friends_use(endpoint: &str, style: Style) -> String {
    match endpoint::parse(endpoint) {
        None => style.bad("nothing yet: set public_endpoint to this network's address and port"),
        Some((host, _)) if endpoint::is_private(&host) => {
            style.bad(&format!("{}, which nobody outside this network reaches", escape(endpoint)))
        }
        Some(_) => escape(endpoint),
    }
}

/// The figures of an object of `/status` that have a line of their own.
fn add_figures(facts: &mut Facts, object: &Value, name: &str) {
    for (_, key, row) in status::rows(name) {
        if let Some(line) = row.line {
            facts.add(line, &plain(object.get(key)));
        }
    }
}

/// A figure as it stands in JSON, for people.
fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::Number(text)) => text.to_string(),
        Some(Value::Bool(is_so)) => if *is_so { "yes" } else { "no" }.to_owned(),
        // A daemon of another version does not know it.
        _ => "unknown".to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lanrage::figures::{Figure, Readings};
    use lanrage::wire::json::{object, parse};

    #[test]
    fn every_figure_with_a_line_has_it() {
        let mut readings = Readings::default();
        for figure in Figure::ALL {
            readings.set(figure, 1000 + figure as u64);
        }
        for (count, kind) in Traffic::ALL.into_iter().enumerate() {
            readings.stats.add_run(kind, 1 + count, 10);
        }
        let text = object(|json| {
            status::write_figures(json, "", &readings);
            status::write_traffic(json.key("traffic"), &readings);
            json.key("store").object(|json| status::write_figures(json, "store", &readings));
        });
        let shown = human(&parse(text.as_bytes()).unwrap(), Style::PLAIN);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split("  ").collect()).collect();
        let has = |name: &str, value: &str| {
            let is_it =
                |line: &&Vec<&str>| line[0] == name && line.last().is_some_and(|last| last.trim() == value);
            assert_eq!(lines.iter().filter(is_it).count(), 1, "{name} {value}: {shown}");
        };
        for figure in Figure::ALL {
            if let Some(line) = figure.row().line {
                has(line, &(1000 + figure as u64).to_string());
            }
        }
        for (count, kind) in Traffic::ALL.into_iter().enumerate() {
            if let Some(line) = kind.line() {
                has(line, &format!("{}, 10 B", super::count(1 + count as u64, "packet", "packets")));
            }
        }
    }

    #[test]
    fn what_never_happens_is_not_shown() {
        let text = object(|json| status::write_traffic(json.key("traffic"), &Readings::default()));
        let shown = human(&parse(text.as_bytes()).unwrap(), Style::PLAIN);
        assert!(!shown.contains("to this machine") && shown.contains("blind"), "{shown}");
        assert!(
            shown.lines().any(|line| line.starts_with("dropped") && line.ends_with("nothing")),
            "{shown}"
        );
    }
}
