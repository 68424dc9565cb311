//! A command's body to a [`Command`] (`docs/contract.md#a-command-message` to
//! `docs/contract.md#limits`).
//!
//! Texts stay as they were sent; the domain decides whether they mean anything. So the
//! limits of 50 customers and 50 programs are not known here: exceeding them is an answer.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::domain::command::{
    Command, DelinkItem, Entry, GivenDate, Identifiers, LinkItem, Operation, Reference,
    UpdateDetails, UpdateItem,
};
use crate::domain::names::{
    CUSTOMER, CUSTOMER_PARTNER_REFERENCE, EMAIL, EXTERNAL_ID, ID, MOBILE, PARTNER_PROGRAM_NAME,
    UPDATE_TYPE,
};
use crate::domain::rejection::{Reason, Rejection};
use crate::message::BODY_BYTES_MAX;
use crate::wire::date;
use crate::wire::json::Fields;
use crate::wire::reader::{Reader, Step, refuse};

/// The root keys, in the order of [`Operation::ALL`].
const ROOT_KEYS: &[&str] =
    &[Operation::Link.root_key(), Operation::Update.root_key(), Operation::Delink.root_key()];

/// Reads the body of a command whose routing key says `operation`.
pub fn decode(body: &[u8], operation: Operation) -> Result<Command, Rejection> {
    if body.len() > BODY_BYTES_MAX {
        return Err(too_large(body.len()));
    }
    let text = str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        Rejection::new(Reason::NotUtf8, detail)
    })?;
    let reader = Reader::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let command = json.deserialize_any(Root(&reader)).map_err(|error| reader.rejection(&error))?;
    json.end().map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Rejection::new(Reason::TrailingData, format!("{place}: nothing may follow the document"))
    })?;
    if command.operation() == operation {
        Ok(command)
    } else {
        let detail =
            format!("the routing key says {operation}, the root key {}", command.operation());
        Err(Rejection::new(Reason::OperationMismatch, detail))
    }
}

/// The rejection of a body with more bytes than a command may have.
#[must_use]
pub fn too_large(body_bytes: usize) -> Rejection {
    let detail = format!("the body has {body_bytes} bytes, at most {BODY_BYTES_MAX} are taken");
    Rejection::new(Reason::TooLarge, detail)
}

/// SHA-256 of a body: what tells a command sent again from another under the same message id.
#[must_use]
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

struct Root<'r>(&'r Reader);

impl Root<'_> {
    fn refused<E: de::Error>(&self, found: &str) -> E {
        self.0.fail(Reason::RootKeys, format!("expected an object as root, found {found}"))
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Command, A::Error> {
        let reader = self.0;
        let mut command: Option<Command> = None;
        while let Some(index) = Reader::next_field(&mut map, ROOT_KEYS)? {
            let (operation, name) = (Operation::ALL[index], ROOT_KEYS[index]);
            let read = match &command {
                Some(earlier) if earlier.operation() == operation => {
                    Err(reader.fail(Reason::DuplicateKey, "given twice".to_owned()))
                }
                Some(_) => {
                    let detail = "a second operation in one command".to_owned();
                    Err(reader.fail(Reason::RootKeys, detail))
                }
                None => match operation {
                    Operation::Link => reader.list(&mut map).map(Command::Link),
                    Operation::Update => reader.list(&mut map).map(Command::Update),
                    Operation::Delink => reader.list(&mut map).map(Command::Delink),
                },
            };
            command = Some(reader.within(Step::Field(name), read)?);
        }
        command.ok_or_else(|| {
            reader.fail(Reason::RootKeys, format!("expected one of {}", ROOT_KEYS.join(", ")))
        })
    }

    refuse!(boolean number string null array);
}

/// The members of an object that are read: name, field, and how it is read.
macro_rules! fields {
    ($object:ty { $($name:tt => $field:ident: $read:ident,)+ }) => {
        impl Fields for $object {
            const NAMES: &'static [&'static str] = &[$($name),+];

            fn read<'de, A: MapAccess<'de>>(
                &mut self,
                name: &'static str,
                from: &mut A,
                reader: &Reader,
            ) -> Result<(), A::Error> {
                match name {
                    $($name => self.$field = reader.$read(from)?,)+
                    _ => Reader::skip(from)?,
                }
                Ok(())
            }
        }
    };
}

fields!(Identifiers {
    ID => id: integer,
    MOBILE => mobile: text_or_natural,
    EMAIL => email: text,
    EXTERNAL_ID => external_id: text_or_natural,
});

fields!(LinkItem {
    PARTNER_PROGRAM_NAME => program_name: text,
    CUSTOMER_PARTNER_REFERENCE => reference: object,
});

fields!(Reference {
    "partnerMembershipId" => membership_id: text,
    "partnerTierName" => tier_name: text,
    "partnerTierExpiryDate" => tier_expiry: date,
});

fields!(UpdateItem {
    PARTNER_PROGRAM_NAME => program_name: text,
    UPDATE_TYPE => update_type: text,
    "updateDetails" => details: object,
});

fields!(UpdateDetails {
    "updatedTierName" => tier_name: text,
    "updatedTierExpiryDate" => tier_expiry: date,
});

fields!(DelinkItem {
    PARTNER_PROGRAM_NAME => program_name: text,
    "reason" => reason: text,
});

/// What the lists of an operation hold.
trait Item: Fields {
    const OPERATION: Operation;
}

impl Item for LinkItem {
    const OPERATION: Operation = Operation::Link;
}

impl Item for UpdateItem {
    const OPERATION: Operation = Operation::Update;
}

impl Item for DelinkItem {
    const OPERATION: Operation = Operation::Delink;
}

impl<I: Item> Fields for Entry<I> {
    const NAMES: &'static [&'static str] = &[CUSTOMER, I::OPERATION.list_key()];
    const REQUIRED: Option<&'static str> = Some(I::OPERATION.list_key());

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        if name == CUSTOMER {
            self.customer = reader.object(from)?.unwrap_or_default();
        } else {
            self.items = reader.list(from)?;
        }
        Ok(())
    }
}

impl Reader {
    /// A date; null means absent.
    fn date<'de, A: MapAccess<'de>>(&self, from: &mut A) -> Result<GivenDate, A::Error> {
        let text = self.cow(from, "a string")?;
        Ok(text.map_or(GivenDate::Absent, |text| date::read(&text)))
    }
}

#[cfg(test)]
mod tests;
