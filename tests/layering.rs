//! The floors of the house: imports point down only, clocks are read in one room and `unsafe` is written in
//! another. A type's name exists once.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The house for people. Its table of floors counts here, too.
const HOUSE: &str = include_str!("../src/README.md");

/// Rooms of one floor that may know each other: who, and whom.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("main", "cli"),
    ("dense_map", "crypto"),
    ("dense_map", "keyed_hash"),
    ("keyed_hash", "crypto"),
    ("owners", "dense_map"),
    ("owners", "keyed_hash"),
    ("owners", "token_bucket"),
    ("owners", "crypto"),
    ("owners", "slots"),
    ("figures", "owners"),
    ("figures", "wire"),
    ("wire", "crypto"),
    ("wire", "subnet"),
];

/// Rooms whose files import each other, some by way of others.
const WITH_LOOPS: &[&str] = &["control", "relay"];

/// The room that reads the clocks.
const CLOCKS: &str = "daemon";
/// The room with the unsafe code.
const UNSAFE: &str = "sys";
/// Up to this floor there is no socket, file, thread or async.
const SANS_IO: u8 = 3;

const CLOCK_WORDS: &[&str] = &["clock_gettime", "OffsetDateTime", "SystemTime"];
const IO_WORDS: &[&str] =
    &["async", "async_io", "smol", "rustix", "redb", "TcpStream", "UdpSocket", "UnixStream"];
/// What not every processor of a router has.
const MISSING_WORDS: &[&str] = &["AtomicU64", "AtomicI64"];
const IO_PATHS: &[[&str; 2]] = &[["std", "fs"], ["std", "thread"], ["std", "process"], ["std", "os"]];

/// The floor of a file or folder of `src`, by rows as ``| 3 | `relay` `api` | ... |``.
fn floor(room: &str) -> Option<u8> {
    HOUSE.lines().find_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (floor, rooms) = (cells.next()?.parse().ok()?, cells.next()?);
        rooms.split_whitespace().any(|name| name.trim_matches('`') == room).then_some(floor)
    })
}

/// Words, `::`, brackets and single signs, without comments and what is in quotes.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    flatten(text.parse().expect("it compiles"), &mut found);
    found
}

fn flatten(stream: TokenStream, found: &mut Vec<String>) {
    let mut is_second_colon = false;
    for token in stream {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Literal(_) => found.push("literal".to_owned()),
            TokenTree::Punct(_) if is_second_colon => {
                is_second_colon = false;
                continue;
            }
            TokenTree::Punct(sign) => {
                is_second_colon = sign.as_char() == ':' && sign.spacing() == Spacing::Joint;
                found.push(if is_second_colon { "::".to_owned() } else { sign.to_string() });
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                found.push(open.to_owned());
                flatten(group.stream(), found);
                found.push(close.to_owned());
            }
        }
    }
}

/// Takes out every item under `#[cfg(test)]`. Also returns the modules among them that are files.
fn without_tests(tokens: Vec<String>) -> (Vec<String>, Vec<String>) {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut files, mut i) = (Vec::new(), Vec::new(), 0);
    while i < tokens.len() {
        if !tokens[i..].iter().take(mark.len()).eq(mark.iter()) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += mark.len();
        let (mut depth, mut last) = (0, String::new());
        while i < tokens.len() {
            let token = tokens[i].as_str();
            i += 1;
            match token {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && token == ";" {
                files.push(last.clone());
                break;
            }
            if depth == 0 && token == "}" {
                break;
            }
            last = token.to_owned();
        }
    }
    (kept, files)
}

/// Every path that is imported or written out, word by word.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let is_path_start = tokens.get(i + 1).is_some_and(|next| next == "::")
            && (i == 0 || tokens[i - 1] != "::")
            && tokens[i].chars().all(|c| c.is_alphanumeric() || c == '_');
        if tokens[i] == "use" && tokens.get(i + 1).is_some_and(|next| next != "<") {
            i = tree(tokens, i + 1, &[], &mut found);
        } else if is_path_start {
            i = tree(tokens, i, &[], &mut found);
        } else {
            i += 1;
        }
    }
    found
}

/// Reads a tree of imports that begins at `i`; returns where it ends.
fn tree(tokens: &[String], mut i: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while i < tokens.len() {
        match tokens[i].as_str() {
            "::" => i += 1,
            "{" => {
                i += 1;
                while i < tokens.len() && tokens[i] != "}" {
                    i = if tokens[i] == "," { i + 1 } else { tree(tokens, i, &path, found) };
                }
                return i + 1;
            }
            word if word == "*" || word.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                path.push(word.to_owned());
                i += 1;
                if tokens.get(i).is_none_or(|next| next != "::") {
                    break;
                }
            }
            _ => {
                i += 1;
                break;
            }
        }
    }
    found.push(path);
    // `as` and the new name.
    if tokens.get(i).is_some_and(|next| next == "as") { i + 2 } else { i }
}

/// The module of a file: `["wire", "json"]` for `wire/json.rs`.
fn module(file: &str) -> Vec<String> {
    let mut names: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    names
}

/// A path from the top of the crate; `None` for another crate's, or one in the same module.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "lanrage" if floor(&module[0]) == floor("main") => Some(path[1..].to_vec()),
        "super" => {
            let above = module.len().checked_sub(ups)?;
            Some([&module[..above], &path[ups..]].concat())
        }
        _ => None,
    }
}

/// What is wrong with the file `file` of `src`, and its test modules that are files.
fn examine(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let module = module(file);
    let (tokens, test_files) = without_tests(tokens(text));
    let room = module[0].as_str();
    if file == "lib.rs" {
        return (Vec::new(), test_files);
    }
    let Some(here) = floor(room) else { return (vec![format!("{file}: has no floor")], test_files) };
    let mut problems = Vec::new();
    let mut complain = |what: String| problems.push(format!("{file}: {what}"));
    for path in paths(&tokens) {
        let shown = path.join("::");
        if path.last().is_some_and(|last| last == "*") && path.len() > 1 {
            complain(format!("imports everything by {shown}"));
        }
        if here <= SANS_IO && path.len() > 1 && IO_PATHS.iter().any(|banned| path[..2] == *banned) {
            complain(format!("uses {shown} on a floor without input and output"));
        }
        let is_std_clock = path.len() > 2 && path[..3] == ["std", "time", "Instant"];
        let is_reading = path.len() > 1 && path[path.len() - 2..] == ["Instant", "now"];
        if room != CLOCKS && (is_std_clock || is_reading) {
            complain(format!("reads a clock by {shown}"));
        }
        let Some(target) = absolute(&path, &module) else { continue };
        let Some(target) = target.first().map(String::as_str) else { continue };
        let there = match floor(target) {
            _ if target == room => continue,
            // What `super` names in a file on top is in no room but its own.
            None if path[0] == "super" => continue,
            None => {
                complain(format!("{shown} has no floor"));
                continue;
            }
            Some(there) => there,
        };
        if there > here {
            complain(format!("looks up to {shown}"));
        } else if there == here && !NEIGHBOURS.contains(&(room, target)) {
            complain(format!("looks across to {shown}"));
        }
    }
    for token in &tokens {
        if token == "unsafe" && room != UNSAFE {
            complain("has unsafe code".to_owned());
        }
        if MISSING_WORDS.contains(&token.as_str()) {
            complain(format!("uses {token}, which MIPS does not have"));
        }
        if CLOCK_WORDS.contains(&token.as_str()) && room != CLOCKS {
            complain(format!("reads a clock by {token}"));
        }
        if here <= SANS_IO && IO_WORDS.contains(&token.as_str()) {
            complain(format!("uses {token} on a floor without input and output"));
        }
    }
    (problems, test_files)
}

fn files(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_house_stands() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    all.sort();
    let (mut problems, mut tests) = (Vec::new(), Vec::new());
    for path in &all {
        let file = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let (found, test_files) = examine(file, &std::fs::read_to_string(path).unwrap());
        problems.push((path, found));
        let folder =
            if file.ends_with("/mod.rs") || !file.contains('/') && (file == "lib.rs" || file == "main.rs") {
                path.parent().unwrap().to_owned()
            } else {
                path.with_extension("")
            };
        tests.extend(test_files.into_iter().map(|name| folder.join(name)));
    }
    let is_test =
        |path: &Path| tests.iter().any(|test| path.with_extension("") == *test || path.starts_with(test));
    let problems: Vec<String> =
        problems.into_iter().filter(|(path, _)| !is_test(path)).flat_map(|(_, found)| found).collect();
    assert!(all.len() > 50, "the source was not found");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// What the modules of a house import of each other: by module, without what lies above or below it in the same
/// tree, as a folder and its files belong together.
fn imports(sources: &[(&str, String)]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let known: BTreeSet<Vec<String>> = sources.iter().map(|(file, _)| module(file)).collect();
    let mut found = BTreeMap::new();
    for (file, text) in sources {
        let module = module(file);
        let (tokens, _) = without_tests(tokens(text));
        let targets = paths(&tokens).into_iter().filter_map(|path| absolute(&path, &module));
        let files = targets.filter_map(|mut target| {
            while !target.is_empty() && !known.contains(&target) {
                target.pop();
            }
            let is_apart = !target.starts_with(&module) && !module.starts_with(&target);
            (!target.is_empty() && is_apart).then_some(target)
        });
        let files = files.collect();
        found.insert(module, files);
    }
    found
}

/// Modules that import each other, by way of others too: each by how it gets back to itself.
fn loops(imports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Vec<String> {
    let mut found = Vec::new();
    for start in imports.keys() {
        let mut way: BTreeMap<&Vec<String>, &Vec<String>> = BTreeMap::new();
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            for next in imports.get(module).into_iter().flatten() {
                if way.contains_key(next) {
                    continue;
                }
                way.insert(next, module);
                open.push(next);
            }
        }
        if way.contains_key(start) {
            let mut shown = start.join("/");
            let mut at = way[start];
            while at != start {
                shown = format!("{} > {shown}", at.join("/"));
                at = way[at];
            }
            found.push(format!("{} > {shown}", start.join("/")));
        }
    }
    found
}

#[test]
fn files_do_not_import_each_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let sources: Vec<(&str, String)> =
        all.iter().map(|path| (path.strip_prefix(&source).unwrap().to_str().unwrap(), read(path))).collect();
    let mut found = loops(&imports(&sources));
    found.retain(|way| !WITH_LOOPS.iter().any(|room| way.starts_with(&format!("{room}/"))));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn loops_are_found() {
    let of = |sources: &[(&'static str, &str)]| {
        let sources: Vec<_> = sources.iter().map(|(file, text)| (*file, (*text).to_owned())).collect();
        loops(&imports(&sources))
    };
    let two = [("wire/a.rs", "use super::b::B;"), ("wire/b.rs", "fn f(x: crate::wire::a::A) {}")];
    assert_eq!(of(&two), ["wire/a > wire/b > wire/a", "wire/b > wire/a > wire/b"]);
    let three = [
        ("wire/a.rs", "use super::b::B;"),
        ("wire/b.rs", "use super::{Thing, c::C};"),
        ("wire/c/mod.rs", "use crate::wire::a;"),
    ];
    assert_eq!(of(&three).len(), 3);
    let none = [
        ("wire/mod.rs", "mod a; use a::A; pub struct W;"),
        ("wire/a.rs", "use super::W; use super::b::B; #[cfg(test)] mod tests { use super::*; }"),
        ("wire/b.rs", "#[cfg(test)] mod tests { use crate::wire::a::A; }"),
        ("wire/b/part.rs", "use super::B; use crate::wire::a::A;"),
    ];
    assert_eq!(of(&none), [""; 0]);
}

/// Types that a file defines on its top, but for its tests.
fn types(text: &str) -> Vec<String> {
    let (tokens, _) = without_tests(tokens(text));
    let (mut depth, mut found) = (0, Vec::new());
    for pair in tokens.windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "struct" | "enum" | "trait" | "type" | "union" if depth == 0 => found.push(pair[1].clone()),
            _ => {}
        }
    }
    found
}

#[test]
fn a_type_s_name_exists_once() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in
        all.iter().filter(|path| !path.ends_with("tests.rs") && !path.iter().any(|part| part == "tests"))
    {
        let file = path.strip_prefix(&source).unwrap().display().to_string();
        for name in types(&std::fs::read_to_string(path).unwrap()) {
            homes.entry(name).or_default().push(file.clone());
        }
    }
    assert!(homes.len() > 300, "the source was not found");
    homes.retain(|_, files| files.len() > 1);
    assert!(homes.is_empty(), "name each for what it is: {homes:#?}");
    assert_eq!(
        types("pub struct A { b: B } impl C for A { type D = E; } #[cfg(test)] mod t { struct F; }"),
        ["A"]
    );
}

/// The examination finds what it is there for.
#[test]
fn bad_code_is_found() {
    let bad: &[(&str, &str)] = &[
        ("wire/json.rs", "use crate::control::Control;"),
        ("wire/json.rs", "use crate::{ids::PeerId, control::{party::{Party}}};"),
        ("wire/json.rs", "fn f(x: crate::api::Api) {}"),
        ("wire/json.rs", "use super::super::net::http::Door;"),
        ("ids.rs", "use super::wire::json;"),
        ("ids.rs", "use crate::{\n    // here\n    ids::PeerId,\n    // up\n    figures,\n};"),
        ("api/mod.rs", "use crate::store::Row;"),
        ("api/mod.rs", "pub use crate::daemon as d;"),
        ("store/mod.rs", "use crate::net::udp;"),
        ("control/mod.rs", "use crate::wireguard::Peer;"),
        ("crypto/x.rs", "use crate::wire::json;"),
        ("net/x.rs", "use crate::unheard_of::Thing;"),
        ("main.rs", "use lanrage::unheard_of::Thing;"),
        ("strange.rs", "fn f() {}"),
        ("strange/new/world.rs", "fn f() {}"),
        ("wire/json.rs", "use super::*;"),
        ("store/mod.rs", "use redb::{self, backends::*};"),
        ("net/http.rs", "fn f() { unsafe { g() } }"),
        ("daemon/mod.rs", "unsafe extern \"C\" fn f() {}"),
        ("net/http.rs", "fn f() { let t = std::time::Instant::now(); }"),
        ("net/http.rs", "use std::time::Instant as Clock;"),
        ("net/http.rs", "fn f() { Instant::now(); }"),
        ("cli.rs", "use std::time::{Duration, SystemTime};"),
        ("sys.rs", "fn f() { libc::clock_gettime(0); }"),
        ("store/mod.rs", "fn f() -> time::OffsetDateTime { g() }"),
        ("api/mod.rs", "async fn f() {}"),
        ("daemon/x.rs", "static A: std::sync::atomic::AtomicU64 = f();"),
        ("relay/mod.rs", "use std::net::{IpAddr, UdpSocket};"),
        ("control/mod.rs", "use std::fs::File;"),
        ("agent/mod.rs", "fn f() { std::thread::sleep(d) }"),
        ("wire/json.rs", "#[cfg(test)] mod tests { use super::*; } use crate::api::Api;"),
        ("wire/json.rs", "const A: &str = \"// \\\" /*\"; use crate::api::Api; // */"),
        ("wire/json.rs", "const A: &str = r#\"\" /* \"#; const B: char = '\"'; use crate::api::Api;"),
        ("wire/json.rs", "fn f<'a>(x: &'a str) {} use crate::api::Api; fn g<'a>() {}"),
    ];
    for (file, text) in bad {
        let (problems, _) = examine(file, text);
        assert_eq!(problems.len(), 1, "{file} {text} {problems:?}");
    }
    let good: &[(&str, &str)] = &[
        ("main.rs", "use lanrage::daemon::settings::Config;"),
        ("main.rs", "mod cli; use crate::cli::run;"),
        ("api/mod.rs", "use crate::control::Control; use super::api::x; use crate::ids::{PeerId, PartyId};"),
        ("api/x.rs", "use super::{Api, Call}; // use crate::daemon::x;"),
        ("api/x.rs", "/* use crate::daemon; /* nested */ unsafe */ /// crate::daemon::run\nfn f() {}"),
        ("daemon/clock.rs", "fn f() { clock_gettime(x); SystemTime::now(); }"),
        ("sys.rs", "fn f() { unsafe { g() } }"),
        ("net/x.rs", "fn f(now: Instant) {} use crate::time::Instant; use std::time::Duration;"),
        (
            "net/x.rs",
            "#![deny(unsafe_code)] const A: &str = \"unsafe crate::daemon::x\"; const B: u8 = a * b;",
        ),
        (
            "net/x.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { Instant::now(); { unsafe {} } }\n}",
        ),
        ("net/x.rs", "#[cfg(test)] use crate::daemon::x; fn f() -> impl Sized + use<'_> {}"),
    ];
    for (file, text) in good {
        assert_eq!(examine(file, text).0, Vec::<String>::new(), "{file} {text}");
    }
    assert_eq!(examine("store/mod.rs", "#[cfg(test)]\nmod tests;\npub mod x;").1, ["tests"]);
}
