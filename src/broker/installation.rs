//! The installation that a broker's virtual host is of.
//!
//! Two exchanges tell, to which nothing is published: one with the installation's id in its name, and
//! [`MARK`], which has the id in its argument `alternate-exchange`, the only one that brokers compare. To
//! look for them needs no right. A declaration of [`MARK`] with another id is refused, and the refusal names
//! its id: so no two installations can have the same broker.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::broker::connection::{Connection, close_channel, request};
use crate::broker::error::Error;

/// The exchange that every installation's broker has.
pub const MARK: &str = "partner-program.installation";
/// An exchange of this name does not exist. It is short, for the broker's words have 255 bytes at most.
const ID_PREFIX: &str = "partner-program.";
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
/// Of an id as text.
const ID_BYTES: usize = 36;

/// The exchange that only the broker of this installation has.
#[must_use]
pub fn exchange(id: Uuid) -> String {
    format!("{MARK}.{id}")
}

/// Which installation a broker belongs to, as far as a user without any right can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The installation that was asked for.
    This,
    /// Another one.
    Another,
    /// No `topology apply` has run here.
    Unclaimed,
}

impl Owner {
    /// Why nothing may be done there in the name of this installation, and what to do; nothing if all is
    /// well.
    #[must_use]
    pub fn problem(self, id: Uuid) -> Option<String> {
        let exchange = exchange(id);
        match self {
            Self::This => None,
            Self::Another => Some(format!(
                "the broker belongs to another installation than the database ({id}): it has no exchange \
                 `{exchange}`, and it has `{MARK}`. Check amqp_url and database_url; \
                 `partner-program topology apply` says whose it is, and --adopt makes it this database's"
            )),
            Self::Unclaimed => Some(format!(
                "the broker has no exchange `{exchange}`: it is new, or was built anew. Check amqp_url and \
                 database_url, then run `partner-program topology apply`"
            )),
        }
    }
}

/// Whose the broker is. Changes nothing and needs no right.
pub async fn owner(connection: &Connection, id: Uuid) -> Result<Owner, Error> {
    if is_there(connection, &exchange(id)).await? {
        return Ok(Owner::This);
    }
    Ok(if is_there(connection, MARK).await? { Owner::Another } else { Owner::Unclaimed })
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The broker is that of the installation now, or was before.
    Granted,
    /// It is another's; nothing, if the broker's words do not tell whose.
    Refused(Option<Uuid>),
}

/// Makes the broker that of the installation, unless it is another's already. Safe to repeat.
pub async fn claim(connection: &Connection, id: Uuid) -> Result<Claim, Error> {
    let exchange = exchange(id);
    let mut arguments = FieldTable::default();
    let marked = AMQPValue::LongString(LongString::from(format!("{ID_PREFIX}{id}")));
    arguments.insert(ALTERNATE_EXCHANGE.into(), marked);
    match declare(connection, MARK, false, arguments).await {
        Ok(()) => {}
        Err(Error::Precondition(_)) => return Ok(Claim::Refused(ask_owner(connection, id).await?)),
        Err(error) => return Err(error),
    }
    declare(connection, &exchange, false, FieldTable::default()).await?;
    Ok(Claim::Granted)
}

/// Whose the mark is. The broker tells it to who declares the mark without the argument.
async fn ask_owner(connection: &Connection, own: Uuid) -> Result<Option<Uuid>, Error> {
    match declare(connection, MARK, false, FieldTable::default()).await {
        Ok(()) => Ok(None),
        Err(Error::Precondition(words)) => Ok(other_id(&words, own)),
        Err(error) => Err(error),
    }
}

/// Takes the broker from the installation that it belongs to.
pub async fn release(connection: &Connection, owner: Option<Uuid>) -> Result<(), Error> {
    for exchange in owner.map(exchange).into_iter().chain([MARK.to_owned()]) {
        let channel = connection.channel().await?;
        let options = ExchangeDeleteOptions::default();
        let deleting = channel.exchange_delete(exchange.as_str().into(), options);
        match request(&format!("deleting exchange {exchange}"), deleting).await {
            Ok(()) => close_channel(&channel).await,
            // Older brokers say so of what is gone.
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Both exchanges as definitions, in the virtual host `/`.
#[must_use]
pub fn definitions(id: Uuid) -> [Value; 2] {
    let definition = |name: String, arguments: Value| {
        json!({
            "name": name, "vhost": "/", "type": "fanout", "durable": true, "auto_delete": false,
            "internal": true, "arguments": arguments,
        })
    };
    let mark =
        definition(MARK.to_owned(), json!({ ALTERNATE_EXCHANGE: format!("{ID_PREFIX}{id}") }));
    [mark, definition(exchange(id), json!({}))]
}

async fn is_there(connection: &Connection, exchange: &str) -> Result<bool, Error> {
    match declare(connection, exchange, true, FieldTable::default()).await {
        Ok(()) => Ok(true),
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// On a channel of its own, because a refusal closes the channel.
async fn declare(
    connection: &Connection,
    exchange: &str,
    passive: bool,
    arguments: FieldTable,
) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        internal: true,
        ..ExchangeDeclareOptions::default()
    };
    let declaring =
        channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, arguments);
    request(&format!("declaring exchange {exchange}"), declaring).await?;
    close_channel(&channel).await;
    Ok(())
}

/// The id in the broker's words that is not this one.
fn other_id(words: &str, own: Uuid) -> Option<Uuid> {
    let mut ids = words.match_indices(ID_PREFIX).filter_map(|(at, prefix)| {
        let begin = at + prefix.len();
        Uuid::parse_str(words.get(begin..begin + ID_BYTES)?).ok()
    });
    ids.find(|id| *id != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_tell_whose_it_is() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let words = format!(
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{MARK}' in vhost \
             '/': received none but current is the value '{ID_PREFIX}{other}' of type 'longstr'"
        );
        assert_eq!(other_id(&words, own), Some(other));
        assert_eq!(other_id(&words.replace(&other.to_string(), "somebody's"), own), None);
    }
}
