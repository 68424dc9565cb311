//! Whether this program and the database's schema fit each other.
//!
//! Versions are numbers of migrations. A release adds before a later one removes, so a program works
//! on a schema that is newer than its own, until a migration says that it is too old; on an older
//! schema it would miss something.

use sqlx::migrate::Migrator;

use crate::store::connection::{Connection, SCHEMA};
use crate::store::error::Error;

/// The schema that this program is built for.
pub(super) static MIGRATOR: Migrator = sqlx::migrate!();

/// The version of that schema.
#[must_use]
pub fn own_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The last migration of the oldest release that may work on this release's schema. Raised by the
/// release that removes what older ones need.
pub const OLDEST_COMPATIBLE_BINARY: i64 = 12;

/// How a schema and this program fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// It may work.
    Fits {
        /// The schema's version.
        schema: i64,
    },
    /// The schema lacks what this program needs. `None`: it is older than the table that tells.
    SchemaTooOld {
        /// The schema's version.
        schema: Option<i64>,
    },
    /// The schema has lost what this program needs.
    ProgramTooOld {
        /// The schema's version.
        schema: i64,
        /// The schema's version of the oldest program that may work.
        oldest: i64,
    },
}

impl Compatibility {
    fn of(own: i64, stored: Option<(i64, i64)>) -> Self {
        match stored {
            None => Self::SchemaTooOld { schema: None },
            Some((schema, _)) if schema < own => Self::SchemaTooOld { schema: Some(schema) },
            Some((schema, oldest)) if own < oldest => Self::ProgramTooOld { schema, oldest },
            Some((schema, _)) => Self::Fits { schema },
        }
    }

    /// What is wrong, with the numbers and what to do; nothing if it fits.
    #[must_use]
    pub fn problem(self) -> Option<String> {
        let own = own_version();
        match self {
            Self::Fits { .. } => None,
            Self::SchemaTooOld { schema } => {
                let has = schema.map_or("no row in schema_compatibility".to_owned(), |version| {
                    format!("schema {version}")
                });
                Some(format!(
                    "the database has {has}, this program needs {own}: run `partner-program migrate`"
                ))
            }
            Self::ProgramTooOld { schema, oldest } => Some(format!(
                "the database has schema {schema}, which takes programs of schema {oldest} and later, and this program is of {own}: install a newer release"
            )),
        }
    }
}

/// Reads how the schema fits.
pub async fn check(connection: &mut Connection) -> Result<Compatibility, Error> {
    let access = sqlx::query!(
        r#"select to_regclass('schema_compatibility') is not null as "is_there!",
               coalesce((select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1),
                   true) as "may_use!", current_user::text as "user!""#,
        SCHEMA
    )
    .fetch_one(&mut *connection)
    .await?;
    if !access.may_use {
        return Err(Error::Statement(format!(
            "user `{}` may not use the schema {SCHEMA}: grant it one of the group roles, such as partner_program_worker",
            access.user
        )));
    }
    if !access.is_there {
        refuse_unreleased(connection).await?;
        return Ok(Compatibility::of(own_version(), None));
    }
    let stored =
        sqlx::query!("select schema_version, oldest_compatible_binary from schema_compatibility")
            .fetch_optional(connection)
            .await?;
    let stored = stored.map(|row| (row.schema_version, row.oldest_compatible_binary));
    Ok(Compatibility::of(own_version(), stored))
}

/// Refuses a database of a version from before the first release, which had its tables in the schema
/// `public`.
pub(super) async fn refuse_unreleased(connection: &mut Connection) -> Result<(), Error> {
    let is_unreleased = sqlx::query_scalar!(
        r#"select (select count(*) = 3 from pg_class where relnamespace = 'public'::regnamespace
                and relname in ('command_log', 'enrolment_history', 'delivery_attempt'))
            and to_regclass('command_log') is null as "is_unreleased!""#
    )
    .fetch_one(connection)
    .await?;
    if is_unreleased {
        return Err(Error::Refused(format!(
            "the schema `public` holds the tables of a version from before the first release, which has no upgrade: point database_url at a new database, or drop those tables, then run `partner-program migrate` and the imports; the tables are in the schema {SCHEMA} from then on"
        )));
    }
    Ok(())
}

/// Notes what was migrated to. An older release takes nothing back.
pub(super) async fn write(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!(
        "insert into schema_compatibility as known (schema_version, oldest_compatible_binary)
         values ($1, $2)
         on conflict (only_row) do update set
             schema_version = greatest(known.schema_version, excluded.schema_version),
             oldest_compatible_binary =
                 greatest(known.oldest_compatible_binary, excluded.oldest_compatible_binary)",
        own_version(),
        OLDEST_COMPATIBLE_BINARY,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_schemas_are_waited_for_and_newer_ones_taken_until_they_say_no() {
        for (own, stored, expected) in [
            (14, None, Compatibility::SchemaTooOld { schema: None }),
            (14, Some((13, 13)), Compatibility::SchemaTooOld { schema: Some(13) }),
            (14, Some((14, 14)), Compatibility::Fits { schema: 14 }),
            (14, Some((20, 14)), Compatibility::Fits { schema: 20 }),
            (14, Some((20, 15)), Compatibility::ProgramTooOld { schema: 20, oldest: 15 }),
        ] {
            assert_eq!(Compatibility::of(own, stored), expected);
        }
        assert!(OLDEST_COMPATIBLE_BINARY <= own_version());
    }
}
