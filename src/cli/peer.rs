//! `lanrage peer`.

use super::ask::{self, DaemonClient, list, text};
use super::command::Invocation;
use super::output::Style;
use super::table::{TextTable, escape};
use super::{CommandFailure, party};
use lanrage::wire::json;
use lanrage::wire::percent;

/// `lanrage peer kick PARTY PEER`.
pub fn kick(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (party, peer) =
        (invocation.argument(0).unwrap_or_default(), invocation.argument(1).unwrap_or_default());
    let daemon = DaemonClient::of(invocation)?;
    let path = ask::path(&["parties", &party::find(&daemon, party)?, "peers", peer]);
    let reply = daemon.ask("DELETE", &path, &[])?;
    reply.show(invocation, |value| match text(value, "status") {
        "party_deleted" => {
            format!("Peer {} was removed, and with it party {} has ended.\n", escape(peer), escape(party))
        }
        _ => format!("Peer {} was removed from party {}.\n", escape(peer), escape(party)),
    })
}

/// Whom a ban means: the names that the API has for it, and the values.
fn target(invocation: &Invocation) -> Result<Vec<(&'static str, &str)>, CommandFailure> {
    let named = [("peer_id", invocation.argument(1)), ("public_key", invocation.option("key"))];
    let named: Vec<_> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if named.is_empty() {
        return Err(invocation.wrong("say who is meant: a PEER, or --key and a public key"));
    }
    Ok(named)
}

fn shown(target: &[(&'static str, &str)]) -> String {
    let word = |name| if name == "peer_id" { "peer" } else { "key" };
    target
        .iter()
        .map(|(name, value)| format!("{} {}", word(*name), escape(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `lanrage peer ban PARTY PEER`.
pub fn ban(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (party, target) = (invocation.argument(0).unwrap_or_default(), target(invocation)?);
    let body = json::object(|json| target.iter().for_each(|(name, value)| json.key(name).string(value)));
    let daemon = DaemonClient::of(invocation)?;
    let path = ask::path(&["parties", &party::find(&daemon, party)?, "bans"]);
    let reply = daemon.ask("POST", &path, body.as_bytes())?;
    reply.show(invocation, |_| format!("Banned from party {}: {}.\n", escape(party), shown(&target)))
}

/// `lanrage peer unban PARTY PEER`.
pub fn unban(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (party, target) = (invocation.argument(0).unwrap_or_default(), target(invocation)?);
    let query: Vec<String> =
        target.iter().map(|(name, value)| format!("{name}={}", percent::encode(value))).collect();
    let daemon = DaemonClient::of(invocation)?;
    let id = party::find(&daemon, party)?;
    let path = format!("{}?{}", ask::path(&["parties", &id, "bans"]), query.join("&"));
    let reply = daemon.ask("DELETE", &path, &[])?;
    reply.show(invocation, |_| format!("May come back to party {}: {}.\n", escape(party), shown(&target)))
}

/// `lanrage peer bans PARTY`.
pub fn bans(invocation: &Invocation) -> Result<(), CommandFailure> {
    let party = invocation.argument(0).unwrap_or_default();
    let daemon = DaemonClient::of(invocation)?;
    let id = party::find(&daemon, party)?;
    let reply = daemon.ask("GET", &ask::path(&["parties", &id, "bans"]), &[])?;
    reply.show(invocation, |value| {
        let bans = list(value, "bans");
        if bans.is_empty() {
            return format!("Nobody is banned from party {}.\n", escape(party));
        }
        let mut table = TextTable::new(&["PEER", "PUBLIC KEY"]);
        for ban in bans {
            table.row(vec![text(ban, "peer_id").to_owned(), text(ban, "public_key").to_owned()]);
        }
        table.text(Style::of_stdout())
    })
}
