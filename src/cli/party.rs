//! `lanrage party`.

use super::CommandFailure;
use super::ask::{self, DaemonClient, list as items, number, text};
use super::command::Invocation;
use super::measures::{ago, date};
use super::output::Style;
use super::table::{Facts, TextTable, escape};
use lanrage::daemon::now;
use lanrage::wire::endpoint;
use lanrage::wire::json::Value;

/// `lanrage party list`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("GET", "/parties", &[])?;
    reply.show(invocation, |value| {
        let parties = items(value, "parties");
        if parties.is_empty() {
            return "There are no parties.\n".to_owned();
        }
        let mut table = TextTable::new(&["PARTY", "NAME", "HOST", "PEERS", "CREATED"]);
        for party in parties {
            table.row(vec![
                text(party, "party_id").to_owned(),
                text(party, "name").to_owned(),
                text(party, "host_id").to_owned(),
                number(party, "peers").to_string(),
                date(text(party, "created_at")),
            ]);
        }
        table.text(Style::of_stdout())
    })
}

/// `lanrage party show PARTY`.
pub fn show(invocation: &Invocation) -> Result<(), CommandFailure> {
    let party = invocation.argument(0).unwrap_or_default();
    let reply = DaemonClient::of(invocation)?.ask("GET", &ask::path(&["parties", party]), &[])?;
    reply.show(invocation, |value| human(value, Style::of_stdout()))
}

fn human(answer: &Value, style: Style) -> String {
    let party = answer.get("party").unwrap_or(&Value::Null);
    let network = answer.get("network").unwrap_or(&Value::Null);
    let host = text(party, "host_id");
    let mut facts = Facts::default();
    facts.add("party", text(party, "party_id"));
    facts.add("name", text(party, "name"));
    facts.add("host", host);
    facts.add("created", &date(text(party, "created_at")));
    facts.add("subnet", text(network, "subnet"));
    let mut table = TextTable::new(&["PEER", "NAME", "VIRTUAL IP", "NAT", "PUBLIC ADDRESS", "LAST SEEN"]);
    let members: &[(String, Value)] = match party.get("peers") {
        Some(Value::Object(members)) => members,
        _ => &[],
    };
    for (id, peer) in members {
        let virtual_ip = network.get("peers").map_or("", |peers| text(peers, id));
        let address = match text(peer, "public_ip") {
            "" | "unknown" => "unknown".to_owned(),
            ip => endpoint::text(ip, number(peer, "public_port")),
        };
        table.row(vec![
            if id == host { format!("{id} (host)") } else { id.clone() },
            text(peer, "name").to_owned(),
            virtual_ip.to_owned(),
            text(peer, "nat_type").to_owned(),
            address,
            ago(text(peer, "last_seen"), now().unix),
        ]);
    }
    format!("{}\n{}", facts.text(style), table.text(style))
}

/// `lanrage party delete PARTY`.
pub fn delete(invocation: &Invocation) -> Result<(), CommandFailure> {
    let party = invocation.argument(0).unwrap_or_default();
    let reply = DaemonClient::of(invocation)?.ask("DELETE", &ask::path(&["parties", party]), &[])?;
    reply.show(invocation, |_| format!("Party {} has ended.\n", escape(party)))
}
