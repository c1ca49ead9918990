//! The guard: checks what the daemon depends on, and publishes the daemon's health.
//!
//! Every second it sends a trial call to a Docker engine under suspicion, checks the disks, the lease and the leader
//! of schedules, and records the results as the daemon's health. The health pauses claims, and readiness, `run why`
//! and `daemon list` show it. The guard repairs nothing.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use trainyard_core::id::DaemonId;
use trainyard_executor::{AnyExecutor, Containers};
use trainyard_store::fleet::metrics::{CLAIMS_PAUSED, RECONCILE_LAG};
use trainyard_store::{HealthProblem, ProblemKind, ReportPace, Role, answered_within};

use crate::clock;
use crate::health::disks::Disks;
use crate::health::engine_watch::EngineWatch;
use crate::health::guarded::Guarded;
use crate::health::lease::Lease;
use crate::health::space::{Disk, Floor, SpaceReader};
use crate::records::{Records, StoreRecords};

/// The time between two checks.
const TICK: Duration = Duration::from_secs(1);

/// The time between two checks for a leader of schedules.
const LEADER_LOOK: Duration = Duration::from_secs(15);

/// The oldest that the last complete listing of Docker's containers may be. One listing may take 10 s, and the next
/// comes 5 s later.
const UNLISTED: Duration = Duration::from_secs(20);

/// How long schedules may lack a leader: twice the time of a failover.
const LEADERLESS: Duration = Duration::from_secs(60);

/// The deadline for database calls that are informative only.
const PUBLISH_AT_MOST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Guard<R = StoreRecords, E = AnyExecutor> {
    records: R,
    daemon: DaemonId,
    executor: Guarded<E>,
    watch: EngineWatch,
    lease: Lease,
    disks: Disks,
    next_leader_look: Instant,
    /// The health in the daemon's row; `None` where that is not known.
    published: Option<Vec<HealthProblem>>,
    pace: ReportPace,
}

impl<R: Records, E: Containers + Clone> Guard<R, E> {
    /// A guard over the disks of `places`, and over the Docker engine of `executor`.
    #[must_use]
    pub fn new(
        records: R,
        daemon: DaemonId,
        executor: Guarded<E>,
        watch: EngineWatch,
        lease: Lease,
        floor: Floor,
        places: Vec<Disk>,
    ) -> Self {
        Self {
            records,
            daemon,
            executor,
            watch,
            lease,
            disks: Disks::new(daemon, floor, SpaceReader::default(), places),
            next_leader_look: Instant::now() + LEADERLESS,
            published: Some(Vec::new()),
            pace: ReportPace::new(Duration::ZERO),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (watch, executor) = (self.watch.clone(), self.executor.clone());
        // Apart from the checks: a trial may take as long as Docker's deadline.
        let trials = async {
            loop {
                tokio::time::sleep(TICK).await;
                if watch.take_trial() {
                    // [`Guarded`] reports the answer.
                    drop(executor.ping().await);
                }
            }
        };
        let looks = async {
            loop {
                self.pass().await;
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = trials => {}
            () = looks => {}
        }
    }

    /// Checks everything once.
    pub async fn pass(&mut self) {
        self.look_at_disks().await;
        let lapsed = (!self.lease.is_held()).then(|| {
            "its lease has expired, since the database did not renew it in time".to_owned()
        });
        self.note(ProblemKind::Lease, lapsed);
        let unlisted =
            (self.watch.lag() > UNLISTED).then(|| "Docker does not list its containers".to_owned());
        self.note(ProblemKind::Listing, unlisted);
        self.look_at_leader().await;
        self.show();
        self.publish().await;
    }

    async fn look_at_disks(&mut self) {
        if self.disks.read(self.records.health()).await {
            self.records.wakes().dispatch.wake();
        }
    }

    async fn look_at_leader(&mut self) {
        if Instant::now() < self.next_leader_look {
            return;
        }
        self.next_leader_look = Instant::now() + LEADER_LOOK;
        let asked = self.records.leaderless_for(Role::Scheduler);
        // Other loops report a database that does not answer.
        if let Ok(Ok(leaderless)) = tokio::time::timeout(PUBLISH_AT_MOST, asked).await {
            let what = leaderless
                .is_some_and(|time| time > LEADERLESS)
                .then(|| "no daemon leads the schedules".to_owned());
            self.note(ProblemKind::Scheduler, what);
        }
    }

    fn note(&self, kind: ProblemKind, what: Option<String>) -> bool {
        self.records.health().note(kind, what, clock::now())
    }

    fn show(&self) {
        RECONCILE_LAG.set(self.watch.lag().as_secs_f64());
        let problems = self.records.health().problems();
        for kind in ProblemKind::ALL
            .into_iter()
            .filter(|kind| kind.pauses_claims())
        {
            let is_so = problems.iter().any(|problem| problem.kind == kind);
            CLAIMS_PAUSED.set_for(kind.as_str(), if is_so { 1.0 } else { 0.0 });
        }
    }

    /// Publishes the health to the other daemons if it has changed.
    async fn publish(&mut self) {
        let problems = self.records.health().problems();
        if self.published.as_ref() == Some(&problems) {
            return;
        }
        let write = self.records.publish_health(self.daemon);
        let written = answered_within(PUBLISH_AT_MOST, write).await;
        let now = Instant::now().into_std();
        match written {
            Ok(()) => {
                self.published = Some(problems);
                if let Some(lasted) = self.pace.succeeded(now) {
                    let lasted_s = lasted.as_secs();
                    info!(daemon.id = %self.daemon, lasted_s, "published this daemon's health again");
                }
            }
            // The next check tries again with the health of that time: this write may have succeeded all the same.
            Err(problem) => {
                self.published = None;
                if let Some(lasted) = self.pace.failed(now) {
                    let lasting_s = lasted.as_secs();
                    warn!(daemon.id = %self.daemon, error = %problem, lasting_s, "could not publish this daemon's health; will retry");
                }
            }
        }
    }
}
