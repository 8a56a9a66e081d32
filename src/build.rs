//! Packs the pages of `api/pages` for browsers: a page's modules in one file, without comments and indentation,
//! compressed. What is served is what the sources say, and nobody has to remember to pack it.

use std::path::PathBuf;
use std::{env, fs};

/// What is packed, and of what: a module comes after those that it imports.
const PACKED: &[(&str, &[&str])] = &[
    ("owner.html", &["owner.html"]),
    ("owner.css", &["style.css", "owner.css"]),
    (
        "owner.js",
        &[
            "dom.js",
            "words.js",
            "ask.js",
            "x25519.js",
            "qr.js",
            "device.js",
            "owner_words.js",
            "session.js",
            "forms.js",
            "dialogs.js",
            "party.js",
            "owner.js",
        ],
    ),
    ("guest.html", &["guest.html"]),
    ("guest.css", &["style.css"]),
    (
        "guest.js",
        &["dom.js", "words.js", "ask.js", "x25519.js", "qr.js", "device.js", "guest_words.js", "guest.js"],
    ),
];

/// The best that there is.
const LEVEL: u8 = 10;

fn main() {
    let pages = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src/api/pages");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-changed=src/api/pages");
    for (name, parts) in PACKED {
        let mut text = String::new();
        for part in *parts {
            let source =
                fs::read_to_string(pages.join(part)).unwrap_or_else(|error| panic!("{part}: {error}"));
            let is_script = part.ends_with(".js");
            for line in source.lines().map(str::trim) {
                if line.is_empty() || is_left_out(line) {
                    continue;
                }
                // In one file everybody sees everybody.
                text.push_str(if is_script { line.strip_prefix("export ").unwrap_or(line) } else { line });
                text.push('\n');
            }
        }
        fs::write(out.join(format!("{name}.gz")), gzip(text.as_bytes())).unwrap();
    }
}

/// Whether a line is for readers of the source alone.
fn is_left_out(line: &str) -> bool {
    line.starts_with("//")
        || line.starts_with("<!--")
        || line.starts_with("/**") && line.ends_with("*/")
        || line.starts_with("import ")
}

/// RFC 1952, without a name or a time: the same bytes every time.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, LEVEL));
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}
