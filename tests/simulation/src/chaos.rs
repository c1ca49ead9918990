//! Faults by the clock: daemons killed, stopped, cut off and restarted; Docker and the store going down and coming
//! back; people who make runs, cancel them and change containers. [`crate::world::Weather`] has the faults of calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trainyard_core::event::Event;
use trainyard_core::id::RunId;
use trainyard_core::run::CancelledBy;
use trainyard_orchestrator::clock::Clock;

use crate::daemon::{self, LEASE};
use crate::docker::Docker;
use crate::engine::Engine;
use crate::held;
use crate::process::{Peer, Process};
use crate::records::SimulatedRecords;
use crate::store::Store;
use crate::world::World;

/// All parts of one history.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) scratch: PathBuf,
    /// The daemons' processes, one on each host.
    processes: Mutex<Vec<Arc<Process>>>,
    dags: u64,
    started: Mutex<u32>,
}

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Happening {
    MakeRun,
    Cancel,
    Kill,
    Pause,
    CutFromStore,
    CutFromEngine,
    EngineRestarts,
    PowerCut,
    StoreRestarts,
    StoreCrashes,
    ClockJumps,
    ContainerKilled,
    ContainerRemoved,
}

impl Happening {
    const ALL: [Self; 13] = [
        Self::MakeRun,
        Self::Cancel,
        Self::Kill,
        Self::Pause,
        Self::CutFromStore,
        Self::CutFromEngine,
        Self::EngineRestarts,
        Self::PowerCut,
        Self::StoreRestarts,
        Self::StoreCrashes,
        Self::ClockJumps,
        Self::ContainerKilled,
        Self::ContainerRemoved,
    ];
}

impl Stage {
    pub(crate) fn new(
        world: Arc<World>,
        engine: Arc<Engine>,
        store: Store,
        scratch: PathBuf,
        dags: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            world,
            engine,
            store: Arc::new(Mutex::new(store)),
            scratch,
            processes: Mutex::default(),
            dags,
            started: Mutex::new(0),
        })
    }

    /// Starts a daemon on a host, in the place of the one before.
    fn start_daemon(&self, host: usize) {
        let count = {
            let mut started = held(&self.started);
            *started += 1;
            *started
        };
        let offset = self
            .world
            .draw(|random| random.pick(&[0, 0, 0, 30_000, -30_000, 3_600_000]));
        let offset = chrono::Duration::milliseconds(offset);
        let world = Arc::clone(&self.world);
        let clock = Clock::new(move || world.now() + offset);
        let process = Process::new(format!("process {count} on host {host}"), clock);
        self.world.note(|| format!("{} starts", process.name));
        let records = SimulatedRecords::new(
            Arc::clone(&self.world),
            Arc::clone(&process),
            Arc::clone(&self.store),
        );
        let docker = Docker::new(Arc::clone(&self.engine), Arc::clone(&process));
        process.spawn(daemon::begin(records, docker, host, self.scratch.clone()));
        let mut processes = held(&self.processes);
        match processes.get_mut(host) {
            Some(place) => *place = process,
            None => processes.push(process),
        }
    }

    /// Lets things happen until it is time for them to stop.
    pub(crate) async fn play(self: &Arc<Self>) {
        let (hosts, runs, count, horizon) = self.world.draw(|random| {
            (
                random.pick(&[1, 2, 2, 3]),
                random.between(1, 3),
                random.pick(&[0, 2, 5, 10]),
                random.millis(5_000, 60_000),
            )
        });
        for host in 0..hosts {
            self.start_daemon(host);
        }
        let last = u64::try_from(horizon.as_millis()).unwrap_or_default();
        let mut script: Vec<(u64, Happening)> = self.world.draw(|random| {
            // A few kinds in each history, so that they meet often.
            let kinds: Vec<Happening> = (0..random.between(1, 4))
                .map(|_| random.pick(&Happening::ALL))
                .collect();
            let runs = (0..runs).map(|_| Happening::MakeRun).collect::<Vec<_>>();
            let others = (0..count).map(|_| random.pick(&kinds)).collect::<Vec<_>>();
            let early = runs.into_iter().map(|what| (random.below(last / 4), what));
            let mut script: Vec<_> = early.collect();
            script.extend(others.into_iter().map(|what| (random.below(last), what)));
            script
        });
        script.sort_by_key(|(at, _)| *at);
        let last_run = script
            .iter()
            .rposition(|(_, what)| matches!(what, Happening::MakeRun));
        for (place, (at, what)) in script.into_iter().enumerate() {
            let all_made = last_run.is_none_or(|last| last < place);
            if self.until(Duration::from_millis(at), all_made).await {
                return;
            }
            self.revive_the_dead();
            self.happen(what);
        }
        self.until(horizon, true).await;
    }

    /// Lets time pass. True as soon as there is nothing left for faults to meet.
    async fn until(&self, moment: Duration, all_made: bool) -> bool {
        const LOOK: Duration = Duration::from_secs(1);
        while let Some(wait) = moment.checked_sub(self.world.elapsed()) {
            if all_made && self.is_over() {
                return true;
            }
            tokio::time::sleep(wait.min(LOOK)).await;
            if wait <= LOOK {
                break;
            }
        }
        false
    }

    fn happen(self: &Arc<Self>, what: Happening) {
        self.world.note(|| format!("--- {what:?}"));
        let wait = self.world.draw(|random| random.millis(10, 40_000));
        match what {
            Happening::MakeRun => {
                let dag = self.world.draw(|random| random.below(self.dags));
                let dag = usize::try_from(dag).unwrap_or_default();
                held(&self.store).make_run(dag);
            }
            Happening::Cancel => self.cancel(),
            Happening::Kill => self.kill(),
            Happening::Pause => {
                let process = self.some_process();
                process.pause();
                // Longer than a lease, more often than not.
                self.later(wait + LEASE / 2, move |_| process.resume());
            }
            Happening::CutFromStore => self.cut(Peer::Store, wait),
            Happening::CutFromEngine => self.cut(Peer::Engine, wait),
            Happening::EngineRestarts | Happening::PowerCut => {
                self.engine
                    .go_down(matches!(what, Happening::EngineRestarts));
                self.later(wait, |stage| stage.engine.come_back());
            }
            Happening::StoreRestarts | Happening::StoreCrashes => {
                let forgets = matches!(what, Happening::StoreCrashes);
                held(&self.store).go_down(forgets);
                self.later(wait, |stage| held(&stage.store).come_back());
            }
            Happening::ClockJumps => {
                let by = self
                    .world
                    .draw(|random| random.pick(&[-10_000, -500, 500, 20_000, 3_600_000]));
                held(&self.store).jump(chrono::Duration::milliseconds(by));
            }
            Happening::ContainerKilled => self.engine.meddle(false),
            Happening::ContainerRemoved => self.engine.meddle(true),
        }
    }

    fn later(self: &Arc<Self>, wait: Duration, what: impl FnOnce(&Self) + Send + 'static) {
        let stage = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            what(&stage);
        });
    }

    fn some_process(&self) -> Arc<Process> {
        let processes = held(&self.processes);
        let count = processes.len() as u64;
        let place = self.world.draw(|random| random.below(count));
        Arc::clone(&processes[usize::try_from(place).unwrap_or_default()])
    }

    fn cut(self: &Arc<Self>, peer: Peer, wait: Duration) {
        let process = self.some_process();
        process.cut_off(peer, true);
        self.later(wait, move |_| process.cut_off(peer, false));
    }

    fn cancel(&self) {
        let mut store = held(&self.store);
        let runs: Vec<RunId> = store.runs.keys().copied().collect();
        if runs.is_empty() {
            return;
        }
        let run = self.world.draw(|random| random.pick(&runs));
        let was_asked = store
            .runs
            .get(&run)
            .is_some_and(|row| row.run.cancel.is_some());
        let by = CancelledBy::Actor("ada".to_owned());
        store.tell(run, &[Event::CancelRequested { by }]);
        // The second request comes early, so that abandoned attempts are in every state.
        if was_asked {
            store.abandon(run);
        }
    }

    fn kill(&self) {
        let process = self.some_process();
        self.world.note(|| format!("{} is killed", process.name));
        process.kill();
    }

    /// Whatever died, something starts it again: systemd, or a person.
    pub(crate) fn revive_the_dead(&self) {
        let dead: Vec<usize> = held(&self.processes)
            .iter()
            .enumerate()
            .filter(|(_, process)| process.is_dead())
            .map(|(host, _)| host)
            .collect();
        for host in dead {
            self.start_daemon(host);
        }
    }

    /// Nothing goes wrong any more, and all is up.
    pub(crate) fn heal(&self) {
        self.world.calm();
        self.engine.come_back();
        held(&self.store).come_back();
        for process in &*held(&self.processes) {
            process.resume();
            process.cut_off(Peer::Engine, false);
            process.cut_off(Peer::Store, false);
        }
        self.revive_the_dead();
    }
}
