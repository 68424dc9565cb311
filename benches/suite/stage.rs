//! The servers that all contenders share, one after the other, and what stands in them.

use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};

use crate::harness::database::TestDatabase;
use crate::harness::servers::{OwnServers, Place};
use crate::harness::worker::Settings;
use crate::harness::{connect, eventually};

/// The queue that every contender takes its commands from.
pub(crate) const LANE: &str = "partner-program.commands.main";
/// The queue that gets all results.
pub(crate) const RESULTS: &str = "bench.results";
/// How many orgs there are, `org-1` first, which has most of the customers.
pub(crate) const ORGS: usize = 100;
/// The customers of each further org.
pub(crate) const CUSTOMERS_OF_AN_ORG: usize = 10_000;
const DEADLINE: Duration = Duration::from_mins(2);

/// As the manual of Postgres wants it on a machine of its own: a quarter of the memory would be
/// more than all the data.
const TUNING: &str = "alter system set shared_buffers = '2GB'; \
    alter system set max_wal_size = '16GB'; alter system set checkpoint_timeout = '15min'";

/// See the module.
pub(crate) struct Stage {
    servers: OwnServers,
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    pub(crate) rows: TestDatabase,
    _connection: Connection,
    channel: Channel,
    /// The next customer of each org who was named by no command yet.
    fresh_customers: [usize; ORGS],
}

impl Stage {
    /// Servers of its own with `customers` of `org-1`, each with two enrolments.
    pub(crate) async fn start(customers: usize) -> Self {
        let servers = OwnServers::start().await;
        let empty = Place::on(&servers.servers, "tuning").await;
        for statement in TUNING.split("; ") {
            TestDatabase::of(&empty).await.execute(statement).await;
        }
        servers.postgres.stop().await;
        servers.postgres.start().await;
        let place = Place::on(&servers.servers, "bench").await;
        let settings = Settings::of(&place);
        settings.declare().await;
        let mut rows = TestDatabase::of(&place).await;
        seed(&mut rows, customers).await;
        let connection = connect(&place.amqp_url, "bench").await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let stage = Self {
            servers,
            place,
            settings,
            rows,
            _connection: connection,
            channel,
            fresh_customers: [1; ORGS],
        };
        stage.bind_results().await;
        stage
    }

    /// Where database and broker are.
    pub(crate) fn place_urls(&self) -> (String, String) {
        (self.place.database_url.clone(), self.place.amqp_url.clone())
    }

    /// Customers of the org that no command has named, the first of `count`.
    pub(crate) fn take_customers(&mut self, org: usize, count: usize) -> usize {
        let first = self.fresh_customers[org];
        self.fresh_customers[org] += count;
        first
    }

    /// Empties the queues, and has Postgres write out what the last run left to write.
    pub(crate) async fn reset(&mut self) {
        // Who is stopped between its last result and the ack leaves the command in the lane.
        for queue in [LANE, RESULTS] {
            self.channel
                .queue_purge(queue.into(), QueuePurgeOptions::default())
                .await
                .expect("the queue is purged");
        }
        self.rows.execute("checkpoint").await;
        self.drained().await;
    }

    /// Postgres starts anew, with nothing in its own buffers.
    pub(crate) async fn cool_down(&mut self) {
        self.servers.postgres.stop().await;
        self.servers.postgres.start().await;
        self.rows.reconnect(&self.place).await;
    }

    /// Waits until nothing is left in the lane.
    pub(crate) async fn drained(&self) {
        eventually(DEADLINE, "the lane is empty", async || {
            (self.depth(LANE).await == 0).then_some(())
        })
        .await;
    }

    /// How many messages are ready in the queue.
    pub(crate) async fn depth(&self, queue: &str) -> usize {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared =
            self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        usize::try_from(declared.expect("the queue is there").message_count()).expect("few")
    }

    async fn bind_results(&self) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        self.channel
            .queue_declare(RESULTS.into(), QueueDeclareOptions::durable(), arguments)
            .await
            .expect("a queue for the results");
        self.channel
            .queue_bind(
                RESULTS.into(),
                "partner-program.results".into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("the results are bound");
    }
}

async fn seed(rows: &mut TestDatabase, customers: usize) {
    eprintln!("seeding {customers} customers");
    // The triggers of foreign keys check each row, which takes most of the time and finds nothing.
    rows.execute("set session_replication_role = replica").await;
    // The peers don't name the schema.
    rows.execute(
        "do $$ begin execute format('alter database %I set search_path = partner_program, pg_temp',
             current_database()); end $$",
    )
    .await;
    rows.execute(&format!(
        "insert into org (code, name, country_code)
             select 'org-' || n, 'Org ' || n, '91' from generate_series(1, {ORGS}) n;
         insert into program (org_id, name, normalised_name, kind)
             select id, program, lower(program), 'EXTERNAL'
             from org, unnest(array['Tiered', 'Plain', 'Other']) program
             where id > 0 order by id, program;
         insert into tier (org_id, program_id, number, rank, name, normalised_name)
             select org_id, id, n, n, tier, lower(tier) from program p,
                 unnest(array['Bronze', 'Silver', 'Gold']) with ordinality as t (tier, n)
             where p.name = 'Tiered' and p.org_id > 0;
         update catalogue_version set version = version + 1;
         insert into customer (org_id, id, mobile, email, external_id, state)
             select o.id, n, (919000000000 + n)::text, 'c' || n || '@example.com', 'x-' || n, 'active'
             from org o, generate_series(1, case o.code when 'org-1' then {customers}
                 else {CUSTOMERS_OF_AN_ORG} end) n where o.id > 0;
         insert into enrolment (org_id, customer_id, program_id, linked, membership_id,
                 tier_number, tier_expires_at, linked_since, version)
             select c.org_id, c.id, p.id, true, 'old-' || c.id, case p.name when 'Tiered' then 2 end,
                 case p.name when 'Tiered' then timestamptz '2099-01-01T00:00:00Z' end, now(), 1
             from customer c join program p on p.org_id = c.org_id and p.name <> 'Plain'
             where c.org_id > 0"
    ))
    .await;
    rows.execute("set session_replication_role = origin").await;
    rows.execute("vacuum analyze").await;
}
