//! Percent-encoding in paths and queries (RFC 3986, section 2.1).

use crate::wire::json::Value;
use std::borrow::Cow;

/// What an encoded text means; `None` if an escape is malformed or the bytes are no UTF-8. `+` stays `+`.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The parameters of a query (WHATWG form encoding: `+` is a space), as an object of strings. A malformed
/// one is read as it stands.
pub fn query(text: &str) -> Value {
    let read = |part: &str| {
        let spaced = part.replace('+', " ");
        decode(&spaced).map(Cow::into_owned).unwrap_or(spaced)
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (read(name), Value::String(read(value)))
    });
    Value::Object(pairs.collect())
}

/// Encodes a text so that it can be one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.extend(
                    [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
                );
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes_and_refuses_what_is_malformed() {
        for text in ["plain", "a b/c?d&e=f%+é\0", ""] {
            assert_eq!(decode(&encode(text)).unwrap(), text);
            assert_eq!(query(&format!("x={}", encode(text))).get("x"), Some(&Value::String(text.into())));
        }
        for bad in ["%", "%2", "%zz", "%ff", "%é0"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(query("a=1&&b&c=x+y&a=2").get("a"), Some(&Value::String("2".into())));
        assert_eq!(query("b").get("b"), Some(&Value::String(String::new())));
        assert_eq!(query("c=x+y&d=%zz").get("c"), Some(&Value::String("x y".into())));
        assert_eq!(query("d=%zz").get("d"), Some(&Value::String("%zz".into())));
    }
}
