//! Bytes as hexadecimal digits, two a byte, small letters.

use std::fmt::Write as _;

/// The digits of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// The bytes that exactly `2 * N` digits spell, of small letters or large ones.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Not by `char::to_digit`, which would be called for every letter: the start reads a token's hash for each member.
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// A test vector as the RFCs print them; whitespace is skipped.
#[cfg(test)]
pub(crate) fn array<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().expect("as many bytes as asked for")
}

/// As [`array`], for any length.
#[cfg(test)]
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "half a byte");
    let byte = |pair: &[u8; 2]| decode::<1>(str::from_utf8(pair).ok()?);
    pairs.iter().map(|pair| byte(pair).expect("hexadecimal digits")[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_read_back_and_nothing_else_is_read() {
        let bytes = [0x00, 0x0f, 0xa5, 0xff];
        assert_eq!(encode(&bytes), "000fa5ff");
        assert_eq!(decode("000fa5ff"), Some(bytes));
        assert_eq!(decode("000FA5Ff"), Some(bytes));
        for bad in ["", "000fa5f", "000fa5ff0", "000fa5ff00", "000fa5fg", "+00fa5ff", "000fa5\u{e9}"] {
            assert_eq!(decode::<4>(bad), None, "{bad}");
        }
    }
}
