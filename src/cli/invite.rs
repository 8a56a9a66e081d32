//! `lanrage invite`: how friends get in by themselves.

use super::ask::{self, DaemonClient, list as items, number, text};
use super::command::Invocation;
use super::measures::until;
use super::output::Style;
use super::table::{TextTable, escape};
use super::{CommandFailure, output, party, qr};
use lanrage::daemon::now;
use lanrage::wire::json;

/// `lanrage invite create PARTY`.
pub fn create(invocation: &Invocation) -> Result<(), CommandFailure> {
    let uses = match invocation.option("uses") {
        None => 1,
        Some(text) => text
            .parse::<u32>()
            .ok()
            .filter(|uses| *uses > 0)
            .ok_or_else(|| invocation.wrong("--uses wants how many friends may come by it, such as 3"))?,
    };
    let expires = party::span(invocation, "expires", invocation.option("expires").unwrap_or("24h"))?;
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let body = json::object(|json| {
        json.key("uses").int(uses);
        json.key("expires_in").int(expires);
        json.key("code").bool(invocation.has("code"));
    });
    let reply = daemon.ask("POST", &ask::path(&["parties", &party, "invites"]), body.as_bytes())?;
    let style = Style::of_stdout();
    reply.show(invocation, |value| {
        let ends = until(number(value, "expires_at"), now().unix);
        let for_whom = if uses == 1 { "one friend".to_owned() } else { format!("{uses} friends") };
        let (code, url) = (text(value, "code"), text(value, "url"));
        let mut out = match code {
            "" => format!("An invite for {for_whom}; it ends {ends}. It is shown once:\n\n    {}\n", style.bold(&escape(url))),
            code => format!(
                "An invite for {for_whom}; it ends {ends}. The code is shown once:\n\n    {}\n\nFriends type it at {}\nor, in \
                 LANrage's own client, in place of the party's id.\n",
                style.bold(&escape(code)),
                escape(url.split('#').next().unwrap_or_default())
            ),
        };
        if code.is_empty() && style.is_terminal() && let Some(picture) = qr::draw(url, style) {
            out += &format!("\n{picture}");
        }
        for warning in items(value, "warnings") {
            out += &format!("\n{}\n", style.bad(&escape(warning.as_str().unwrap_or_default())));
        }
        out
    })
}

/// `lanrage invite list PARTY`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let reply = daemon.ask("GET", &ask::path(&["parties", &party, "invites"]), &[])?;
    reply.show(invocation, |value| {
        let invites = items(value, "invites");
        if invites.is_empty() {
            return "There are no invites: `lanrage invite create PARTY` makes one.\n".to_owned();
        }
        let mut table = TextTable::new(&["INVITE", "KIND", "USES LEFT", "ENDS"]);
        for invite in invites {
            table.row(vec![
                text(invite, "invite_id").to_owned(),
                text(invite, "kind").to_owned(),
                format!("{} of {}", number(invite, "uses_left"), number(invite, "uses")),
                until(number(invite, "expires_at"), now().unix),
            ]);
        }
        table.text(Style::of_stdout())
    })
}

/// `lanrage invite revoke PARTY INVITE`.
pub fn revoke(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let invite = invocation.argument(1).unwrap_or_default();
    let reply = daemon.ask("DELETE", &ask::path(&["parties", &party, "invites", invite]), &[])?;
    match invocation.has("json") {
        true => reply.show(invocation, |_| String::new()),
        false => output::write("Nobody can come by it any more. Who came by it stays.\n"),
    }
}
