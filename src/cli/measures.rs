//! Quantities as people read them.

use lanrage::time::UnixTime;
use lanrage::wire::datetime::{self, Naive, Read};

/// A span in its two largest units, such as `3 d 4 h`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let (large, small) = match (days, hours, minutes) {
        (0, 0, 0) => return format!("{seconds} s"),
        (0, 0, _) => ((minutes, "min"), (seconds % 60, "s")),
        (0, _, _) => ((hours, "h"), (minutes, "min")),
        _ => ((days, "d"), (hours, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}

/// The seconds that a span as people write it has, such as `90s`, `30m`, `6h` or `2d`.
pub fn seconds(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(unit)
}

/// How long there is until `then`, in seconds since 1970.
pub fn until(then: u64, now: UnixTime) -> String {
    match then.checked_sub(u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0)) {
        Some(left) if left > 0 => format!("in {}", span(left)),
        _ => "over".to_owned(),
    }
}

/// How long ago `then` was, in seconds since 1970; 0 for never.
pub fn since(then: u64, now: UnixTime) -> String {
    match then {
        0 => "never".to_owned(),
        then => format!("{} ago", span(u64::try_from(now.as_secs()).unwrap_or(0).saturating_sub(then))),
    }
}

/// A size in powers of 1000, such as `1.2 MB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut one, mut units) = (0, 100_u64, ["kB", "MB", "GB", "TB", "PB", "EB"].iter());
    let mut unit = "B";
    while let Some(next) = units.next().filter(|_| unit == "B" || tenths >= 10_000) {
        (unit, tenths) = (next, bytes.saturating_add(one / 2) / one);
        one = one.saturating_mul(1000);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// How many there are, with the right word for it.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// How long ago the daemon's date `text` (naive, UTC) was.
pub fn ago(text: &str, now: UnixTime) -> String {
    let Some(Read::Naive(then) | Read::Aware(then)) = datetime::parse(text) else { return text.to_owned() };
    match u64::try_from(now.micros_since(then) / 1_000_000) {
        Ok(0) | Err(_) => "just now".to_owned(),
        Ok(seconds) => format!("{} ago", span(seconds)),
    }
}

/// The daemon's date `text` (naive, UTC) to the second.
pub fn date(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or_default();
    format!("{} UTC", whole.trim_end_matches('Z').replacen('T', " ", 1))
}

/// A date in seconds since 1970.
pub fn date_of(seconds: u64) -> String {
    let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    date(&Naive(UnixTime::from_micros(micros)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (3660, "1 h 1 min"),
            (86_399, "23 h 59 min"),
            (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert!(span(u64::MAX).contains(" d"));
    }

    #[test]
    fn spans_are_read() {
        for (text, expected) in
            [("90s", 90), ("30m", 1800), ("30min", 1800), ("6h", 21_600), ("2 d", 172_800)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "6", "h", "0h", "-1h", "1w", "1h30m", "99999999999999999999d", "1.5h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let now = UnixTime::from_micros(1_000_000_000);
        assert_eq!((until(1061, now), until(1000, now)), ("in 1 min 1 s".into(), "over".into()));
    }

    #[test]
    fn sizes_change_their_unit_at_a_thousand() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn dates_are_told_as_they_are_and_as_how_long_ago() {
        let now = UnixTime::from_micros(1_000_000_000);
        assert_eq!(ago("1970-01-01T00:15:00.5", now), "1 min 39 s ago");
        assert_eq!(ago("1970-01-01T00:16:40", now), "just now");
        assert_eq!(ago("2030-01-01T00:00:00", now), "just now");
        assert_eq!(ago("never", now), "never");
        assert_eq!(date("2026-11-21T09:07:13.25"), "2026-11-21 09:07:13 UTC");
        assert_eq!(date("2026-11-21T09:07:13Z"), "2026-11-21 09:07:13 UTC");
        assert_eq!(date_of(1_000), "1970-01-01 00:16:40 UTC");
    }
}
