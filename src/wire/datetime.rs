//! Dates as the stock clients write and read them: ISO 8601, naive (REFERENCE: Python's `datetime`); and as
//! HTTP does.

use crate::time::UnixTime;
use std::fmt;

const MICROS_PER_SEC: i64 = 1_000_000;
const SECS_PER_DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Shows a time as `YYYY-MM-DDTHH:MM:SS[.ffffff]`, without a zone: an aware value would kill the stock
/// client's cleanup task.
pub struct Naive(pub UnixTime);

impl fmt::Display for Naive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let (year, month, day) = civil_from_days(secs.div_euclid(SECS_PER_DAY));
        let second = secs.rem_euclid(SECS_PER_DAY);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )?;
        match self.0.as_micros().rem_euclid(MICROS_PER_SEC) {
            0 => Ok(()),
            micros => write!(f, ".{micros:06}"),
        }
    }
}

/// Shows a time as HTTP's `Date` does, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
pub struct Http(pub UnixTime);

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The epoch was a Thursday.
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let secs = self.0.as_secs();
        let days = secs.div_euclid(SECS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        let second = secs.rem_euclid(SECS_PER_DAY);
        write!(
            f,
            "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            DAYS[days.rem_euclid(7) as usize],
            MONTHS[month as usize - 1],
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// What a client's date and time said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// No zone was given: the sender's own wall clock.
    Naive(UnixTime),
    /// A zone was given: a point in time.
    Aware(UnixTime),
}

impl Read {
    /// The time if it was said by somebody whose wall clock shows UTC.
    pub fn as_utc(self) -> UnixTime {
        match self {
            Read::Naive(time) | Read::Aware(time) => time,
        }
    }
}

/// Reads a date and time: naive, with `Z` or with an offset, `T` or a space between, 0 to 9 digits of
/// fraction.
pub fn parse(text: &str) -> Option<Read> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    let month = delimited(&mut rest, b"-")?;
    let day = delimited(&mut rest, b"-")?;
    let hour = delimited(&mut rest, b"T t")?;
    let minute = delimited(&mut rest, b":")?;
    let second = if rest.first() == Some(&b':') { delimited(&mut rest, b":")? } else { 0 };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    let valid = year >= 1
        && (1..=12).contains(&month)
        && (1..=month_length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let mut micros = 0;
    if let Some(b'.' | b',') = rest.first() {
        let length = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return None;
        }
        let digits = &rest[1..=length];
        micros =
            (0..6).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| i64::from(digit - b'0')));
        rest = &rest[1 + length..];
    }
    let local = (days_from_civil(year, month, day) * SECS_PER_DAY + hour * 3600 + minute * 60 + second)
        * MICROS_PER_SEC
        + micros;
    match rest {
        [] => Some(Read::Naive(UnixTime::from_micros(local))),
        [b'Z' | b'z'] => Some(Read::Aware(UnixTime::from_micros(local))),
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let mut zone = zone;
            let hours = number(&mut zone, 2)?;
            let minutes = match zone {
                [] => 0,
                [b':', ..] => delimited(&mut zone, b":")?,
                _ => number(&mut zone, 2)?,
            };
            if !zone.is_empty() || hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 3600 + minutes * 60) * MICROS_PER_SEC;
            let utc = if *sign == b'+' { local - offset } else { local + offset };
            Some(Read::Aware(UnixTime::from_micros(utc)))
        }
        _ => None,
    }
}

/// Takes exactly `length` digits.
fn number(rest: &mut &[u8], length: usize) -> Option<i64> {
    let (digits, after) = rest.split_at_checked(length)?;
    *rest = after;
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// Takes one of `delimiters`, then two digits.
fn delimited(rest: &mut &[u8], delimiters: &[u8]) -> Option<i64> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    if delimiters.contains(first) { number(rest, 2) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(micros: i64) -> Option<Read> {
        Some(Read::Naive(UnixTime::from_micros(micros)))
    }

    fn aware(micros: i64) -> Option<Read> {
        Some(Read::Aware(UnixTime::from_micros(micros)))
    }

    #[test]
    fn shows_what_http_says() {
        let shown = |secs: i64| Http(UnixTime::from_micros(secs * MICROS_PER_SEC)).to_string();
        assert_eq!(shown(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(shown(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(shown(-1), "Wed, 31 Dec 1969 23:59:59 GMT");
        assert_eq!(shown(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn shows_what_python_reads() {
        let show = |micros| Naive(UnixTime::from_micros(micros)).to_string();
        assert_eq!(show(0), "1970-01-01T00:00:00");
        assert_eq!(show(1_795_132_800_000_001), "2026-11-20T00:00:00.000001");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999");
        assert_eq!(show(951_782_400_000_000), "2000-02-29T00:00:00");
        assert_eq!(show(i64::MIN), "0001-01-01T00:00:00");
        assert_eq!(show(i64::MAX), "9999-12-31T23:59:59.999999");
    }

    #[test]
    fn reads_every_form_that_clients_send() {
        let at = 1_795_132_800_000_000;
        assert_eq!(parse("2026-11-20T00:00:00"), naive(at));
        assert_eq!(parse("2026-11-20 00:00:00.5"), naive(at + 500_000));
        assert_eq!(parse("2026-11-20T00:00:00.123456789"), naive(at + 123_456));
        assert_eq!(parse("2026-11-20T00:00:00Z"), aware(at));
        assert_eq!(parse("2026-11-20T02:00:00+02:00"), aware(at));
        assert_eq!(parse("2026-11-19T18:30:00-0530"), aware(at));
        assert_eq!(parse("2026-11-20T00:00"), naive(at));
        for bad in [
            "",
            "2026",
            "2026-13-01T00:00:00",
            "2026-02-29T00:00:00",
            "2026-11-20T24:00:00",
            "2026-11-20T00:00:60",
            "2026-11-20T00:00:00.",
            "2026-11-20T00:00:00.1234567890",
            "2026-11-20T00:00:00+24:00",
            "2026-11-20T00:00:00ZZ",
            "0000-01-01T00:00:00",
            "+026-11-20T00:00:00",
            "2026-11-20T00:00:00+1",
            "2026-1é-20T00:00:00",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_day_for_800_years_comes_back() {
        for day in -150_000..150_000 {
            let micros = day * SECS_PER_DAY * MICROS_PER_SEC + 1;
            assert_eq!(parse(&Naive(UnixTime::from_micros(micros)).to_string()), naive(micros));
        }
    }
}
