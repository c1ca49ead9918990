//! The background loops of a daemon, started and stopped together.
//!
//! Each loop is idempotent and takes no input: on a wake or a tick it reads the database, lets the core decide, and
//! does what is due, so a lost wake costs a little time and nothing else. Each has a `pass` that a test can call
//! once. None holds a transaction across a call to Docker or git.
//!
//! | loop | wakes on | does |
//! |---|---|---|
//! | [`planner`] | runs made, cancelled, due | judges concurrency, plans runs |
//! | [`dispatcher`] | attempts queued, slots freed | claims attempts, starts a supervisor for each |
//! | [`keeper`] | stop requests, a tick | renews leases; passes stops on, releases what has ended, adopts |
//! | [`sweeper`] | a tick | compares containers with the database, removes what has ended |
//! | [`scheduler`] | schedules changed, the next tick | turns due ticks into causes |
//! | [`watcher`] | webhook deliveries, a tick | fetches repos, turns moved heads into causes |
//! | [`guard`] | a tick | checks Docker, the disks and the lease; pauses claims where they fail |
//! | [`pruner`] | a tick | retention |
//!
//! With several daemons on one database all claim and plan; scheduler, watcher and pruner work where their
//! daemon leads ([`leadership`]). A daemon whose [`lease`] expires stops supervising its attempts.
//!
//! [`guard`]: crate::health::guard
//! [`leadership`]: crate::health::leadership
//! [`lease`]: crate::health::lease

pub mod attempt_loops;
mod branch_failure;
pub mod dag_reading;
pub mod dispatcher;
pub mod keeper;
pub mod planner;
pub mod pruner;
mod removals;
pub mod scheduler;
pub mod sweeper;
mod sync;
mod sync_result;
pub mod watcher;

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_core::id::{DaemonId, InstanceId};
use trainyard_core::name::PoolName;
use trainyard_executor::{AnyExecutor, Containers};
use trainyard_forge::Git;
use trainyard_store::{Blobs, ClaimCapacity, Retention, Store};

use crate::attempt::sources::Sources;
use crate::attempt::supervisor::Surroundings;
use crate::health::leadership::Leadership;
use crate::health::space::{Disk, Floor};
use crate::loops::attempt_loops::AttemptLoops;
use crate::loops::pruner::Pruner;
use crate::loops::watcher::Watcher;
use crate::records::StoreRecords;

/// How long the loops may take to finish their work when the daemon stops.
const LAST_STEPS: Duration = Duration::from_secs(4);

/// How long Docker may take to remove networks at a stop.
const LAST_REMOVALS: Duration = Duration::from_secs(3);

/// The settings of a daemon's loops.
#[derive(Debug, Clone)]
pub struct LoopOptions<E = AnyExecutor> {
    pub instance: InstanceId,
    pub daemon: DaemonId,
    pub surroundings: Surroundings<E>,
    /// The id of the Docker engine, where it has one.
    pub engine_id: Option<String>,
    /// How many attempts run at the same time, and the pools.
    pub capacity: ClaimCapacity,
    /// The length of the lease.
    pub lease: Duration,
    /// When the first lease was requested.
    pub leased_at: Instant,
    /// A folder for source archives.
    pub sources: PathBuf,
    /// Retention: what is kept, and for how long.
    pub retention: Retention,
    /// How many bytes the outputs of one run may take together.
    pub artifacts_of_a_run: u64,
    /// Directories whose disks are guarded.
    pub places: Vec<Disk>,
    /// How much has to be free on them.
    pub floor: Floor,
}

/// The loops of one daemon.
#[derive(Debug)]
pub struct Loops {
    store: Store,
    blobs: Blobs,
    git: Git,
    options: LoopOptions,
}

/// One of the loops ended without a shutdown.
#[derive(Debug, thiserror::Error)]
#[error("the {0} loop ended unexpectedly")]
pub struct LoopEnded(&'static str);

impl Loops {
    /// The loops over a store and its mirrors.
    #[must_use]
    pub fn new(store: Store, blobs: Blobs, git: Git, options: LoopOptions) -> Self {
        Self {
            store,
            blobs,
            git,
            options,
        }
    }

    /// Runs all loops until `shutdown`. Containers go on.
    ///
    /// # Errors
    /// A loop ended without a shutdown: then all are stopped, and the process should end too.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), LoopEnded> {
        let Self {
            store,
            blobs,
            git,
            options,
        } = self;
        let executor = options.surroundings.executor.clone();
        let sources = Sources::new(options.sources.clone(), git.clone(), store.clone());
        if let Err(error) = sources.clear().await {
            warn!(%error, "source archives that an earlier daemon left were not removed");
        }
        let daemon = options.daemon;
        let leadership = Leadership::new();
        let pruner = Pruner {
            store: store.clone(),
            blobs: blobs.clone(),
            sources: sources.clone(),
            git: git.clone(),
            executor: executor.clone(),
            rule: options.retention,
            leadership: leadership.clone(),
        };
        let pools: Vec<PoolName> = options.capacity.pools_total.keys().cloned().collect();
        let watcher = Watcher::new(store.clone(), git, pools);
        let records = StoreRecords::new(store.clone(), blobs, sources);
        let attempt_loops =
            AttemptLoops::new(records, options, leadership.clone(), shutdown.clone());
        let mut loops: JoinSet<&'static str> = JoinSet::new();
        let stop = || shutdown.clone();
        let listener = store.clone();
        let stopped = stop();
        spawn(&mut loops, "notification", async move {
            listener.listen(stopped.cancelled()).await;
        });
        attempt_loops.run(|name, work| spawn(&mut loops, name, work));
        spawn(
            &mut loops,
            "scheduler",
            scheduler::run(store.clone(), leadership.clone(), stop()),
        );
        spawn(&mut loops, "watcher", watcher.run(leadership, stop()));
        spawn(&mut loops, "pruner", pruner.run(stop()));
        let mut unasked = None;
        let ends = async {
            while let Some(ended) = loops.join_next().await {
                let name = ended.unwrap_or_else(|problem| {
                    error!(error = %problem, "a loop panicked");
                    "panicked"
                });
                if !shutdown.is_cancelled() {
                    unasked = Some(LoopEnded(name));
                    shutdown.cancel();
                }
            }
        };
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(LAST_STEPS).await;
        };
        tokio::select! {
            () = ends => {}
            // Each loop survives a kill at any point, so the stop need not wait.
            () = overdue => info!("a loop still waits for Docker or the database; stopping without it"),
        }
        loops.abort_all();
        // The next start creates the networks that it needs: Docker has addresses for some thirty networks.
        let removed = tokio::time::timeout(LAST_REMOVALS, executor.remove_networks());
        if !matches!(removed.await, Ok(Ok(()))) {
            info!("Docker did not remove the networks of repos; the next daemon uses them");
        }
        if let Err(problem) = store.stop_daemon(daemon).await {
            info!(error = %problem, "could not record that this daemon stopped; its lease will expire instead");
        }
        unasked.map_or(Ok(()), Err)
    }
}

fn spawn(
    loops: &mut JoinSet<&'static str>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    loops.spawn(async move {
        work.await;
        name
    });
}
