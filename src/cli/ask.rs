//! Asking the running daemon over its socket.

use super::client::ClientError;
use super::command::Invocation;
use super::{CommandFailure, client, output, settings};
use lanrage::daemon::agent::agent_socket_in;
use lanrage::daemon::settings::Settings;
use lanrage::daemon::socket_in;
use lanrage::wire::json::{self, Value};
use lanrage::wire::percent;
use std::path::{Path, PathBuf};

/// Where a daemon of root keeps its state, and a service.
const MACHINE: &str = "/var/lib/lanrage";

/// A daemon to talk to.
pub struct DaemonClient {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    is_agent: bool,
}

/// What it said, with status 200.
pub struct DaemonReply {
    text: String,
    /// Its meaning.
    pub value: Value,
}

impl DaemonClient {
    /// The daemon that an invocation means.
    pub fn of(invocation: &Invocation) -> Result<Self, CommandFailure> {
        let state_dir = of_the_machine(settings::state_dir(invocation)?);
        Ok(DaemonClient { socket: socket_in(&state_dir), state_dir, is_agent: false })
    }

    /// The agent that an invocation means.
    pub fn of_agent(invocation: &Invocation) -> Result<Self, CommandFailure> {
        let state_dir = settings::state_dir(invocation)?;
        Ok(DaemonClient { socket: agent_socket_in(&state_dir), state_dir, is_agent: true })
    }

    /// Asks for something; an answer other than 200 is a failure.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<DaemonReply, CommandFailure> {
        let failure = |error| match error {
            ClientError::NotRunning(socket) if self.is_agent => CommandFailure::failed(format_args!(
                "this machine takes part in no party (nobody listens at {socket}): `lanrage join URL PARTY`, with \
                 sudo if that is how it was started, or say where it keeps its state with --state-dir"
            )),
            error => CommandFailure::failed(error),
        };
        let answer = client::request(&self.socket, method, path, body).map_err(failure)?;
        let (200, body) = answer else { return Err(refusal(answer.0, &answer.1)) };
        let value = json::parse(&body);
        match (String::from_utf8(body), value) {
            (Ok(text), Ok(value)) => Ok(DaemonReply { text, value }),
            _ => Err(CommandFailure::failed(
                "the daemon's answer is not JSON: is this lanrage as old as the daemon?",
            )),
        }
    }
}

impl DaemonReply {
    /// The answer with one more text in it, which the daemon does not know.
    pub fn text_with(&self, name: &str, secret: &str) -> String {
        let open = self.text.trim_end().strip_suffix('}').unwrap_or(&self.text);
        format!("{open},\"{name}\":\"{secret}\"}}\n")
    }

    /// The answer with a list of another one in it, as `name`.
    pub fn text_with_list(&self, name: &str, other: &DaemonReply) -> String {
        let open = self.text.trim_end().strip_suffix('}').unwrap_or(&self.text);
        let list = other.text.find('[').zip(other.text.rfind(']'));
        let list = list.map_or("[]", |(start, end)| &other.text[start..=end]);
        format!("{open},\"{name}\":{list}}}\n")
    }

    /// Prints what `human` makes of it, or with `--json` the answer as it came.
    pub fn show(
        &self,
        invocation: &Invocation,
        human: impl FnOnce(&Value) -> String,
    ) -> Result<(), CommandFailure> {
        match invocation.has("json") {
            true => output::write(&format!("{}\n", self.text.trim_end())),
            false => output::write(&human(&self.value)),
        }
    }
}

/// Where the machine's own daemon keeps its state, if this user has none and there may be that.
fn of_the_machine(own: PathBuf) -> PathBuf {
    let is_default = own == Settings::default().state_dir;
    let machines = Path::new(MACHINE);
    match is_default && !socket_in(&own).exists() && machines.symlink_metadata().is_ok() {
        true => machines.to_owned(),
        false => own,
    }
}

/// What a status other than 200 says: the `detail`, which is a text or, with 422, a list of problems.
pub fn refusal(status: u16, body: &[u8]) -> CommandFailure {
    let value = json::parse(body).ok();
    let message = match value.as_ref().and_then(|value| value.get("detail")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let mut problems: Vec<String> = items.iter().map(problem).collect();
            problems.dedup();
            problems.join("; ")
        }
        _ => format!("the daemon answered with status {status}"),
    };
    let next = match status {
        404 if message.starts_with("Party") => ": `lanrage party list` shows all parties",
        404 if message.starts_with("Peer") => ": `lanrage party show PARTY` shows its peers",
        404 if message.starts_with("Invite") => ": `lanrage invite list PARTY` shows all invites",
        404 if message.starts_with("No relay") => ": `lanrage relay list` shows all relays and their keys",
        404 if message.starts_with("Ban") => ": `lanrage peer bans PARTY` shows all bans",
        _ => "",
    };
    CommandFailure::failed(format_args!("{message}{next}"))
}

fn problem(item: &Value) -> String {
    let place: Vec<String> = list(item, "loc")
        .iter()
        .filter_map(|part| match part {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    // Which part of the request it was in says nothing to who wrote none.
    let inner = usize::from(matches!(place.first().map(String::as_str), Some("body" | "query" | "path")));
    let said = text(item, "msg");
    let said = ["Value error, ", "String "].iter().find_map(|start| said.strip_prefix(start)).unwrap_or(said);
    match &place[inner..] {
        [] => said.to_owned(),
        place => format!("{}: {said}", place.join(" ").replace('_', " ")),
    }
}

/// A path of `parts`; what users typed is encoded.
pub fn path(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", percent::encode(part))).collect()
}

/// The text `name` of an object, or nothing.
pub fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The number `name` of an object, or 0.
pub fn number(object: &Value, name: &str) -> u64 {
    match object.get(name) {
        Some(Value::Number(text)) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

/// The items of the array `name` of an object.
pub fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    match object.get(name) {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_the_daemon_said() {
        let message = |status, body: &str| refusal(status, body.as_bytes()).message;
        assert_eq!(message(409, r#"{"detail":"Too many"}"#), "Too many");
        assert_eq!(
            message(
                422,
                r#"{"detail":[{"loc":["body","a",0],"msg":"bad"},{"loc":["query","b"],"msg":"worse"}]}"#
            ),
            "a 0: bad; b: worse"
        );
        assert_eq!(
            message(
                422,
                r#"{"detail":[{"loc":["body","public_key"],"msg":"Value error, it is too long"},
                    {"loc":["body"],"msg":"Field required"}]}"#
            ),
            "public key: it is too long; Field required"
        );
        let twice = r#"{"loc":["body","name"],"msg":"String should have at most 100 characters"}"#;
        assert_eq!(
            message(422, &format!("{{\"detail\":[{twice},{twice}]}}")),
            "name: should have at most 100 characters"
        );
        assert!(message(404, r#"{"detail":"Party x not found"}"#).contains("lanrage party list"));
        for odd in ["", "{", "[]", r#"{"detail":7}"#] {
            assert_eq!(message(500, odd), "the daemon answered with status 500");
        }
    }

    #[test]
    fn what_users_type_stays_in_its_part_of_the_path() {
        assert_eq!(path(&["parties", "a/b?c d\r\n", "é"]), "/parties/a%2Fb%3Fc%20d%0D%0A/%C3%A9");
    }
}
