//! Whether a filter names what there is.

use crate::config::Config;
use crate::domain::command::Operation;
use crate::domain::rejection::Reason;
use crate::store::connection::Connection;
use crate::store::dead_letters::filter::Filter;
use crate::store::dead_letters::known;
use crate::usecases::dead_letters::error::Error;

/// Reasons that the broker gives, and that of letters which say none.
const OTHER_REASONS: [&str; 5] = ["delivery-limit", "expired", "maxlen", "rejected", "unknown"];

/// Refuses a filter with a word that no letter can have, and says which there are.
pub async fn check(
    connection: &mut Connection,
    config: &Config,
    filter: &Filter,
) -> Result<(), Error> {
    if let Some(operation) = &filter.operation {
        let known: Vec<&str> =
            Operation::ALL.into_iter().map(Operation::as_str).chain(["unknown"]).collect();
        if !known.contains(&operation.as_str()) {
            let text = format!("there is no operation `{operation}`: {}", known.join(", "));
            return Err(Error::Meaningless(text));
        }
    }
    if let Some(reason) = &filter.reason {
        let mut known = known::reasons(connection).await?;
        known.extend(Reason::ALL.into_iter().map(|reason| reason.as_str().to_owned()));
        known.extend(OTHER_REASONS.map(str::to_owned));
        known.sort_unstable();
        known.dedup();
        if !known.contains(reason) {
            let text = format!("letters die of no cause `{reason}`: {}", known.join(", "));
            return Err(Error::Meaningless(text));
        }
    }
    if let Some(group) = &filter.fingerprint {
        let has = known::has_group(connection, group).await?;
        let text = || format!("there is no group `{group}`: see `dead-letters groups`");
        refuse_unless(has, text)?;
    }
    if let Some(lane) = &filter.lane {
        let has = config.lanes.iter().any(|known| known.name == *lane)
            || known::has_lane(connection, lane).await?;
        refuse_unless(has, || format!("there is no lane `{lane}`: see `lanes list`"))?;
    }
    if let Some(org) = &filter.org {
        let has = known::has_org(connection, org).await?;
        refuse_unless(has, || format!("neither the catalogue nor a letter has an org `{org}`"))?;
    }
    Ok(())
}

fn refuse_unless(is_known: bool, text: impl FnOnce() -> String) -> Result<(), Error> {
    if is_known { Ok(()) } else { Err(Error::Unknown(text())) }
}
