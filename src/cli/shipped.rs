//! The files that a package ships beside the binary say what the binary does. What follows from the tables
//! of commands and settings is generated, between two marks in each file; after a change of a table
//! `UPDATE_SHIPPED=1 cargo test --bin lanrage shipped` writes it anew.

use super::command::{Command, Opt};
use super::commands::COMMANDS;
use super::{help, settings};
use lanrage::daemon::settings::{SETTINGS, Setting, Settings};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

const CONFFILE: &str = "lanrage.toml";
const MAN_PAGE: &str = "lanrage.8";
const COMPLETION: &str = "lanrage.bash";

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("systemd").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap()
}

/// Sees to it that `part` of a file, between its marks, is `expected`.
#[track_caller]
fn holds(file: &str, part: &str, expected: &str) {
    let text = read(file);
    let (begin, end) = (format!("begin {part}\n"), format!("end {part}\n"));
    let start = text.find(&begin).expect("the mark at the begin") + begin.len();
    let stop = text.find(&end).expect("the mark at the end");
    // The mark is a comment, of which the sign comes first.
    let stop = text[..stop].rfind('\n').expect("a line before the mark") + 1;
    if text[start..stop] == *expected {
        return;
    }
    if std::env::var_os("UPDATE_SHIPPED").is_some() {
        std::fs::write(path(file), format!("{}{expected}{}", &text[..start], &text[stop..])).unwrap();
        return;
    }
    panic!("systemd/{file} is out of date: UPDATE_SHIPPED=1 cargo test --bin lanrage shipped");
}

/// The settings of a service that nobody has changed.
fn of_the_service() -> Settings {
    Settings {
        state_dir: "/var/lib/lanrage".into(),
        runtime_dir: "/run/lanrage".into(),
        ..Settings::default()
    }
}

/// Every setting, commented out.
fn conffile() -> String {
    let whole = settings::as_file(&of_the_service());
    let body = whole.lines().skip_while(|line| line.starts_with('#'));
    let out = |line: &str| match line.split_once(" = ") {
        Some(_) if !line.starts_with('#') => format!("#{line}\n"),
        _ => format!("{line}\n"),
    };
    body.map(out).collect()
}

#[test]
fn the_settings_file_has_every_setting_with_its_default() {
    holds(CONFFILE, "settings", &conffile());
    let file = read(CONFFILE);
    let shown =
        |settings: &Settings| SETTINGS.iter().map(|setting| setting.show(settings)).collect::<Vec<_>>();
    let mut settings = of_the_service();
    settings.read_file(&file, CONFFILE).unwrap();
    assert_eq!(shown(&settings), shown(&of_the_service()), "as it is it changes nothing");

    // Each line counts as soon as its sign is taken away: a wrong value is noticed.
    for setting in SETTINGS {
        let (section, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        let body = match section {
            "" => file.as_str(),
            section => &file[file.find(&format!("\n[{section}]\n")).unwrap()..],
        };
        let line = body.lines().find(|line| line.starts_with(&format!("#{name} = "))).unwrap();
        let uncommented = |line_now: &str| {
            let at = file.len() - body.len() + body.find(line).unwrap();
            let text = format!("{}{line_now}{}", &file[..at], &file[at + line.len()..]);
            let mut settings = of_the_service();
            settings.read_file(&text, CONFFILE).map(|()| shown(&settings)).map_err(|error| error.to_string())
        };
        assert_eq!(uncommented(&line[1..]), Ok(shown(&of_the_service())), "{line}");
        let wrong = uncommented(&format!("{name} = []\nnonsense = 1")).unwrap_err();
        assert!(wrong.contains(name) || wrong.contains("nonsense"), "{wrong}");
    }
}

/// Text as troff takes it.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let safe = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

fn commands_of_the_man_page() -> String {
    let mut out = String::new();
    for command in COMMANDS {
        let arguments: String = command.arguments.iter().map(|name| format!(" {name}")).collect();
        let _ = writeln!(out, ".TP\n.B lanrage {}{}", roff(command.name), roff(&arguments));
        let _ = writeln!(out, "{}.", roff(&capitalised(command.about)));
        if !command.details.is_empty() {
            let _ = writeln!(out, "{}", roff(command.details));
        }
        let options = command.options.iter().map(|option| {
            let value = option.value.map_or_else(String::new, |value| format!(" {value}"));
            format!("--{}{value}", option.name)
        });
        let options = options.collect::<Vec<_>>().join(", ");
        let and = if command.takes_settings { ", and every setting" } else { "" };
        let _ = writeln!(out, ".br\nOptions: {}{and}.", roff(&options));
    }
    out
}

fn options_of_the_man_page() -> String {
    let mut out = String::new();
    let mut known = BTreeSet::new();
    for option in COMMANDS.iter().flat_map(|command| command.options) {
        if known.insert(option.name) {
            let value = option.value.map_or_else(String::new, |value| format!(" {value}"));
            let _ = writeln!(out, ".TP\n.B \\-\\-{}{value}", roff(option.name));
            let _ = writeln!(out, "{}.", roff(&capitalised(option.help)));
        }
    }
    out
}

fn settings_of_the_man_page() -> String {
    let service = of_the_service();
    let mut out = String::new();
    for setting in SETTINGS {
        let shown = setting.show(&service);
        let default = if shown.is_empty() { "nothing".to_owned() } else { shown };
        let help = capitalised(setting.help);
        let expected = setting.expected;
        let _ = writeln!(out, ".TP\n.B {}", roff(setting.key));
        let _ = writeln!(out, "{}.\nExpected: {}.", roff(&help), roff(expected));
        let _ = writeln!(out, "Default: {}", roff(&default));
    }
    out
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[test]
fn the_man_page_has_every_command_option_and_setting() {
    holds(MAN_PAGE, "commands", &commands_of_the_man_page());
    holds(MAN_PAGE, "options", &options_of_the_man_page());
    holds(MAN_PAGE, "settings", &settings_of_the_man_page());
}

/// What may follow a command, by its name; those of a group are the words that continue it.
fn words_of_the_completion() -> String {
    let mut out = String::new();
    let groups = COMMANDS.iter().filter_map(|command| Some(command.name.split_once(' ')?.0));
    let groups: BTreeSet<&str> = groups.collect();
    let firsts = COMMANDS.iter().map(|command| command.name.split(' ').next().unwrap_or_default());
    let firsts: BTreeSet<&str> = firsts.chain(["help"]).collect();
    let joined = |words: BTreeSet<&str>| words.into_iter().collect::<Vec<_>>().join(" ");
    let _ = writeln!(out, "  ['lanrage']='{} --help --version'", joined(firsts));
    let members = |group: &str| {
        let members = COMMANDS.iter().filter_map(|command| {
            let (found, word) = command.name.split_once(' ')?;
            (found == group).then_some(word)
        });
        joined(members.collect())
    };
    for group in groups.iter().filter(|group| COMMANDS.iter().all(|command| command.name != **group)) {
        let _ = writeln!(out, "  ['lanrage {group}']='{} --help'", members(group));
    }
    for command in COMMANDS {
        let more = groups.get(command.name).map_or_else(String::new, |group| members(group) + " ");
        let own = command.options.iter().map(|option| format!("--{}", option.name));
        let settings = SETTINGS.iter().filter(|_| command.takes_settings).map(Setting::flag);
        let words = own.chain(settings).chain(["--help".to_owned()]).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "  ['lanrage {}']='{more}{words}'", command.name);
    }
    out
}

/// Whether a value is a directory, a file, one of some words (then these), or something that can't be guessed.
fn kind_of_value(option: &str, value: &str) -> String {
    let words: Vec<&str> = value.split(", ").flat_map(|part| part.split(" or ")).collect();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    match value {
        "DIR" => "directory".to_owned(),
        "FILE" => "file".to_owned(),
        text if text.starts_with("a directory") && option.ends_with("dir") => "directory".to_owned(),
        _ if words.len() > 1 && words.iter().all(is_word) => format!("'{}'", words.join(" ")),
        _ => "other".to_owned(),
    }
}

fn values_of_the_completion() -> String {
    let options: Vec<&Opt> = COMMANDS.iter().flat_map(|command| command.options).collect();
    // An option of a command that is called like a setting takes the same.
    let is_setting =
        |option: &&&Opt| SETTINGS.iter().any(|setting| setting.flag() == format!("--{}", option.name));
    let own = options.iter().filter(|option| !is_setting(option));
    let own = own.filter_map(|option| Some((format!("--{}", option.name), option.value?)));
    let settings = SETTINGS.iter().map(|setting| (setting.flag(), setting.expected));
    let lines: BTreeSet<String> = own
        .chain(settings)
        .map(|(flag, value)| format!("  [{flag}]={}\n", kind_of_value(&flag, value)))
        .collect();
    lines.into_iter().collect()
}

fn files_of_the_completion() -> String {
    let takes_file = |command: &&Command| command.arguments.iter().any(|name| name.contains("FILE"));
    COMMANDS.iter().filter(takes_file).map(|command| format!("  ['lanrage {}']=1\n", command.name)).collect()
}

#[test]
fn the_completion_has_every_command_and_option() {
    holds(COMPLETION, "words", &words_of_the_completion());
    holds(COMPLETION, "values", &values_of_the_completion());
    holds(COMPLETION, "files", &files_of_the_completion());
}

/// What bash offers behind a line.
fn offered(line: &str) -> Vec<String> {
    let script = format!(
        "source '{}'\nCOMP_WORDS=({line})\n[[ '{line}' == *' ' ]] && COMP_WORDS+=('')\n\
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_lanrage 2>&1\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        path(COMPLETION).display()
    );
    let run = std::process::Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    String::from_utf8(run.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_what_the_command_line_understands() {
    for command in COMMANDS {
        let offered = offered(&format!("lanrage {} --", command.name));
        let mut expected: Vec<String> =
            command.options.iter().map(|option| format!("--{}", option.name)).collect();
        expected.extend(SETTINGS.iter().filter(|_| command.takes_settings).map(Setting::flag));
        expected.push("--help".to_owned());
        assert_eq!(offered, expected, "{}", command.name);
        assert!(expected.iter().all(|option| help::of(command).contains(option.as_str())));
    }
    assert_eq!(offered("lanrage par"), ["party"]);
    assert_eq!(offered("lanrage party "), ["create", "delete", "list", "rename", "set", "show", "--help"]);
    assert_eq!(offered("lanrage peer ban P"), [""; 0]);
    assert_eq!(offered("lanrage peer ban --key K P --j"), ["--json"]);
    assert_eq!(offered("lanrage status --state-dir /et"), ["/etc"]);
    assert_eq!(offered("lanrage serve --config /etc/hostn"), ["/etc/hostname"]);
    assert_eq!(offered("lanrage db check /etc/hostn"), ["/etc/hostname"]);
    assert_eq!(offered("lanrage serve --http 1"), [""; 0]);
    assert_eq!(offered("lanrage serve --tun "), ["yes", "no"]);
    assert_eq!(offered("lanrage serve --log d"), ["debug"]);
}
