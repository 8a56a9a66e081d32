//! Packs the pages of `api/pages` for browsers: a page's modules in one file, without comments and indentation,
//! compressed. What two files begin with is in the program once. What is served is what the sources say, and nobody has to remember to pack it.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Files that begin alike: how they all begin, and how each goes on. A module comes after those that it imports.
struct Kind {
    name: &'static str,
    shared: &'static [&'static str],
    files: &'static [(&'static str, &'static [&'static str])],
}

/// What is packed, and of what.
const PACKED: &[Kind] = &[
    Kind { name: "html", shared: &[], files: &[("owner", &["owner.html"]), ("guest", &["guest.html"])] },
    Kind { name: "css", shared: &["style.css"], files: &[("owner", &["owner.css"]), ("guest", &[])] },
    Kind {
        name: "js",
        shared: &["dom.js", "words.js", "ask.js", "x25519.js", "qr.js", "device.js"],
        files: &[
            ("owner", &["owner_words.js", "session.js", "forms.js", "dialogs.js", "party.js", "owner.js"]),
            ("guest", &["guest_words.js", "guest.js"]),
        ],
    },
];

macro_rules! drop_reasons {
    ($($name:ident $word:literal, $help:literal, $german:literal;)*) => {
        /// Each reason's word, and what it means in German.
        const DROP_REASONS: &[(&str, &str)] = &[$(($word, $german)),*];
    };
}

include!("figures/drop_reasons.rs");

/// The best that there is.
const LEVEL: i32 = 10;

fn main() {
    let pages = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src/api/pages");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-changed=src/api/pages");
    println!("cargo::rerun-if-changed=src/figures/drop_reasons.rs");
    for kind in PACKED {
        let beginning = text(&pages, kind.shared);
        for (file, parts) in kind.files {
            let (shared, rest) = gzip(&beginning, &text(&pages, parts));
            // The same for all of them: what comes later does not change it.
            fs::write(out.join(format!("{}.gz", kind.name)), shared).unwrap();
            fs::write(out.join(format!("{file}.{}.gz", kind.name)), rest).unwrap();
        }
    }
}

/// The parts in one file, as browsers need them.
fn text(pages: &Path, parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        let source = fs::read_to_string(pages.join(part)).unwrap_or_else(|error| panic!("{part}: {error}"));
        let is_script = part.ends_with(".js");
        for line in source.lines().map(str::trim) {
            if line.is_empty() || is_left_out(line) {
                continue;
            }
            // In one file everybody sees everybody.
            text.push_str(if is_script { line.strip_prefix("export ").unwrap_or(line) } else { line });
            text.push('\n');
        }
        if *part == "owner_words.js" {
            text.push_str(&german_of_drops());
        }
    }
    text
}

/// The German of the reasons to drop a packet, for the page's table of words.
fn german_of_drops() -> String {
    let rows: Vec<String> =
        DROP_REASONS.iter().map(|(word, german)| format!("drop_{word}: {german:?}")).collect();
    format!("Object.assign(GERMAN, {{\n{},\n}});\n", rows.join(",\n"))
}

/// Whether a line is for readers of the source alone.
fn is_left_out(line: &str) -> bool {
    line.starts_with("//")
        || line.starts_with("<!--")
        || line.starts_with("/**") && line.ends_with("*/")
        || line.starts_with("import ")
}

/// RFC 1952, without a name or a time: the same bytes every time. In two pieces, of which the first is all of `beginning` and
/// nothing else.
fn gzip(beginning: &str, rest: &str) -> (Vec<u8>, Vec<u8>) {
    let mut first = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    let mut second = Vec::new();
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, 0, 0));
    for (text, flush, out) in
        [(beginning, TDEFLFlush::Sync, &mut first), (rest, TDEFLFlush::Finish, &mut second)]
    {
        let (status, taken) = compress_to_output(&mut compressor, text.as_bytes(), flush, |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        assert!(matches!(status, TDEFLStatus::Okay | TDEFLStatus::Done) && taken == text.len());
    }
    let whole = [beginning, rest].concat();
    second.extend(crc32(whole.as_bytes()).to_le_bytes());
    second.extend((whole.len() as u32).to_le_bytes());
    (first, second)
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}
