//! `lanrage events`: what happened lately.

use super::ask::{DaemonClient, list, number, text};
use super::command::Invocation;
use super::measures::{date_of, span};
use super::table::escape;
use super::{CommandFailure, output};
use lanrage::daemon::now;
use lanrage::wire::json::{self, Value};
use std::time::Duration;

/// Between two looks with `--follow`.
const PAUSE: Duration = Duration::from_secs(1);

/// `lanrage events`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let daemon = DaemonClient::of(invocation)?;
    let mut last = 0;
    loop {
        let reply = daemon.ask("GET", &format!("/events?after={last}"), &[])?;
        let events = list(&reply.value, "events");
        let shown: String = events.iter().map(|event| line(event, invocation.has("json"))).collect();
        if !shown.is_empty() {
            output::write(&shown)?;
        } else if last == 0 && !invocation.has("follow") && !invocation.has("json") {
            output::write("Nothing has happened since the start.\n")?;
        }
        if !invocation.has("follow") {
            return Ok(());
        }
        // A daemon that was started anew counts from the beginning.
        last = number(&reply.value, "last");
        std::thread::sleep(PAUSE);
    }
}

fn line(event: &Value, as_json: bool) -> String {
    if as_json {
        return as_object(event) + "\n";
    }
    let at = number(event, "at");
    let now = u64::try_from(now().unix.as_secs()).unwrap_or(0);
    format!("{}  {:>12} ago  {}\n", date_of(at), span(now.saturating_sub(at)), escape(text(event, "text")))
}

/// An event as one line of JSON.
fn as_object(event: &Value) -> String {
    let Value::Object(members) = event else { return "{}".to_owned() };
    json::object(|json| {
        for (name, value) in members {
            match value {
                Value::String(text) => json.key(name).string(text),
                Value::Number(number) => json.key(name).raw(number),
                // There are no others in an event.
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let text = r#"{"number":7,"at":1000,"kind":"joined","text":"Bob\u001b joined"}"#;
        let event = json::parse(text.as_bytes()).unwrap();
        assert_eq!(line(&event, true), format!("{text}\n"));
        let shown = line(&event, false);
        assert!(
            shown.starts_with("1970-01-01 00:16:40 UTC ") && shown.ends_with("Bob\\u{1b} joined\n"),
            "{shown}"
        );
    }
}
