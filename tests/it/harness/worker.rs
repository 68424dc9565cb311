//! The worker under test: in this process with a clock of the test's, or as a process of its
//! own that can be killed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use partner_program_worker::broker::connection::Connection;
use partner_program_worker::broker::topology;
use partner_program_worker::clock::Clock;
use partner_program_worker::config::Config;
use partner_program_worker::domain::actor::Actor;
use partner_program_worker::domain::routing::RoutingMap;
use partner_program_worker::store::connection;
use partner_program_worker::usecases::routing::apply;
use partner_program_worker::worker;
use partner_program_worker::worker::counters::LaneCounters;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::servers::Place;
use crate::harness::{delete_broken_queues, eventually, set_up};

/// How long a worker may take to drain.
const DRAIN: Duration = Duration::from_secs(30);

/// A worker's settings, as environment variables.
#[derive(Clone)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn of(place: &Place) -> Self {
        Self(BTreeMap::new())
            .with("DATABASE_URL", &place.database_url)
            .with("AMQP_URL", &place.amqp_url)
            .with("WORKER_ID", "tested")
            // Many workers run at a time, and one port is not enough for them.
            .with("OPS_LISTEN", "off")
            // Most tests look at the letters in their queue.
            .with("ARCHIVE_DEAD_LETTERS", false)
    }

    pub(crate) fn with(mut self, key: &str, value: impl Display) -> Self {
        self.0.insert(format!("PARTNER_PROGRAM_{key}"), value.to_string());
        self
    }

    /// Makes a process of the worker fail where it says, see `src/failpoint.rs`.
    pub(crate) fn failing(mut self, points: &str) -> Self {
        self.0.insert("FAILPOINTS".to_owned(), points.to_owned());
        self
    }

    /// Another command of the program with these settings; killed when dropped.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_partner-program"));
        // Who acts, for the audit.
        command.args(arguments).env_clear().env("USER", "olivia").envs(&self.0);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs another command of the program with these settings, and waits for its success.
    pub(crate) async fn run(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().await.expect("the program starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{words}", output.status);
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(None, self.0.clone()).expect("the test's settings are right")
    }

    /// Does what `topology apply` does.
    pub(crate) async fn declare(&self) {
        set_up("the topology", async || self.try_declare().await).await;
    }

    /// Connects anew: a broker that fails to declare a queue closes the connection (541
    /// `INTERNAL_ERROR`).
    async fn try_declare(&self) -> Result<(), Box<dyn Error>> {
        let config = self.config();
        let broker = Arc::new(Connection::open(config.amqp_url()?, "tests").await?);
        let mut database = connection::connect(config.database_url()?, "tests").await?;
        let map = RoutingMap::of(&config.lanes);
        let actor = Actor { name: "tests".into(), reason: "setup".into(), source: "tests".into() };
        if let Err(error) = apply::apply(&mut database, &broker, &map, &actor).await {
            let queues = map.lanes.iter().map(|lane| topology::lane_queue(lane));
            let queues = queues.chain([topology::DEAD_LETTERS.to_owned()]);
            delete_broken_queues(config.amqp_url()?, queues).await?;
            return Err(error.into());
        }
        broker.close().await;
        Ok(())
    }
}

/// A worker in this process.
pub(crate) struct InProcess {
    shutdown: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<Result<(), worker::error::Error>>,
}

impl InProcess {
    pub(crate) fn start(settings: &Settings, clock: Clock) -> Self {
        Self::start_counting(settings, clock, LaneCounters::of(&settings.config()))
    }

    pub(crate) fn start_counting(
        settings: &Settings,
        clock: Clock,
        counters: LaneCounters,
    ) -> Self {
        let config = settings.config();
        let (shutdown, kill) = (CancellationToken::new(), CancellationToken::new());
        let (stop, stop_at_once) = (shutdown.clone(), kill.clone());
        let task = tokio::spawn(async move {
            worker::run(&config, clock, &counters, stop, stop_at_once).await
        });
        Self { shutdown, kill, task }
    }

    /// Makes it stop with all its work in hand, as a second signal does.
    pub(crate) async fn stop_at_once(self) {
        self.kill.cancel();
        let ended = tokio::time::timeout(DRAIN, self.task).await.expect("it stops in time");
        let ended = ended.expect("the worker does not panic");
        assert!(matches!(ended, Err(worker::error::Error::Killed)), "{ended:?}");
    }

    /// Asks it to stop, and waits until it has drained.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(DRAIN, self.task).await;
        ended
            .expect("the worker drains in time")
            .expect("the worker does not panic")
            .expect("the worker ends well");
    }
}

/// A worker as a process of its own; killed when dropped. Its words are shown if the test fails.
pub(crate) struct Process {
    /// Its `worker_id`, as the lane names its holder.
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(settings: &Settings, name: &str) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_partner-program")), settings, name)
    }

    fn start_program(program: &Path, settings: &Settings, name: &str) -> Self {
        let folder = std::env::temp_dir();
        let log = folder.join(format!("partner-program-{}-{name}.log", uuid::Uuid::new_v4()));
        let file = File::create(&log).expect("the log is writable");
        let child = Command::new(program)
            .arg("run")
            .env_clear()
            .envs(&settings.clone().with("WORKER_ID", name).0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        Self { name: name.to_owned(), child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// The most memory that it has taken so far (`VmHWM`).
    pub(crate) fn peak_memory_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// As `kill -9` does: it has no say in it.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it is killed");
    }

    /// Sends a signal by its name, such as `TERM`, `STOP` or `CONT`.
    pub(crate) async fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.id().to_string()])
            .status()
            .await
            .expect("kill runs");
        assert!(sent.success(), "SIG{signal}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(DRAIN, self.child.wait())
            .await
            .expect("the process ends in time")
            .expect("the process can be waited for")
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked").is_none()
    }

    /// Status and body of a probe of a worker with a console.
    pub(crate) async fn probe(&self, path: &str) -> Option<(u16, Value)> {
        let words = self.words();
        let address = words.split("the console is at ").nth(1)?.split_whitespace().next()?;
        let url = format!("{address}{path}");
        tokio::task::spawn_blocking(move || {
            let config = ureq::Agent::config_builder().http_status_as_error(false).build();
            let mut answer = config.new_agent().get(&url).call().ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.body_mut().read_json().ok()?))
        })
        .await
        .expect("the probe does not panic")
    }

    /// What a worker with a console says under this path.
    pub(crate) async fn text(&self, path: &str) -> Option<String> {
        let words = self.words();
        let address = words.split("the console is at ").nth(1)?.split_whitespace().next()?;
        let url = format!("{address}{path}");
        let get = move || ureq::get(&url).call().ok()?.body_mut().read_to_string().ok();
        tokio::task::spawn_blocking(get).await.expect("the call does not panic")
    }

    pub(crate) fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words = self.words();
            let lines: Vec<&str> = words.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the last words of {}:\n{last}", self.log.display());
        }
        drop(std::fs::remove_file(&self.log));
    }
}

/// Closes every connection to the broker but the tests' own, as an operator would.
///
/// The broker lists a connection some time after it was made, so this waits for one.
pub(crate) async fn close_workers_connections(place: &Place) {
    const OWN: [&str; 3] = ["tests", "upstream", "subscriber"];
    let theirs = eventually(DRAIN, "the worker's connections are listed", async || {
        let mut connections = place.broker.connections();
        connections.retain(|(_, given)| !OWN.contains(&given.as_str()));
        (!connections.is_empty()).then_some(connections)
    })
    .await;
    for (name, _) in theirs {
        place.broker.close_connection(&name);
    }
}
