//! The installation that a database is of: an id that a broker has, too.
//!
//! A copy of the database has the id of its original: nothing in it tells that it is a copy.

use sqlx::Connection as _;
use uuid::Uuid;

use crate::domain::actor::Actor;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::text::replace_nul;

/// The id.
pub async fn id(connection: &mut Connection) -> Result<Uuid, Error> {
    let id = sqlx::query_scalar!("select id from installation").fetch_optional(connection).await?;
    id.ok_or_else(|| {
        Error::Outage(
            "the table `installation` has no row: restore it from a backup, or insert one and run \
             `partner-program topology apply`"
                .into(),
        )
    })
}

/// Gives the database another id.
pub async fn renew(connection: &mut Connection, id: Uuid, actor: &Actor) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    let former = self::id(&mut transaction).await?;
    sqlx::query!("update installation set id = $1, created_at = now()", id)
        .execute(&mut *transaction)
        .await?;
    note(&mut transaction, "renew", Some(former), id, actor).await?;
    transaction.commit().await?;
    Ok(())
}

/// Notes that the broker of another installation becomes this one's.
pub async fn note_adoption(
    connection: &mut Connection,
    former: Option<Uuid>,
    actor: &Actor,
) -> Result<(), Error> {
    let id = id(connection).await?;
    note(connection, "adopt", former, id, actor).await
}

async fn note(
    connection: &mut Connection,
    kind: &str,
    former: Option<Uuid>,
    id: Uuid,
    actor: &Actor,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into installation_change (kind, former_id, installation_id, actor, reason, source)
         values ($1, $2, $3, $4, $5, $6)",
        kind,
        former,
        id,
        replace_nul(&actor.name),
        replace_nul(&actor.reason),
        replace_nul(&actor.source),
    )
    .execute(connection)
    .await?;
    Ok(())
}
