//! What happens to Postgres.

use crate::faults::trial::{DEADLINE, Trial};
use crate::harness::eventually;
use crate::harness::servers::Lent;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Database {
    /// kill -9; own servers.
    Killed,
    /// Own servers.
    Stopped,
    /// kill -9 of it and of the broker at once; own servers.
    KilledWithTheBroker,
    /// `pg_terminate_backend` of every worker's session.
    SessionsTerminated,
    /// 25006, as after a failover; own servers.
    ReadOnly,
    /// The server does a COMMIT, and its answer is lost with the connection.
    CommitsReplyLost,
    /// A table is locked for longer than statements may wait.
    Locked,
    /// Statements take longer than they may.
    SlowStatements,
    /// The worker's password has changed; own servers.
    WrongPassword,
    /// 53100 when a row is written.
    DiskFull,
    /// 53100 when the transaction is committed.
    DiskFullAtCommit,
    /// 40P01 and 40001 at random.
    Conflicts,
}

/// Raises, while it is there, for a share of the rows that are written.
const RAISE: &str = "create function raise_it() returns trigger language plpgsql as $$ begin \
    if random() < tg_argv[1]::float then raise exception 'as the suite asked' using errcode = tg_argv[0]; end if; \
    return new; end $$";

impl Database {
    pub(crate) async fn inflict(self, trial: &mut Trial) {
        match self {
            Self::Killed => own(trial).postgres.kill().await,
            Self::Stopped => own(trial).postgres.stop().await,
            Self::KilledWithTheBroker => {
                let own = own(trial);
                tokio::join!(own.postgres.kill(), own.rabbitmq.kill());
            }
            Self::SessionsTerminated => {
                for _ in 0..5 {
                    terminate(trial).await;
                    trial.progress(50).await;
                }
            }
            Self::ReadOnly => {
                trial.rows.execute("alter system set default_transaction_read_only = on").await;
                trial.rows.execute("select pg_reload_conf()").await;
                let settled =
                    "select (current_setting('transaction_read_only') = 'on')::int::bigint";
                eventually(DEADLINE, "the server is read-only", async || {
                    (trial.rows.count(settled).await == 1).then_some(())
                })
                .await;
            }
            Self::CommitsReplyLost => {
                for _ in 0..10 {
                    trial.database.lose_a_commits_reply();
                    let line = &trial.database;
                    eventually(DEADLINE, "a COMMIT passes", async || {
                        line.has_lost_it().then_some(())
                    })
                    .await;
                }
            }
            Self::Locked => {
                trial.rows.execute("begin; lock table enrolment in access exclusive mode").await;
            }
            Self::SlowStatements => {
                trial
                    .rows
                    .execute(
                        "create function slow() returns trigger language plpgsql as $$ begin \
                             perform pg_sleep(60); return null; end $$; \
                         create trigger slow before insert on command_log for each statement \
                             execute function slow()",
                    )
                    .await;
            }
            Self::WrongPassword => {
                trial.rows.execute("alter role partner_program_tested password 'changed'").await;
                terminate(trial).await;
            }
            Self::DiskFull => {
                trial.rows.execute(RAISE).await;
                trial
                    .rows
                    .execute(
                        "lock table command_log; \
                         create trigger raise_it before insert on command_log for each row \
                         execute function raise_it('53100', '0.5')",
                    )
                    .await;
            }
            Self::DiskFullAtCommit => {
                trial.rows.execute(RAISE).await;
                trial
                    .rows
                    .execute(
                        "lock table command_log; \
                         create constraint trigger raise_it after insert on command_log \
                         deferrable initially deferred for each row \
                         execute function raise_it('53100', '0.5')",
                    )
                    .await;
            }
            Self::Conflicts => {
                trial.rows.execute(RAISE).await;
                trial
                    .rows
                    .execute(
                        "lock table command_log; \
                         create trigger raise_it before insert on command_log for each row \
                             execute function raise_it('40P01', '0.02'); \
                         create trigger raise_too before insert on command_log for each row \
                             execute function raise_it('40001', '0.02')",
                    )
                    .await;
            }
        }
    }

    pub(crate) async fn heal(self, trial: &mut Trial) {
        match self {
            Self::Killed | Self::Stopped => own(trial).postgres.start().await,
            Self::KilledWithTheBroker => {
                let own = own(trial);
                tokio::join!(own.postgres.start(), own.rabbitmq.start());
            }
            Self::ReadOnly => {
                trial.rows.execute("alter system reset default_transaction_read_only").await;
                trial.rows.execute("select pg_reload_conf()").await;
            }
            Self::Locked => trial.rows.execute("rollback").await,
            Self::SlowStatements => {
                trial.rows.execute("lock table command_log; drop function slow cascade").await;
            }
            Self::WrongPassword => {
                trial.rows.execute("alter role partner_program_tested password 'right'").await;
            }
            Self::DiskFull | Self::DiskFullAtCommit | Self::Conflicts => {
                trial.rows.execute("lock table command_log; drop function raise_it cascade").await;
            }
            Self::SessionsTerminated | Self::CommitsReplyLost => {}
        }
        if matches!(self, Self::Killed | Self::Stopped | Self::KilledWithTheBroker) {
            trial.rows.reconnect(&trial.place).await;
        }
    }
}

/// Lets the workers of a trial on own servers come with a password.
pub(crate) async fn ask_for_a_password(trial: &mut Trial) {
    trial
        .rows
        .execute(
            "create role partner_program_tested login superuser password 'right'; \
             do $$ begin execute format('copy (values (%L), (%L)) to %L', \
                 'host all partner_program_tested 127.0.0.1/32 scram-sha-256', \
                 'host all all 127.0.0.1/32 trust', current_setting('hba_file')); end $$; \
             select pg_reload_conf()",
        )
        .await;
    let url = trial.database.url().replace("postgres@", "partner_program_tested:right@");
    trial.settings = trial.settings.clone().with("DATABASE_URL", url);
}

/// Ends every worker's session.
pub(super) async fn terminate(trial: &mut Trial) {
    trial
        .rows
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name like 'partner-program%'",
        )
        .await;
}

pub(super) fn own(trial: &Trial) -> &Lent {
    trial.own.as_ref().expect("this fault needs servers of its own")
}
