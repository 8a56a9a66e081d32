//! What `--help` shows.

use super::command::Command;
use super::commands::COMMANDS;
use lanrage::daemon::settings::{SETTINGS, Setting, Settings};
use std::fmt::Write as _;

/// What stands in for words in arguments.
const ARGUMENTS: [(&str, &str); 5] = [
    ("PARTY", "the party's id, as in `lanrage party list`"),
    ("PEER", "the peer's id, as in `lanrage party show PARTY`"),
    ("FILE", "a file"),
    ("URL", "the server, as in http://router.lan:8667"),
    ("NAME", "what people call it"),
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
        ": LAN parties over the internet, for routers and single-board computers\n\n",
        "Usage: lanrage COMMAND [OPTIONS]\n\nCommands:\n"
    )
    .to_owned();
    list(&mut out, |_| true);
    out += "\nOptions:\n  -h, --help     show this\n  -V, --version  show the version\n\n\
            `lanrage COMMAND --help` tells more about a command.\n\
            Exit codes: 0 success, 1 failure, 2 a command or setting that was not understood.\n";
    out
}

fn list(out: &mut String, shown: impl Fn(&Command) -> bool) {
    let synopsis = |command: &Command| format!("{} {}", command.name, command.arguments.join(" "));
    let shown: Vec<&Command> = COMMANDS.iter().filter(|command| shown(command)).collect();
    let widest = shown.iter().map(|command| synopsis(command).trim_end().len()).max().unwrap_or(0);
    for command in shown {
        let _ = writeln!(out, "  {:widest$}  {}", synopsis(command).trim_end(), command.about);
    }
}

/// The help for a command or a group of them; `None` if there is none of this name.
pub fn about(name: &str) -> Option<String> {
    if let Some(command) = super::commands::find(name) {
        return Some(of(command));
    }
    super::commands::is_group(name).then(|| {
        let mut out = format!("Usage: lanrage {name} COMMAND [OPTIONS]\n\nCommands:\n");
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
        let _ = writeln!(out, "\n{}", command.details);
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
        let _ = writeln!(out, "  {name:widest$}  {help}");
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
    *out += "\nEvery setting can be given as a flag, as a variable of the environment, or in the settings file\n\
             (TOML); the first of these that has it counts. So these three mean the same:\n  \
             --limits-parties 100\n  LANRAGE_LIMITS_PARTIES=100\n  parties = 100            under [limits] in the \
             file, which is --config FILE, else\n                           $LANRAGE_CONFIG, else \
             /etc/lanrage/lanrage.toml if there is one\nDefaults are in brackets. SIGHUP (`kill -HUP`) has a \
             running daemon read the file again; settings with a * change\nonly when it is started anew.\n";
    let default = Settings::default();
    for group in SETTINGS.chunk_by(|a, b| section(a) == section(b)) {
        let title = match section(&group[0]) {
            "" => "Settings".to_owned(),
            section => format!("[{section}]"),
        };
        let same = group.iter().all(|setting| setting.expected == group[0].expected);
        let _ = match same {
            true => writeln!(out, "\n{title}: {}", group[0].expected),
            false => writeln!(out, "\n{title}:"),
        };
        let widest = group.iter().map(|setting| setting.flag().len()).max().unwrap_or(0);
        for setting in group {
            let (flag, shown) = (setting.flag(), setting.show(&default));
            let star = if setting.reloads { "" } else { " *" };
            let _ = write!(out, "  {flag:widest$}  {}{star}", setting.help);
            let _ = writeln!(out, "{}", if shown.is_empty() { String::new() } else { format!(" [{shown}]") });
            if !same {
                let _ = writeln!(out, "  {:widest$}  = {}", "", setting.expected);
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
    fn no_line_is_much_too_long() {
        for command in COMMANDS {
            for line in of(command).lines() {
                assert!(line.chars().count() <= 130, "{line}");
            }
        }
    }
}
