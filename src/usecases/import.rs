//! Imports a catalogue: orgs, programs and tiers, from TOML.
//!
//! Everything is judged before anything is written. Deliberately absent: SQL and output.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::domain::program::{ProgramKind, normalised};
use crate::store;
use crate::store::connection::Connection;
use crate::store::import::{Merged, Orgs, Programs, Tiers};

/// Why a file can't be imported; names the entry, and for syntax and unknown keys the line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not TOML, or keys and types that are not the catalogue's.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Well-formed, but against a rule.
    #[error("{0}")]
    Invalid(String),
}

/// A catalogue file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// In the file's order.
    #[serde(default, rename = "org")]
    pub orgs: Vec<Org>,
}

/// A tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Org {
    /// The first word of routing keys.
    pub code: String,
    /// For people.
    pub name: String,
    /// Digits only.
    pub country_code: String,
    /// In the file's order.
    #[serde(default, rename = "program")]
    pub programs: Vec<Program>,
}

/// A partner program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Compared normalised.
    pub name: String,
    /// Whose program it is.
    #[serde(deserialize_with = "program_kind")]
    pub kind: ProgramKind,
    /// A program that is switched off takes no new customers.
    #[serde(default = "yes")]
    pub active: bool,
    /// The end of its validity.
    pub ends_at: Option<DateTime<Utc>>,
    /// Lowest first; empty: not tier-based. A tier is known by its name, so a changed
    /// order moves no customer.
    #[serde(default)]
    pub tiers: Vec<String>,
}

fn program_kind<'de, D: Deserializer<'de>>(from: D) -> Result<ProgramKind, D::Error> {
    let word = String::deserialize(from)?;
    ProgramKind::parse(&word).ok_or_else(|| D::Error::unknown_variant(&word, &ProgramKind::WORDS))
}

fn yes() -> bool {
    true
}

/// Parses and validates a catalogue.
pub fn catalogue(text: &str) -> Result<Catalogue, Error> {
    let catalogue: Catalogue = toml::from_str(text)?;
    unique("org", catalogue.orgs.iter().map(|org| org.code.as_str()))?;
    for org in &catalogue.orgs {
        let code = &org.code;
        let is_code = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&code.len()) || !code.bytes().all(is_code) {
            return Err(Error::Invalid(format!(
                "org `{code}`: code must be 1 to 64 of a-z, 0-9 and -"
            )));
        }
        let country = &org.country_code;
        if !(1..=4).contains(&country.len()) || !country.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Invalid(format!(
                "org `{code}`: country_code must be 1 to 4 digits"
            )));
        }
        unique(&format!("org `{code}`: program"), org.programs.iter().map(|p| p.name.as_str()))?;
        for program in &org.programs {
            let what = format!("org `{code}`: program `{}`: tier", program.name);
            unique(&what, program.tiers.iter().map(String::as_str))?;
        }
    }
    Ok(catalogue)
}

/// Merges a catalogue into the database, all of it or nothing. What it does not name is left
/// alone, but a program's list of tiers is taken as complete.
pub async fn merge(
    connection: &mut Connection,
    catalogue: &Catalogue,
) -> Result<Merged, store::error::Error> {
    let mut orgs = Orgs::default();
    let mut programs = Programs::default();
    let mut tiers = Tiers::default();
    for org in &catalogue.orgs {
        orgs.codes.push(org.code.clone());
        orgs.names.push(org.name.clone());
        orgs.country_codes.push(org.country_code.clone());
        for program in &org.programs {
            programs.orgs.push(org.code.clone());
            programs.names.push(program.name.trim().to_owned());
            programs.normalised_names.push(normalised(&program.name));
            programs.kinds.push(program.kind.as_str().to_owned());
            programs.active.push(program.active);
            programs.ends_at.push(program.ends_at);
            for (rank, tier) in (1..).zip(&program.tiers) {
                tiers.orgs.push(org.code.clone());
                tiers.normalised_programs.push(normalised(&program.name));
                tiers.ranks.push(rank);
                tiers.names.push(tier.trim().to_owned());
                tiers.normalised_names.push(normalised(tier));
            }
        }
    }
    store::import::catalogue(connection, &orgs, &programs, &tiers).await
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for name in names {
        let key = normalised(name);
        if key.is_empty() {
            return Err(Error::Invalid(format!("{what}: a name is empty")));
        }
        if !seen.insert(key) {
            return Err(Error::Invalid(format!("{what} `{name}` is there twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        catalogue(text).unwrap_err().to_string()
    }

    #[test]
    fn the_demos_catalogue_is_valid() {
        let demo = catalogue(include_str!("../../deploy/demo/catalogue.toml")).unwrap();
        assert_eq!(demo.orgs[0].programs.len(), 7);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = complaint("[[org]]\ncode = \"a\"\nname = \"A\"\ncountry_code = \"1\"\nnam = 1");
        assert!(text.contains("line 5") && text.contains("nam"), "{text}");
    }

    #[test]
    fn programs_that_differ_in_case_only_are_refused() {
        let org = "[[org]]\ncode = \"a\"\nname = \"A\"\ncountry_code = \"1\"\n";
        let program =
            |name: &str| format!("[[org.program]]\nname = \"{name}\"\nkind = \"EXTERNAL\"\n");
        let text = complaint(&format!("{org}{}{}", program("Gold"), program(" gold")));
        assert!(text.ends_with("is there twice"), "{text}");
    }
}
