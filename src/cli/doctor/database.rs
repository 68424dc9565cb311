//! The database's half of the diagnosis.

use chrono::Utc;

use crate::cli::context::one_line;
use crate::cli::doctor::check::Check;
use crate::cli::doctor::clocks;
use crate::config::Config;
use crate::store::connection::{self, Connection};
use crate::store::dead_letters::volume;
use crate::store::doctor::{self, Partitions, Rights, Server};
use crate::store::error::Error;
use crate::store::worker_processes::{self, REMEDY, SharedId};
use crate::store::{compatibility, migrate};

/// The oldest server that the SQL is written for and tested with.
const MAJOR_VERSION_MIN: i32 = 15;

/// Partitions are made twice a retention's third ahead by each running worker; fewer days than
/// this mean that none has run for long.
const DAYS_AHEAD_MIN: i32 = 2;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let url = match config.database_url() {
        Ok(url) => url,
        Err(error) => return vec![Check::fail("database", error.to_string(), "set DATABASE_URL")],
    };
    let shown = config.database_url.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut connection = match connection::connect(url, &config.worker_id).await {
        Ok(connection) => connection,
        Err(error) => {
            let detail = format!("{shown}: {}", one_line(&error.into()));
            let remedy = "start Postgres, or mend address, user and password in DATABASE_URL; it \
                          must name the primary, not a standby";
            return vec![Check::fail("database", detail, remedy)];
        }
    };
    let mut checks = vec![Check::ok("database", shown)];
    let examined = examine(&mut connection, config, &mut checks).await;
    if let Err(error) = examined {
        let remedy =
            "on 42501 grant partner_program_worker to this user, else see the server's log";
        checks.push(Check::fail("database", one_line(&error.into()), remedy));
    }
    checks
}

/// Whether there is room for dead letters.
fn archive(bytes: i64, bytes_max: i64) -> Check {
    let detail = format!("dead letters take {bytes} of {bytes_max} bytes");
    let remedy =
        "discard letters that are not needed and let them expire, or raise dead_letters_max_bytes";
    if bytes >= bytes_max {
        let detail = format!("{detail}: new ones stay in their queue");
        Check::fail("dead letters", detail, remedy)
    } else if bytes / 4 * 5 >= bytes_max {
        Check::warn("dead letters", detail, remedy)
    } else {
        Check::ok("dead letters", detail)
    }
}

async fn examine(
    connection: &mut Connection,
    config: &Config,
    checks: &mut Vec<Check>,
) -> Result<(), Error> {
    checks.extend(server(&doctor::server(connection).await?));
    let before = Utc::now();
    let theirs = doctor::now(connection).await?;
    checks.push(clocks::of_database(before, theirs, Utc::now()));
    let pending = migrate::pending(connection).await?;
    if !pending.is_empty() {
        let names: Vec<&str> = pending.iter().map(|one| one.description.as_str()).collect();
        let detail = format!("{} pending: {}", pending.len(), names.join(", "));
        checks.push(Check::fail("migrations", detail, "partner-program migrate"));
        // Without the schema there is nothing more to ask.
        return Ok(());
    }
    checks.push(Check::ok("migrations", "none pending"));
    let fit = compatibility::check(connection).await?;
    if let Some(problem) = fit.problem() {
        checks.push(Check::fail("schema", problem, "run the release that the schema is for"));
        return Ok(());
    }
    checks.push(Check::ok(
        "schema",
        format!("{} is this program's or newer", compatibility::own_version()),
    ));
    checks.extend(doctor::partitions(connection).await?.iter().map(partitions));
    checks.push(rights(&doctor::rights(connection).await?));
    let bytes = volume::total(connection).await?;
    checks.push(archive(bytes, config.dead_letters_max_bytes));
    let live = worker_processes::count(connection).await?;
    checks.extend(workers(live, &worker_processes::shared_ids(connection).await?));
    Ok(())
}

fn server(server: &Server) -> Vec<Check> {
    let version = if server.major_version >= MAJOR_VERSION_MIN {
        Check::ok("version", format!("PostgreSQL {}", server.major_version))
    } else {
        let detail = format!("PostgreSQL {} is too old", server.major_version);
        Check::fail("version", detail, "upgrade the server to 15 or later")
    };
    let writable = if server.writable {
        Check::ok("writable", "yes")
    } else {
        let remedy = "point DATABASE_URL at the primary; is default_transaction_read_only set?";
        Check::fail("writable", "sessions are read-only", remedy)
    };
    let commit = if server.synchronous_commit == "off" {
        let detail = "off: a crash of the server loses acknowledged effects";
        let remedy = "set synchronous_commit = on for the server, database and user";
        Check::fail("synchronous_commit", detail, remedy)
    } else {
        Check::ok("synchronous_commit", server.synchronous_commit.as_str())
    };
    let standbys = if server.synchronous_standby_names.is_empty() {
        "none: a failover can lose acknowledged effects without a synchronous standby"
    } else {
        server.synchronous_standby_names.as_str()
    };
    vec![
        version,
        switched_on(
            "fsync",
            server.fsync,
            "a crash of the machine loses what was committed; workers refuse to start",
            "set fsync = on, and restore a backup if the machine has crashed meanwhile",
        ),
        switched_on(
            "full_page_writes",
            server.full_page_writes,
            "a crash of the machine can leave torn pages",
            "set full_page_writes = on",
        ),
        commit,
        Check::ok("standbys", standbys),
        writable,
    ]
}

fn switched_on(name: &'static str, on: bool, danger: &str, remedy: &str) -> Check {
    if on { Check::ok(name, "on") } else { Check::fail(name, format!("off: {danger}"), remedy) }
}

fn partitions(found: &Partitions) -> Check {
    let Partitions { table, covers_today, days_ahead, ends_on } = found;
    let remedy = "start a worker, or run `select maintain_partitions(retention_days, \
                  (now() at time zone 'utc')::date)`; workers make partitions ahead";
    match ends_on {
        Some(day) if *covers_today && *days_ahead >= DAYS_AHEAD_MIN => {
            Check::ok("partitions", format!("{table}: made until {day}"))
        }
        Some(day) if *covers_today => {
            Check::warn("partitions", format!("{table}: made until {day} only"), remedy)
        }
        _ => Check::fail("partitions", format!("{table}: none for today"), remedy),
    }
}

/// Whether each live worker has a `worker_id` of its own.
fn workers(live: i64, shared: &[SharedId]) -> Vec<Check> {
    if shared.is_empty() {
        return vec![Check::ok("workers", format!("{live} live, none with another's worker_id"))];
    }
    shared.iter().map(|id| Check::warn("workers", id.problem(), REMEDY)).collect()
}

fn rights(rights: &Rights) -> Check {
    let Rights { user, superuser, owner, missing } = rights;
    if !missing.is_empty() {
        let detail = format!("user {user} lacks {}", missing.join(", "));
        return Check::fail("rights", detail, "grant partner_program_worker to this user");
    }
    let too_much = match (superuser, owner) {
        (true, _) => "is a superuser",
        (false, true) => "owns the tables",
        (false, false) => return Check::ok("rights", format!("user {user} may work")),
    };
    let remedy = "run workers as a user of their own, in the role partner_program_worker";
    Check::warn("rights", format!("user {user} {too_much}"), remedy)
}
