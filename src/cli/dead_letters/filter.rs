//! Which letters, as options.

use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum;
use uuid::Uuid;

use crate::config::Config;
use crate::domain::dead_letter::State;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Filter;
use crate::usecases::dead_letters::{filter_check, selection};

/// Whatever is given must all hold.
#[derive(clap::Args, Default)]
pub(super) struct FilterArgs {
    /// Of this org
    #[arg(long, value_name = "CODE")]
    org: Option<String>,
    /// Of this operation: link, update, delink or unknown
    #[arg(long, value_name = "WORD")]
    operation: Option<String>,
    /// That died of this, such as `not-json` or `processing-failed`
    #[arg(long, value_name = "WORD")]
    cause: Option<String>,
    /// That failed alike: the fingerprint of a group
    #[arg(long, value_name = "FINGERPRINT")]
    group: Option<String>,
    /// That died in this lane
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,
    /// In this state
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// That died since then: a time in RFC 3339, or an age such as 90m, 6h, 2d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// That died before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// With this in the detail
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// With this command id
    #[arg(long, value_name = "ID")]
    command_id: Option<String>,
    /// With this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// About the customer with this id, mobile, e-mail or external id
    #[arg(long, value_name = "IDENTIFIER")]
    customer: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateName {
    Open,
    Replaying,
    Replayed,
    Applied,
    FailedAgain,
    Discarded,
    Superseded,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Open => Self::Open,
            StateName::Replaying => Self::Replaying,
            StateName::Replayed => Self::Replayed,
            StateName::Applied => Self::Applied,
            StateName::FailedAgain => Self::FailedAgain,
            StateName::Discarded => Self::Discarded,
            StateName::Superseded => Self::Superseded,
        }
    }
}

impl FilterArgs {
    /// With the letters named one by one, if any are.
    pub(super) async fn filter(
        &self,
        ids: &[Uuid],
        connection: &mut Connection,
        config: &Config,
    ) -> anyhow::Result<Filter> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let filter = Filter {
            ids,
            org: self.org.clone(),
            operation: self.operation.clone(),
            reason: self.cause.clone(),
            fingerprint: self.group.clone(),
            lane: self.lane.clone(),
            state: self.state.map(State::from),
            since: self.since,
            until: self.until,
            text: self.text.clone(),
            command_id: self.command_id.clone(),
            correlation_id: self.correlation_id.clone(),
            customer_keys: Vec::new(),
        };
        filter_check::check(connection, config, &filter).await?;
        Ok(match &self.customer {
            Some(customer) => selection::with_customer(connection, filter, customer).await?,
            None => filter,
        })
    }
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let age = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let number: i64 = number.parse().ok().filter(|number| *number >= 0)?;
        let age = match unit {
            "s" => TimeDelta::try_seconds(number),
            "m" => TimeDelta::try_minutes(number),
            "h" => TimeDelta::try_hours(number),
            "d" => TimeDelta::try_days(number),
            _ => None,
        };
        Utc::now().checked_sub_signed(age?)
    };
    age().ok_or_else(|| {
        "write a time such as 2026-02-01T08:00:00Z, or an age such as 90m, 6h, 2d".to_owned()
    })
}
