//! The part of TOML 1.0 that settings need: tables, dotted keys, strings on one line, numbers, booleans, and
//! lists of these.

use std::collections::BTreeSet;
use std::fmt;

/// How deep tables and lists may lie in each other.
const MAX_DEPTH: usize = 8;

/// One value of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TomlEntry {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its key with those of the tables it is in, dots between them.
    pub key: String,
    /// Its text: a string's content, a number without underscores; a list's items with commas between them.
    /// `None` for what settings have no use for, such as dates and hexadecimal numbers.
    pub value: Option<String>,
}

/// Why a text is not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Error {}

/// Every value of `text`, in the order in which they come.
pub fn parse(text: &str) -> Result<Vec<TomlEntry>, Error> {
    let mut reader = TomlReader {
        text,
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        entries: Vec::new(),
        taken: BTreeSet::new(),
    };
    match reader.document() {
        Ok(()) => Ok(reader.entries),
        Err(what) => Err(Error { line: reader.line(), what }),
    }
}

type Result1<T> = Result<T, &'static str>;

struct TomlReader<'a> {
    text: &'a str,
    rest: &'a str,
    entries: Vec<TomlEntry>,
    /// Keys and headers that there are already.
    taken: BTreeSet<String>,
}

impl TomlReader<'_> {
    fn line(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        self.text.as_bytes()[..read].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn document(&mut self) -> Result1<()> {
        let mut table = String::new();
        loop {
            self.skip(true)?;
            if self.rest.is_empty() {
                return Ok(());
            }
            if self.take('[') {
                if self.rest.starts_with('[') {
                    return Err("lists of tables are not understood here");
                }
                table = self.key("")?;
                if !self.take(']') {
                    return Err("expected ] after the name of a table");
                }
                self.claim(table.clone())?;
            } else {
                self.pair(&table, 0)?;
            }
            self.skip(false)?;
            if !self.rest.is_empty() && !self.newline() {
                return Err("expected the end of the line");
            }
        }
    }

    /// `KEY = VALUE`, in the table called `table`.
    fn pair(&mut self, table: &str, depth: usize) -> Result1<()> {
        let line = self.line();
        let key = self.key(table)?;
        if !self.take('=') {
            return Err("expected = after a key");
        }
        self.skip(false)?;
        self.claim(key.clone())?;
        if self.take('{') {
            return self.inline_table(&key, depth + 1);
        }
        let value = self.value(depth)?;
        self.entries.push(TomlEntry { line, key, value });
        Ok(())
    }

    fn claim(&mut self, name: String) -> Result1<()> {
        if self.taken.insert(name) { Ok(()) } else { Err("this is there already") }
    }

    fn inline_table(&mut self, name: &str, depth: usize) -> Result1<()> {
        if depth > MAX_DEPTH {
            return Err("too many tables in each other");
        }
        self.skip(false)?;
        if self.take('}') {
            return Ok(());
        }
        loop {
            self.skip(false)?;
            self.pair(name, depth)?;
            self.skip(false)?;
            if self.take('}') {
                return Ok(());
            }
            if !self.take(',') {
                return Err("expected , or } after a value");
            }
        }
    }

    /// A key with the name of its table before it.
    fn key(&mut self, table: &str) -> Result1<String> {
        let mut key = table.to_owned();
        loop {
            self.skip(false)?;
            let part = match self.rest.chars().next() {
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                _ => self.word(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).to_owned(),
            };
            // A name with a dot in it is none of ours, and must not pass for two.
            if part.is_empty() || part.contains('.') {
                return Err("expected a key");
            }
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(&part);
            self.skip(false)?;
            if !self.take('.') {
                return Ok(key);
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result1<Option<String>> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.string(quote).map(Some),
            Some('[') => self.list(depth + 1),
            Some('{') => Err("tables in lists are not understood here"),
            _ => self.plain(),
        }
    }

    fn list(&mut self, depth: usize) -> Result1<Option<String>> {
        if depth > MAX_DEPTH {
            return Err("too many lists in each other");
        }
        self.take('[');
        let mut items: Option<Vec<String>> = Some(Vec::new());
        loop {
            self.skip(true)?;
            if self.take(']') {
                return Ok(items.map(|items| items.join(",")));
            }
            let nested = self.rest.starts_with('[');
            match (&mut items, self.value(depth)?) {
                (Some(items), Some(item)) if !nested => items.push(item),
                _ => items = None,
            }
            self.skip(true)?;
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err("expected , or ] after a value");
            }
        }
    }

    /// A string on one line, with its quotes.
    fn string(&mut self, quote: char) -> Result1<String> {
        self.take(quote);
        if quote == '"' && self.rest.starts_with("\"\"") || quote == '\'' && self.rest.starts_with("''") {
            return Err("strings over several lines are not understood here");
        }
        let mut out = String::new();
        loop {
            let Some(next) = self.rest.chars().next().filter(|next| !matches!(next, '\n' | '\r')) else {
                return Err("a string without its second quote");
            };
            self.rest = &self.rest[next.len_utf8()..];
            match next {
                end if end == quote => return Ok(out),
                '\\' if quote == '"' => out.push(self.escape()?),
                bad if bad.is_ascii_control() && bad != '\t' => return Err("a control character"),
                plain => out.push(plain),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result1<char> {
        let known =
            [('"', '"'), ('\\', '\\'), ('n', '\n'), ('t', '\t'), ('r', '\r'), ('b', '\u{8}'), ('f', '\u{c}')];
        for (letter, meant) in known {
            if self.take(letter) {
                return Ok(meant);
            }
        }
        let digits = match (self.take('u'), self.take('U')) {
            (true, _) => 4,
            (_, true) => 8,
            _ => return Err("a backslash that means nothing; in single quotes it would be plain"),
        };
        let (digits, rest) = self.rest.split_at_checked(digits).ok_or("a code of too few digits")?;
        let number =
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16));
        let letter = number.and_then(Result::ok).and_then(char::from_u32).ok_or("a code of no character")?;
        self.rest = rest;
        Ok(letter)
    }

    /// A number, a boolean, or a date.
    fn plain(&mut self) -> Result1<Option<String>> {
        let word = self
            .word(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.' | b':'));
        if matches!(word, "true" | "false") || is_number(word) {
            return Ok(Some(word.replace('_', "")));
        }
        match word.as_bytes().first() {
            // An address, as no number, date or time looks.
            Some(b'0'..=b'9') if word.matches('.').count() == 3 || word.contains("::") => {
                Err("an address needs quotes, as in \"0.0.0.0:8667\"")
            }
            Some(b'0'..=b'9') => Ok(None),
            None => Err("expected a value"),
            Some(_) => Err("text needs quotes"),
        }
    }

    /// The letters next to come that are of one kind.
    fn word(&mut self, is_of_it: impl Fn(u8) -> bool) -> &str {
        let end = self.rest.bytes().position(|byte| !is_of_it(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn newline(&mut self) -> bool {
        let rest = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Goes to what comes next, in this line or beyond; comments are none of it.
    fn skip(&mut self, beyond: bool) -> Result1<()> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let comment = &self.rest[..end];
                let comment = comment.strip_suffix('\r').filter(|_| end < self.rest.len()).unwrap_or(comment);
                if comment.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                    return Err("a control character");
                }
                self.rest = &self.rest[comment.len()..];
            }
            if !beyond || !self.newline() {
                return Ok(());
            }
        }
    }
}

/// Whether it is a whole number, or one with a fraction or an exponent, as decimal digits.
fn is_number(word: &str) -> bool {
    let is_digits = |digits: &str| {
        let lone = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.split('_').all(lone)
    };
    let unsigned = |word: &str| word.strip_prefix(['+', '-']).map_or(word.len(), str::len);
    let unsigned = &word[word.len() - unsigned(word)..];
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let no_idle_zero = whole == "0" || !whole.starts_with('0');
    no_idle_zero && [whole, fraction, exponent].into_iter().all(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    fn read(text: &str) -> Vec<(usize, String, Option<String>)> {
        let entries = parse(text).unwrap_or_else(|error| panic!("{text}: line {}: {error}", error.line));
        entries.into_iter().map(|entry| (entry.line, entry.key, entry.value)).collect()
    }

    fn one(text: &str) -> Option<String> {
        read(&format!("key = {text}")).pop().expect("a value").2
    }

    fn fault(text: &str) -> (usize, &'static str) {
        parse(text).map_err(|error| (error.line, error.what)).expect_err(text)
    }

    #[test]
    fn reads_tables_keys_and_lines() {
        let text = "# first\n a = 1 # one\r\n\n[limits]\nb.c = 'x'\n\"d\" = [\"1\", # no more\n '2',\n]\n\
                    [ rates . deep ]\ne = { f = 2, g.h = true }\ni={}";
        let expected = [
            (2, "a", "1"),
            (5, "limits.b.c", "x"),
            (6, "limits.d", "1,2"),
            (10, "rates.deep.e.f", "2"),
            (10, "rates.deep.e.g.h", "true"),
        ];
        let expected = expected.map(|(line, key, value)| (line, key.to_owned(), Some(value.to_owned())));
        assert_eq!(read(text), expected);
        assert_eq!(read("\u{feff}"), []);
    }

    #[test]
    fn reads_values() {
        for (text, value) in [
            (r#""a\"\\\n\t\u00e9\U0001F600 'b'""#, "a\"\\\n\té😀 'b'"),
            (r"'C:\n'", r"C:\n"),
            ("''", ""),
            ("5_000", "5000"),
            ("-7", "-7"),
            ("0", "0"),
            ("2.5", "2.5"),
            ("1e3", "1e3"),
            ("6.02_2E-1", "6.022E-1"),
            ("[]", ""),
            ("[1, true,]", "1,true"),
        ] {
            assert_eq!(one(text).as_deref(), Some(value), "{text}");
        }
        for text in ["2020-01-01", "0x1f", "[[1]]", "[1, 07:00:00]", "1979-05-27T07:32:00Z"] {
            assert_eq!(one(text), None, "{text}");
        }
    }

    #[test]
    fn says_where_and_what_is_wrong() {
        for (text, line, what) in [
            ("a = ", 1, "expected a value"),
            ("\na = b", 2, "text needs quotes"),
            ("a = 1\nb = 0.0.0.0:8667", 2, "an address needs quotes, as in \"0.0.0.0:8667\""),
            ("a = 10.66.0.0/16", 1, "an address needs quotes, as in \"0.0.0.0:8667\""),
            ("a", 1, "expected = after a key"),
            ("= 1", 1, "expected a key"),
            ("a = 1 b = 2", 1, "expected the end of the line"),
            ("a = 1\nb = 2\na = 3", 3, "this is there already"),
            ("[a]\n[a]", 2, "this is there already"),
            ("[a", 1, "expected ] after the name of a table"),
            ("[[a]]", 1, "lists of tables are not understood here"),
            ("a = \"b", 1, "a string without its second quote"),
            ("a = 'b\n'", 1, "a string without its second quote"),
            ("a = \"\"\"b\"\"\"", 1, "strings over several lines are not understood here"),
            ("a = \"C:\\dir\"", 1, "a backslash that means nothing; in single quotes it would be plain"),
            ("a = \"\\u12\"", 1, "a code of too few digits"),
            ("a = \"\\ud800\"", 1, "a code of no character"),
            ("a = [1 2]", 1, "expected , or ] after a value"),
            ("a = {b = 1 c = 2}", 1, "expected , or } after a value"),
            ("a.\"b.c\" = 1", 1, "expected a key"),
            ("# \u{7f}", 1, "a control character"),
        ] {
            assert_eq!(fault(text), (line, what), "{text:?}");
        }
        assert!(fault(&format!("a = {}", "[".repeat(1000))).1.starts_with("too many"));
        assert!(fault(&"a = {".repeat(1000)).1.starts_with("too many"));
    }

    /// What the library says, in our words; `None` if it is no TOML.
    fn library(text: &str) -> Option<Vec<(String, Option<String>)>> {
        use toml::de::{DeTable, DeValue};
        fn scalar(value: &DeValue<'_>) -> Option<String> {
            match value {
                DeValue::String(text) => Some(text.to_string()),
                // It leaves digits to whoever turns them into a number.
                DeValue::Integer(number) if number.radix() == 10 && is_number(number.as_str()) => {
                    Some(number.as_str().to_owned())
                }
                DeValue::Float(number) if is_number(number.as_str()) => Some(number.as_str().to_owned()),
                DeValue::Boolean(value) => Some(value.to_string()),
                _ => None,
            }
        }
        fn walk(table: &DeTable<'_>, prefix: &str, out: &mut Vec<(String, Option<String>)>) {
            for (name, value) in table {
                let key = format!("{prefix}{}", name.get_ref());
                match value.get_ref() {
                    DeValue::Table(inner) => walk(inner, &format!("{key}."), out),
                    DeValue::Array(items) => {
                        let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
                        out.push((key, items.map(|items| items.join(","))));
                    }
                    other => out.push((key, scalar(other))),
                }
            }
        }
        let table = DeTable::parse(text).ok()?;
        let mut out = Vec::new();
        walk(table.get_ref(), "", &mut out);
        out.sort();
        Some(out)
    }

    #[test]
    fn agrees_with_a_whole_reader_on_what_it_takes() {
        let specimen = "a = 1\nb = \"x\\ty\" # c\n[t]\nc = [1, '2', 3.5]\nd = true\ne.f = -7\n[u.v]\ng = {h = 1_0}\n\
                        i = 1e5\n";
        let spices = b" \t\n\r\"'\\[]{}=#,._-+:0123456789abcdefxutne\x00\x7f\xc3";
        let mut random = Seeded::new(3);
        let (mut taken, mut same) = (0, 0);
        for _ in 0..60_000 {
            let mut text = specimen.as_bytes().to_vec();
            for _ in 0..1 + random.next_u64() % 4 {
                let at = (random.next_u64() % text.len() as u64) as usize;
                let spice = spices[(random.next_u64() % spices.len() as u64) as usize];
                match random.next_u64() % 3 {
                    0 => text[at] = spice,
                    1 => text.insert(at, spice),
                    _ => drop(text.remove(at)),
                }
            }
            let Ok(text) = std::str::from_utf8(&text) else { continue };
            let Ok(entries) = parse(text) else { continue };
            taken += 1;
            // What looks like a date is not looked at closely, as nothing comes of it.
            let Some(theirs) = library(text) else {
                assert!(entries.iter().any(|entry| entry.value.is_none()) || is_odd(text), "{text}");
                continue;
            };
            let mut ours: Vec<_> = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            ours.sort();
            assert_eq!(ours, theirs, "{text}");
            same += 1;
        }
        assert!(taken > 5000 && same * 5 > taken * 4, "{taken} {same}");
    }

    /// What a whole reader knows to be two of the same, and here is found out later, as no setting.
    fn is_odd(text: &str) -> bool {
        let entries = parse(text).unwrap_or_default();
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let lies_in =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        keys.iter().any(|outer| keys.iter().any(|inner| lies_in(inner, outer)))
    }
}
