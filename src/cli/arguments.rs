//! From arguments to a command.

use super::command::{Command, Invocation, usage};
use super::commands::{self, COMMANDS};
use super::spelling::nearest;
use super::{CommandFailure, help};
use lanrage::daemon::settings::SETTINGS;
use lexopt::{Arg, Parser};
use std::ffi::OsString;

/// What the arguments ask for.
pub enum Wish {
    /// To run a command.
    Run(Invocation),
    /// To be shown a text.
    Show(String),
}

/// What lexopt has against an argument. Its own words show values by `{:?}`, which small builds lack.
fn fault(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("unexpected argument for option '{option}': \"{}\"", value.display())
        }
        other => other.to_string(),
    }
}

fn text(value: OsString) -> Result<String, CommandFailure> {
    value.into_string().map_err(|value| {
        CommandFailure::usage(format_args!(
            "the argument \"{}\" is not UTF-8: use plain text",
            value.display()
        ))
    })
}

/// Reads all arguments.
pub fn read(mut parser: Parser) -> Result<Wish, CommandFailure> {
    let mut name = String::new();
    let command = loop {
        match parser.next().map_err(|error| usage(&fault(&error), &name))? {
            None if name.is_empty() => return Err(CommandFailure::usage(help::overview())),
            None => return Err(usage(&format!("`lanrage {name}` needs another word"), &name)),
            Some(Arg::Short('h') | Arg::Long("help")) => {
                return Ok(Wish::Show(help::about(&name).unwrap_or_else(help::overview)));
            }
            Some(Arg::Short('V') | Arg::Long("version")) if name.is_empty() => {
                return Ok(Wish::Show(help::version()));
            }
            Some(Arg::Short(letter)) => return Err(usage(&format!("there is no option -{letter}"), &name)),
            Some(Arg::Long(option)) => return Err(misplaced(option, &name)),
            Some(Arg::Value(word)) => {
                let word = text(word)?;
                if name.is_empty() && word == "help" {
                    return help_on(parser);
                }
                name = if name.is_empty() { word } else { format!("{name} {word}") };
            }
        }
        match commands::find(&name) {
            // A word may be a command, and with another one behind it, too.
            Some(_) if commands::is_group(&name) && has_word(&mut parser) => continue,
            Some(command) => break command,
            None if commands::is_group(&name) => continue,
            None => return Err(unknown_command(&name)),
        }
    };
    options(parser, command)
}

/// Whether a word comes next, and no option.
fn has_word(parser: &mut Parser) -> bool {
    let rest = parser.try_raw_args();
    let next = rest.as_ref().and_then(|rest| rest.peek());
    next.is_some_and(|next| !next.as_encoded_bytes().starts_with(b"-"))
}

/// `lanrage help COMMAND`.
fn help_on(mut parser: Parser) -> Result<Wish, CommandFailure> {
    let mut words = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| usage(&fault(&error), ""))? {
        if let Arg::Value(word) = argument {
            words.push(text(word)?);
        }
    }
    let name = words.join(" ");
    match help::about(&name) {
        Some(text) => Ok(Wish::Show(text)),
        None if name.is_empty() => Ok(Wish::Show(help::overview())),
        None => Err(unknown_command(&name)),
    }
}

/// Last words of commands that take something away. They are told to nobody who did not write them.
const DESTROYING: [&str; 5] = ["ban", "delete", "kick", "remove", "revoke"];

fn destroys(name: &str) -> bool {
    name.rsplit(' ').next().is_some_and(|last| DESTROYING.contains(&last))
}

fn unknown_command(name: &str) -> CommandFailure {
    let last = |command: &&Command| command.name.rsplit(' ').next() == Some(name);
    let names = COMMANDS.iter().map(|command| command.name);
    let groups = names.clone().filter_map(|name| Some(name.split_once(' ')?.0));
    let found = COMMANDS.iter().find(last).map(|command| command.name);
    let harmless = names.filter(|name| !destroys(name));
    let found = found.or_else(|| match name.split_once(' ') {
        // The first word is a group: what is not understood is the second.
        Some((group, word)) => {
            let of_group = |name: &&str| name.split_once(' ').is_some_and(|(first, _)| first == group);
            let word =
                nearest(word, harmless.filter(of_group).filter_map(|name| Some(name.split_once(' ')?.1)))?;
            COMMANDS.iter().map(|command| command.name).find(|name| *name == format!("{group} {word}"))
        }
        None => nearest(name, harmless.chain(groups)),
    });
    let message = format!("there is no command `lanrage {name}`");
    let group = name.split(' ').next().filter(|word| commands::is_group(word) && *word != name);
    match found {
        Some(found) => usage(&format!("{message}; did you mean `lanrage {found}`?"), found),
        None => usage(&message, group.unwrap_or_default()),
    }
}

/// An option before the command, or one of a group.
fn misplaced(option: &str, name: &str) -> CommandFailure {
    let known = COMMANDS.iter().any(|command| takes_value(command, option).is_some());
    if known {
        return usage(
            &format!("--{option} goes behind the command, as in `lanrage status --{option}`"),
            name,
        );
    }
    usage(&format!("there is no option --{option}{}", meant(option, ["help", "version"])), name)
}

fn meant<'a>(option: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(option, names).map_or_else(String::new, |name| format!("; did you mean --{name}?"))
}

/// Whether an option of this command has a value; `None` if there is no such option.
fn takes_value(command: &Command, option: &str) -> Option<bool> {
    let own = command.options.iter().find(|known| known.name == option).map(|known| known.value.is_some());
    let is_setting = || SETTINGS.iter().any(|setting| setting.flag().strip_prefix("--") == Some(option));
    own.or_else(|| (command.takes_settings && is_setting()).then_some(true))
}

fn options(mut parser: Parser, command: &'static Command) -> Result<Wish, CommandFailure> {
    let mut invocation = Invocation { command, options: Vec::new(), arguments: Vec::new() };
    let wrong = |message: &str| usage(message, command.name);
    loop {
        let option = match parser.next().map_err(|error| wrong(&fault(&error)))? {
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => {
                return Ok(Wish::Show(help::about(command.name).unwrap_or_default()));
            }
            Some(Arg::Short(letter)) => return Err(wrong(&format!("there is no option -{letter}"))),
            Some(Arg::Value(value)) => {
                let value = text(value)?;
                if invocation.arguments.len() == command.arguments.len() {
                    return Err(wrong(&format!("\"{value}\" is one argument too many")));
                }
                if value.is_empty() {
                    let name = command.arguments[invocation.arguments.len()];
                    return Err(wrong(&format!("{} is empty", name.trim_matches(['[', ']']))));
                }
                invocation.arguments.push(value);
                continue;
            }
            Some(Arg::Long(option)) => option.to_owned(),
        };
        let value = match takes_value(command, &option) {
            None => {
                let settings = SETTINGS.iter().filter(|_| command.takes_settings);
                let flags: Vec<String> =
                    settings.map(|setting| setting.flag().replacen("--", "", 1)).collect();
                let own = command.options.iter().map(|option| option.name).chain(["help"]);
                let meant = meant(&option, own.chain(flags.iter().map(String::as_str)));
                return Err(wrong(&format!("there is no option --{option}{meant}")));
            }
            Some(false) => None,
            Some(true) => {
                let value = parser.value().map_err(|_| wrong(&format!("--{option} needs a value")))?;
                Some(text(value)?)
            }
        };
        invocation.options.push((option, value));
    }
    match command.arguments.get(invocation.arguments.len()) {
        Some(missing) if !missing.starts_with('[') => {
            Err(wrong(&format!("{missing} is missing: `{}`", help::usage_line(command))))
        }
        _ => Ok(Wish::Run(invocation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(arguments: &[&str]) -> String {
        match read(Parser::from_args(arguments)) {
            Err(failure) => failure.message,
            Ok(_) => panic!("{arguments:?} was understood"),
        }
    }

    #[test]
    fn options_and_arguments_may_be_mixed_and_the_last_value_counts() {
        let Ok(Wish::Run(invocation)) =
            read(Parser::from_args(["peer", "ban", "--key=a", "P", "--json", "--key", "b", "--", "-Q"]))
        else {
            panic!()
        };
        assert_eq!(invocation.command.name, "peer ban");
        assert_eq!((invocation.option("key"), invocation.has("json")), (Some("b"), true));
        assert_eq!((invocation.argument(0), invocation.argument(1)), (Some("P"), Some("-Q")));
    }

    #[test]
    fn every_slip_is_named() {
        for (arguments, expected) in [
            (
                &["stauts"][..],
                "`lanrage stauts`; did you mean `lanrage status`?; see `lanrage status --help`",
            ),
            (&["party", "lst"], "did you mean `lanrage party list`?"),
            (&["party", "delet"], "there is no command `lanrage party delet`; see `lanrage party --help`"),
            (&["peer", "kik"], "there is no command `lanrage peer kik`; see `lanrage peer --help`"),
            (&["kick"], "did you mean `lanrage peer kick`?"),
            (&["party", "frobnicate"], "see `lanrage party --help`"),
            (&["frobnicate"], "there is no command `lanrage frobnicate`; see `lanrage --help`"),
            (&["party"], "`lanrage party` needs another word; see `lanrage party --help`"),
            (&["status", "now"], "\"now\" is one argument too many; see `lanrage status --help`"),
            (&["status", "--jsn"], "there is no option --jsn; did you mean --json?"),
            (&["status", "-x"], "there is no option -x"),
            (&["status", "--json=1"], "unexpected argument for option '--json'"),
            (&["status", "--state-dir"], "--state-dir needs a value"),
            (&["--json", "status"], "--json goes behind the command"),
            (&["--hlp"], "did you mean --help?"),
            (&["serve", "--limit-parties", "1"], "did you mean --limits-parties?"),
            (&["party", "show"], "PARTY is missing: `lanrage party show PARTY [OPTIONS]`"),
            (&["party", "show", ""], "PARTY is empty"),
            (&["help", "stats"], "did you mean `lanrage status`?"),
        ] {
            let message = message(arguments);
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
