//! Places where the fault suite makes the worker fail, and protections that it takes out to see
//! whether it would notice.
//!
//! Without the cargo feature `failpoints`, which no release has, all of this is empty: a hot function has a
//! line that names the point, and what happens there is in modules `failpoints`. With it, the variable
//! `FAILPOINTS` says what happens where, in the syntax of the crate `fail`:
//! `FAILPOINTS="after-commit=3*off->return(abort);without-fence=return"`.

/// A moment between two steps of a batch: what a crash *here* leaves behind differs from what
/// it leaves one step earlier. Actions: `panic`, `sleep(ms)`, `return(abort)`,
/// `return(abort late)`.
#[derive(Clone, Copy, Debug)]
pub enum Point {
    /// The batch's facts are loaded; nothing is begun.
    AfterLoad,
    /// Evaluated; the transaction is about to begin.
    BeforeBegin,
    /// Everything is written, nothing committed.
    BeforeCommit,
    /// Committed; nothing is published.
    AfterCommit,
    /// The results are on their way; no confirm was seen.
    BeforeConfirm,
    /// The results are confirmed; nothing is acked.
    BeforeAck,
    /// The lane's queue has a consumer; nothing is delivered.
    AfterSubscribe,
    /// The look-ahead has a batch and asks the database about it.
    LookAhead,
    /// A delivery was received; nothing of it is read.
    Receive,
    /// A task beside the lanes begins its next round.
    BackgroundTask,
    /// `topology apply` has bound everything; the map is as before.
    ApplyBound,
    /// A move of a pattern is on record; its binding is as before.
    MoveBegun,
    /// The binding is changed; nothing says so.
    MoveRerouted,
    /// The map says so; nothing is behind the commands of the old lane.
    MoveDraining,
    /// The marker is behind them.
    MoveMarked,
    /// Everything before the marker is processed.
    MoveDrained,
    /// A leg of the move is over.
    MoveLegFinished,
}

/// Something that keeps the promises, named after what goes wrong without it.
#[cfg(feature = "failpoints")]
#[derive(Clone, Copy, Debug)]
pub enum Protection {
    /// Commands are looked up in the inbox before they are applied.
    Inbox,
    /// A transaction commits only while the lane is its worker's.
    Fence,
    /// A row that changed since it was loaded is not overwritten.
    VersionGuard,
    /// Rows are locked in the order of their keys.
    LockOrder,
    /// The channel is closed; the consumer is not cancelled while messages are unacked.
    ChannelClose,
    /// The ack comes after the commit.
    AckAfterCommit,
    /// The ack comes after the confirm.
    AckAfterConfirm,
    /// One task alone publishes on a channel.
    OnePublisher,
    /// A failure counts only after the canary has passed.
    Canary,
    /// A suspect command runs while no other executor of the process does.
    Alone,
    /// A try that ends is taken back, so that only what a process did not survive counts as its
    /// death. Without it a try of this very process counts as one, too.
    TakeBack,
}

#[cfg(feature = "failpoints")]
impl Point {
    const fn name(self) -> &'static str {
        match self {
            Self::AfterLoad => "after-load",
            Self::BeforeBegin => "before-begin",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeConfirm => "before-confirm",
            Self::BeforeAck => "before-ack",
            Self::AfterSubscribe => "after-subscribe",
            Self::LookAhead => "look-ahead",
            Self::Receive => "receive",
            Self::BackgroundTask => "background-task",
            Self::ApplyBound => "apply-bound",
            Self::MoveBegun => "move-begun",
            Self::MoveRerouted => "move-rerouted",
            Self::MoveDraining => "move-draining",
            Self::MoveMarked => "move-marked",
            Self::MoveDrained => "move-drained",
            Self::MoveLegFinished => "move-leg-finished",
        }
    }
}

#[cfg(feature = "failpoints")]
impl Protection {
    const fn name(self) -> &'static str {
        match self {
            Self::Inbox => "without-inbox",
            Self::Fence => "without-fence",
            Self::VersionGuard => "without-version-guard",
            Self::LockOrder => "without-lock-order",
            Self::ChannelClose => "without-channel-close",
            Self::AckAfterCommit => "without-ack-after-commit",
            Self::AckAfterConfirm => "without-ack-after-confirm",
            Self::OnePublisher => "without-one-publisher",
            Self::Canary => "without-canary",
            Self::Alone => "without-alone",
            Self::TakeBack => "without-take-back",
        }
    }
}

/// Reads `FAILPOINTS`; what it set ends with the scenario.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn setup() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Does here what `FAILPOINTS` says.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: Point) {
    fail::fail_point!(point.name(), |action: Option<String>| {
        match action.as_deref() {
            Some("abort") => std::process::abort(),
            // What other tasks do without waiting for this one is done by then.
            Some("abort late") => {
                std::thread::sleep(std::time::Duration::from_secs(1));
                std::process::abort();
            }
            _ => {}
        }
    });
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn reach(_point: Point) {}

/// Panics, aborts or hangs if `FAILPOINTS` says so of this command: `evaluate=return(panic ID)`, or
/// of several: `evaluate=return(abort ID OTHER)`.
#[cfg(feature = "failpoints")]
pub(crate) fn evaluate(command_id: &str) {
    fail::fail_point!("evaluate", |action: Option<String>| {
        let action = action.unwrap_or_default();
        let mut words = action.split(' ');
        let what = words.next();
        if words.any(|id| id == command_id) {
            if what == Some("abort") {
                std::process::abort();
            }
            assert_ne!(what, Some("panic"), "as the fault suite asked for");
            while what == Some("hang") {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
    });
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn evaluate(_command_id: &str) {}

/// Whether `FAILPOINTS` takes the protection out.
#[cfg(feature = "failpoints")]
pub(crate) fn is_without(protection: Protection) -> bool {
    fail::fail_point!(protection.name(), |_| true);
    false
}

/// Does `$instead` where `FAILPOINTS` takes the protection out, and `$usual` where it does not.
#[cfg(feature = "failpoints")]
macro_rules! without {
    ($protection:ident $(if $condition:expr)?, $instead:expr) => {
        if $crate::failpoint::is_without($crate::failpoint::Protection::$protection) $(&& $condition)? {
            $instead
        }
    };
    ($protection:ident, $instead:expr, else $usual:expr) => {
        if $crate::failpoint::is_without($crate::failpoint::Protection::$protection) {
            $instead
        } else {
            $usual
        }
    };
}

/// Only what is usual.
#[cfg(not(feature = "failpoints"))]
macro_rules! without {
    ($protection:ident $(if $condition:expr)?, $instead:expr) => {};
    ($protection:ident, $instead:expr, else $usual:expr) => {
        $usual
    };
}
pub(super) use without;
