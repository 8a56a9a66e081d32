//! JSON (RFC 8259): the one door for JSON from outside, and a writer for what goes out.
//!
//! [`parse`] makes a value of a text, [`members`] takes from an object what is wanted of it, in the same one pass
//! over the text and with the same strictness.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: u32 = 32;

/// A JSON value as it was sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, in the sender's own spelling: nothing is rounded or wrapped by reading it.
    Number(Box<str>),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, in the sender's order. If a name is repeated the last one counts.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => {
                members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Why text is no JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonError {
    /// Where reading failed, in bytes from the start.
    pub offset: usize,
    /// What was expected there.
    pub reason: &'static str,
}

/// A value as it stands in a text that is JSON.
#[derive(Clone, PartialEq, Debug)]
pub enum Part<'a> {
    /// A member that is not there.
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, in the writer's own spelling.
    Number(&'a str),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array or an object: its text.
    Nested(&'a str),
}

/// What a [`Part`] can be read as.
pub trait FromPart: Sized {
    /// The value, if `part` is one of this kind and within its range.
    fn from_part(part: Part<'_>) -> Option<Self>;
}

impl Part<'_> {
    /// The value as the kind that is wanted.
    pub fn read<T: FromPart>(self) -> Option<T> {
        T::from_part(self)
    }
}

impl FromPart for String {
    fn from_part(part: Part<'_>) -> Option<Self> {
        match part {
            Part::String(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}

impl FromPart for bool {
    fn from_part(part: Part<'_>) -> Option<Self> {
        match part {
            Part::Bool(value) => Some(value),
            _ => None,
        }
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl FromPart for $number {
            fn from_part(part: Part<'_>) -> Option<Self> {
                match part {
                    Part::Number(text) => text.parse().ok(),
                    _ => None,
                }
            }
        }
    )* };
}
numbers!(u16 u32 u64 i64);

/// `None` is what is not there, or `null`.
impl<T: FromPart> FromPart for Option<T> {
    fn from_part(part: Part<'_>) -> Option<Self> {
        match part {
            Part::Absent | Part::Null => Some(None),
            part => part.read().map(Some),
        }
    }
}

impl<T: FromPart> FromPart for Vec<T> {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let mut items = Vec::new();
        let mut all = true;
        let each = &mut |reader: &mut JsonReader<'_>| {
            match reader.part()?.read() {
                Some(item) => items.push(item),
                None => all = false,
            }
            Ok(())
        };
        let read = whole(text.as_bytes(), |reader| match reader.peek() {
            Some(b'[') => reader.array(each),
            _ => Err(reader.error("Expecting an array")),
        });
        (read.is_ok() && all).then_some(items)
    }
}

/// Reads one JSON text, which must fill `bytes` but for white space.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    whole(bytes, JsonReader::value)
}

/// Whether `bytes` are one JSON text.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    whole(bytes, JsonReader::part).map(|_| ())
}

/// The members called `names` of the object that `bytes` are; the others are only checked. If a name is repeated the
/// last one counts.
pub fn members<'a, const N: usize>(bytes: &'a [u8], names: [&str; N]) -> Result<[Part<'a>; N], JsonError> {
    let mut parts = [const { Part::Absent }; N];
    members_into(bytes, &names, &mut parts)?;
    Ok(parts)
}

fn members_into<'a>(bytes: &'a [u8], names: &[&str], parts: &mut [Part<'a>]) -> Result<(), JsonError> {
    // A writer of records has its members in this order, so that the first look is the last.
    let mut next = 0;
    let each = &mut |reader: &mut JsonReader<'a>, name: Cow<'a, str>| {
        let part = reader.part()?;
        let expected = names.get(next).is_some_and(|expected| *expected == name).then_some(next);
        if let Some(at) = expected.or_else(|| names.iter().position(|wanted| *wanted == name)) {
            parts[at] = part;
            next = at + 1;
        }
        Ok(())
    };
    whole(bytes, |reader| match reader.peek() {
        Some(b'{') => reader.object(each),
        _ => Err(reader.error("Expecting an object")),
    })
}

/// Has `read` take the one value that `bytes` are.
fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut JsonReader<'a>) -> Result<T, JsonError>,
) -> Result<T, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { offset: error.valid_up_to(), reason: "Invalid UTF-8" })?;
    let mut reader = JsonReader { bytes, text, at: 0, depth: 0 };
    reader.skip_space();
    let value = read(&mut reader)?;
    reader.skip_space();
    if reader.at < bytes.len() {
        return Err(reader.error("Extra data"));
    }
    Ok(value)
}

/// How many bytes at the start of `rest` stand for themselves in a string. Most of a text is in strings, so eight are
/// looked at at once.
fn plain_length(rest: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Whether a byte of `word` is below `bound`, which is at most 128: then it borrows, and its highest bit was not set.
    let has_below = |word: u64, bound: u64| word.wrapping_sub(bound * ONES) & !word & (0x80 * ONES) != 0;
    let has = |word: u64, byte: u8| has_below(word ^ (u64::from(byte) * ONES), 1);
    let (words, _) = rest.as_chunks::<8>();
    let is_plain = |word: &&[u8; 8]| {
        let word = u64::from_ne_bytes(**word);
        !has_below(word, 0x20) && !has(word, b'"') && !has(word, b'\\')
    };
    let plain = 8 * words.iter().take_while(is_plain).count();
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    rest[plain..].iter().position(is_special).map_or(rest.len(), |more| plain + more)
}

struct JsonReader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    depth: u32,
}

/// Reads a member's value.
type ReadMember<'r, 'a> = &'r mut dyn FnMut(&mut JsonReader<'a>, Cow<'a, str>) -> Result<(), JsonError>;
/// Reads an item of an array.
type ReadItem<'r, 'a> = &'r mut dyn FnMut(&mut JsonReader<'a>) -> Result<(), JsonError>;

impl<'a> JsonReader<'a> {
    fn error(&self, reason: &'static str) -> JsonError {
        JsonError { offset: self.at, reason }
    }

    // Called for every byte: as a function of its own it would cost more than all else of reading.
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        Ok(match self.peek() {
            Some(b'{') => {
                let mut members = Vec::new();
                self.object(&mut |reader, name| {
                    members.push((name.into_owned(), reader.value()?));
                    Ok(())
                })?;
                Value::Object(members)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.array(&mut |reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            _ => match self.part()? {
                Part::Bool(value) => Value::Bool(value),
                Part::Number(text) => Value::Number(text.into()),
                Part::String(text) => Value::String(text.into_owned()),
                Part::Absent | Part::Null | Part::Nested(_) => Value::Null,
            },
        })
    }

    /// Checks a value without making one.
    fn part(&mut self) -> Result<Part<'a>, JsonError> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(&mut |reader, _| reader.part().map(|_| ()))?,
            Some(b'[') => self.array(&mut |reader| reader.part().map(|_| ()))?,
            Some(b'"') => return Ok(Part::String(self.string()?)),
            Some(b't') => return self.word("true", Part::Bool(true)),
            Some(b'f') => return self.word("false", Part::Bool(false)),
            Some(b'n') => return self.word("null", Part::Null),
            Some(b'-' | b'0'..=b'9') => return Ok(Part::Number(self.number()?)),
            _ => return Err(self.error("Expecting value")),
        }
        Ok(Part::Nested(&self.text[start..self.at]))
    }

    fn word(&mut self, word: &str, part: Part<'a>) -> Result<Part<'a>, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(part)
        } else {
            Err(self.error("Expecting value"))
        }
    }

    /// Goes past the bracket that opens an array or an object, and the space behind it.
    fn enter(&mut self) -> Result<(), JsonError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error("Nested too deeply"));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Goes past a comma, or past the bracket that closes an array or an object. Returns whether that is the end.
    fn at_end(&mut self, bracket: u8) -> Result<bool, JsonError> {
        self.skip_space();
        let end = match self.peek() {
            Some(b',') => false,
            Some(byte) if byte == bracket => true,
            _ => return Err(self.error("Expecting ',' delimiter")),
        };
        self.at += 1;
        if end {
            self.depth -= 1;
        } else {
            self.skip_space();
        }
        Ok(end)
    }

    fn object(&mut self, member: ReadMember<'_, 'a>) -> Result<(), JsonError> {
        self.enter()?;
        if self.peek() == Some(b'}') {
            self.at_end(b'}')?;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("Expecting property name enclosed in double quotes"));
            }
            let name = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error("Expecting ':' delimiter"));
            }
            self.at += 1;
            self.skip_space();
            member(self, name)?;
            if self.at_end(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, item: ReadItem<'_, 'a>) -> Result<(), JsonError> {
        self.enter()?;
        if self.peek() == Some(b']') {
            self.at_end(b']')?;
            return Ok(());
        }
        loop {
            item(self)?;
            if self.at_end(b']')? {
                return Ok(());
            }
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("Expecting digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let opening = self.at;
        self.at += 1;
        let mut unescaped: Option<String> = None;
        loop {
            let start = self.at;
            self.at += plain_length(&self.bytes[start..]);
            let plain = &self.text[start..self.at];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(plain),
                        Some(text) => Cow::Owned(text + plain),
                    });
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    let text = unescaped.get_or_insert_default();
                    text.push_str(plain);
                    text.push(character);
                }
                Some(_) => return Err(self.error("Invalid control character")),
                None => return Err(JsonError { offset: opening, reason: "Unterminated string" }),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let bad = |reason| JsonError { offset: start, reason };
        self.at += 1;
        let letter = self.peek().ok_or(bad("Unterminated string"))?;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4().ok_or(bad("Invalid \\u escape"))?;
                let code = if (0xd800..0xdc00).contains(&high) && self.bytes[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex4().ok_or(bad("Invalid \\u escape"))?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(bad("Unpaired surrogate"));
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                char::from_u32(code).ok_or(bad("Unpaired surrogate"))?
            }
            _ => return Err(bad("Invalid \\escape")),
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        let code =
            digits.iter().try_fold(0, |code, &digit| Some(code * 16 + (digit as char).to_digit(16)?))?;
        self.at += 4;
        Some(code)
    }
}

/// Writes JSON text, compactly, in one pass. Commas take care of themselves.
///
/// ```
/// let mut json = lanrage::wire::json::JsonWriter::default();
/// json.object(|json| {
///     json.key("name").string("LAN \"party\"");
///     json.key("ports").array(|json| { json.int(1); json.int(2); });
/// });
/// assert_eq!(json.finish(), r#"{"name":"LAN \"party\"","ports":[1,2]}"#);
/// ```
#[derive(Default)]
pub struct JsonWriter {
    out: String,
}

impl JsonWriter {
    /// The text written so far, which is one JSON value once it is complete.
    pub fn finish(self) -> String {
        self.out
    }

    /// Writes an object; `members` writes each member with [`JsonWriter::key`] and a value.
    pub fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push('{');
        members(self);
        self.out.push('}');
    }

    /// Writes an array; `items` writes its values.
    pub fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push('[');
        items(self);
        self.out.push(']');
    }

    /// Writes a member's name; its value must follow.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.out.push(':');
        self
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        self.out.push('"');
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.push_str(&text[plain..at]);
            plain = at + 1;
            match byte {
                b'"' => self.out.push_str("\\\""),
                b'\\' => self.out.push_str("\\\\"),
                b'\n' => self.out.push_str("\\n"),
                b'\r' => self.out.push_str("\\r"),
                b'\t' => self.out.push_str("\\t"),
                _ => self.display(format_args!("\\u{byte:04x}")),
            }
        }
        self.out.push_str(&text[plain..]);
        self.out.push('"');
    }

    /// Writes a whole number.
    pub fn int(&mut self, number: impl Into<i128>) {
        self.separate();
        self.display(format_args!("{}", number.into()));
    }

    /// Writes `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// Writes `null`.
    pub fn null(&mut self) {
        self.raw("null");
    }

    /// Writes a value as `write` does, or `null` if there is none.
    pub fn or_null<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    /// Writes text that is a JSON value already.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.out.push_str(json);
    }

    /// Writes a value that was read.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(text) => self.raw(text),
            Value::String(text) => self.string(text),
            Value::Array(items) => self.array(|json| items.iter().for_each(|item| json.value(item))),
            Value::Object(members) => self.object(|json| {
                for (name, value) in members {
                    json.key(name).value(value);
                }
            }),
        }
    }

    /// The comma between this value and the one before it, if there is one.
    fn separate(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(',');
        }
    }

    fn display(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("writing to a String cannot fail");
    }
}

/// The JSON text of one object.
pub fn object(members: impl FnOnce(&mut JsonWriter)) -> String {
    let mut json = JsonWriter::default();
    json.object(members);
    json.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        let mut json = JsonWriter::default();
        json.value(&parse(text.as_bytes()).unwrap());
        json.finish()
    }

    #[test]
    fn reads_and_writes_every_kind_of_value() {
        let text = r#"{"a":[1,-2.5e+3,true,false,null,{}],"b":"x\"\\\n\u0001é","c":[]}"#;
        assert_eq!(round(text), text);
        assert_eq!(round(" [ 0 , \"\\ud83d\\ude00\\u00e9\\/\" ] "), "[0,\"😀é/\"]");
        assert_eq!(round("18446744073709551616"), "18446744073709551616");
        assert_eq!(round("\"\""), "\"\"");
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        assert_eq!(parse(b"{\"a\":1,\"a\":2}").unwrap().get("a"), Some(&Value::Number("2".into())));
    }

    #[test]
    fn refuses_what_the_grammar_refuses_and_says_where() {
        for (text, offset) in [
            ("", 0),
            ("{", 1),
            ("[1,]", 3),
            ("{\"a\":}", 5),
            ("{\"unknown\":[", 12),
            ("{a:1}", 1),
            ("01", 1),
            ("1.", 2),
            ("-", 1),
            ("1e", 2),
            ("+1", 0),
            ("NaN", 0),
            ("tru", 0),
            ("\"\t\"", 1),
            ("\"a", 0),
            ("\"\\x\"", 1),
            ("\"\\ud800\"", 1),
            ("\"\\udc00\"", 1),
            ("\"\\ud800\\u0041\"", 1),
            ("\"\\u12g4\"", 1),
            ("[] []", 3),
            ("{\"a\" 1}", 5),
            ("[1 2]", 3),
            ("\u{feff}1", 0),
            ("{\"a\":1,}", 7),
            ("'a'", 0),
            ("\"\\", 1),
        ] {
            let refused = parse(text.as_bytes()).unwrap_err();
            assert_eq!(refused.offset, offset, "{text:?}");
            assert_eq!(check(text.as_bytes()), Err(refused), "{text:?}");
            let within = format!("{{\"a\":{text}");
            assert!(members(within.as_bytes(), ["a"]).is_err(), "{within:?}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().offset, 1);
    }

    #[test]
    fn a_string_ends_where_it_ends_wherever_that_is() {
        let letters: String = ('\u{20}'..='\u{7e}').filter(|letter| !"\"\\".contains(*letter)).collect();
        for length in 0..40 {
            // Letters of two bytes, too, with all kinds of second bytes.
            for plain in [&letters[length..2 * length], &"\u{a2}\u{8a}\u{7dc}".repeat(length)] {
                let text = |inside: &str| format!("\"{plain}{inside}\"");
                assert_eq!(parse(text("").as_bytes()), Ok(Value::String(plain.to_owned())), "{plain}");
                assert_eq!(
                    parse(text("\\n0123456789").as_bytes()),
                    Ok(Value::String(format!("{plain}\n0123456789")))
                );
                for control in '\0'..' ' {
                    let error = JsonError { offset: 1 + plain.len(), reason: "Invalid control character" };
                    assert_eq!(parse(text(&format!("{control}0123456789")).as_bytes()), Err(error));
                }
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(32).as_bytes()).is_ok());
        assert_eq!(parse(nested(33).as_bytes()).unwrap_err().reason, "Nested too deeply");
        assert!(parse("[".repeat(65_536).as_bytes()).is_err());
        assert!(parse("{\"a\":".repeat(65_536).as_bytes()).is_err());
    }

    #[test]
    fn members_are_taken_in_any_order_and_others_passed_over() {
        let text = br#" {"x":[{"b":"not this"},"]"],"c":-7,"b":"\u0062 \"b\"","d":[1, 2],"e":null,"c":65536, "f":true} "#;
        let [a, b, c, d, e, f] = members(text, ["a", "b", "c", "d", "e", "f"]).unwrap();
        assert_eq!(a, Part::Absent);
        assert_eq!(b.clone().read(), Some("b \"b\"".to_owned()));
        assert_eq!(b.read::<u64>(), None);
        assert_eq!(c, Part::Number("65536"), "the last of two equal names counts");
        assert_eq!((c.clone().read::<u16>(), c.read::<u32>()), (None, Some(65_536)));
        assert_eq!((d.clone().read(), d.clone().read()), (Some(vec![1u64, 2]), None::<Vec<String>>));
        assert_eq!(d, Part::Nested("[1, 2]"));
        assert_eq!((e.clone().read(), e.read::<String>()), (Some(None::<String>), None));
        assert_eq!((f.clone().read(), f.read::<String>()), (Some(true), None));
        for (number, fits) in
            [("18446744073709551615", true), ("18446744073709551616", false), ("1.0", false)]
        {
            assert_eq!(Part::Number(number).read::<u64>().is_some(), fits, "{number}");
        }
        for other in ["[]", "1", "null", "\"a\"", ""] {
            assert!(members(other.as_bytes(), ["a"]).is_err(), "{other:?}");
        }
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(nested(31).as_bytes(), ["a"]).is_ok());
        assert_eq!(members(nested(32).as_bytes(), ["a"]).unwrap_err().reason, "Nested too deeply");
    }

    /// xorshift64*: small, seeded, good enough to mutate bytes with.
    fn random(state: &mut u64) -> usize {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }

    #[test]
    fn every_truncation_and_many_mutations_end_in_a_verdict() {
        let seed = br#"{"name":"x","host_peer_info":{"peer_id":"a","port":-1.5e3,"tags":["\u00e9\ud83d\ude00",null,true]}}"#;
        for end in 0..seed.len() {
            assert!(parse(&seed[..end]).is_err(), "{end}");
        }
        let mut state = 0x1234_5678_9abc_def1;
        let alphabet = b"{}[]\",:\\u0-9eE.+tfn \x00\xff";
        let mut accepted = 0;
        for _ in 0..200_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..1 + random(&mut state) % 4 {
                let at = random(&mut state) % bytes.len();
                match random(&mut state) % 3 {
                    0 => bytes[at] = alphabet[random(&mut state) % alphabet.len()],
                    1 => bytes.insert(at, alphabet[random(&mut state) % alphabet.len()]),
                    _ => drop(bytes.remove(at)),
                }
            }
            let parsed = parse(&bytes);
            assert_eq!(check(&bytes).err(), parsed.as_ref().err().copied());
            if let Ok([name, info]) = members(&bytes, ["name", "host_peer_info"]) {
                let value = parsed.as_ref().unwrap();
                assert_eq!(name.read::<String>().as_deref(), value.get("name").and_then(Value::as_str));
                assert_eq!(info == Part::Absent, value.get("host_peer_info").is_none());
            } else {
                assert!(!matches!(parsed, Ok(Value::Object(_))));
            }
            if let Ok(value) = parsed {
                accepted += 1;
                let mut json = JsonWriter::default();
                json.value(&value);
                assert_eq!(parse(json.finish().as_bytes()).unwrap(), value);
            }
        }
        assert!(accepted > 1000, "the mutations hardly ever make valid JSON: {accepted}");
    }
}
