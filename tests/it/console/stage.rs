//! A worker with its archive, a runner of bulk jobs and a console, on a place of their own.

use std::time::Duration;

use partner_program_worker::clock::Clock;
use partner_program_worker::console::{self, token};
use partner_program_worker::usecases::dead_letters::job_recovery;
use partner_program_worker::worker::counters::LaneCounters;
use serde_json::json;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::database::connect;
use crate::harness::eventually;
use crate::harness::management::Depth;
use crate::harness::publisher::{Publisher, command};
use crate::harness::servers::Place;
use crate::harness::worker::{InProcess, Settings};

pub(crate) const VIEWER: &str = "pp_a-viewer's";
pub(crate) const OPERATOR: &str = "pp_an-operator's";
pub(crate) const ADMIN: &str = "pp_an-admin's";

const SOON: Duration = Duration::from_secs(30);

/// A customer of acme, once enrolled; globex is not in the catalogue yet.
const WORLD: &str = "
    insert into org (id, code, name, country_code) values (1, 'acme', 'Acme', '91');
    insert into customer (org_id, id, mobile, email, external_id, state)
    values (1, 7, '919876543210', 'jane@example.com', 'CRM-7', 'active');
    insert into program (org_id, id, name, normalised_name, kind)
    values (1, 1, 'Miles', 'miles', 'SUPPLEMENTARY'), (1, 2, 'Hotels', 'hotels', 'SUPPLEMENTARY');
    insert into enrolment (org_id, customer_id, program_id, linked, linked_since, version)
    values (1, 7, 2, true, '2026-01-01Z', 1);";

/// Brings globex, and a customer of it, into the catalogue.
const GLOBEX: &str = "
    insert into org (id, code, name, country_code) values (2, 'globex', 'Globex', '91');
    insert into customer (org_id, id, mobile, state)
    select 2, id, (919800000000 + id)::text, 'active' from generate_series(1, 99) id;
    insert into program (org_id, id, name, normalised_name, kind)
    values (2, 3, 'Miles', 'miles', 'SUPPLEMENTARY');";

pub(crate) struct Stage {
    /// Where the console is.
    pub(crate) url: String,
    pub(crate) rows: PgConnection,
    pub(crate) publisher: Publisher,
    worker: InProcess,
    stop: CancellationToken,
    _tasks: [AbortOnDropHandle<()>; 2],
    place: Place,
}

impl Stage {
    pub(crate) async fn new(name: &str) -> Self {
        let place = Place::new(name).await;
        let settings = settings(&place);
        settings.declare().await;
        let mut rows = connect(&place.database_url).await.expect("Postgres answers");
        sqlx::raw_sql(WORLD).execute(&mut rows).await.expect("the world is made");
        let publisher = Publisher::open(&place.amqp_url).await;
        let counters = LaneCounters::of(&settings.config());
        let worker = InProcess::start_counting(&settings, Clock::system(), counters.clone());
        let stop = CancellationToken::new();
        let (config, stopped) = (settings.config(), stop.clone());
        let keeping = tokio::spawn(async move {
            job_recovery::run(&config, uuid::Uuid::now_v7(), &stopped).await;
        });
        let config = settings.config();
        let listener = console::listen(&config).await.expect("a port is free").expect("it is on");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            console::serve(listener, &config, counters, stopped).await.expect("the console serves");
        });
        let tasks = [AbortOnDropHandle::new(keeping), AbortOnDropHandle::new(serving)];
        Self { url, rows, publisher, worker, stop, _tasks: tasks, place }
    }

    /// With `count` letters of an org that is not known, and two that no worker can read.
    pub(crate) async fn with_letters(name: &str, count: usize) -> Self {
        let mut stage = Self::new(name).await;
        let unknown: Vec<_> = (1..=count)
            .map(|id| command("globex.link", Some(&format!("g-{id}")), link(id, "Miles")))
            .collect();
        stage.publisher.publish(&unknown).await;
        let broken = [
            command(
                "acme.link",
                Some("b-1"),
                r#"{"linkCustomers":[{"customer":{"mobile":"+91 98765 43210","email":"jane@example.com"},"linkToPartnerPrograms":"Miles"}]}"#,
            ),
            command(
                "acme.update",
                Some("b-2"),
                r#"{"customersPartnerUpdates":[{"customer":{"mobile":"9876543210"}"#,
            ),
        ];
        stage.publisher.publish(&broken).await;
        stage.archived(i64::try_from(count).expect("few") + 2).await;
        stage
    }

    /// Waits until so many letters are in the archive.
    pub(crate) async fn archived(&mut self, count: i64) {
        self.counted("select count(*) from dead_letter", count).await;
    }

    /// Waits until the query counts so many.
    pub(crate) async fn counted(&mut self, query: &'static str, count: i64) {
        eventually(SOON, &format!("{count}: {query}"), async || {
            let counted: i64 =
                sqlx::query_scalar(query).fetch_one(&mut self.rows).await.expect(query);
            (counted == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn count(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.rows).await.expect(query)
    }

    /// Waits until so many commands wait in the lane, delivered to nobody.
    pub(crate) async fn waiting(&self, count: u64) {
        eventually(SOON, &format!("{count} commands wait"), async || {
            let depth = self.place.broker.depth("partner-program.commands.main")?;
            (depth == Depth { ready: count, unacked: 0 }).then_some(())
        })
        .await;
    }

    /// What the letters of globex died of is mended.
    pub(crate) async fn import_globex(&mut self) {
        sqlx::raw_sql(GLOBEX).execute(&mut self.rows).await.expect("globex is imported");
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.worker.stop().await;
    }
}

/// With a token for each role.
pub(crate) fn settings(place: &Place) -> Settings {
    let token = |name: &str, role: &str, token: &str| {
        let sha256 = hex::encode(token::hash(token));
        json!({ "name": name, "role": role, "sha256": sha256 })
    };
    let tokens = json!({ "token": [
        token("vera", "viewer", VIEWER),
        token("otto", "operator", OPERATOR),
        token("ada", "admin", ADMIN),
    ] });
    Settings::of(place)
        .with("ARCHIVE_DEAD_LETTERS", true)
        .with("OPS_LISTEN", "127.0.0.1:0")
        .with("CONSOLE", tokens)
}

/// A command that links a customer of globex.
pub(crate) fn link(id: usize, program: &str) -> String {
    json!({ "linkCustomers": [{
        "customer": { "id": id },
        "linkToPartnerPrograms": [
            { "partnerProgramName": program, "customerPartnerReference": { "partnerMembershipId": format!("M-{id}") } }
        ],
    }] })
    .to_string()
}
