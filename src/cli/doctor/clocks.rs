//! The clocks of this machine, of the database and of the broker, side by side.
//!
//! The order of dead letters of a lane needs none of them; what has expired, how dead letters of several
//! lanes are ordered, retention and pauses do.

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};

use crate::broker::management::Management;
use crate::cli::context::one_line;
use crate::cli::doctor::check::Check;
use crate::config::Config;

/// Clocks that differ by more are out of step.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);
const REMEDY: &str =
    "let NTP set all machines, by small steps: this one's time decides what has expired";

/// What the database says, which was asked between the two moments of this machine.
pub(super) fn of_database(
    before: DateTime<Utc>,
    database: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Check {
    compare("clock", "the database", middle(before, after), database)
}

/// What the broker says, if its management API is known: AMQP has no clock.
pub(super) async fn of_broker(config: &Config) -> Check {
    const NAME: &str = "broker's clock";
    let (Some(url), Ok(amqp_url)) = (&config.management_url, config.amqp_url()) else {
        return Check::ok(NAME, "not checked: management_url is not set");
    };
    let before = Utc::now();
    let asked = match Management::new(url.expose(), amqp_url) {
        Ok(management) => management.date().await,
        Err(error) => Err(error),
    };
    match asked {
        // It tells whole seconds.
        Ok(date) => {
            let here = middle(before, Utc::now()).trunc_subsecs(0);
            compare(NAME, "the broker", here, date)
        }
        Err(error) => {
            let detail = format!("not checked: {}", one_line(&error.into()));
            Check::warn(NAME, detail, "mend management_url, or its user")
        }
    }
}

fn middle(before: DateTime<Utc>, after: DateTime<Utc>) -> DateTime<Utc> {
    before + (after - before) / 2
}

fn compare(name: &'static str, whose: &str, here: DateTime<Utc>, there: DateTime<Utc>) -> Check {
    let ahead = there - here;
    if ahead.abs() <= TOLERANCE {
        let detail = format!("{whose} is {} ms ahead of this machine", ahead.num_milliseconds());
        return Check::ok(name, detail);
    }
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let detail = format!(
        "{whose} has {}, this machine {}: a difference of {:.1} s",
        time(there),
        time(here),
        ahead.as_seconds_f64().abs(),
    );
    Check::warn(name, detail, REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::State;

    #[test]
    fn clocks_that_differ_by_more_than_a_second_are_shown_side_by_side() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap();
        for (ms, state) in [
            (0, State::Ok),
            (1_050, State::Ok),
            (-900, State::Ok),
            (1_100, State::Warn),
            (-1_000, State::Warn),
        ] {
            assert_eq!(of_database(at(0), at(ms), at(100)).state, state, "{ms}");
        }
        let late = of_database(at(0), at(-60_000), at(0));
        assert_eq!(
            late.detail,
            "the database has 2023-11-14T22:12:20.000Z, this machine 2023-11-14T22:13:20.000Z: a \
             difference of 60.0 s"
        );
    }
}
