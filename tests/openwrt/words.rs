//! What LuCI's pages have of the program, and their words: written by LANRAGE_WRITE=1, but for the translations, which
//! keep what they have.

use crate::settings::{default, package, place};
use crate::shipped;
use lanrage::daemon::settings::{SETTINGS, Setting};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the package is in LuCI's own tree; its tools name files like that.
const HOME: &str = "applications/luci-app-lanrage";

macro_rules! drop_reasons {
    ($($name:ident $word:literal, $help:literal, $german:literal;)*) => {
        /// Each reason's word, and what it means in English and German.
        const DROP_REASONS: &[(&str, &str, &str)] = &[$(($word, $help, $german)),*];
    };
}

include!("../../src/figures/drop_reasons.rs");

/// That a file is `expected`; with LANRAGE_WRITE=1 set, it is written instead.
pub fn assert_written(path: &Path, expected: &str) {
    if std::env::var_os("LANRAGE_WRITE").is_some_and(|value| value == "1") {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} is out of date ({differs:?}): LANRAGE_WRITE=1 cargo test --test openwrt writes it",
        path.display()
    );
}

fn resource(name: &str) -> PathBuf {
    shipped("luci-app-lanrage/htdocs/luci-static/resources").join(name)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What a setting is called where people see it: its name in words, unless that says too little.
fn title(setting: &Setting) -> String {
    let known = match setting.key {
        "state_dir" => "Directory for the state",
        "runtime_dir" => "Directory for what outlasts a restart",
        "http" => "Address of the control API (TCP)",
        "relay" => "Address of the relay (UDP)",
        "public_endpoint" => "Public address",
        "public_url" => "Public URL",
        "subnet" => "Virtual LAN",
        "log" => "Log level",
        "gso" => "Send datagrams in runs",
        "tun" => "Games on this router",
        "interface" => "Network interface for games on this router",
        "max_clients" => "Clients at most",
        "admin_token" => "Admin token",
        "trusted_proxies" => "Trusted proxies",
        "allowed_hosts" => "Names of this router",
        "allowed_origins" => "Other sites",
        "timeouts.token" => "Unused token",
        "timeouts.peer" => "Silent peer",
        "timeouts.relay" => "Silent relay",
        "timeouts.sweep" => "Between two looks",
        "timeouts.head" => "Head of a request",
        "timeouts.body" => "Body of a request",
        "timeouts.idle" => "Idle connection",
        "timeouts.write" => "Reading an answer",
        _ => "",
    };
    let name = place(setting).1.replace('_', " ");
    if known.is_empty() { sentence(&name).trim_end_matches('.').to_owned() } else { known.to_owned() }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}

fn options() -> String {
    let mut out = "'use strict';\n'require baseclass';\n\n// Every setting of the daemon, as `lanrage serve --help` has \
                   them; tests/openwrt/words.rs writes this.\nreturn baseclass.extend({\n\tall: [\n"
        .to_owned();
    for setting in SETTINGS {
        let (section, name) = place(setting);
        let config = match package(setting) {
            "lanrage" => String::new(),
            other => format!("config: {}, ", quote(other)),
        };
        out += &format!(
            "\t\t{{ {config}section: {}, name: {}, title: _({}), initial: {},\n\t\t\thelp: _({}),\n\t\t\texpected: {} }},\n",
            quote(section),
            quote(name),
            quote(&title(setting)),
            quote(&default(setting)),
            quote(&sentence(setting.help)),
            quote(setting.expected),
        );
    }
    out += "\t],\n\n\t/* What is expected, for people. */\n\twords: new Map([\n";
    for expected in SETTINGS.iter().map(|setting| setting.expected).collect::<BTreeSet<_>>() {
        out += &format!("\t\t[{0}, _({0})],\n", quote(expected));
    }
    out + "\t])\n});\n"
}

fn drops() -> String {
    let mut out = "'use strict';\n'require baseclass';\n\n// Why packets are dropped, as the daemon has it; \
                   tests/openwrt/words.rs writes this.\nreturn baseclass.extend({\n\twords: new Map([\n"
        .to_owned();
    for (word, help, _) in DROP_REASONS {
        out += &format!("\t\t[{}, _({})],\n", quote(word), quote(help));
    }
    out + "\t])\n});\n"
}

/// The modules of the daemon's own pages that make keys, files and pictures.
fn wireguard() -> String {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/pages").join(name);
        fs::read_to_string(path).unwrap()
    };
    let device = read("device.js");
    let function = |name: &str| {
        let start = device.find(&format!("export function {name}(")).unwrap();
        let end = start + device[start..].find("\n}\n").unwrap() + 3;
        device[start..end].to_owned()
    };
    let parts = [read("x25519.js"), read("qr.js"), function("tunnelName"), function("fileText")];
    let mut out =
        "'use strict';\n'require baseclass';\n\n// Keys, QR codes and files of WireGuard: parts of \
                   src/api/pages; tests/openwrt/words.rs writes this.\n"
            .to_owned();
    for part in parts {
        out.push('\n');
        for line in part.lines() {
            out += line.strip_prefix("export ").unwrap_or(line);
            out.push('\n');
        }
    }
    out + "\nreturn baseclass.extend({ newKeys, qr, tunnelName, fileText });\n"
}

#[test]
fn what_the_pages_have_of_the_program_is_up_to_date() {
    assert_written(&resource("lanrage/options.js"), &options());
    assert_written(&resource("lanrage/drops.js"), &drops());
    assert_written(&resource("lanrage/wireguard.js"), &wireguard());
}

/// Where each text is that has to be translated.
type Messages = BTreeMap<String, BTreeSet<(String, usize)>>;

fn files(folder: &Path, ends: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ends, out);
        } else if path.to_str().unwrap().ends_with(ends) {
            out.push(path);
        }
    }
}

/// The text of a string that begins with its quote, and what follows it.
fn string(source: &str) -> Option<(String, &str)> {
    let quote = source.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    let mut text = String::new();
    let mut letters = source.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => text.push(letters.next()?.1),
            letter if letter == quote => return Some((text, &source[at + 1..])),
            letter => text.push(letter),
        }
    }
    None
}

/// The texts that a file has between these words and a closing mark.
fn find(source: &str, path: &Path, before: &[&str], after: &str, out: &mut Messages) {
    let package = shipped("luci-app-lanrage");
    let name = format!("{HOME}/{}", path.strip_prefix(package).unwrap().display());
    for (number, line) in source.lines().enumerate() {
        for word in before {
            for (at, _) in line.match_indices(word) {
                let is_inside = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
                if line[..at].ends_with(is_inside) {
                    continue;
                }
                let (text, rest) = string(&line[at + word.len()..]).unwrap_or_else(|| {
                    panic!("{name}:{}: only a text can be translated: {line}", number + 1)
                });
                assert!(rest.starts_with(after), "{name}:{}: {line}", number + 1);
                out.entry(text).or_default().insert((name.clone(), number + 1));
            }
        }
    }
}

/// As LuCI's own scan of its sources does it.
fn messages() -> Messages {
    let mut out = Messages::new();
    let mut found = Vec::new();
    files(&shipped("luci-app-lanrage/htdocs"), ".js", &mut found);
    for path in &found {
        // As they are once they are written.
        let source = match path.file_name().unwrap().to_str().unwrap() {
            "options.js" => options(),
            "drops.js" => drops(),
            _ => fs::read_to_string(path).unwrap(),
        };
        find(&source, path, &["_("], ")", &mut out);
    }
    let mut found = Vec::new();
    files(&shipped("luci-app-lanrage/root"), ".json", &mut found);
    for path in &found {
        find(&fs::read_to_string(path).unwrap(), path, &["\"title\": ", "\"description\": "], "", &mut out);
    }
    out
}

fn escaped(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A catalogue: what is said for each message.
fn catalogue(head: &str, messages: &Messages, said: impl Fn(&str) -> String) -> String {
    let mut out = head.to_owned();
    for (text, places) in messages {
        out.push('\n');
        for (name, line) in places {
            out += &format!("#: {name}:{line}\n");
        }
        out += &format!("msgid {}\nmsgstr {}\n", escaped(text), escaped(&said(text)));
    }
    out
}

/// What a catalogue says, with its head under the empty text.
fn read_catalogue(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut id = None;
    for line in text.lines() {
        if let Some(text) = line.strip_prefix("msgid ") {
            id = Some(string(text).unwrap().0);
        } else if let Some(text) = line.strip_prefix("msgstr ") {
            let id = id.take().expect("a msgid before");
            assert!(out.insert(id.clone(), string(text).unwrap().0).is_none(), "{id} is there twice");
        } else {
            assert!(line.is_empty() || line.starts_with(['#', '"']), "{line}");
        }
    }
    out
}

/// The places for values in a sentence.
fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

#[test]
fn the_template_has_every_text_of_the_pages() {
    let messages = messages();
    assert!(messages.len() > 100 && messages.contains_key("LAN parties"), "{}", messages.len());
    let head = "msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\"\n";
    assert_written(
        &shipped("luci-app-lanrage/po/templates/lanrage.pot"),
        &catalogue(head, &messages, |_| String::new()),
    );
}

#[test]
fn the_german_catalogue_is_complete() {
    let path = shipped("luci-app-lanrage/po/de/lanrage.po");
    let text = fs::read_to_string(&path).unwrap();
    let said = read_catalogue(&text);
    let (head, _) = text.split_once("\n\n").unwrap();
    let messages = messages();
    let known = |text: &str| match DROP_REASONS.iter().find(|(_, help, _)| *help == text) {
        Some((_, _, german)) => (*german).to_owned(),
        None => said.get(text).cloned().unwrap_or_default(),
    };
    assert_written(&path, &catalogue(&format!("{head}\n"), &messages, known));
    for text in messages.keys() {
        let german = known(text);
        assert!(!german.is_empty(), "{text:?} has no German");
        assert_eq!(places(text), places(&german), "{text:?}");
    }
}

/// The hash by which LuCI finds a text: Paul Hsieh's SuperFastHash, begun with the length.
pub fn hash(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut hash = bytes.len() as u32;
    let word = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let signed = |byte: u8| byte as i8 as u32;
    let (whole, rest) = bytes.as_chunks::<4>();
    for chunk in whole {
        hash = hash.wrapping_add(word(chunk));
        hash = (hash << 16) ^ (word(&chunk[2..]) << 11) ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match rest {
        [_, _, last] => {
            hash = hash.wrapping_add(word(rest));
            hash = hash ^ (hash << 16) ^ (signed(*last) << 18);
            hash = hash.wrapping_add(hash >> 11);
        }
        [_, _] => {
            hash = hash.wrapping_add(word(rest));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [last] => {
            hash = hash.wrapping_add(signed(*last));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    for (left, right) in [(3, 5), (4, 17), (25, 6)] {
        hash ^= hash << left;
        hash = hash.wrapping_add(hash >> right);
    }
    hash
}

#[test]
fn texts_are_found_by_the_hash_of_luci() {
    // What LuCI's own function makes of them.
    for (text, expected) in [
        ("LAN parties", 0xb083_7642),
        ("Ban", 0xfc56_ae9a),
        ("no", 0x5338_6700),
        ("Wirklich?", 0x7904_eec3),
        ("Einladung für Zoë", 0x0197_3f3b),
    ] {
        assert_eq!(hash(text), expected, "{text}");
    }
}

/// What is in a translation as LuCI reads it: texts by the hash of what they translate.
pub fn read_translation(file: &[u8]) -> BTreeMap<u32, String> {
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    let (begin, end) = (number(file.len() - 4) as usize, file.len() - 4);
    let entries = (begin..end).step_by(16).map(|at| {
        let (key, place, length) = (number(at), number(at + 8) as usize, number(at + 12) as usize);
        (key, String::from_utf8(file[place..place + length].to_vec()).unwrap())
    });
    let entries: Vec<_> = entries.collect();
    // It is searched by halves.
    assert!(entries.is_sorted_by(|one, other| one.0 < other.0));
    entries.into_iter().collect()
}

/// What the daemon finds wrong is said in the reader's language.
#[test]
fn every_trouble_has_its_words() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/troubles.rs");
    let source = fs::read_to_string(path).unwrap();
    let page = fs::read_to_string(resource("view/lanrage/overview.js")).unwrap();
    let found: Vec<_> = source.split("find(").skip(1).filter_map(|rest| string(rest.trim_start())).collect();
    assert!(found.len() > 4, "{found:?}");
    for (what, _) in found {
        assert!(page.contains(&format!("\t['{what}', [_(")), "{what}");
    }
}
