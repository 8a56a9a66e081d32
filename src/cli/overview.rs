//! `lanrage overview`: everything at a glance.

use super::CommandFailure;
use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{count, since, size, span, until};
use super::output::Style;
use super::table::{Facts, TextTable, escape};
use lanrage::daemon::now;
use lanrage::time::UnixTime;
use lanrage::wire::json::Value;

/// `lanrage overview`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("GET", "/overview", &[])?;
    reply.show(invocation, |overview| human(overview, now().unix, Style::of_stdout()))
}

fn human(overview: &Value, now: UnixTime, style: Style) -> String {
    let mut facts = Facts::default();
    facts.add("lanrage", text(overview, "version"));
    facts.add("up for", &span(number(overview, "uptime")));
    let endpoint = text(overview, "endpoint");
    facts.add("friends use", if endpoint.is_empty() { "nothing yet" } else { endpoint });
    let reached = number(overview, "reached_from_outside");
    facts.add("reached from outside", &since(reached, now));
    let mut out = facts.text(style);
    for trouble in list(overview, "trouble") {
        let (what, advice) = (text(trouble, "text"), text(trouble, "do"));
        out += &format!("\n{}\n{}\n", style.bad(&escape(what)), escape(advice));
    }
    for dropped in list(overview, "drops") {
        let packets = count(number(dropped, "packets"), "packet", "packets");
        out += &format!("\n{packets} dropped: {}\n", escape(text(dropped, "text")));
    }
    for party in list(overview, "parties") {
        out += &format!("\n{}", of_party(party, now, style));
    }
    out
}

fn of_party(party: &Value, now: UnixTime, style: Style) -> String {
    let (name, id) = (escape(text(party, "name")), escape(text(party, "party_id")));
    let ends = match number(party, "ends_at") {
        0 => String::new(),
        then => format!(", ends {}", until(then, now)),
    };
    let mut out = format!("{} ({id}), {}{ends}\n", style.bold(&name), escape(text(party, "access")));
    let members = list(party, "members");
    if members.is_empty() {
        return out + "nobody is in it\n";
    }
    let mut table =
        TextTable::new(&["NAME", "PEER", "VIRTUAL IP", "STATE", "PATH", "RTT", "HANDSHAKE", "IN", "OUT"]);
    for member in members {
        let is_online = member.get("is_online") == Some(&Value::Bool(true));
        let rtt = member.get("rtt_ms").filter(|rtt| **rtt != Value::Null);
        table.row(vec![
            text(member, "name").to_owned(),
            text(member, "peer_id").to_owned(),
            text(member, "virtual_ip").to_owned(),
            if is_online { "online" } else { "offline" }.to_owned(),
            text(member, "path").to_owned(),
            rtt.map(|_| format!("{} ms", number(member, "rtt_ms"))).unwrap_or_default(),
            since(number(member, "last_handshake"), now),
            size(number(member, "received")),
            size(number(member, "sent")),
        ]);
    }
    out += &table.text(style);
    let invites = list(party, "invites").iter().filter(|invite| number(invite, "uses_left") > 0).count();
    let bans = list(party, "bans").len();
    if invites + bans > 0 {
        out += &format!("{}, {} banned\n", count(invites as u64, "open invite", "open invites"), bans);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use lanrage::wire::json::parse;

    #[test]
    fn what_is_going_on_is_said_without_doing_anything_to_the_terminal() {
        let value = parse(
            br#"{"version":"1","uptime":61,"endpoint":"h:1","reached_from_outside":null,
            "trouble":[{"what":"x","text":"It is\u001b[2J late.","do":"Sleep."}],
            "drops":[{"reason":"r","text":"Nobody knows.","packets":1}],
            "parties":[{"party_id":"p1","name":"Fri\u001bday","access":"open","ends_at":1090,"members":[
              {"peer_id":"a","name":"Al\u202ece","virtual_ip":"10.66.0.2","is_online":true,"path":"hub","rtt_ms":0,
               "last_handshake":988,"received":1500,"sent":2}],
              "invites":[{"uses_left":0},{"uses_left":1}],"bans":[]},
             {"party_id":"p2","name":"Empty","access":"invite","ends_at":null,"members":[]}]}"#,
        );
        let shown = human(&value.unwrap(), UnixTime::from_micros(1_000_000_000), Style::PLAIN);
        for part in [
            "1 min 1 s",
            "h:1",
            "never",
            "It is\\u{1b}[2J late.\nSleep.",
            "1 packet dropped: Nobody knows.",
            "Fri\\u{1b}day (p1), open, ends in 1 min 30 s",
            "Al\\u{202e}ce",
            "online  hub   0 ms  12 s ago",
            "1.5 kB",
            "1 open invite, 0 banned",
            "Empty (p2), invite\nnobody is in it",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let empty = human(&parse(b"{}").unwrap(), UnixTime::from_micros(0), Style::PLAIN);
        assert!(empty.contains("friends use           nothing yet\n"), "{empty}");
    }
}
