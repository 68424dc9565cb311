//! The catalogue: orgs, programs, tiers, and the version that says when a copy is stale.

use std::collections::HashMap;

use crate::domain::program::{
    Catalogue, Org, OrgId, Program, ProgramId, ProgramKind, Tier, TierId,
};
use crate::store::connection::Connection;
use crate::store::error::{Error, unknown_word};

/// The SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// The versions of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the catalogue.
    pub catalogue: i64,
    /// Of the customers.
    pub customers: i64,
}

/// The versions of what is stored. Without them nothing is known of the orgs, which is an outage.
pub async fn versions(connection: &mut Connection) -> Result<Versions, Error> {
    let missing = |what: &str| {
        Error::Outage(format!(
            "{what}: run `partner-program migrate`, or restore the catalogue from a backup"
        ))
    };
    let read = sqlx::query_as!(
        Versions,
        r#"select version as catalogue,
            (select coalesce(sum(changes), 0)::bigint from customer_change_count) as "customers!"
        from catalogue_version"#
    )
    .fetch_optional(connection)
    .await;
    match read {
        Ok(Some(versions)) => Ok(versions),
        Ok(None) => Err(missing("catalogue_version has no row")),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Err(missing("there is no table catalogue_version, or none customer_change_count"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives the catalogue a version if it has lost its own: one that no worker has read before.
pub(super) async fn ensure_version(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query!(
        "insert into catalogue_version (version) values (extract(epoch from now())::bigint)
         on conflict do nothing"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads everything. The version is read first: a change in between makes the copy look older
/// than it is, and it is read again.
pub async fn load(connection: &mut Connection) -> Result<Catalogue, Error> {
    let version = versions(connection).await?.catalogue;
    let mut tiers: HashMap<i32, Vec<Tier>> = HashMap::new();
    let rows = sqlx::query!(
        r#"select program_id, number, rank as "rank!", name, normalised_name from tier
        where rank is not null order by program_id, rank"#
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        tiers.entry(row.program_id).or_default().push(Tier {
            id: TierId(row.number),
            rank: row.rank,
            name: row.name,
            normalised_name: row.normalised_name,
        });
    }
    let mut programs: HashMap<i32, HashMap<String, Program>> = HashMap::new();
    let rows = sqlx::query!(
        "select org_id, id, name, normalised_name, kind, active, ends_at from program"
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let kind = ProgramKind::parse(&row.kind)
            .ok_or_else(|| Error::Outage(unknown_word("program.kind", &row.kind)))?;
        let program = Program {
            id: ProgramId(row.id),
            name: row.name,
            kind,
            active: row.active,
            ends_at: row.ends_at,
            tiers: tiers.remove(&row.id).unwrap_or_default(),
        };
        programs.entry(row.org_id).or_default().insert(row.normalised_name, program);
    }
    let orgs = sqlx::query!("select id, code, country_code from org where id > 0")
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(|row| {
            let org = Org {
                id: OrgId(row.id),
                code: row.code.clone(),
                country_code: row.country_code,
                programs: programs.remove(&row.id).unwrap_or_default(),
            };
            (row.code, org)
        })
        .collect();
    Ok(Catalogue { version, orgs })
}
