//! A private Postgres and a private RabbitMQ, and a place of its own on them for each test.
//!
//! The servers are those of `scripts/servers.sh`: started when the first test asks for
//! them, shared by all, and deleted by a watcher when this process has ended, however it ended.
//! Tests that stop or kill servers start [`OwnServers`], so that they disturb nobody.
//! With `DATABASE_URL`, `AMQP_URL` and `PARTNER_PROGRAM_TEST_MANAGEMENT_URL` set (as by
//! `KEEP=1 scripts/with-servers.sh`), those servers are used instead.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use partner_program_worker::store;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::harness::management::Broker;

/// How long a script may take, in seconds; the scripts themselves give up earlier.
const SCRIPT_SECONDS: &str = "240";

/// Tests with servers of their own at a time: starting and crashing them takes the cores that the
/// other tests' deadlines count on.
const OWN_SERVERS_MAX: usize = 4;
static OWN_SERVERS: Semaphore = Semaphore::const_new(OWN_SERVERS_MAX);

/// Where servers are reached; no database or vhost of any test.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    /// Database `postgres`, as a superuser.
    pub(crate) database_url: String,
    /// Vhost `/`.
    pub(crate) amqp_url: String,
    /// The URL of the HTTP API.
    management: String,
}

/// The servers that the tests of this process share.
///
/// # Panics
/// When they can't be started; the scripts' words are in the message.
pub(crate) fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(database_url), Some(amqp_url), Some(management)) =
            (set("DATABASE_URL"), set("AMQP_URL"), set("PARTNER_PROGRAM_TEST_MANAGEMENT_URL"))
        {
            return Servers { database_url, amqp_url, management };
        }
        start_servers(&new_folder(), "start")
    })
}

/// A database and a vhost for one test.
///
/// The vhost, with all its connections, goes when this is dropped; the database goes with the
/// servers.
pub(crate) struct Place {
    pub(crate) database_url: String,
    pub(crate) amqp_url: String,
    pub(crate) broker: Broker,
}

impl Place {
    /// On the shared servers, with all migrations applied.
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(servers(), name).await
    }

    /// The name of its vhost, and of its database.
    pub(crate) fn vhost(&self) -> String {
        let path = self.amqp_url.rsplit('/').next().unwrap_or_default();
        path.split('?').next().unwrap_or_default().to_owned()
    }

    /// On the given servers, with all migrations applied.
    pub(crate) async fn on(servers: &Servers, name: &str) -> Self {
        let template = migrated_template(&servers.database_url).await;
        Self::copy_of(&template, servers, name).await
    }

    /// On the shared servers, with an empty database: for tests of the migrations.
    pub(crate) async fn without_migrations(name: &str) -> Self {
        Self::copy_of("template1", servers(), name).await
    }

    async fn copy_of(template: &str, servers: &Servers, name: &str) -> Self {
        let name = unique(name);
        let mut admin = PgConnection::connect(&servers.database_url)
            .await
            .expect("the private Postgres answers");
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name} template {template}")))
            .execute(&mut admin)
            .await
            .expect("the test's database is created");
        admin.close().await.expect("the connection closes");
        Self {
            database_url: with_path(&servers.database_url, &name),
            amqp_url: with_path(&servers.amqp_url, &name),
            broker: Broker::create(&servers.management, &name),
        }
    }
}

/// Servers of one test, to be stopped, killed and started again; deleted when dropped.
pub(crate) struct OwnServers {
    pub(crate) servers: Servers,
    pub(crate) postgres: Server,
    pub(crate) rabbitmq: Server,
    /// Of a cluster, or of servers with a standby: synchronous.
    pub(crate) standby: Server,
    /// Of a cluster only: all nodes of the broker.
    pub(crate) nodes: Vec<Server>,
    folder: PathBuf,
    /// Of servers that are lent, [`Lent`] has it.
    permit: Option<SemaphorePermit<'static>>,
}

impl OwnServers {
    /// Takes some ten seconds.
    pub(crate) async fn start() -> Self {
        Self::start_with_permit("start").await
    }

    /// Three nodes of RabbitMQ, and a Postgres with a synchronous standby. They are looked at
    /// through the second node, so that the first may be lost.
    pub(crate) async fn start_cluster() -> Self {
        let mut cluster = Self::start_with_permit("start-cluster").await;
        cluster.servers.management = read(&cluster.folder, "rabbitmq-2/management_url");
        cluster
    }

    /// One broker, and a Postgres with a synchronous standby.
    pub(crate) async fn start_with_standby() -> Self {
        let own = Self::start().await;
        own.standby.follow(&own.postgres).await;
        own
    }

    async fn start_with_permit(action: &'static str) -> Self {
        let permit = permit().await;
        let mut own = Self::start_by(action).await;
        own.permit = Some(permit);
        own
    }

    async fn start_by(action: &'static str) -> Self {
        let folder = new_folder();
        let servers = blocking({
            let folder = folder.clone();
            move || start_servers(&folder, action)
        })
        .await;
        let postgres = |name| Server { script: "postgres.sh", folder: folder.join(name) };
        let rabbitmq = |name| Server { script: "rabbitmq.sh", folder: folder.join(name) };
        Self {
            servers,
            postgres: postgres("postgres"),
            rabbitmq: rabbitmq("rabbitmq"),
            standby: postgres("postgres-2"),
            nodes: ["rabbitmq", "rabbitmq-2", "rabbitmq-3"].map(rabbitmq).into(),
            folder,
            permit: None,
        }
    }

    /// Host and port of each node of the broker.
    pub(crate) fn node_urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect()
    }

    /// As the nodes call each other.
    pub(crate) fn node_name(&self, node: usize) -> String {
        format!("partner-program-{}@", self.nodes[node].port())
    }
}

/// Waits until fewer than [`OWN_SERVERS_MAX`] tests use servers of their own.
async fn permit() -> SemaphorePermit<'static> {
    OWN_SERVERS.acquire().await.expect("it is never closed")
}

/// Servers that were lent to a test and are to be given back as they came: running and healthy.
pub(crate) struct Lent {
    own: Option<OwnServers>,
    _permit: SemaphorePermit<'static>,
}

static TO_LEND: Mutex<Vec<OwnServers>> = Mutex::new(Vec::new());

impl Lent {
    /// Servers that no other test uses now. They outlive the test that gives them back.
    pub(crate) async fn take() -> Self {
        let permit = permit().await;
        let free = TO_LEND.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let own = match free {
            Some(servers) => servers,
            None => OwnServers::start_by("start").await,
        };
        Self { own: Some(own), _permit: permit }
    }
}

impl Deref for Lent {
    type Target = OwnServers;

    fn deref(&self) -> &OwnServers {
        self.own.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // After a failure nobody knows what state they are in.
        if !std::thread::panicking() {
            TO_LEND.lock().unwrap_or_else(PoisonError::into_inner).extend(self.own.take());
        }
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        if let Err(error) = try_script("servers.sh", &["delete", text(&self.folder)]) {
            eprintln!("{error}");
        }
    }
}

/// One server of [`OwnServers`]. Its data and its URL outlive `stop` and `kill`.
pub(crate) struct Server {
    script: &'static str,
    folder: PathBuf,
}

impl Server {
    /// As the machine's loss of power would end it.
    pub(crate) async fn kill(&self) {
        self.run("kill").await;
    }

    /// Gracefully.
    pub(crate) async fn stop(&self) {
        self.run("stop").await;
    }

    /// Returns when it is ready.
    pub(crate) async fn start(&self) {
        self.run("start").await;
    }

    /// From now on a synchronous standby of the other, which commits nothing without it.
    async fn follow(&self, primary: &Self) {
        let words = [text(&self.folder).to_owned(), text(&primary.folder).to_owned()];
        let program = self.script;
        blocking(move || script(program, &["follow", &words[0], &words[1]])).await;
    }

    /// From a standby to a primary.
    pub(crate) async fn promote(&self) {
        self.run("promote").await;
    }

    /// A primary that has stopped comes back as a standby that follows nobody: read-only.
    pub(crate) async fn start_standby(&self) {
        self.run("start-standby").await;
    }

    /// Runs a command of the server's own control program: `rabbitmqctl`.
    pub(crate) async fn control(&self, arguments: &[&str]) {
        let mut words = vec!["ctl".to_owned(), text(&self.folder).to_owned()];
        words.extend(arguments.iter().map(ToString::to_string));
        let program = self.script;
        blocking(move || script(program, &words.iter().map(String::as_str).collect::<Vec<_>>()))
            .await;
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> String {
        let url = read(&self.folder, "url");
        let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next());
        port.expect("the URL has a port").to_owned()
    }

    async fn run(&self, action: &'static str) {
        let (program, folder) = (self.script, self.folder.clone());
        blocking(move || script(program, &[action, text(&folder)])).await;
    }
}

/// Keeps the test's runtime going, for what it observes meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the script succeeds")
}

fn start_servers(folder: &Path, action: &str) -> Servers {
    let own_pid = std::process::id().to_string();
    script("servers.sh", &[action, text(folder), "--with-pid", &own_pid]);
    Servers {
        database_url: read(folder, "postgres/url"),
        amqp_url: read(folder, "rabbitmq/url"),
        management: read(folder, "rabbitmq/management_url"),
    }
}

/// What a script has written down.
fn read(folder: &Path, name: &str) -> String {
    let written = std::fs::read_to_string(folder.join(name)).expect("the script wrote it");
    written.trim().to_owned()
}

/// Below `/var/tmp`, where the user that Postgres runs as may go. The scripts delete it.
fn new_folder() -> PathBuf {
    tempfile::Builder::new()
        .prefix("partner-program-test-")
        .tempdir_in("/var/tmp")
        .expect("/var/tmp is writable")
        .keep()
}

fn script(name: &str, arguments: &[&str]) {
    try_script(name, arguments).unwrap_or_else(|error| panic!("{error}"));
}

fn try_script(name: &str, arguments: &[&str]) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let output = Command::new("timeout")
        .args(["--kill-after=10", SCRIPT_SECONDS])
        .arg(path)
        .args(arguments)
        .output()
        .map_err(|error| format!("{name} can't be run: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let words = String::from_utf8_lossy(&output.stderr);
        Err(format!("{name} {arguments:?}: {}\n{words}", output.status))
    }
}

/// The name of a database that holds the migrations of this tree and nothing else.
///
/// Copying it is faster than migrating again, and what migrations create for the whole server
/// (roles) is created once, not by all tests at the same time.
async fn migrated_template(database_url: &str) -> String {
    static LOCK: tokio::sync::Mutex<Vec<(String, String)>> = tokio::sync::Mutex::const_new(vec![]);
    let mut templates = LOCK.lock().await;
    if let Some((_, template)) = templates.iter().find(|(url, _)| url == database_url) {
        return template.clone();
    }
    let template = unique("migrated");
    let mut admin =
        PgConnection::connect(database_url).await.expect("the private Postgres answers");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {template}")))
        .execute(&mut admin)
        .await
        .expect("the template is created");
    admin.close().await.expect("the connection closes");
    // As `partner-program migrate` does: it notes which programs fit the schema.
    let url = with_path(database_url, &template);
    let mut connection =
        store::connection::connect(&url, "tests").await.expect("the template answers");
    store::migrate::run(&mut connection).await.expect("the migrations apply");
    // A template with connections can't be copied.
    connection.close().await.expect("the connection closes");
    templates.push((database_url.to_owned(), template.clone()));
    template
}

/// A name that is good for a database and a vhost, and that no other run uses.
fn unique(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' })
        .take(40)
        .collect();
    let suffix = Uuid::new_v4().simple().to_string();
    format!("t_{name}_{}", &suffix[..8])
}

fn with_path(url: &str, path: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("the URL has a path");
    format!("{server}/{path}")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folder's name is UTF-8")
}
