//! `lanrage restore`: back to a backup.

use super::ask::DaemonClient;
use super::command::Invocation;
use super::measures::count;
use super::table::escape;
use super::{CommandFailure, output, settings};
use lanrage::daemon::{advice, now};
use lanrage::store::restore::{RestoredState, restore};
use lanrage::store::{FileError, OpenError};
use lanrage::wire::json;
use std::io::ErrorKind;
use std::path::Path;

/// `lanrage restore FILE`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let name = invocation.argument(0).unwrap_or_default();
    let state = settings::state_file(invocation, &DaemonClient::of(invocation)?.state_dir)?;
    let is_itself =
        Path::new(name).canonicalize().is_ok_and(|file| state.canonicalize().is_ok_and(|own| own == file));
    if is_itself {
        return Err(CommandFailure::failed(format_args!("{name} is the state itself: choose a backup")));
    }
    let RestoredState { report, previous } =
        restore(Path::new(name), &state, now().unix).map_err(|error| unusable(&error, Path::new(name)))?;
    let rows: u64 = report.rows.iter().map(|(_, rows)| rows).sum();
    let previous = previous.map(|path| path.display().to_string());
    if invocation.has("json") {
        return output::write(&format!(
            "{}\n",
            json::object(|json| {
                json.key("file").string(&state.display().to_string());
                json.key("rows").int(rows);
                json.key("previous").or_null(previous.as_ref(), |json, previous| json.string(previous));
            })
        ));
    }
    let kept = previous.map(|previous| format!("What was there before is in {}.\n", escape(&previous)));
    output::write(&format!(
        "The state is that of {} now ({}). Start lanrage again: players' files stay good, because the hub's key and all \
         addresses came along.\n{}",
        escape(name),
        count(rows, "row", "rows"),
        kept.unwrap_or_default()
    ))
}

fn unusable(error: &OpenError, backup: &Path) -> CommandFailure {
    match &error.error {
        FileError::InUse => CommandFailure::failed(format_args!(
            "{} is in use: stop lanrage first (`systemctl stop lanrage`, or `service lanrage stop`), and start it afterwards",
            error.path.display()
        )),
        FileError::Io(io) if io.kind() == ErrorKind::NotFound && error.path == backup => {
            CommandFailure::failed(format_args!("there is no file {}: name a backup", backup.display()))
        }
        _ if error.path == backup => CommandFailure::failed(format_args!("{error}: choose another backup")),
        _ => CommandFailure::failed(advice::on_store(error)),
    }
}
