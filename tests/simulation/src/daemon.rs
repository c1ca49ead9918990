//! A simulated daemon: dispatcher, keeper and planner, around real supervisors.
//!
//! Each of its loops reads the store on a hint or a tick. The daemon stops its work on attempts before its lease
//! expires, by its own clock, unless it is paused itself at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::id::{AttemptId, DaemonId, Fence, InstanceId};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_executor::{Ceilings, Containers, InputSpec, Limits, Listed, LocalFile, Status};
use trainyard_orchestrator::attempt::assignment::{Assignment, Materials};
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::supervisor::{
    StopSignal, Supervised, Surroundings, supervise,
};
use trainyard_orchestrator::clock::{self, Clock};
use uuid::Uuid;

use crate::docker::{Claim, Docker};
use crate::held;
use crate::ledger::SimulatedLedger;
use crate::process::Process;
use crate::settings::Mutation;
use crate::store::{Claimed, Link, Unavailable, Wakes};
use crate::world::World;

/// How long a daemon's claims hold without being renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How long before the end of its lease a daemon stops what it does.
const MARGIN: Duration = Duration::from_secs(5);

/// The time between two full looks.
const TICK: Duration = Duration::from_secs(5);

/// The longest time between two looks of the dispatcher, should every wake be lost.
const DISPATCH_TICK: Duration = Duration::from_secs(5);

/// How long a program has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// One daemon, from its start to its end.
pub(crate) struct Daemon {
    world: Arc<World>,
    process: Arc<Process>,
    link: Link,
    docker: Docker,
    scratch: PathBuf,
    clock: Clock,
    id: OnceLock<DaemonId>,
    wakes: Wakes,
    board: Mutex<BTreeMap<AttemptId, Entry>>,
    /// When its lease was renewed last, by its own clock.
    renewed: Mutex<Instant>,
}

struct Entry {
    fence: Fence,
    signal: StopSignal,
    task: Option<AbortHandle>,
}

impl Daemon {
    pub(crate) fn start(link: Link, docker: Docker, host: usize, scratch: PathBuf) -> Arc<Self> {
        let (world, process) = (Arc::clone(&link.world), Arc::clone(&link.process));
        let offset = world.draw(|random| random.pick(&[0, 0, 0, 30_000, -30_000, 3_600_000]));
        let offset = chrono::Duration::milliseconds(offset);
        let host_time = Arc::clone(&world);
        let daemon = Arc::new(Self {
            world,
            process: Arc::clone(&process),
            link,
            docker,
            scratch,
            clock: Clock::new(move || host_time.now() + offset),
            id: OnceLock::new(),
            wakes: Wakes::default(),
            board: Mutex::default(),
            renewed: Mutex::new(Instant::now()),
        });
        let this = Arc::clone(&daemon);
        process.spawn(async move { this.begin(host).await });
        daemon
    }

    /// Its id; known only after it is registered.
    pub(crate) fn id(&self) -> DaemonId {
        self.id.get().copied().unwrap_or(DaemonId(Uuid::nil()))
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    async fn begin(self: Arc<Self>, host: usize) {
        let id = loop {
            let wakes = self.wakes.clone();
            let asked = Instant::now();
            let call = self
                .link
                .call(move |store| store.register(host, LEASE, wakes));
            if let Ok(id) = call.await {
                *held(&self.renewed) = asked;
                break id;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let id = *self.id.get_or_init(|| id);
        self.world
            .note(|| format!("{} is daemon {}", self.process.name, id.0.as_u128()));
        let this = Arc::clone(&self);
        self.process.spawn(async move { this.guard().await });
        let this = Arc::clone(&self);
        self.process.spawn(async move { this.keep().await });
        self.dispatch().await;
    }

    /// Plans what is due and claims what may start.
    async fn dispatch(self: Arc<Self>) {
        let daemon = self.id();
        loop {
            let looked = self
                .link
                .call(move |store| {
                    let next = store.plan_due();
                    (next, store.claim(daemon))
                })
                .await;
            let wait = match looked {
                Ok((next, claims)) => {
                    Self::take(&self, claims);
                    // A moment later, so that what is due is due by then.
                    let next = next.map(|next| next + Duration::from_millis(1));
                    next.map_or(DISPATCH_TICK, |next| next.min(DISPATCH_TICK))
                }
                Err(Unavailable) => Duration::from_millis(500),
            };
            tokio::select! {
                biased;
                () = self.wakes.dispatch.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Starts a supervisor for each claim.
    pub(crate) fn take(daemon: &Arc<Self>, claims: Vec<Claimed>) {
        for claimed in claims {
            let signal = StopSignal::new();
            let (attempt, fence) = (claimed.attempt, claimed.fence);
            let this = Arc::clone(daemon);
            let to = signal.clone();
            let clock = daemon.clock.clone();
            let task = daemon.process.spawn(async move {
                clock::under(clock, this.attend(claimed, &to)).await;
                let mut board = held(&this.board);
                if board
                    .get(&attempt)
                    .is_some_and(|entry| entry.fence == fence)
                {
                    board.remove(&attempt);
                }
            });
            let entry = Entry {
                fence,
                signal,
                task,
            };
            held(&daemon.board).insert(attempt, entry);
        }
    }

    async fn attend(self: &Arc<Self>, claimed: Claimed, signal: &StopSignal) {
        let assignment = assignment(&claimed);
        let stage = assignment.stage().name.to_string();
        let claim = Arc::new(Claim {
            attempt: claimed.attempt,
            fence: claimed.fence,
            run: claimed.run.facts.id.0.unsigned_abs(),
            stage,
            number: claimed.reference.number,
            fenced_off: AtomicBool::new(false),
        });
        let surroundings = Surroundings {
            executor: self.docker.under(Arc::clone(&claim)),
            limits: Limits::default(),
            ceilings: Ceilings::default(),
            grace: GRACE,
            output_limit: 1 << 20,
            layers: Layers::new(0),
            scratch: self.scratch.clone(),
        };
        let ledger = SimulatedLedger {
            link: self.link.clone(),
            claim,
            daemon: self.id(),
        };
        let materials = materials(&assignment);
        let supervised = supervise(&surroundings, &assignment, materials, &ledger, signal).await;
        let how = match supervised {
            Supervised::Finished { next, container } => {
                Self::take(self, next);
                if let Some(container) = container {
                    surroundings.remove(&container, &ledger).await;
                }
                "finished"
            }
            Supervised::FencedOff => "fenced off",
        };
        self.world.note(|| {
            let attempt = crate::engine::short(assignment.attempt);
            format!("{} stops supervising {attempt}: {how}", self.process.name)
        });
    }

    /// Stops supervising before the lease ends.
    async fn guard(self: Arc<Self>) {
        loop {
            let until = *held(&self.renewed) + LEASE - MARGIN;
            if Instant::now() >= until {
                self.let_go(|_| true);
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    fn let_go(&self, of: impl Fn(&AttemptId) -> bool) {
        held(&self.board).retain(|attempt, entry| {
            if !of(attempt) {
                return true;
            }
            self.world.note(|| {
                let attempt = crate::engine::short(*attempt);
                format!("{} gives {attempt} up", self.process.name)
            });
            if let Some(task) = &entry.task {
                task.abort();
            }
            false
        });
    }

    /// Renews the lease, passes stop requests on, adopts, sweeps.
    async fn keep(self: Arc<Self>) {
        let mut next_full = Instant::now();
        loop {
            // A failure is retried with the next pass.
            let _ = self.pass_stops_on().await;
            if Instant::now() >= next_full {
                next_full = Instant::now() + TICK;
                let _ = self.look_after().await;
            }
            tokio::select! {
                biased;
                () = self.wakes.supervise.notified() => {}
                () = tokio::time::sleep_until(next_full) => {}
            }
        }
    }

    async fn pass_stops_on(&self) -> Result<(), Unavailable> {
        let daemon = self.id();
        let requests = self
            .link
            .call(move |store| store.stop_requests(daemon))
            .await?;
        let board = held(&self.board);
        for (attempt, why, is_forced) in requests {
            self.world.note(|| {
                let attempt = crate::engine::short(attempt);
                format!("{} is asked to stop {attempt}", self.process.name)
            });
            if let Some(entry) = board.get(&attempt) {
                entry.signal.stop(why);
                if is_forced {
                    entry.signal.force();
                }
            }
        }
        Ok(())
    }

    async fn look_after(self: &Arc<Self>) -> Result<(), Unavailable> {
        let daemon = self.id();
        let attended: BTreeSet<AttemptId> = held(&self.board).keys().copied().collect();
        let asked = Instant::now();
        let renewed = self
            .link
            .call(move |store| store.renew(daemon, LEASE))
            .await?;
        let Some(holds) = renewed else {
            // Another daemon has taken this one's place.
            self.let_go(|_| true);
            self.process.kill();
            return Ok(());
        };
        *held(&self.renewed) = asked;
        self.let_go(|attempt| attended.contains(attempt) && !holds.contains(attempt));
        let attended = held(&self.board).keys().copied().collect();
        let adopted = self
            .link
            .call(move |store| store.adopt(daemon, &attended))
            .await?;
        Self::take(self, adopted);
        match self.docker.list().await {
            Ok(listed) => self.sweep(listed).await,
            Err(_) => Ok(()),
        }
    }

    /// Compares a listing with what the store knows.
    async fn sweep(&self, listed: Vec<Listed>) -> Result<(), Unavailable> {
        if self.world.has(Mutation::AbsentMeansLost) {
            self.give_up_absent(&listed).await?;
        }
        let attempts: Vec<AttemptId> = listed.iter().map(|found| found.handle.attempt).collect();
        for (attempt, entry) in &*held(&self.board) {
            if !attempts.contains(attempt) {
                entry.signal.inspect();
            }
        }
        if attempts.is_empty() || self.world.has(Mutation::NeverSweeps) {
            return Ok(());
        }
        let known = self.link.call(move |store| store.known(&attempts)).await?;
        let known: BTreeMap<AttemptId, bool> = known.into_iter().collect();
        for container in listed {
            let attempt = container.handle.attempt;
            let signal = held(&self.board)
                .get(&attempt)
                .map(|entry| entry.signal.clone());
            match (known.get(&attempt), signal) {
                (Some(false), Some(signal)) => {
                    if !matches!(container.status, Status::Created | Status::Running { .. }) {
                        signal.inspect();
                    }
                }
                (Some(true), None) => {
                    if matches!(container.status, Status::Running { .. }) {
                        // The program of an abandoned attempt may run on; it is asked to end before its
                        // container is removed.
                        let _ = self.docker.stop(&container.handle, GRACE).await;
                    }
                    if self.docker.remove(&container.handle).await.is_ok() {
                        self.link.call(move |store| store.removed(attempt)).await?;
                    }
                }
                // Another daemon's, or its supervisor is about to remove it, or not known.
                (Some(false), None) | (Some(true), Some(_)) | (None, _) => {}
            }
        }
        Ok(())
    }

    async fn give_up_absent(&self, listed: &[Listed]) -> Result<(), Unavailable> {
        let daemon = self.id();
        let running = self
            .link
            .call(move |store| store.running_of(daemon))
            .await?;
        for (attempt, fence) in running {
            if listed.iter().all(|found| found.handle.attempt != attempt) {
                let end = AttemptEnd {
                    ending: Ending::Lost(Reason::new(ReasonCode::Unproved, "not listed")),
                    ended_at: self.world.now(),
                    ran_for: None,
                    metrics: BTreeMap::new(),
                };
                self.link
                    .call(move |store| store.finish(attempt, fence, end))
                    .await?;
            }
        }
        Ok(())
    }
}

fn assignment(claimed: &Claimed) -> Assignment {
    Assignment {
        repo: None,
        instance: InstanceId(Uuid::from_u128(1)),
        attempt: claimed.attempt,
        fence: claimed.fence,
        reference: claimed.reference,
        dag: Arc::clone(&claimed.dag),
        run: Arc::clone(&claimed.run),
        adopted: claimed.adopted.clone(),
    }
}

fn materials(
    assignment: &Assignment,
) -> Result<(trainyard_core::render::RenderedStage, Materials), Reason> {
    let rendered = assignment.render()?;
    let inputs = &assignment.stage().program().inputs;
    let inputs = inputs.keys().map(|name| InputSpec {
        name: name.clone(),
        content: ArtifactContent {
            kind: ArtifactKind::File,
            sha256: "00".repeat(32),
            size: 0,
        },
        blob: LocalFile::blob("/nowhere"),
    });
    let materials = Materials {
        inputs: inputs.collect(),
        ..Materials::default()
    };
    Ok((rendered, materials))
}
