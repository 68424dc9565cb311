//! Brings a database up to this version's schema.

use sqlx::migrate::MigrateError;

use crate::store::catalogue;
use crate::store::compatibility::{self, MIGRATOR};
use crate::store::connection::{Connection, SCHEMA};
use crate::store::error::Error;

/// A migration of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Grows.
    pub version: i64,
    /// What it brings.
    pub description: String,
}

/// The migrations that `connection`'s database lacks, oldest first.
pub async fn pending(connection: &mut Connection) -> Result<Vec<Migration>, Error> {
    let known =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "known!""#)
            .fetch_one(&mut *connection)
            .await?;
    let applied: Vec<i64> = if known {
        sqlx::query_scalar("select version from _sqlx_migrations where success")
            .fetch_all(&mut *connection)
            .await?
    } else {
        compatibility::refuse_unreleased(connection).await?;
        Vec::new()
    };
    Ok(MIGRATOR
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .map(|migration| Migration {
            version: migration.version,
            description: migration.description.to_string(),
        })
        .collect())
}

/// Applies what is pending, notes which programs fit the schema, and says what was applied. Several at once wait for each other,
/// without a bound; so close the connection afterwards, which has lost its own bounds.
pub async fn run(connection: &mut Connection) -> Result<Vec<Migration>, Error> {
    let pending = pending(connection).await?;
    // A migration of a large table takes its time, and so does waiting for another that runs.
    sqlx::query("set statement_timeout = 0").execute(&mut *connection).await?;
    sqlx::query("set lock_timeout = 0").execute(&mut *connection).await?;
    create_schema(connection).await?;
    MIGRATOR.run(&mut *connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Error::from(error)
        }
        error => Error::Refused(error.to_string()),
    })?;
    compatibility::write(connection).await?;
    catalogue::ensure_version(connection).await?;
    Ok(pending)
}

/// Creates the schema if there is none: a user that may not create schemas can migrate one that is its own.
async fn create_schema(connection: &mut Connection) -> Result<(), Error> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from pg_namespace where nspname = $1) as "exists!""#,
        SCHEMA
    )
    .fetch_one(&mut *connection)
    .await?;
    if !exists {
        // Several at once may find it missing.
        sqlx::query!("create schema if not exists partner_program").execute(connection).await?;
    }
    Ok(())
}
