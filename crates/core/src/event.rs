//! Events: what happened to a run; and effects: what was decided to happen next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;
use crate::id::RunId;
use crate::name::MetricName;
use crate::outcome::{Outcome, Reason};
use crate::run::{AttemptRef, CancelledBy};
use crate::stage::StageIndex;

/// A fact about a run, or the carrying out of a decision. All changes of a run's state are events.
///
/// A daemon claims, releases and starts attempts by writing the holder's columns in the database, which are laid over
/// the run's state. `exec` and the simulation have no such columns: they apply [`Event::AttemptClaimed`],
/// [`Event::AttemptReleased`] and [`Event::AttemptStarted`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The DAG's concurrency rule let it start.
    RunStarted,
    /// The DAG's concurrency rule ended it unstarted; the other run is the reason.
    RunSkipped {
        /// The run that was in its way.
        because_of: RunId,
    },
    /// A user or a newer run requested the cancellation. A second request forces it.
    CancelRequested { by: CancelledBy },
    /// A daemon took the attempt.
    AttemptClaimed(AttemptRef),
    /// A daemon gave the attempt back before it created a container.
    AttemptReleased(AttemptRef),
    /// The attempt's container runs.
    AttemptStarted {
        attempt: AttemptRef,
        /// The image, by digest where Docker knows one.
        image: Option<String>,
    },
    /// The attempt has run for as long as its stage may. Its supervisor measures that with a monotonic clock.
    TimeoutPassed(AttemptRef),
    /// The attempt ended.
    AttemptFinished {
        attempt: AttemptRef,
        end: AttemptEnd,
    },
    /// An operator abandoned an attempt whose container cannot be reached. It counts as lost.
    AttemptAbandoned {
        attempt: AttemptRef,
        by: String,
        /// How long it has after it was asked to stop.
        patience: Duration,
        /// Whether no daemon supervises it: its owner is gone, and no other daemon has adopted it.
        unattended: bool,
    },
    /// A decision of [`crate::plan::plan`].
    Planned(Effect),
}

/// How an attempt ended, as far as known. [`crate::transition::classify`] decides what that means.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEnd {
    pub ending: Ending,
    /// When its container ended, by Docker's clock; else when the end was noticed.
    pub ended_at: Timestamp,
    /// How long its container ran, by Docker's clock alone. It dates the end where that is recorded late: the daemon
    /// or the database may have been away.
    pub ran_for: Option<Duration>,
    pub metrics: BTreeMap<MetricName, f64>,
}

/// The ways in which an attempt can end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The container ended, and its declared outputs and metrics were collected.
    Exited {
        /// The exit code; 128 + n after signal n.
        code: i32,
        /// Whether Docker says that the kernel killed it for its use of memory.
        out_of_memory: bool,
    },
    /// The container was running when it was asked to stop, and then ended; or it had ended, and its outputs were being
    /// copied. This is not [`Self::Exited`], since the clocks of Docker and of the database may not agree on what came
    /// first.
    Stopped {
        /// The exit code; 128 + n after signal n.
        code: i32,
    },
    /// The container ended with exit code 0, but a declared output or metric is missing or wrong.
    Rejected(Reason),
    /// Trainyard or Docker failed.
    Errored(Reason),
    /// How it ended cannot be proved.
    Lost(Reason),
    /// It was asked to stop before its container was created.
    Withdrawn,
}

/// A decision about one run. The store writes effects as rows, in the transaction of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Cancel the run because it reached its timeout.
    TimeOutRun,
    /// Make an attempt that waits for capacity.
    QueueAttempt(AttemptRef),
    /// Let the stage wait before its next attempt.
    BackOff { stage: StageIndex, until: Timestamp },
    /// Ask the owner of the attempt to stop it.
    RequestStop { attempt: AttemptRef, why: Reason },
    /// Take back an attempt that no daemon has claimed.
    WithdrawAttempt { attempt: AttemptRef, why: Reason },
    /// End the stage run.
    FinishStage {
        stage: StageIndex,
        outcome: Outcome,
        reason: Option<Reason>,
    },
    /// End the run.
    FinishRun {
        outcome: Outcome,
        reason: Option<Reason>,
    },
}
