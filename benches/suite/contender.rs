//! Who is measured: the worker with some settings, or a peer.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::bare;
use crate::harness::worker::Process;
use crate::stage::Stage;

/// Celery's pool may take half a minute under load.
const END: Duration = Duration::from_mins(1);

/// Somebody who takes commands from the lane and answers them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Contender {
    /// The worker: its batch, and its connections to the database.
    Worker { batch: usize, connections: usize },
    /// A peer, by its name under `benches/peers`.
    Peer(&'static str),
    /// See [`crate::bare`].
    Bare { connections: usize },
}

/// The worker as it is by default.
pub(crate) const WORKER: Contender = Contender::Worker { batch: 512, connections: 2 };

/// A contender at work; killed when dropped.
pub(crate) enum Running {
    Worker(Process),
    Peer(Child),
    Bare(AbortOnDropHandle<()>),
}

impl Contender {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Worker { batch: 1, .. } => "worker, batches of 1".to_owned(),
            Self::Worker { connections: 1, .. } => "worker, 1 connection".to_owned(),
            Self::Worker { connections, .. } => format!("worker, {connections} connections"),
            Self::Peer(name) => (*name).to_owned(),
            Self::Bare { connections } => format!("no logic, {connections} connections"),
        }
    }

    /// Starts it; `count` commands will come.
    pub(crate) fn start(&self, stage: &Stage, id: &str, count: usize) -> Running {
        match self {
            Self::Bare { connections } => {
                let running = bare::run(stage.place_urls(), *connections, count);
                Running::Bare(AbortOnDropHandle::new(tokio::spawn(running)))
            }
            Self::Worker { batch, connections } => {
                let settings = stage.settings.clone().with("BATCH_SIZE", batch);
                let settings = settings.with("CONNECTIONS_PER_LANE", connections);
                Running::Worker(Process::start(&settings, id))
            }
            Self::Peer(name) => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/run.sh");
                let child = Command::new(script)
                    .arg(name)
                    .env("DATABASE_URL", &stage.place.database_url)
                    .env("AMQP_URL", &stage.place.amqp_url)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .process_group(0)
                    .kill_on_drop(true)
                    .spawn()
                    .expect("the peer starts: benches/peers/install.sh has installed it");
                Running::Peer(child)
            }
        }
    }
}

impl Running {
    /// The most memory that it held at a time, children left out, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let process = match self {
            Self::Worker(process) => process.id(),
            Self::Peer(child) => child.id().expect("it runs"),
            // Within this process.
            Self::Bare(_) => return f64::NAN,
        };
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|words| words.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }

    /// Ends it as an operator would.
    pub(crate) async fn stop(self) {
        match self {
            Self::Worker(mut process) => {
                process.signal("TERM").await;
                assert!(process.ended().await.success(), "{}", process.words());
            }
            Self::Bare(task) => task.await.expect("it goes well"),
            Self::Peer(mut child) => {
                // Its group: a pool of processes is not all ended by its parent's end.
                let group = format!("-{}", child.id().expect("it runs"));
                signal("TERM", &group).await;
                if tokio::time::timeout(END, child.wait()).await.is_err() {
                    signal("KILL", &group).await;
                    child.wait().await.expect("it was killed");
                }
            }
        }
    }
}

async fn signal(signal: &str, group: &str) {
    // What has ended by itself meanwhile needs none.
    let _gone = Command::new("kill").args(["-s", signal, "--", group]).status().await;
}
