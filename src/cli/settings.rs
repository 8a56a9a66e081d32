//! Where settings come from: flags, the environment, a file, defaults; the first that has one counts.

use super::CommandFailure;
use super::command::Invocation;
use super::table;
use lanrage::daemon::settings::{CONFIG_VARIABLE, SETTINGS, Settings};
use lanrage::store;
use lanrage::wire::decimal::Decimal;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};

/// The settings file, if none is named.
const DEFAULT_FILE: &str = "/etc/lanrage/lanrage.toml";
/// A longer file is not one of ours, in bytes.
const MAX_FILE: u64 = 1_000_000;
const STATE_DIR: &str = "state_dir";

/// All settings that a daemon started in this way has, and what is said about them if they can be used all the
/// same.
pub fn effective(invocation: &Invocation) -> Result<(Settings, Option<String>), CommandFailure> {
    let mut settings = Settings::default();
    read_file(&mut settings, invocation)?;
    let warning = settings.read_environment(std::env::vars_os()).map_err(CommandFailure::usage)?;
    for setting in SETTINGS {
        let flag = setting.flag();
        if let Some(value) = invocation.option(flag.trim_start_matches('-')) {
            settings.set(setting.key, value, &flag).map_err(CommandFailure::usage)?;
        }
    }
    Ok((settings, warning))
}

/// All settings that the daemon would have if it were started in this way now.
pub fn again(invocation: &Invocation) -> Result<Settings, CommandFailure> {
    // A pipe was read at the start, and would hold up everything.
    let (path, _) = file_of(invocation);
    if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        let path = path.display();
        return Err(CommandFailure::usage(format_args!(
            "{path} is not a regular file, and can't be read again"
        )));
    }
    // What there is to be said about them was said at the start: no environment changes after that.
    effective(invocation).map(|(settings, _)| settings)
}

/// Where the daemon that is meant keeps its state. Sources that can't change the answer are not read: a
/// user may not be allowed to read the daemon's file.
pub fn state_dir(invocation: &Invocation) -> Result<PathBuf, CommandFailure> {
    let mut settings = Settings::default();
    if let Some(value) = invocation.option("state-dir") {
        settings.set(STATE_DIR, value, "--state-dir").map_err(CommandFailure::usage)?;
        return Ok(settings.state_dir);
    }
    let variable = SETTINGS.iter().find(|setting| setting.key == STATE_DIR).map(|setting| setting.variable());
    let mut found = std::env::vars_os().filter(|(name, _)| name.to_str() == variable.as_deref());
    match found.next() {
        None => find_state_dir(&mut settings, invocation)?,
        Some(found) => {
            settings.read_environment([found].into_iter()).map_err(CommandFailure::usage)?;
        }
    }
    Ok(settings.state_dir)
}

/// The state file of the daemon that is meant, for who reads or replaces it without a daemon's help. `--state-dir` always
/// means a file.
#[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "there is nothing but files"))]
pub fn state_file(invocation: &Invocation, state_dir: &Path) -> Result<PathBuf, CommandFailure> {
    #[cfg(feature = "cluster")]
    if invocation.option("state-dir").is_none() && effective(invocation)?.0.cluster.store.is_some() {
        return Err(CommandFailure::failed(
            "the state is in a database (setting `store`): use `lanrage db export FILE`, or ask where lanrage runs and \
             serves; --state-dir means a state file all the same",
        ));
    }
    Ok(store::path_in(state_dir))
}

/// Reads where the state is kept from the settings file. A mistake elsewhere in it is said, and is no reason not to ask
/// a daemon that runs.
fn find_state_dir(settings: &mut Settings, invocation: &Invocation) -> Result<(), CommandFailure> {
    let Some((path, text)) = file_text(invocation)? else { return Ok(()) };
    let Err(error) = settings.read_file(&text, &path) else { return Ok(()) };
    let is_it =
        |line: &&str| line.trim_start().strip_prefix(STATE_DIR).is_some_and(|rest| rest.contains('='));
    let mut found = Settings::default();
    if let Some(line) = text.lines().take_while(|line| !line.trim_start().starts_with('[')).find(is_it) {
        found.read_file(line, &path).map_err(|_| CommandFailure::usage(&error))?;
    }
    *settings = found;
    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "lanrage: {}", table::escape_lines(&error.to_string()));
    Ok(())
}

/// The settings file, and what named it; nothing did if that is empty.
fn file_of(invocation: &Invocation) -> (PathBuf, &'static str) {
    let variable = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    match (invocation.option("config"), variable) {
        (Some(path), _) => (PathBuf::from(path), "--config"),
        (None, Some(path)) => (path, CONFIG_VARIABLE),
        (None, None) => (PathBuf::from(DEFAULT_FILE), ""),
    }
}

fn read_file(settings: &mut Settings, invocation: &Invocation) -> Result<(), CommandFailure> {
    match file_text(invocation)? {
        Some((path, text)) => settings.read_file(&text, &path).map_err(CommandFailure::usage),
        None => Ok(()),
    }
}

/// The path and the text of the settings file, if there is one. One that nobody named and this user may not read is the
/// machine's own, and not for a daemon of theirs.
fn file_text(invocation: &Invocation) -> Result<Option<(String, String)>, CommandFailure> {
    let (path, source) = file_of(invocation);
    let text = match contents(&path) {
        Ok(text) => text,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
                && source.is_empty() =>
        {
            return Ok(None);
        }
        Err(error) => {
            let next = match (error.kind(), source) {
                (ErrorKind::NotFound, source) => format!("correct {source}"),
                (ErrorKind::PermissionDenied, _) => {
                    "run this as a user who may, or use --state-dir".to_owned()
                }
                _ => "correct it, or name another with --config".to_owned(),
            };
            let path = path.display();
            return Err(CommandFailure::usage(format_args!(
                "can't read the settings file {path}: {error}; {next}"
            )));
        }
    };
    Ok(Some((path.display().to_string(), text)))
}

fn contents(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it is longer than 1 MB"));
    }
    Ok(text)
}

/// The settings file that means `settings`, but for the admin token, which is not shown.
pub fn as_file(settings: &Settings) -> String {
    let mut out = concat!(
        "# Settings of lanrage ",
        env!("CARGO_PKG_VERSION"),
        ". A flag (--limits-parties) or a variable of the environment\n",
        "# (LANRAGE_LIMITS_PARTIES) counts more than this file.\n"
    )
    .to_owned();
    let mut section = "";
    for setting in SETTINGS {
        let (section_here, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if section_here != section {
            section = section_here;
            let _ = write!(out, "\n[{section}]\n");
        }
        let restart = if setting.reloads { "" } else { "; a change needs a restart" };
        let _ = write!(out, "\n# {}{restart}\n# expected: {}\n", setting.help, setting.expected);
        let shown = setting.show(settings);
        let _ = match setting.key == "admin_token" && settings.admin_token.is_some() {
            true => writeln!(out, "# it is set, and not shown here\n# {name} = \"\""),
            false => writeln!(out, "{name} = {}", value(&shown)),
        };
    }
    out
}

/// A number as it is, anything else as a string of TOML.
fn value(text: &str) -> String {
    let is_whole = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let is_decimal =
        text.contains('.') && Decimal::parse(text, 6).is_some_and(|number| number.to_string() == text);
    if is_whole || is_decimal {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &Settings) -> Vec<String> {
        SETTINGS.iter().map(|setting| setting.show(settings)).collect()
    }

    #[test]
    fn the_printed_file_reads_back_to_the_same() {
        let mut settings = Settings::default();
        for (key, value) in [
            ("state_dir", "/tmp/\"a\\b\"\u{7f}é"),
            ("region", "007"),
            ("public_endpoint", "[2001:db8::1]:1"),
            ("public_url", "https://play.example.org"),
            ("trusted_proxies", "127.0.0.1,::1"),
            ("allowed_hosts", "router.lan,a"),
            ("allowed_origins", "https://a.example,http://[::1]:1"),
            ("limits.parties", "7"),
            ("rates.creations", "7/9"),
            ("timeouts.peer", "2.5"),
        ] {
            settings.set(key, value, "test").unwrap_or_else(|error| panic!("{error}"));
        }
        for settings in [settings, Settings::default()] {
            let mut again = Settings::default();
            let text = as_file(&settings);
            again.read_file(&text, "test").unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(shown(&again), shown(&settings));
        }
    }

    #[test]
    fn the_admin_token_is_not_printed() {
        let mut settings = Settings::default();
        settings
            .set("admin_token", "correct-horse-battery", "test")
            .unwrap_or_else(|error| panic!("{error}"));
        let text = as_file(&settings);
        assert!(!text.contains("horse") && text.contains("not shown"), "{text}");
        assert!(Settings::default().read_file(&text, "test").is_ok());
    }
}
