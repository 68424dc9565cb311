//! Moments as people read them: how long ago, and exactly when one looks closer.

use std::borrow::Borrow;
use std::fmt;

use askama::filters::HtmlSafe;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A moment, seen from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// RFC 3339, for machines.
    pub(super) machine: String,
    /// To the second, for people.
    pub(super) exact: String,
    /// `3 min ago`
    pub(super) relative: String,
}

impl Moment {
    pub(super) fn of(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self {
            machine: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            exact: at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            relative: relative(now - at),
        }
    }
}

/// As an element, whose title has the exact time.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, exact, relative } = self;
        write!(f, "<time datetime=\"{machine}\" title=\"{exact}\">{relative}</time>")
    }
}

/// Nothing but digits and words of this file.
impl HtmlSafe for Moment {}

fn relative(ago: TimeDelta) -> String {
    if ago < TimeDelta::seconds(-5) {
        return format!("in {}", span(-ago));
    }
    if ago < TimeDelta::seconds(5) { "now".to_owned() } else { format!("{} ago", span(ago)) }
}

/// The largest unit that says enough.
pub(super) fn span(span: TimeDelta) -> String {
    let (days, hours, minutes) = (span.num_days(), span.num_hours(), span.num_minutes());
    match (days, hours, minutes) {
        (2.., ..) => format!("{days} d"),
        (_, 1.., _) => format!("{hours} h"),
        (_, _, 1..) => format!("{minutes} min"),
        _ => format!("{} s", span.num_seconds()),
    }
}

/// `12,345`
pub(super) fn grouped(number: impl Borrow<i64>) -> String {
    let number = *number.borrow();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        for (seconds, told) in [
            (0, "now"),
            (-4, "now"),
            (59, "59 s ago"),
            (61, "1 min ago"),
            (90_000, "25 h ago"),
            (200_000, "2 d ago"),
            (-3_600, "in 1 h"),
        ] {
            assert_eq!(relative(TimeDelta::seconds(seconds)), told);
        }
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
