//! The fence: one executor commits per lane at a time, whatever the broker believes.

use uuid::Uuid;

use crate::failpoint;
use crate::store::connection::Connection;
use crate::store::error::Error;

/// The right to commit for a lane, until another worker acquires it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lane.
    pub lane: String,
    /// Grows each time a worker acquires the lane.
    pub epoch: i64,
    /// Of this acquisition alone: a database that is restored from a backup counts epochs anew, and a
    /// worker from before may have the epoch of one that came later.
    token: Uuid,
}

impl Fence {
    /// For statements that are rolled back, under any owner of the lane.
    #[must_use]
    pub fn of_no_owner(lane: &str) -> Self {
        Self { lane: lane.to_owned(), epoch: 0, token: Uuid::nil() }
    }
}

/// Who acquires a lane.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The `worker_id`, for people.
    pub worker: &'a str,
    /// The worker's process; `None` where no worker acquires it.
    pub process: Option<Uuid>,
}

impl<'a> From<&'a str> for Owner<'a> {
    fn from(worker: &'a str) -> Self {
        Self { worker, process: None }
    }
}

/// Acquires the lane: from now on its former owner can't commit.
///
/// # Errors
///
/// [`Error::Fenced`] while a change of the routing map holds the lane. The condition is on the lane's
/// own row, so it holds whichever transaction locks the row first.
pub async fn acquire(
    connection: &mut Connection,
    lane: &str,
    owner: impl Into<Owner<'_>>,
) -> Result<Fence, Error> {
    let owner = owner.into();
    let acquired = sqlx::query!(
        "insert into lane (name, epoch, owner, process, token)
         values ($1, 1, $2, $3, gen_random_uuid())
         on conflict (name) do update set epoch = lane.epoch + 1, owner = excluded.owner,
             process = excluded.process, token = excluded.token, acquired_at = now()
         where lane.held_by_change is null
         returning epoch, token",
        lane,
        owner.worker,
        owner.process,
    )
    .fetch_optional(connection)
    .await?;
    let Some(acquired) = acquired else {
        return Err(Error::Fenced { lane: lane.to_owned(), epoch: 0 });
    };
    Ok(Fence { lane: lane.to_owned(), epoch: acquired.epoch, token: acquired.token })
}

/// Checks within a transaction that the lane is still this worker's. The share lock holds off
/// the next owner until the transaction ends.
pub(super) async fn check(connection: &mut Connection, fence: &Fence) -> Result<(), Error> {
    let mine = sqlx::query_scalar!(
        "select epoch from lane where name = $1 and epoch = $2 and token = $3 for share",
        fence.lane,
        fence.epoch,
        fence.token,
    )
    .fetch_optional(connection)
    .await?;
    verdict(mine, fence)
}

/// The catalogue by which commands were decided.
#[derive(Clone, Copy, Debug)]
pub struct DecidedBy<'a> {
    /// Its version.
    pub catalogue: i64,
    /// The orgs of the commands.
    pub org_ids: &'a [i32],
}

/// Like [`check`], and that the catalogue is still the one of the decisions. Advisory locks hold off
/// imports for these orgs until the transaction ends.
pub(super) async fn check_decisions(
    connection: &mut Connection,
    fence: &Fence,
    decided_by: DecidedBy<'_>,
) -> Result<(), Error> {
    let checked = sqlx::query!(
        r#"select (select epoch from lane where name = $1 and epoch = $2 and token = $3 for share) as mine,
            catalogue_is_current($4, $5) as "is_current!""#,
        fence.lane,
        fence.epoch,
        fence.token,
        decided_by.org_ids,
        decided_by.catalogue,
    )
    .fetch_one(connection)
    .await?;
    verdict(checked.mine, fence)?;
    if checked.is_current {
        Ok(())
    } else {
        Err(Error::Conflict("the catalogue has changed since it was read".into()))
    }
}

/// Like [`check`], but alone: each waits for the one before it.
pub(super) async fn check_alone(connection: &mut Connection, fence: &Fence) -> Result<(), Error> {
    let mine = sqlx::query_scalar!(
        "select epoch from lane where name = $1 and epoch = $2 and token = $3 for no key update",
        fence.lane,
        fence.epoch,
        fence.token,
    )
    .fetch_optional(connection)
    .await?;
    verdict(mine, fence)
}

fn verdict(mine: Option<i64>, fence: &Fence) -> Result<(), Error> {
    failpoint::without!(Fence, return Ok(()));
    match mine {
        Some(_) => Ok(()),
        None => Err(Error::Fenced { lane: fence.lane.clone(), epoch: fence.epoch }),
    }
}
