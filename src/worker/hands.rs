//! The hands of a lane: they store the parts of a window at the same time, each over a connection of
//! its own, all behind one fence.
//!
//! Parts are free of each other, so no order is lost. One that does not commit at its first go is
//! processed when the others are done, as facts may have changed (`worker::facts`). A window is done
//! when all of its parts are; what a fault leaves done of one is found in the inbox when the window comes again. One hand does
//! it all once a failure of one of the commands is on record: part after part, so that the parts
//! around that command can be small, and it runs alone in the end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::domain::enrolment::Membership;
use crate::domain::identity::CustomerId;
use crate::domain::rejection::Reason;
use crate::worker::executor::Executor;
use crate::worker::facts::Facts;
use crate::worker::fault::Fault;
use crate::worker::intake::Taken;
use crate::worker::routing::LaneRouting;
use crate::worker::scout::{self, Part, Scouted};
use crate::worker::window::{Applied, Settled};

/// See the module.
pub(super) struct Hands {
    first: Executor,
    others: Vec<Helper>,
    /// Who came to hold what in the windows that were settled while the next was looked at; the
    /// latest first.
    recent: VecDeque<HashMap<Membership, CustomerId>>,
    /// Of the customers by which the last batch was decided.
    version: i64,
}

impl Hands {
    pub(super) fn of(first: Executor, others: Vec<Executor>) -> Self {
        let others = others.into_iter().map(Helper::start).collect();
        Self { first, others, recent: VecDeque::with_capacity(scout::AHEAD), version: 0 }
    }

    /// The hand that does alone what only one may do.
    pub(super) fn first(&mut self) -> &mut Executor {
        &mut self.first
    }

    /// Settles every delivery of the window.
    pub(super) async fn settle(&mut self, window: &Arc<Scouted>) -> Result<Vec<Settled>, Fault> {
        let all: Vec<&Taken> = window.taken.iter().collect();
        let known = Arc::new(self.first.known_attempts(&all).await?);
        let is_alone = !known.is_empty() || self.first.holds.is_here();
        let most = if is_alone { 1 } else { scout::parts_at_most(&self.first.config, all.len()) };
        let mut parts = window
            .parts(self.version, self.recent.make_contiguous(), most)
            .into_iter()
            .map(Arc::new);
        let Some(own) = parts.next() else { return Ok(Vec::new()) };
        let others: Vec<Arc<Part>> = parts.collect();
        if others.is_empty() {
            let facts = own.preloaded.as_ref().map_or(Facts::Stored, Facts::Preloaded);
            let applied = self.first.process(&all, facts, &known).await?;
            // Retries load what is stored.
            let stored = self.first.session.customers_version();
            let looked_up = own.preloaded.as_ref().map(|known| known.identities.version);
            self.remember(applied.holders, looked_up.map_or(stored, |version| version.max(stored)));
            return Ok(applied.settled);
        }
        let helping = others.iter().zip(&mut self.others).map(|(part, helper)| {
            let (window, part) = (Arc::clone(window), Arc::clone(part));
            helper.settle(Job { window, part })
        });
        let (own_applied, others_applied) =
            tokio::try_join!(settle(&mut self.first, window, &own), try_join_all(helping),)?;
        let parts = std::iter::once(own).chain(others);
        let looked_up = window.identities();
        let mut version = looked_up.map_or(self.version, |identities| identities.version);
        let (mut holders, mut rest) = (Vec::new(), Vec::new());
        let mut settled: Vec<(usize, Settled)> = Vec::with_capacity(all.len());
        for (part, applied) in parts.zip(std::iter::once(own_applied).chain(others_applied)) {
            match applied {
                Some(applied) => {
                    settled.extend(part.places.iter().copied().zip(applied.settled));
                    holders.extend(applied.holders);
                }
                None => rest.extend(part.places.iter().copied()),
            }
        }
        if !rest.is_empty() {
            // As one, in the order of the queue: cut by whichever facts, that holds.
            rest.sort_unstable();
            let facts = match looked_up {
                Some(identities) if !settled.is_empty() => Facts::Pinned(identities),
                Some(_) | None => Facts::Stored,
            };
            let taken: Vec<&Taken> = rest.iter().map(|place| &window.taken[*place]).collect();
            let applied = self.first.process(&taken, facts, &known).await?;
            settled.extend(rest.into_iter().zip(applied.settled));
            holders.extend(applied.holders);
            if matches!(facts, Facts::Stored) {
                version = self.first.session.customers_version();
            }
        }
        settled.sort_unstable_by_key(|(place, _)| *place);
        self.remember(holders, version);
        Ok(settled.into_iter().map(|(_, settled)| settled).collect())
    }

    /// Notes who came to hold what in a batch, and by which customers it was decided, for those that
    /// are looked at already.
    fn remember(&mut self, holders: Vec<(Membership, CustomerId)>, version: i64) {
        self.version = version;
        self.recent.truncate(scout::AHEAD - 1);
        self.recent.push_front(holders.into_iter().collect());
    }
}

impl Hands {
    /// After a batch is committed: ends the generation if commands were refused by a map that has changed
    /// since, and notes the markers of moves.
    pub(super) async fn conclude(
        &mut self,
        batch: &Scouted,
        settled: &[Settled],
        routing: &LaneRouting,
    ) -> Result<(), Fault> {
        let is_in_wrong_lane = |settled: &Settled| matches!(settled, Settled::Rejected(rejection) if rejection.reason == Reason::WrongLane);
        if settled.iter().any(is_in_wrong_lane) {
            routing.check_version(&mut self.first.session).await?;
        }
        let markers: Vec<Uuid> = batch.taken.iter().filter_map(|taken| taken.marker).collect();
        if markers.is_empty() { Ok(()) } else { self.first.note_drained(&markers).await }
    }
}

/// A hand at work on a task of its own, so that evaluating takes as many cores as there are hands.
struct Helper {
    jobs: mpsc::Sender<(Job, oneshot::Sender<Outcome>)>,
    working: AbortOnDropHandle<()>,
}

/// Nothing: the sub-batch is to be processed when the others are done.
type Outcome = Result<Option<Applied>, Fault>;

/// A part of a window to settle.
struct Job {
    window: Arc<Scouted>,
    part: Arc<Part>,
}

impl Helper {
    fn start(mut hand: Executor) -> Self {
        let (jobs, mut given) = mpsc::channel::<(Job, oneshot::Sender<_>)>(1);
        let working = tokio::spawn(async move {
            while let Some((Job { window, part }, done)) = given.recv().await {
                let applied = settle(&mut hand, &window, &part).await;
                // Whoever does not wait any longer has given the window up.
                if done.send(applied).is_err() {
                    return;
                }
            }
        });
        Self { jobs, working: AbortOnDropHandle::new(working) }
    }

    async fn settle(&mut self, job: Job) -> Outcome {
        let (done, applied) = oneshot::channel();
        if self.jobs.send((job, done)).await.is_ok()
            && let Ok(applied) = applied.await
        {
            return applied;
        }
        let why = match (&mut self.working).await {
            Err(ended) => ended.to_string(),
            Ok(()) => "it ended early".into(),
        };
        Err(Fault::TaskStopped { task: "executor", why })
    }
}

async fn settle(hand: &mut Executor, window: &Scouted, part: &Part) -> Outcome {
    let taken: Vec<&Taken> = part.places.iter().map(|place| &window.taken[*place]).collect();
    // Only what was looked up tells that others are free of it.
    let Some(preloaded) = &part.preloaded else { return Ok(None) };
    hand.process_beside_others(&taken, preloaded).await
}
