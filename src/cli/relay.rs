//! `lanrage relay`.

use super::CommandFailure;
use super::ask::{self, DaemonClient, number, text};
use super::command::Invocation;
use super::measures::date;
use super::output::Style;
use super::table::TextTable;
use lanrage::wire::endpoint;

/// `lanrage relay list`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("GET", "/relays", &[])?;
    reply.show(invocation, |value| {
        let mut table = TextTable::new(&["RELAY", "REGION", "ADDRESS", "LOAD", "REGISTERED", "PUBLIC KEY"]);
        for relay in ask::list(value, "relays") {
            table.row(vec![
                text(relay, "relay_id").to_owned(),
                text(relay, "region").to_owned(),
                endpoint::text(text(relay, "public_ip"), number(relay, "port")),
                format!("{}/{}", number(relay, "load"), number(relay, "capacity")),
                date(text(relay, "registered_at")),
                text(relay, "public_key").to_owned(),
            ]);
        }
        table.text(Style::of_stdout())
    })
}
