//! Decimal numbers as text, without floating point: the processors of small routers have no unit for it, and what
//! reads and prints it weighs 30 KB.

use std::fmt;

/// A number of units of which 10 to the power of `digits` are one. It shows no zeros at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decimal {
    /// How many units.
    pub units: u64,
    /// How many digits there are behind the point, at most 19.
    pub digits: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u64.pow(self.digits);
        write!(f, "{}", self.units / one)?;
        let (mut rest, mut digits) = (self.units % one, self.digits as usize);
        if rest == 0 {
            return Ok(());
        }
        while rest.is_multiple_of(10) {
            (rest, digits) = (rest / 10, digits - 1);
        }
        write!(f, ".{rest:0digits$}")
    }
}

impl Decimal {
    /// Microseconds as seconds.
    pub fn seconds(micros: u64) -> Self {
        Decimal { units: micros, digits: 6 }
    }

    /// Digits, then perhaps a point and up to `digits` more; `None` if `text` is anything else, or too large.
    pub fn parse(text: &str, digits: u32) -> Option<Self> {
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some(text)?.parse::<u64>().ok()
        };
        let one = 10_u64.checked_pow(digits)?;
        let (whole, rest) = match text.split_once('.') {
            Some((whole, rest)) => {
                let missing = digits.checked_sub(u32::try_from(rest.len()).ok()?)?;
                (whole, number(rest)? * 10_u64.pow(missing))
            }
            None => (text, 0),
        };
        Some(Decimal { units: number(whole)?.checked_mul(one)?.checked_add(rest)?, digits })
    }
}

/// The whole number that a JSON number (RFC 8259, section 6) means, such as 50 for `5.0e1`, saturated; `None` if it has
/// a fraction.
pub fn whole(number: &str) -> Option<i128> {
    let (sign, size) = match number.strip_prefix('-') {
        Some(size) => (-1, size),
        None => (1, number),
    };
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (front, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let behind = behind.trim_end_matches('0');
    let mut digits = front.bytes().chain(behind.bytes()).map(|digit| digit.wrapping_sub(b'0')).peekable();
    if !digits.clone().all(|digit| digit < 10) {
        return None;
    }
    while digits.next_if_eq(&0).is_some() {}
    if digits.peek().is_none() {
        return Some(0);
    }
    // An exponent that nobody can count with only says which way.
    let exponent = match exponent.parse::<i64>() {
        Ok(exponent) => exponent,
        Err(_) if exponent.starts_with('-') => return None,
        Err(_) => i64::MAX,
    };
    let mut value = digits.fold(0_i128, |value, digit| value.saturating_mul(10).saturating_add(digit.into()));
    let mut zeros = exponent.saturating_sub(i64::try_from(behind.len()).ok()?);
    while zeros < 0 {
        if value % 10 != 0 {
            return None;
        }
        (value, zeros) = (value / 10, zeros + 1);
    }
    for _ in 0..zeros.min(40) {
        value = value.saturating_mul(10);
    }
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_as_floating_point_does() {
        for micros in [0, 1, 10, 500, 1_000_000, 1_500_000, 12_345_678, 120_000_000, 999_999_999_999] {
            assert_eq!(Decimal::seconds(micros).to_string(), (micros as f64 / 1e6).to_string());
        }
    }

    #[test]
    fn reads_what_it_shows_and_nothing_else() {
        for text in ["0", "7", "0.5", "1.25", "86400", "0.000001"] {
            assert_eq!(Decimal::parse(text, 6).unwrap().to_string(), text);
        }
        assert_eq!(Decimal::parse("1.50", 2), Some(Decimal { units: 150, digits: 2 }));
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "1.0000001",
            "0x1",
            "1_0",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(Decimal::parse(text, 6), None, "{text}");
        }
        assert_eq!(Decimal::parse("18446744073709551615", 1), None);
        assert_eq!(Decimal::parse("1.99999999999999999999", 25), None);
    }

    #[test]
    fn whole_numbers_of_json_have_many_shapes() {
        for (text, expected) in [
            ("5", Some(5)),
            ("-5.000", Some(-5)),
            ("5.0e1", Some(50)),
            ("50E-1", Some(5)),
            ("0.5e+1", Some(5)),
            ("0e999", Some(0)),
            ("-0.0", Some(0)),
            ("0.5", None),
            ("12e-2", None),
            ("1e-99999999999999999999", None),
            ("1e99999999999999999999", Some(i128::MAX)),
            ("-1e400", Some(-i128::MAX)),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
        let long = format!("1{}e-400", "0".repeat(400));
        assert_eq!(whole(&long), None, "too long to be exact is no whole number");
        for text in ["", "x", "1x", "1.x", "--1"] {
            assert!(whole(text).is_none_or(|number| number == 0), "{text}");
        }
    }
}
