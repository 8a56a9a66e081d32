//! `lanrage device`: members with only a WireGuard app.

use super::ask::{self, DaemonClient, list as items, number, text};
use super::command::Invocation;
use super::measures::{span, until};
use super::output::Style;
use super::table::{TextTable, escape};
use super::{CommandFailure, output, party, qr};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::daemon::now;
use lanrage::wire::endpoint;
use lanrage::wire::json::{self, Value};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// `lanrage device add PARTY NAME`.
pub fn add(invocation: &Invocation) -> Result<(), CommandFailure> {
    let (wanted, name) =
        (invocation.argument(0).unwrap_or_default(), invocation.argument(1).unwrap_or_default());
    let file = invocation.option("conf").map(Path::new);
    if let Some(file) = file {
        check_target(file, invocation)?;
    }
    let own_key = invocation.option("key");
    if own_key.is_some_and(|key| PublicKey::decode(key).is_none()) {
        return Err(
            invocation.wrong("--key wants the public key that the app shows: 44 characters of Base64")
        );
    }
    if own_key.is_some() && invocation.has("qr") {
        return Err(
            invocation.wrong("with --key the private key is in the app already: there is nothing to scan")
        );
    }
    let expires =
        invocation.option("expires").map(|given| party::span(invocation, "expires", given)).transpose()?;
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, wanted)?;
    // Made here, shown once, and never given away: not to the daemon either.
    let private = own_key.is_none().then(PrivateKey::generate);
    let public = match (&private, own_key) {
        (Some(private), _) => private.public_key().encode(),
        (None, key) => key.unwrap_or_default().to_owned(),
    };
    let body = json::object(|json| {
        json.key("name").string(name);
        json.key("public_key").string(&public);
        if let Some(seconds) = expires {
            json.key("expires_in").int(seconds);
        }
    });
    let opened = file.map(ConfFile::open).transpose()?;
    let reply = daemon.ask("POST", &ask::path(&["parties", &party, "devices"]), body.as_bytes());
    let conf = reply.as_ref().map(|reply| with_key(text(&reply.value, "text"), private.as_ref()));
    match (opened, &conf) {
        (Some(opened), Ok(conf)) => opened.write(conf)?,
        (Some(opened), Err(_)) => opened.discard(),
        (None, _) => {}
    }
    let (conf, reply) = (conf.unwrap_or_default(), reply?);
    if let Some(private) = private.as_ref().filter(|_| invocation.has("json")) {
        return output::write(&Zeroizing::new(reply.text_with("private_key", &private.encode())));
    }
    if invocation.has("json") {
        return reply.show(invocation, |_| String::new());
    }
    let style = Style::of_stdout();
    let mut shown = Zeroizing::new(format!(
        "{} is in the party as {}.\n",
        style.bold(&escape(name)),
        escape(text(&reply.value, "virtual_ip"))
    ));
    if let Some(warning) = endpoint_trouble(&reply.value) {
        *shown += &format!("{}\n", style.bad(&warning));
    }
    match (file, &private) {
        (Some(file), Some(_)) => {
            *shown += &format!(
                "{} is for {} alone: whoever has it can play in that place. Import it in the WireGuard app.\n",
                escape(&file.display().to_string()),
                escape(name)
            );
        }
        (Some(file), None) => {
            *shown += &format!(
                "{} has no private key: in the app, add the line PrivateKey that it has already.\n",
                escape(&file.display().to_string())
            );
        }
        (None, Some(_)) if invocation.has("qr") || style.is_terminal() => {
            let code = qr::draw(&conf, style).ok_or_else(|| {
                CommandFailure::failed("the file is too long for a picture: use --conf FILE")
            })?;
            *shown += &format!(
                "In the WireGuard app: +, then \"scan from QR code\". The picture is shown once; it holds a private key.\n\n\
                 {}\nOn a PC, take a file instead: remove the device and add it again with --conf FILE.\n",
                code.as_str()
            );
        }
        (None, _) => *shown += &format!("\n{}", conf.as_str()),
    }
    output::write(&shown)
}

/// A file for the app from what the daemon says, with the private key if we have it.
fn with_key(text: &str, private: Option<&PrivateKey>) -> Zeroizing<String> {
    // Escaped where people look; here line breaks are wanted, and nothing else that acts on a terminal.
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 64));
    for line in text.lines() {
        *out += &escape(line);
        out.push('\n');
        if let (Some(private), "[Interface]") = (private, line) {
            *out += &format!("PrivateKey = {}\n", private.encode().as_str());
        }
    }
    out
}

/// What is wrong with where the file says that the hub is.
fn endpoint_trouble(reply: &Value) -> Option<String> {
    let endpoint =
        reply.get("config").and_then(|config| config.get("peer")).map_or("", |peer| text(peer, "endpoint"));
    let (host, _) = endpoint::parse(endpoint)?;
    endpoint::is_private(&host).then(|| {
        format!(
            "Friends outside do not reach {}: set public_endpoint to this network's address or name outside, and add \
             the device again.",
            escape(endpoint)
        )
    })
}

fn check_target(file: &Path, invocation: &Invocation) -> Result<(), CommandFailure> {
    if file.exists() && !invocation.has("force") {
        return Err(CommandFailure::failed(format_args!(
            "{} exists: choose another file, or replace it with --force",
            file.display()
        )));
    }
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let tunnel = name.strip_suffix(".conf").unwrap_or_default();
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "_=+.-".contains(letter);
    if tunnel.is_empty() || tunnel.len() > 15 || !tunnel.chars().all(is_good) {
        return Err(invocation.wrong(
            "WireGuard apps want a file named like NAME.conf, with 1 to 15 letters, digits or _ = + . - before the dot",
        ));
    }
    Ok(())
}

/// A file for the app, readable by its owner alone. It is opened before there is anything to write: a device whose key is
/// lost is of no use to anybody.
struct ConfFile<'a> {
    path: &'a Path,
    file: File,
    is_new: bool,
}

impl<'a> ConfFile<'a> {
    fn open(path: &'a Path) -> Result<Self, CommandFailure> {
        let is_new = !path.exists();
        let mut open = OpenOptions::new();
        let opened = open.write(true).create(true).truncate(false).mode(0o600).open(path);
        opened.map(|file| ConfFile { path, file, is_new }).map_err(|error| match error.kind() {
            ErrorKind::NotFound => CommandFailure::failed(format_args!(
                "can't write {}: its directory does not exist: make it, or choose another",
                path.display()
            )),
            _ => cannot_write(path, &error),
        })
    }

    fn write(mut self, text: &str) -> Result<(), CommandFailure> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        written.and_then(|()| self.file.sync_all()).map_err(|error| cannot_write(self.path, &error))
    }

    /// Nothing came of it.
    fn discard(self) {
        if self.is_new {
            // An empty file is left if this fails, and says so by being empty.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn cannot_write(file: &Path, error: &std::io::Error) -> CommandFailure {
    CommandFailure::failed(format_args!("can't write {}: {error}", file.display()))
}

/// `lanrage device list PARTY`.
pub fn list(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let reply = daemon.ask("GET", &ask::path(&["parties", &party, "devices"]), &[])?;
    reply.show(invocation, |value| {
        let devices = items(value, "devices");
        if devices.is_empty() {
            return "There are no devices: `lanrage device add PARTY NAME` makes one.\n".to_owned();
        }
        let mut table = TextTable::new(&["DEVICE", "NAME", "VIRTUAL IP", "HANDSHAKE", "ENDS"]);
        for device in devices {
            table.row(vec![
                text(device, "peer_id").to_owned(),
                text(device, "name").to_owned(),
                text(device, "virtual_ip").to_owned(),
                handshake(device),
                if number(device, "expires_at") > 0 {
                    until(number(device, "expires_at"), now().unix)
                } else {
                    String::new()
                },
            ]);
        }
        table.text(Style::of_stdout())
    })
}

fn handshake(device: &Value) -> String {
    match number(device, "last_handshake") {
        0 => "never".to_owned(),
        then => {
            let now = u64::try_from(now().unix.as_secs()).unwrap_or(0);
            format!("{} ago", span(now.saturating_sub(then)))
        }
    }
}

/// `lanrage device remove PARTY DEVICE`.
pub fn remove(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let party = party::find(&daemon, invocation.argument(0).unwrap_or_default())?;
    let wanted = invocation.argument(1).unwrap_or_default();
    let reply = daemon.ask("GET", &ask::path(&["parties", &party, "devices"]), &[])?;
    let device =
        party::named(items(&reply.value, "devices"), "peer_id", wanted).map_err(|found| match found {
            0 => CommandFailure::failed(format_args!(
                "there is no device {wanted} in the party: `lanrage device list {party}` shows all"
            )),
            _ => CommandFailure::failed(format_args!(
                "{found} devices are called {wanted}: say the id of the one that is meant"
            )),
        })?;
    let reply = daemon.ask("DELETE", &ask::path(&["parties", &party, "devices", &device]), &[])?;
    reply.show(invocation, |_| {
        format!("{} is removed. Its file or picture is of no use any more.\n", escape(wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_key_gets_its_line() {
        let key = PrivateKey::generate();
        let conf = with_key("[Interface]\nAddress = 10.66.0.2/16\n\n[Peer]\n", Some(&key));
        let expected = format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.66.0.2/16\n\n[Peer]\n",
            key.encode().as_str()
        );
        assert_eq!(conf.as_str(), expected);
        assert_eq!(with_key("[Interface]\nA\u{1b}[2J\n", None).as_str(), "[Interface]\nA\\u{1b}[2J\n");
    }
}
