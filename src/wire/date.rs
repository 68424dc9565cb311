//! Dates as publishers write them (`docs/contract.md#dates`).
//!
//! RFC 3339 with an offset; besides, a space for `T`, a space before the offset, and an offset
//! without colon. No format of chrono's accepts exactly these, so the form is read here and chrono
//! checks only the calendar.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};

use crate::domain::command::GivenDate;

/// The years whose instants RFC 3339 can write.
const YEARS: RangeInclusive<i32> = 0..=9999;

/// Reads a date field. Fractions of a second are cut to microseconds.
pub(super) fn read(text: &str) -> GivenDate {
    let text = text.trim();
    if text.is_empty() {
        return GivenDate::Absent;
    }
    instant(text.as_bytes()).map_or(GivenDate::Unreadable, GivenDate::At)
}

fn instant(text: &[u8]) -> Option<DateTime<Utc>> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    one_of(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    one_of(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    one_of(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let second = digits(&mut rest, 2)?;
    let micros = fraction(&mut rest)?;
    let offset = offset(rest)?;

    let leap = second == 60;
    let second = if leap { 59 } else { second };
    let local = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?
        .and_hms_micro_opt(hour, minute, second, micros)?;
    let mut utc = local.checked_sub_signed(offset)?.and_utc();
    if leap {
        // Neither Postgres nor the clock knows leap seconds: the instant is the next second's.
        utc = utc.checked_add_signed(TimeDelta::seconds(1))?;
        if utc.num_seconds_from_midnight() != 0 {
            return None;
        }
    }
    YEARS.contains(&utc.year()).then_some(utc)
}

/// Microseconds of a fraction; 0 without one.
fn fraction(rest: &mut &[u8]) -> Option<u32> {
    if one_of(rest, b".").is_none() {
        return Some(0);
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (written, after) = rest.split_at(length);
    *rest = after;
    let kept = written.iter().chain(std::iter::repeat(&b'0')).take(6);
    (length > 0).then(|| kept.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

fn offset(mut rest: &[u8]) -> Option<TimeDelta> {
    one_of(&mut rest, b" ");
    let sign = match one_of(&mut rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return rest.is_empty().then(TimeDelta::zero),
    };
    let hours = digits(&mut rest, 2)?;
    one_of(&mut rest, b":");
    let minutes = digits(&mut rest, 2)?;
    (rest.is_empty() && hours < 24 && minutes < 60)
        .then(|| TimeDelta::minutes(sign * i64::from(hours * 60 + minutes)))
}

fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (written, after) = rest.split_at_checked(count)?;
    *rest = after;
    written.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
    })
}

fn one_of(rest: &mut &[u8], taken: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    taken.contains(first).then(|| {
        *rest = after;
        *first
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        match read(text) {
            GivenDate::Absent => "absent".to_owned(),
            GivenDate::Unreadable => "unreadable".to_owned(),
            GivenDate::At(at) => at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        }
    }

    #[test]
    fn dates_with_an_offset_are_taken() {
        for (text, expected) in [
            ("2022-12-29T23:59:59+05:30", "2022-12-29T18:29:59Z"),
            ("2022-12-29T23:59:59 +05:30", "2022-12-29T18:29:59Z"),
            ("2022-12-29T23:59:59+0530", "2022-12-29T18:29:59Z"),
            ("2022-12-29 23:59:59 -0530", "2022-12-30T05:29:59Z"),
            ("2022-12-29t23:59:59z", "2022-12-29T23:59:59Z"),
            (" 2022-12-29T23:59:59Z ", "2022-12-29T23:59:59Z"),
            ("2022-12-29T23:59:59-00:00", "2022-12-29T23:59:59Z"),
            ("2022-12-29T23:59:59.5Z", "2022-12-29T23:59:59.500Z"),
            ("2022-12-29T23:59:59.1234569Z", "2022-12-29T23:59:59.123456Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2017-01-01T05:29:60.25+05:30", "2017-01-01T00:00:00.250Z"),
        ] {
            assert_eq!(written(text), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_written_is_absent() {
        for text in ["", " ", "\t\n"] {
            assert_eq!(read(text), GivenDate::Absent, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_unreadable() {
        for text in [
            "2022-12-29",
            "2022-12-29T23:59:59",
            "2022-12-29T23:59Z",
            "2022-12-29T23:59:59+05",
            "2022-12-29T23:59:59+5:30",
            "2022-12-29T23:59:59  +05:30",
            "2022-12-29T23:59:59.Z",
            "2022-12-29T23:59:59,5Z",
            "2022-12-29T23:59:59Zz",
            "2022-12-29T23:59:59+24:00",
            "2022-12-29T23:59:59+05:60",
            "2022-12-29T24:00:00Z",
            "2022-12-29T23:60:00Z",
            "2022-12-29T23:59:61Z",
            "2022-12-29T12:00:60Z",
            "2023-02-29T00:00:00Z",
            "2022-13-01T00:00:00Z",
            "2022-00-01T00:00:00Z",
            "2022-01-00T00:00:00Z",
            "22-12-29T23:59:59Z",
            "+2022-12-29T23:59:59Z",
            "12022-12-29T23:59:59Z",
            "0000-01-01T00:00:00+05:30",
            "9999-12-31T23:59:59-05:30",
            "2022-12-29T23:59:59\u{2212}05:30",
            "tomorrow",
            "1672338599",
        ] {
            assert_eq!(read(text), GivenDate::Unreadable, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_without_panic(text in ".*") {
            read(&text);
        }

        #[test]
        fn near_dates_read_without_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})? ?([zZ]|[+-][0-9]{2}:?[0-9]{2})") {
            read(&text);
        }

        #[test]
        fn an_instant_reads_back(micros in -62_167_219_200_000_000_i64..=253_402_300_799_999_999) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let text = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            prop_assert_eq!(read(&text), GivenDate::At(at));
        }
    }
}
