//! What `--help` shows.

use super::command::Command;
use super::commands::COMMANDS;
use lanrage::daemon::settings::{SETTINGS, Setting, Settings};
use std::fmt::Write as _;

/// How long a line is at most.
const WIDTH: usize = 80;
/// Names that are longer stand alone in their line.
const WIDEST: usize = 34;

/// Adds `text` behind `first`, which is in the line already, in lines that are not too long; all but the first begin
/// with `indent` spaces.
fn wrap(out: &mut String, first: &str, text: &str, indent: usize) {
    *out += first;
    let mut length = first.chars().count();
    let mut is_begin = true;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if !is_begin && length + 1 + width > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            (length, is_begin) = (indent, true);
        }
        if !is_begin {
            out.push(' ');
            length += 1;
        }
        *out += word;
        (length, is_begin) = (length + width, false);
    }
    out.push('\n');
}

/// Adds lines of text as paragraphs; those that begin with a space stay as they are.
fn paragraphs(out: &mut String, text: &str) {
    let is_prose = |line: &str| !line.starts_with(' ') && !line.is_empty();
    for group in text.lines().collect::<Vec<_>>().chunk_by(|a, b| is_prose(a) && is_prose(b)) {
        match is_prose(group[0]) {
            true => wrap(out, "", &group.join(" "), 0),
            false => group.iter().for_each(|line| _ = writeln!(out, "{line}")),
        }
    }
}

/// Adds a name, and what it is from column `widest + 4` on.
fn entry(out: &mut String, name: &str, widest: usize, help: &str) {
    let widest = widest.min(WIDEST);
    let mut first = format!("  {name:widest$}  ");
    if name.chars().count() > widest {
        let _ = writeln!(out, "  {name}");
        first = format!("  {:widest$}  ", "");
    }
    wrap(out, &first, help, widest + 4);
}

/// What stands in for words in arguments.
const ARGUMENTS: [(&str, &str); 9] = [
    ("PARTY", "the party's id or name, as in `lanrage party list`"),
    ("NAME", "a name for people, of 1 to 100 characters"),
    ("DEVICE", "the device's id or name, as in `lanrage device list PARTY`"),
    ("INVITE", "the invite's id, as in `lanrage invite list PARTY`"),
    ("PEER", "the peer's id, as in `lanrage party show PARTY`"),
    ("RELAY", "the relay's id, as in `lanrage relay list`"),
    ("KEY", "a WireGuard public key"),
    ("FILE", "a file"),
    ("URL", "the server, as in http://router.lan:8667; to join, also an invite's link"),
];

/// The answer to `--version`.
pub fn version() -> String {
    concat!("lanrage ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

/// Every command in brief.
pub fn overview() -> String {
    let mut out = concat!(
        "lanrage ",
        env!("CARGO_PKG_VERSION"),
        ": LAN parties over the internet, for routers and small computers\n\n",
        "Usage: lanrage COMMAND [OPTIONS]\n\nCommands:\n"
    )
    .to_owned();
    list(&mut out, |_| true);
    out += "\nOptions:\n  -h, --help     show this\n  -V, --version  show the version\n\n\
            `lanrage COMMAND --help` tells more about a command.\n\
            Exit codes: 0 success, 1 failure, 2 a command or setting not understood.\n";
    out
}

fn list(out: &mut String, shown: impl Fn(&Command) -> bool) {
    let synopsis = |command: &Command| format!("{} {}", command.name, command.arguments.join(" "));
    let shown: Vec<&Command> = COMMANDS.iter().filter(|command| shown(command)).collect();
    let widest = shown.iter().map(|command| synopsis(command).trim_end().len()).max().unwrap_or(0);
    for command in shown {
        entry(out, synopsis(command).trim_end(), widest, command.about);
    }
}

/// The help for a command or a group of them; `None` if there is none of this name.
pub fn about(name: &str) -> Option<String> {
    let alone = super::commands::find(name).map(of);
    if !super::commands::is_group(name) {
        return alone;
    }
    Some({
        let mut out = alone.map_or_else(String::new, |text| text + "\n");
        out += &format!("Usage: lanrage {name} COMMAND [OPTIONS]\n\nCommands:\n");
        list(&mut out, |command| command.name.split_once(' ').is_some_and(|(group, _)| group == name));
        let _ = writeln!(out, "\n`lanrage {name} COMMAND --help` tells more about a command.");
        out
    })
}

/// How a command is written.
pub fn usage_line(command: &Command) -> String {
    let arguments: String = command.arguments.iter().map(|argument| format!(" {argument}")).collect();
    format!("lanrage {}{arguments} [OPTIONS]", command.name)
}

/// The help for a command.
pub fn of(command: &Command) -> String {
    let mut out = format!("lanrage {}: {}\n\nUsage: {}\n", command.name, command.about, usage_line(command));
    if !command.details.is_empty() {
        out.push('\n');
        paragraphs(&mut out, command.details);
    }
    let mut entries: Vec<(String, &str)> = Vec::new();
    for argument in command.arguments {
        let name = argument.trim_matches(['[', ']']);
        let help = ARGUMENTS.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| *help);
        entries.push((name.to_owned(), help));
    }
    for option in command.options {
        let value = option.value.map_or_else(String::new, |value| format!(" {value}"));
        entries.push((format!("--{}{value}", option.name), option.help));
    }
    entries.push(("-h, --help".to_owned(), "show this"));
    let widest = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    out.push('\n');
    for (name, help) in entries {
        entry(&mut out, &name, widest, help);
    }
    if command.takes_settings {
        settings(&mut out);
    }
    out
}

/// The settings with a common first word; none for those that have no dot.
fn section(setting: &Setting) -> &'static str {
    setting.key.split_once('.').map_or("", |(section, _)| section)
}

/// Every setting, grouped.
fn settings(out: &mut String) {
    *out += "\n";
    paragraphs(
        out,
        "Every setting can be given as a flag, as a variable of the environment, or in the settings file (TOML). A flag \
         overrides the environment, which overrides the file, which overrides the default. So these three mean the \
         same:\n  --limits-parties 100\n  LANRAGE_LIMITS_PARTIES=100\n  parties = 100        (under [limits], in the \
         file)\nThe file is --config FILE, else $LANRAGE_CONFIG, else /etc/lanrage/lanrage.toml if there is one. \
         Defaults are in brackets. SIGHUP (`kill -HUP`) has a running daemon read the file again; settings with a * \
         change only when it is started anew.",
    );
    let default = Settings::default();
    for group in SETTINGS.chunk_by(|a, b| section(a) == section(b)) {
        let title = match section(&group[0]) {
            "" => "Settings".to_owned(),
            section => format!("[{section}]"),
        };
        let same = group.iter().all(|setting| setting.expected == group[0].expected);
        out.push('\n');
        match same {
            true => wrap(out, &format!("{title}: "), group[0].expected, 2),
            false => *out += &format!("{title}:\n"),
        }
        let widest = group.iter().map(|setting| setting.flag().len()).max().unwrap_or(0);
        for setting in group {
            let (flag, shown) = (setting.flag(), setting.show(&default));
            let star = if setting.reloads { "" } else { " *" };
            let shown = if shown.is_empty() { String::new() } else { format!(" [{shown}]") };
            entry(out, &flag, widest, &format!("{}{star}{shown}", setting.help));
            if !same {
                entry(out, "", widest, &format!("= {}", setting.expected));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_and_command_is_in_the_help() {
        let serve = about("serve").unwrap();
        for setting in SETTINGS {
            assert!(serve.contains(&format!("  {} ", setting.flag())), "{}", setting.key);
        }
        assert!(serve.contains("[0.0.0.0:8667]"), "{serve}");
        let overview = overview();
        for command in COMMANDS {
            assert!(overview.contains(&format!("  {}", command.name)));
            let text = of(command);
            assert!(text.contains(&usage_line(command)) && text.contains("--help"), "{text}");
            for argument in command.arguments {
                assert!(ARGUMENTS.iter().any(|(name, _)| *name == argument.trim_matches(['[', ']'])));
            }
        }
        assert!(about("party").unwrap().contains("party show PARTY"));
        assert!(about("nothing").is_none());
    }

    #[test]
    fn no_line_is_too_long() {
        let all = COMMANDS.iter().map(of).chain([overview(), about("peer").unwrap()]);
        for text in all {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH && line.trim_end() == line, "{line:?}");
            }
        }
    }
}
