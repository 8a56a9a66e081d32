//! `lanrage db`: what is in a state file, and how it gets into a database and back.

use super::ask::{self, DaemonClient};
use super::client::{self, ClientError};
use super::command::Invocation;
use super::measures::{count, size};
use super::output::Style;
use super::table::{Facts, escape};
use super::{CommandFailure, output, settings};
use lanrage::daemon::advice;
use lanrage::store::dump::{self, Secrets};
#[cfg(feature = "cluster")]
use lanrage::store::postgres::{self, Target};
use lanrage::store::{self, FileError, OpenError, Report};
use lanrage::wire::json::{self, JsonWriter};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

/// `lanrage db check`.
pub fn check(invocation: &Invocation) -> Result<(), CommandFailure> {
    let file = match invocation.argument(0) {
        Some(file) => PathBuf::from(file),
        None => settings::state_file(invocation, &settings::state_dir(invocation)?)?,
    };
    let report = store::check(&file);
    let trouble = match &report {
        Ok(report) if report.is_good() => None,
        Ok(report) if report.needs_repair => Some(CommandFailure::failed(format_args!(
            "{} is not whole: the next `lanrage serve` repairs it, or restore a backup",
            file.display()
        ))),
        Ok(report) => Some(CommandFailure::failed(format_args!(
            "{} holds {} no JSON: restore a backup",
            file.display(),
            count(report.bad_rows.len() as u64, "row that is", "rows that are")
        ))),
        Err(error) => Some(unusable(error, &file)),
    };
    match (&report, invocation.has("json")) {
        (_, true) => output::write(&as_json(&file, report.as_ref().ok(), trouble.as_ref()))?,
        (Ok(report), false) => output::write(&human(&file, report, Style::of_stdout()))?,
        (Err(_), false) => {}
    }
    trouble.map_or(Ok(()), Err)
}

fn unusable(error: &OpenError, file: &Path) -> CommandFailure {
    let shown = file.display();
    match &error.error {
        FileError::InUse => CommandFailure::failed(format_args!(
            "{shown} is in use by a running lanrage: make a copy with `lanrage backup COPY` and check that, or \
             stop it first"
        )),
        FileError::Io(error) if error.kind() == ErrorKind::NotFound => CommandFailure::failed(format_args!(
            "there is no file {shown}: name one, or say where lanrage keeps its state with --state-dir"
        )),
        _ => CommandFailure::failed(advice::on_store(error)),
    }
}

fn human(file: &Path, report: &Report, style: Style) -> String {
    let mut facts = Facts::default();
    facts.add("file", &file.display().to_string());
    facts.add("size", &size(report.file_length));
    let version = report.schema_version.map_or_else(|| "none yet".to_owned(), |version| version.to_string());
    facts.add("schema version", &version);
    let rows: Vec<String> =
        report.rows.iter().map(|(table, rows)| format!("{} {rows}", table.name())).collect();
    facts.add("rows", &rows.join(", "));
    let closed = if report.unclean { "no, which does no harm" } else { "yes" };
    facts.add("closed in good order", closed);
    for (table, key) in &report.bad_rows {
        facts.styled("bad row", style.bad(&format!("{} {}", table.name(), escape(key))));
    }
    facts.styled("result", if report.is_good() { style.good("good") } else { style.bad("bad") });
    facts.text(style)
}

fn as_json(file: &Path, report: Option<&Report>, trouble: Option<&CommandFailure>) -> String {
    let details = |json: &mut JsonWriter, report: &Report| {
        json.key("schema_version").or_null(report.schema_version, |json, version| json.int(version));
        json.key("bytes").int(report.file_length);
        json.key("rows")
            .object(|json| report.rows.iter().for_each(|(table, rows)| json.key(table.name()).int(*rows)));
        json.key("unclean").bool(report.unclean);
        json.key("needs_repair").bool(report.needs_repair);
        json.key("bad_rows").array(|json| {
            for (table, key) in &report.bad_rows {
                json.object(|json| {
                    json.key("table").string(table.name());
                    json.key("key").string(key);
                });
            }
        });
    };
    let text = json::object(|json| {
        json.key("file").string(&file.display().to_string());
        json.key("good").bool(trouble.is_none());
        if let Some(trouble) = trouble {
            json.key("error").string(&trouble.message);
        }
        if let Some(report) = report {
            details(json, report);
        }
    });
    text + "\n"
}

/// `lanrage db dump`.
pub fn dump(invocation: &Invocation) -> Result<(), CommandFailure> {
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(file) = invocation.argument(0) {
        return from_file(Path::new(file), &mut out);
    }
    let daemon = DaemonClient::of(invocation)?;
    match client::download(&daemon.socket, "GET", "/backup?secrets=redacted", &mut out) {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(ask::refusal(status, &body)),
        Err(ClientError::Output(error)) => Err(CommandFailure::output(&error)),
        Err(error @ ClientError::NotRunning(_)) => {
            let file = settings::state_file(invocation, &daemon.state_dir)?;
            if !file.exists() {
                return Err(CommandFailure::failed(error));
            }
            from_file(&file, &mut out)
        }
        Err(error) => Err(CommandFailure::failed(error)),
    }
}

fn from_file(file: &Path, out: &mut dyn io::Write) -> Result<(), CommandFailure> {
    dump::file(file, Secrets::Redact, out).map(|_| ()).map_err(|error| match &error.error {
        FileError::Io(error) if error.kind() == ErrorKind::BrokenPipe => CommandFailure::output(error),
        _ => unusable(&error, file),
    })
}

/// `lanrage db import`.
#[cfg(feature = "cluster")]
pub fn import(invocation: &Invocation) -> Result<(), CommandFailure> {
    let name = invocation.argument(0).unwrap_or_default();
    let target = target(invocation)?;
    let rows =
        postgres::import(Path::new(name), &target).map_err(|error| unusable(&error, Path::new(name)))?;
    say_copied(invocation, rows as u64, name, &target.shown())
}

/// `lanrage db export`.
#[cfg(feature = "cluster")]
pub fn export(invocation: &Invocation) -> Result<(), CommandFailure> {
    let name = invocation.argument(0).unwrap_or_default();
    let target = target(invocation)?;
    let rows = postgres::export(&target, Path::new(name)).map_err(CommandFailure::failed)?;
    say_copied(invocation, rows, &target.shown(), name)
}

#[cfg(feature = "cluster")]
fn target(invocation: &Invocation) -> Result<Target, CommandFailure> {
    let (settings, _) = settings::effective(invocation)?;
    let target = settings.cluster.target(settings.http).map_err(CommandFailure::failed)?;
    target
        .ok_or_else(|| invocation.wrong("name the database, as in --store postgres://lanrage@db.lan/lanrage"))
}

#[cfg(feature = "cluster")]
fn say_copied(invocation: &Invocation, rows: u64, from: &str, to: &str) -> Result<(), CommandFailure> {
    output::write(&match invocation.has("json") {
        true => {
            let text = json::object(|json| {
                json.key("from").string(from);
                json.key("to").string(to);
                json.key("rows").int(rows);
            });
            text + "\n"
        }
        false => format!("Copied {} from {} to {}.\n", count(rows, "row", "rows"), escape(from), escape(to)),
    })
}
