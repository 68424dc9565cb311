//! A command's body to a [`Command`] (`docs/contract.md#a-command-message` to
//! `docs/contract.md#limits`).
//!
//! Texts stay as they were sent; whether they mean anything is the domain's to judge. So the
//! limits of 50 customers and 50 programs are not known here: exceeding them is an answer.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::domain::command::{
    Command, DelinkItem, Entry, GivenDate, Identifiers, LinkItem, Operation, Reference,
    UpdateDetails, UpdateItem,
};
use crate::domain::rejection::{Reason, Rejection};
use crate::message::BODY_BYTES_MAX;
use crate::wire::date;
use crate::wire::json::Fields;
use crate::wire::reader::{Reader, Step, refuse};

/// The root keys, in the order of [`Operation::ALL`].
const ROOT_KEYS: &[&str] = &["linkCustomers", "customersPartnerUpdates", "deLinkCustomers"];

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

impl Fields for Entry<LinkItem> {
    const NAMES: &'static [&'static str] = &["customer", "linkToPartnerPrograms"];
    const REQUIRED: Option<&'static str> = Some("linkToPartnerPrograms");

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        read_entry(self, name, from, reader)
    }
}

impl Fields for Entry<UpdateItem> {
    const NAMES: &'static [&'static str] = &["customer", "partnerProgramUpdates"];
    const REQUIRED: Option<&'static str> = Some("partnerProgramUpdates");

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        read_entry(self, name, from, reader)
    }
}

impl Fields for Entry<DelinkItem> {
    const NAMES: &'static [&'static str] = &["customer", "deLinkFromPartnerPrograms"];
    const REQUIRED: Option<&'static str> = Some("deLinkFromPartnerPrograms");

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        read_entry(self, name, from, reader)
    }
}

/// An entry's fields are its customer and, under the operation's own name, its items.
fn read_entry<'de, I: Fields, A: MapAccess<'de>>(
    entry: &mut Entry<I>,
    name: &'static str,
    from: &mut A,
    reader: &Reader,
) -> Result<(), A::Error> {
    if name == "customer" {
        entry.customer = reader.object(from)?.unwrap_or_default();
    } else {
        entry.items = reader.list(from)?;
    }
    Ok(())
}

impl Fields for Identifiers {
    const NAMES: &'static [&'static str] = &["id", "mobile", "email", "externalId"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "id" => self.id = reader.integer(from)?,
            "mobile" => self.mobile = reader.text_or_natural(from)?,
            "email" => self.email = reader.text(from)?,
            "externalId" => self.external_id = reader.text_or_natural(from)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

impl Fields for LinkItem {
    const NAMES: &'static [&'static str] = &["partnerProgramName", "customerPartnerReference"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "partnerProgramName" => self.program_name = reader.text(from)?,
            "customerPartnerReference" => self.reference = reader.object(from)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

impl Fields for Reference {
    const NAMES: &'static [&'static str] =
        &["partnerMembershipId", "partnerTierName", "partnerTierExpiryDate"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "partnerMembershipId" => self.membership_id = reader.text(from)?,
            "partnerTierName" => self.tier_name = reader.text(from)?,
            "partnerTierExpiryDate" => self.tier_expiry = read_date(from, reader)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

impl Fields for UpdateItem {
    const NAMES: &'static [&'static str] = &["partnerProgramName", "updateType", "updateDetails"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "partnerProgramName" => self.program_name = reader.text(from)?,
            "updateType" => self.update_type = reader.text(from)?,
            "updateDetails" => self.details = reader.object(from)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

impl Fields for UpdateDetails {
    const NAMES: &'static [&'static str] = &["updatedTierName", "updatedTierExpiryDate"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "updatedTierName" => self.tier_name = reader.text(from)?,
            "updatedTierExpiryDate" => self.tier_expiry = read_date(from, reader)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

impl Fields for DelinkItem {
    const NAMES: &'static [&'static str] = &["partnerProgramName", "reason"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error> {
        match name {
            "partnerProgramName" => self.program_name = reader.text(from)?,
            "reason" => self.reason = reader.text(from)?,
            _ => Reader::skip(from)?,
        }
        Ok(())
    }
}

fn read_date<'de, A: MapAccess<'de>>(from: &mut A, reader: &Reader) -> Result<GivenDate, A::Error> {
    let text = reader.cow(from, "a string")?;
    Ok(text.map_or(GivenDate::Absent, |text| date::read(&text)))
}

#[cfg(test)]
mod tests;
