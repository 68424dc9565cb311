//! The web console: who holds which lane, which letters are dead and why, and what to do about
//! them; besides, the health checks and the metrics.
//!
//! Pages are rendered here, whole, and work as plain links and forms. htmx exchanges parts of
//! them and a small script adds keys; without either nothing is missing but comfort. All that a
//! page needs is in the binary. Rules stay below: what a letter is and what may be done with it
//! is for `store` and `usecases` to say. Deliberately absent: TLS, users and passwords. A console that
//! others can reach has a proxy in front of it; users log in by tokens of the configuration.

mod app;
mod router;

mod auth;
mod error;
mod login;
mod login_throttle;
mod middleware;
mod sessions;
pub mod token;

mod database;
mod status;
mod status_watch;

mod health;
mod metrics;

mod assets;
mod chart;
mod json;
mod layout;
mod time_format;

mod audit;
mod bulk_jobs;
mod dead_letters;
mod lanes;
mod lookup;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;
use crate::console::app::App;
use crate::worker::counters::LaneCounters;
use crate::worker::supervise::supervise;

/// How often a console without its port looks whether it is free by now.
const PORT_RETRY: Duration = Duration::from_secs(5);
/// How long requests may go on when the console is asked to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened at.
    #[error("the console can't listen at {address} (ops_listen): {source}")]
    Listen {
        /// The setting `ops_listen`.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It stopped answering.
    #[error("the console has stopped")]
    Stopped(#[source] io::Error),
}

/// Listens at the configured address; `None` if the console is off.
pub async fn listen(config: &Config) -> Result<Option<TcpListener>, Error> {
    let Some(address) = config.ops_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|source| Error::Listen { address, source })
}

/// Answers requests until `shutdown`. `counters` are those of the worker beside it, if there is one.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    counters: LaneCounters,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let app = Arc::new(App::new(config, counters));
    let address = listener.local_addr().map_err(Error::Stopped)?;
    tracing::info!(console.address = %address, "the console is at http://{address}");
    let (watched, stop) = (Arc::clone(&app), shutdown.clone());
    let watching = AbortOnDropHandle::new(tokio::spawn(async move {
        let watch = || {
            let (app, stop) = (Arc::clone(&watched), stop.clone());
            async move {
                status_watch::run(app, stop).await;
                Ok(())
            }
        };
        supervise("system status", watched.counters.task_restarts(), stop.clone(), watch).await
    }));
    let router = router::of(app).into_make_service_with_connect_info::<SocketAddr>();
    let stop = shutdown.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        served = serving.into_future() => served.map_err(Error::Stopped),
        () = late => Ok(()),
    };
    drop(watching);
    served
}

/// The console of a worker: never a reason for the worker not to work.
///
/// Of several workers on a machine one gets the port. The others say so, and look again from
/// time to time: when it ends, the next one answers.
pub async fn run_beside_worker(
    config: &Config,
    counters: LaneCounters,
    shutdown: CancellationToken,
) {
    let mut told = false;
    while !shutdown.is_cancelled() {
        match listen(config).await {
            Ok(None) => return,
            Ok(Some(listener)) => {
                match serve(listener, config, counters.clone(), shutdown.clone()).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!("{error}"),
                }
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    "{error}: this worker has no console, health checks or metrics until the \
                     address is free; write another one, or ops_listen = \"off\""
                );
            }
            Err(error) => tracing::debug!("{error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(PORT_RETRY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
