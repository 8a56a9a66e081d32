//! `lanrage db check`: what state a file is in, without changing it.

use super::OpenError;
use super::dump::examine_file;
use super::open;
use super::schema::{self, Table};
use redb::{Error, ReadableDatabase};
use std::path::Path;

/// How many bad rows a report names.
const MAX_NAMED: usize = 100;
/// How deep the JSON in a row may nest.
const MAX_DEPTH: usize = 64;

/// What was found in a file whose every checksum is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The schema version; `None` in a file that was never written to.
    pub schema_version: Option<u32>,
    /// How many rows each table has.
    pub rows: Vec<(Table, u64)>,
    /// The first 100 rows whose value is not JSON.
    pub bad_rows: Vec<(Table, String)>,
    /// The length of the file in bytes.
    pub file_length: u64,
    /// The process that wrote it last did not close it. That does no harm.
    pub unclean: bool,
    /// It was closed, and yet is whole only after a repair, which the next start does.
    pub needs_repair: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.bad_rows.is_empty() && !self.needs_repair
    }
}

/// Verifies the file at `path`, which no daemon may have open and which is not changed. A damaged one is
/// [`OpenError::Corrupt`].
pub fn check(path: &Path) -> Result<Report, OpenError> {
    let (file, examined) = examine_file(path)?;
    let file_length = file.metadata().map_err(|error| OpenError::Io { path: path.to_owned(), error })?.len();
    let mut rows: Vec<(Table, u64)> = Table::ALL.into_iter().map(|table| (table, 0)).collect();
    let mut bad_rows = Vec::new();
    open::guarded(|| {
        let snapshot = examined.database.begin_read().map_err(Error::from)?;
        open::each_row(&snapshot, |table, key, value| {
            if let Some((_, count)) = rows.iter_mut().find(|(counted, _)| *counted == table) {
                *count += 1;
            }
            if !looks_like_json(value) && bad_rows.len() < MAX_NAMED {
                bad_rows.push((table, key.to_owned()));
            }
            Ok(())
        })?;
        Ok(())
    })
    .map_err(|fault| fault.at(path, &schema::CURRENT))?;
    let report = Report {
        schema_version: examined.version,
        rows,
        bad_rows,
        file_length,
        unclean: examined.unclean,
        needs_repair: examined.repaired,
    };
    open::drop_quietly(examined.database);
    Ok(report)
}

/// Whether `value` is one JSON value as far as brackets, strings and the letters between them go. Not a full
/// grammar: it keeps the lines of a dump in one piece, and shows a row that was mangled.
pub(super) fn looks_like_json(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let mut open = Vec::new();
    let mut values = 0usize;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'{' | b'[' if open.len() < MAX_DEPTH => open.push(byte + 2),
            b'}' | b']' if open.pop() == Some(byte) => {}
            b',' | b':' if !open.is_empty() => continue,
            b'"' => loop {
                match bytes.next() {
                    Some(b'"') => break,
                    Some(b'\\') => {
                        if bytes.next().is_none_or(|byte| byte < 0x20) {
                            return false;
                        }
                    }
                    Some(0x20..) => {}
                    _ => return false,
                }
            },
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                let mut word = vec![byte];
                while let Some(byte) = bytes.next_if(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
                    word.push(byte);
                }
                let number = word.iter().all(|byte| b"0123456789+-.eE".contains(byte));
                if !number && !matches!(&word[..], b"true" | b"false" | b"null") {
                    return false;
                }
            }
            _ => return false,
        }
        if open.is_empty() {
            values += 1;
        }
    }
    open.is_empty() && values == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_json_from_what_is_none() {
        for good in [
            "{}",
            "[1,2.5e-3,\"a\\\"]\"]",
            "null",
            " {\"a\": {\"b\": [true]}}\n",
            "\"é\"",
            "-1",
            "\"\\u0000\"",
        ] {
            assert!(looks_like_json(good.as_bytes()), "{good}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        for bad in
            ["", " ", "{", "}", "{]", "{}{}", "1 2", "nul", "\"a", "\"\n\"", "\"\\", "{}x", "a", ",", &deep]
        {
            assert!(!looks_like_json(bad.as_bytes()), "{bad}");
        }
        assert!(!looks_like_json(b"\"\xff\""));
    }
}
