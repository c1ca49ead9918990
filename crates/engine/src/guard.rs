//! The guard: looks at what the daemon stands on, and says what is not well.
//!
//! Every second it asks an engine under suspicion, looks at the disks, the lease and the leader of
//! schedules, and notes what it found in the daemon's condition: that is what pauses claims, and what
//! readiness, `run why` and `daemon list` tell. It mends nothing.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use trainyard_core::id::DaemonId;
use trainyard_core::measure::in_units;
use trainyard_executor::{AnyExecutor, Executor};
use trainyard_store::figures::{CLAIMS_PAUSED, FREE_BYTES, RECONCILE_LAG};
use trainyard_store::{Role, Store, Trouble, TroubleKind};

use crate::clock;
use crate::engine_watch::{EngineWatch, Watched};
use crate::lease::Lease;
use crate::space::{self, Floor, Place};

/// The time between two looks.
const TICK: Duration = Duration::from_secs(1);

/// How long the disks may take to say how much room there is. Longer, and it is not known.
const LOOK_AT_MOST: Duration = Duration::from_secs(5);

/// How long it counts that the database refused a write for want of room: what waits for it tries again
/// every two seconds.
const REFUSED: Duration = Duration::from_secs(5);

/// The time between two looks at the leader of schedules.
const LEADER_LOOK: Duration = Duration::from_secs(15);

/// How long ago the last complete listing of the engine's containers may be. One may take 10 s, and the
/// next comes 5 s later.
const UNLISTED: Duration = Duration::from_secs(20);

/// How long schedules may be without a leader: twice what a takeover needs.
const LEADERLESS: Duration = Duration::from_secs(60);

/// How long the database may take for what is of interest only.
const TELL_AT_MOST: Duration = Duration::from_secs(2);

/// Guards one daemon.
#[derive(Debug)]
pub struct Guard {
    store: Store,
    daemon: DaemonId,
    executor: Watched<AnyExecutor>,
    watch: EngineWatch,
    lease: Lease,
    floor: Floor,
    places: Vec<(Place, bool)>,
    next_leader_look: Instant,
    told: Vec<Trouble>,
}

impl Guard {
    /// A guard over the disks of `places`, and over the engine of `executor`.
    #[must_use]
    pub fn new(
        store: Store,
        daemon: DaemonId,
        executor: Watched<AnyExecutor>,
        watch: EngineWatch,
        lease: Lease,
        floor: Floor,
        places: Vec<Place>,
    ) -> Self {
        let places = space::one_of_each_disk(places);
        Self {
            store,
            daemon,
            executor,
            watch,
            lease,
            floor,
            places: places.into_iter().map(|place| (place, false)).collect(),
            next_leader_look: Instant::now() + LEADERLESS,
            told: Vec::new(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (watch, executor) = (self.watch.clone(), self.executor.clone());
        // Apart from the looks: a trial may take as long as the engine's deadline.
        let trials = async {
            loop {
                tokio::time::sleep(TICK).await;
                if watch.take_trial() {
                    // Its answer is reported on the way.
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
            () = shutdown.cancelled() => {}
            () = trials => {}
            () = looks => {}
        }
    }

    /// One look at everything.
    pub async fn pass(&mut self) {
        self.look_at_disks().await;
        let lapsed = (!self.lease.is_held())
            .then(|| "its lease has lapsed, as the database did not renew it in time".to_owned());
        self.note(TroubleKind::Lease, lapsed);
        let unlisted = (self.watch.lag() > UNLISTED)
            .then(|| "the engine does not list its containers".to_owned());
        self.note(TroubleKind::Listing, unlisted);
        self.look_at_leader().await;
        self.show();
        self.tell().await;
    }

    async fn look_at_disks(&mut self) {
        let mut low = Vec::new();
        for (place, was_low) in &mut self.places {
            let path = place.path.clone();
            let looked = tokio::task::spawn_blocking(move || space::look(&path));
            // A disk that does not answer is as it was.
            if let Ok(Ok(Ok(room))) = tokio::time::timeout(LOOK_AT_MOST, looked).await {
                let is_low = self.floor.is_low(room, *was_low);
                if is_low != *was_low {
                    let (path, free) = (place.path.display(), in_units(room.free));
                    if is_low {
                        warn!(daemon.id = %self.daemon, place = place.role.as_str(), %path, free, "little free space; nothing new is started until there is more");
                    } else {
                        info!(daemon.id = %self.daemon, place = place.role.as_str(), %path, free, "there is free space again");
                    }
                }
                *was_low = is_low;
                FREE_BYTES.set_for(place.role.as_str(), room.free as f64);
                if is_low {
                    low.push(format!(
                        "the disk of {} has less than {} free",
                        place.role.words(),
                        in_units(self.floor.of(room))
                    ));
                }
            } else if *was_low {
                low.push(format!(
                    "the disk of {} has little free",
                    place.role.words()
                ));
            }
        }
        let (condition, now) = (self.store.condition(), Instant::now().into_std());
        if condition.was_refused_for_room_within(REFUSED, now) {
            low.push("the disk of the database is full".to_owned());
        }
        let what = (!low.is_empty()).then(|| low.join(" and "));
        if self.note(TroubleKind::Space, what) {
            self.store.wakes().dispatch.wake();
        }
    }

    async fn look_at_leader(&mut self) {
        if Instant::now() < self.next_leader_look {
            return;
        }
        self.next_leader_look = Instant::now() + LEADER_LOOK;
        let asked = self.store.leaderless_for(Role::Scheduler);
        // A database that does not answer is told of by others.
        if let Ok(Ok(leaderless)) = tokio::time::timeout(TELL_AT_MOST, asked).await {
            let what = leaderless
                .is_some_and(|time| time > LEADERLESS)
                .then(|| "no daemon leads the schedules".to_owned());
            self.note(TroubleKind::Scheduler, what);
        }
    }

    fn note(&self, kind: TroubleKind, what: Option<String>) -> bool {
        self.store.condition().note(kind, what, clock::now())
    }

    fn show(&self) {
        RECONCILE_LAG.set(self.watch.lag().as_secs_f64());
        let troubles = self.store.condition().troubles();
        for kind in TroubleKind::ALL
            .into_iter()
            .filter(|kind| kind.pauses_claims())
        {
            let is_so = troubles.iter().any(|trouble| trouble.kind == kind);
            CLAIMS_PAUSED.set_for(kind.as_str(), if is_so { 1.0 } else { 0.0 });
        }
    }

    /// Tells the other daemons, where there is something new.
    async fn tell(&mut self) {
        let troubles = self.store.condition().troubles();
        if troubles == self.told {
            return;
        }
        let telling = self.store.tell_condition(self.daemon);
        // Otherwise the next look tries again.
        if let Ok(Ok(())) = tokio::time::timeout(TELL_AT_MOST, telling).await {
            self.told = troubles;
        }
    }
}
