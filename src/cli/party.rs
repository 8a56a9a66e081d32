//! `lanrage party`.

use super::ask::{self, DaemonClient, list as items, number, text};
use super::command::Invocation;
use super::measures::{ago, date, seconds};
use super::output::{self, Style};
use super::table::{Facts, TextTable, escape};
use super::{CommandFailure, secret};
use lanrage::daemon::now;
use lanrage::wire::endpoint;
use lanrage::wire::json::{self, JsonWriter, Value};

/// Who hosts parties that belong to the machine.
const MACHINE: &str = "_machine";

/// The id of the party that somebody means by its id or its name.
pub fn find(daemon: &DaemonClient, wanted: &str) -> Result<String, CommandFailure> {
    let reply = daemon.ask("GET", "/parties", &[])?;
    named(items(&reply.value, "parties"), "party_id", wanted).map_err(|found| match found {
        0 => CommandFailure::failed(format_args!("there is no party {wanted}: `lanrage party list` shows all")),
        _ => CommandFailure::failed(format_args!(
            "{found} parties are called {wanted}: say the id of the one that is meant, as `lanrage party list` shows it"
        )),
    })
}

/// The id, under `key`, of the one of `all` that has the id or the name `wanted`; otherwise how many there are.
pub fn named(all: &[Value], key: &str, wanted: &str) -> Result<String, usize> {
    if all.iter().any(|one| text(one, key) == wanted) {
        return Ok(wanted.to_owned());
    }
    let found: Vec<_> = all.iter().filter(|one| text(one, "name") == wanted).collect();
    match found[..] {
        [one] => Ok(text(one, key).to_owned()),
        _ => Err(found.len()),
    }
}

/// What an option that is a span of time says, in seconds.
pub fn span(invocation: &Invocation, option: &str, given: &str) -> Result<u64, CommandFailure> {
    seconds(given).ok_or_else(|| {
        invocation
            .wrong(&format!("--{option} wants a number with a unit, such as 30m, 6h or 2d, not \"{given}\""))
    })
}

/// What options say of who may get in and until when.
struct Rules {
    access: Option<&'static str>,
    /// A new one, if there is to be one.
    password: Option<String>,
    /// In seconds since 1970; `Some(None)` for never.
    ends: Option<Option<i64>>,
}

impl Rules {
    fn of(invocation: &Invocation) -> Result<Self, CommandFailure> {
        let kinds =
            [("open", "open"), ("public", "public"), ("password", "password"), ("invite-only", "invite")];
        let given: Vec<_> = kinds.iter().filter(|(option, _)| invocation.has(option)).collect();
        let access = match given[..] {
            [] => None,
            [(_, access)] => Some(*access),
            _ => {
                return Err(
                    invocation.wrong("a party is open, public, by password, or invite-only: choose one")
                );
            }
        };
        let ends = match invocation.option("ends") {
            None => None,
            Some("never") => Some(None),
            Some(given) => {
                Some(Some(now().unix.as_secs().saturating_add_unsigned(span(invocation, "ends", given)?)))
            }
        };
        Ok(Rules { access, password: invocation.has("password").then(secret::passphrase), ends })
    }

    /// As the API has them.
    fn write(&self, json: &mut JsonWriter) {
        if let Some(access) = self.access {
            json.key("access").string(access);
        }
        if let Some(password) = &self.password {
            json.key("password").string(password);
        }
        if let Some(ends) = self.ends {
            json.key("ends_at").or_null(ends, JsonWriter::int);
        }
    }
}

/// `lanrage party create NAME`.
pub fn create(invocation: &Invocation) -> Result<(), CommandFailure> {
    let name = invocation.argument(0).unwrap_or_default();
    let rules = Rules::of(invocation)?;
    let body = json::object(|json| {
        json.key("name").string(name);
        if let Some(relay) = invocation.option("relay") {
            json.key("relay").string(relay);
        }
        rules.write(json);
    });
    let reply = DaemonClient::of(invocation)?.ask("POST", "/parties", body.as_bytes())?;
    if let Some(password) = rules.password.as_ref().filter(|_| invocation.has("json")) {
        return output::write(&reply.text_with("password", password));
    }
    let style = Style::of_stdout();
    reply.show(invocation, |value| {
        let id = text(value, "party_id");
        let mut out = format!("The party {} is there. Its id is {id}.\n", style.bold(&escape(name)));
        if let Some(password) = &rules.password {
            out += &format!("Its password, shown once: {}\n", style.bold(password));
        }
        out + &format!(
            "\nFriends with a WireGuard app:    lanrage device add {0} NAME\n\
             Friends who do it by themselves: lanrage invite create {0}\n",
            quoted(name)
        )
    })
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    match name.chars().all(is_plain) {
        true => name.to_owned(),
        false => format!("'{}'", escape(name).replace('\'', "'\\''")),
    }
}

/// `lanrage party set PARTY`.
pub fn set(invocation: &Invocation) -> Result<(), CommandFailure> {
    let rules = Rules::of(invocation)?;
    let body = json::object(|json| {
        if let Some(name) = invocation.option("name") {
            json.key("name").string(name);
        }
        if invocation.has("permanent") != invocation.has("temporary") {
            json.key("permanent").bool(invocation.has("permanent"));
        }
        rules.write(json);
    });
    if body == "{}" {
        return Err(invocation.wrong("say what to change"));
    }
    let daemon = DaemonClient::of(invocation)?;
    let party = find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let reply = daemon.ask("POST", &ask::path(&["parties", &party, "settings"]), body.as_bytes())?;
    if let Some(password) = rules.password.as_ref().filter(|_| invocation.has("json")) {
        return output::write(&reply.text_with("password", password));
    }
    reply.show(invocation, |_| match &rules.password {
        Some(password) => {
            format!("Done. The new password, shown once: {}\n", Style::of_stdout().bold(password))
        }
        None => "Done.\n".to_owned(),
    })
}

/// `lanrage party rename PARTY NAME`.
pub fn rename(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let name = invocation.argument(1).unwrap_or_default();
    let body = json::object(|json| json.key("name").string(name));
    let reply = daemon.ask("POST", &ask::path(&["parties", &party, "settings"]), body.as_bytes())?;
    reply.show(invocation, |_| format!("Its name is {} now.\n", escape(name)))
}

/// `lanrage party list`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let reply = DaemonClient::of(invocation)?.ask("GET", "/parties", &[])?;
    reply.show(invocation, |value| {
        let parties = items(value, "parties");
        if parties.is_empty() {
            return "There are no parties: `lanrage party create NAME` makes one.\n".to_owned();
        }
        let mut table = TextTable::new(&["PARTY", "NAME", "HOST", "PEERS", "CREATED"]);
        for party in parties {
            table.row(vec![
                text(party, "party_id").to_owned(),
                text(party, "name").to_owned(),
                host_of(party).to_owned(),
                number(party, "peers").to_string(),
                date(text(party, "created_at")),
            ]);
        }
        table.text(Style::of_stdout())
    })
}

/// Who hosts a party: a peer, or nobody but the machine.
fn host_of(party: &Value) -> &str {
    match text(party, "host_id") {
        MACHINE => "this machine",
        host => host,
    }
}

/// `lanrage party show PARTY`.
pub fn show(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let reply = daemon.ask("GET", &ask::path(&["parties", &party]), &[])?;
    reply.show(invocation, |value| human(value, Style::of_stdout()))
}

fn human(answer: &Value, style: Style) -> String {
    let party = answer.get("party").unwrap_or(&Value::Null);
    let network = answer.get("network").unwrap_or(&Value::Null);
    let host = host_of(party);
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
    let daemon = DaemonClient::of(invocation)?;
    let wanted = invocation.argument(0).unwrap_or_default();
    let party = find(&daemon, wanted)?;
    let reply = daemon.ask("DELETE", &ask::path(&["parties", &party]), &[])?;
    reply.show(invocation, |_| format!("Party {} has ended.\n", escape(wanted)))
}
