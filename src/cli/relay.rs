//! `lanrage relay`.

use super::ask::{self, DaemonClient, number, text};
use super::command::Invocation;
use super::measures::date;
use super::output::Style;
use super::serve::start_log;
use super::table::{TextTable, escape};
use super::{CommandFailure, output, settings};
use lanrage::crypto::x25519::PublicKey;
use lanrage::daemon::far_relay::FarRelay;
use lanrage::daemon::{Bell, SignalWatch, Supervisor, check_threads, log_output};
use lanrage::wire::endpoint;
use lanrage::wire::json::{Value, object};
use lanrage::wire::roster::KEY_PREFIX;
use lanrage::wire::server_url::ServerUrl;
use std::rc::Rc;

/// `lanrage relay`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let url = invocation.option("control").ok_or_else(|| {
        invocation.wrong(
            "--control URL is missing: the server whose parties it serves, as in http://router.lan:8667",
        )
    })?;
    let url = ServerUrl::parse(url).map_err(CommandFailure::usage)?;
    let key = invocation.option("control-key").map(|text| {
        let wrong = || invocation.wrong("--control-key takes a WireGuard public key (Base64 of 32 bytes)");
        PublicKey::decode(text).ok_or_else(wrong)
    });
    let key = key.transpose()?;
    lanrage::sys::ignore_hangups();
    check_threads().map_err(CommandFailure::failed)?;
    let signals = SignalWatch::new().map_err(CommandFailure::failed)?;
    let (settings, warning) = settings::effective(invocation)?;
    start_log(settings.log);
    if let Some(warning) = warning {
        log::warn!("{warning}");
    }
    let bell = Bell::default();
    let supervisor = Rc::new(Supervisor::from_environment());
    let serve = || {
        let stop = signals.stop(bell.clone())?;
        let relay = FarRelay::open(settings, url, key, bell, supervisor)?;
        // Nobody may read it; that is no reason not to serve.
        let _ = log_output::print(&format!("listening relay={}\n", relay.address()));
        relay.run(stop)
    };
    serve().map_err(|error| CommandFailure::failed(error).said_at_once())
}

/// `lanrage relay list`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let (reply, approvals) =
        (daemon.ask("GET", "/relays", &[])?, daemon.ask("GET", "/relay-approvals", &[])?);
    if invocation.has("json") {
        return output::write(&reply.text_with_list("approvals", &approvals));
    }
    let mut table = TextTable::new(&["RELAY", "REGION", "ADDRESS", "LOAD", "REGISTERED", "PUBLIC KEY"]);
    for relay in ask::list(&reply.value, "relays") {
        table.row(vec![
            text(relay, "relay_id").to_owned(),
            text(relay, "region").to_owned(),
            address(relay),
            format!("{}/{}", number(relay, "load"), number(relay, "capacity")),
            date(text(relay, "registered_at")),
            text(relay, "public_key").to_owned(),
        ]);
    }
    let mut shown = table.text(Style::of_stdout());
    let approvals = ask::list(&approvals.value, "relays");
    if !approvals.is_empty() {
        shown += "\nIn other places:\n";
        let mut table =
            TextTable::new(&["RELAY", "STATE", "REGION", "ADDRESS", "PARTIES", "MEMBERS", "PUBLIC KEY"]);
        for relay in approvals {
            table.row(vec![
                text(relay, "relay_id").to_owned(),
                text(relay, "state").to_owned(),
                text(relay, "region").to_owned(),
                address(relay),
                number(relay, "parties").to_string(),
                number(relay, "members").to_string(),
                text(relay, "public_key").to_owned(),
            ]);
        }
        shown += &table.text(Style::of_stdout());
        if let Some(waiting) = approvals.iter().find(|relay| text(relay, "state") == "waiting") {
            let (id, key) = (text(waiting, "relay_id"), text(waiting, "public_key"));
            let short = escape(key.get(..KEY_PREFIX).unwrap_or(key));
            shown += &format!(
                "\nOne that waits is given nothing. If its key is the one that it has logged:\n  \
                 lanrage relay approve {} {short}\n",
                escape(id)
            );
        }
    }
    output::write(&shown)
}

fn address(relay: &Value) -> String {
    endpoint::text(text(relay, "public_ip"), number(relay, "port"))
}

/// `lanrage relay approve RELAY KEY`.
pub fn approve(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (id, key) = (invocation.argument(0).unwrap_or_default(), invocation.argument(1).unwrap_or_default());
    let body = object(|json| json.key("public_key").string(key));
    let path = ask::path(&["relay-approvals", id]);
    let reply = DaemonClient::of(invocation)?.ask("POST", &path, body.as_bytes())?;
    reply.show(invocation, |value| {
        format!(
            "Approved: {}. It is told of all parties ({} now), and players of it.\n",
            escape(id),
            number(value, "parties")
        )
    })
}

/// `lanrage relay revoke RELAY`.
pub fn revoke(invocation: &Invocation) -> Result<(), CommandFailure> {
    let id = invocation.argument(0).unwrap_or_default();
    let reply = DaemonClient::of(invocation)?.ask("DELETE", &ask::path(&["relay-approvals", id]), &[])?;
    reply.show(invocation, |_| {
        format!("Not approved any more: {}. It was told to forget all parties.\n", escape(id))
    })
}
