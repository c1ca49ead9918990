//! The loops that bring attempts from the queue to their end, wired together: planner, dispatcher, keeper, sweeper and
//! guard.
//!
//! They need no git and no SQL, only [`Records`] and an executor. So a simulation runs them as a daemon does.

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use trainyard_executor::{AnyExecutor, Attempts};
use trainyard_store::{ClaimRequest, ProblemKind};

use crate::attempt::allowance::Allowances;
use crate::clock;
use crate::health::engine_watch::EngineWatch;
use crate::health::guard::Guard;
use crate::health::guarded::Guarded;
use crate::health::leadership::Leadership;
use crate::health::lease::Lease;
use crate::loops::dispatcher::Dispatcher;
use crate::loops::keeper::{Keeper, TICK};
use crate::loops::sweeper::Sweeper;
use crate::loops::{LoopOptions, planner};
use crate::records::{Records, StoreRecords};

/// The loops around attempts of one daemon.
#[derive(Debug)]
pub struct AttemptLoops<R = StoreRecords, E = AnyExecutor> {
    records: R,
    dispatcher: Dispatcher<R, E>,
    keeper: Keeper<R, E>,
    sweeper: Sweeper<R, E>,
    guard: Guard<R, E>,
    shutdown: CancellationToken,
}

impl<R: Records, E: Attempts + Clone + 'static> AttemptLoops<R, E> {
    /// The loops of a daemon, which end at `shutdown`.
    #[must_use]
    pub fn new(
        records: R,
        options: LoopOptions<E>,
        leadership: Leadership,
        shutdown: CancellationToken,
    ) -> Self {
        debug_assert!(
            options.lease >= 2 * TICK,
            "a lease must outlive a missed renewal"
        );
        let executor = options.surroundings.executor.clone();
        let lease = Lease::new(options.leased_at, options.lease);
        let watch = {
            let records = records.clone();
            EngineWatch::new(options.daemon, options.engine_id.clone(), move |problem| {
                let health = records.health();
                health.note(ProblemKind::Engine, problem, clock::now());
                records.wakes().dispatch.wake();
            })
        };
        let request = ClaimRequest {
            daemon: options.daemon,
            executor: executor.kind().to_owned(),
            engine: options.engine_id,
            capacity: options.capacity,
        };
        let guarded = Guarded::new(executor, watch.clone());
        let guard = Guard::new(
            records.clone(),
            options.daemon,
            guarded.clone(),
            watch.clone(),
            lease.clone(),
            options.floor,
            options.places,
        );
        let dispatcher = Dispatcher::new(
            records.clone(),
            options.surroundings,
            options.instance,
            request,
            Allowances::new(options.artifacts_of_a_run),
            lease.clone(),
            watch,
            shutdown.clone(),
        );
        let keeper = Keeper::new(
            records.clone(),
            dispatcher.clone(),
            lease.clone(),
            options.lease,
            leadership,
        );
        let sweeper = Sweeper::new(records.clone(), guarded, dispatcher.clone(), lease);
        Self {
            records,
            dispatcher,
            keeper,
            sweeper,
            guard,
            shutdown,
        }
    }

    /// Gives each loop to `spawn`, with its name.
    pub fn run(self, mut spawn: impl FnMut(&'static str, BoxFuture<'static, ()>)) {
        let stop = || self.shutdown.clone();
        spawn("planner", Box::pin(planner::run(self.records, stop())));
        spawn("dispatcher", Box::pin(self.dispatcher.run()));
        spawn("keeper", Box::pin(self.keeper.run(stop())));
        spawn("sweeper", Box::pin(self.sweeper.run(stop())));
        spawn("guard", Box::pin(self.guard.run(stop())));
    }
}
