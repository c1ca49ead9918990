//! Docker: what a Docker engine does, as seen through its API.
//!
//! Names are unique. A container that has exited can be started again, and then runs its program
//! again, unless it carries the start latch. Its exit state stays until it is removed. A power cut
//! ends programs without a word; what Docker says of their exit codes then proves nothing.

mod container;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence};
use trainyard_executor::AttemptSpec;

pub(crate) use self::container::{Container, Life, NextFrame, needs_files};
use crate::behaviour::{Behaviour, OnTerm, Start};
use crate::held;
use crate::world::{Invariant, World};

/// How long a container runs whose latch prevents a second start.
const HELD_BACK: Duration = Duration::from_millis(5);

/// Why Docker does not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing listens.
    Down,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 400.
    Refused,
    /// 500.
    Broken,
}

/// The caller: the claim that it acts under, none for a sweeper, and whether it still waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) fence: Option<Fence>,
    pub(crate) waits: bool,
}

pub(crate) type Id = u64;

pub(crate) struct Engine {
    pub(crate) world: Arc<World>,
    state: Mutex<State>,
    pub(crate) broken: Notify,
}

#[derive(Default)]
struct State {
    down: bool,
    containers: BTreeMap<Id, Container>,
    names: BTreeMap<AttemptId, Id>,
    created: Id,
    /// Its clock, less the true time.
    offset: chrono::Duration,
}

impl Engine {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        let offset = world.draw(|random| random.pick(&[0, 0, 0, -40_000, 3_000, 90_000]));
        let state = State {
            offset: chrono::Duration::milliseconds(offset),
            ..State::default()
        };
        Arc::new(Self {
            world,
            state: Mutex::new(state),
            broken: Notify::new(),
        })
    }

    /// Reads a container, unless Docker is down.
    pub(crate) fn see<T>(
        &self,
        id: Id,
        look: impl FnOnce(&mut Container, Timestamp) -> T,
    ) -> Result<T, Refusal> {
        let mut state = self.answering()?;
        let now = self.world.now() + state.offset;
        let container = state.containers.get_mut(&id).ok_or(Refusal::NotFound)?;
        Ok(look(container, now))
    }

    fn answering(&self) -> Result<std::sync::MutexGuard<'_, State>, Refusal> {
        let state = held(&self.state);
        if state.down {
            Err(Refusal::Down)
        } else {
            Ok(state)
        }
    }

    pub(crate) fn create(&self, spec: &AttemptSpec) -> Result<Id, Refusal> {
        let mut state = self.answering()?;
        if state.names.contains_key(&spec.attempt) {
            return Err(Refusal::Conflict);
        }
        state.created += 1;
        let id = state.created;
        self.world
            .note(|| format!("Docker creates c{id} for {}", short(spec.attempt)));
        let behaviour = Behaviour::of(self.world.seed, spec);
        let container = Container::new(spec, behaviour);
        state.containers.insert(id, container);
        state.names.insert(spec.attempt, id);
        Ok(id)
    }

    pub(crate) fn by_name(&self, attempt: AttemptId) -> Result<Option<Id>, Refusal> {
        Ok(self.answering()?.names.get(&attempt).copied())
    }

    pub(crate) fn list<T>(
        &self,
        mut tell: impl FnMut(Id, &Container) -> T,
    ) -> Result<Vec<T>, Refusal> {
        let state = self.answering()?;
        let reported = state.containers.iter().map(|(id, found)| tell(*id, found));
        Ok(reported.collect())
    }

    pub(crate) fn start(self: &Arc<Self>, id: Id, asker: Asker) -> Result<(), Refusal> {
        let mut state = self.answering()?;
        let now = self.world.now() + state.offset;
        let container = state.containers.get_mut(&id).ok_or(Refusal::NotFound)?;
        let (attempt, behaviour) = (container.attempt, Arc::clone(&container.behaviour));
        match (&container.life, behaviour.start) {
            (Life::Running { .. }, _) => return Ok(()),
            (_, Start::Refused) => return Err(Refusal::Refused),
            (_, Start::Breaks) => return Err(Refusal::Broken),
            (Life::Exited { .. }, Start::Works) if self.world.settings.latch => {
                self.world
                    .note(|| format!("the latch of c{id} prevents a second start"));
                let before = container.run_again(now);
                self.settle_later(id, container.generation, HELD_BACK, before);
                return Ok(());
            }
            (Life::Created | Life::Exited { .. }, Start::Works) => {}
        }
        self.world
            .note(|| format!("Docker starts c{id} for {}", short(attempt)));
        // If the caller no longer waits, its claim is not responsible for the start.
        container.start(now, asker.fence.filter(|_| asker.waits));
        self.witness_start(container, asker);
        if let Some(length) = behaviour.length {
            let exited = Life::Exited {
                code: behaviour.exit,
                out_of_memory: behaviour.out_of_memory,
                since: now,
                at: now,
                marker: true,
            };
            self.settle_later(id, container.generation, length, exited);
        }
        Ok(())
    }

    fn witness_start(&self, container: &Container, asker: Asker) {
        let world = &self.world;
        let attempt = container.attempt;
        let mut witness = held(&world.witness);
        let program = witness.of(attempt);
        program.starts += 1;
        program.running = true;
        program.proper = asker.waits && !program.ended && asker.fence == program.fence;
        let starts = program.starts;
        world.demand(Invariant::StartedOnce, starts == 1, || {
            format!("the program of {} began {starts} times", short(attempt))
        });
        world.demand(Invariant::LaidOut, container.laid_out, || {
            format!("{} was started without its files", short(attempt))
        });
    }

    /// Ends what runs after `wait`, unless something else has ended it before.
    fn settle_later(self: &Arc<Self>, id: Id, generation: u32, wait: Duration, exited: Life) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            engine.settle(id, generation, exited);
        });
    }

    fn settle(&self, id: Id, generation: u32, exited: Life) {
        let mut state = held(&self.state);
        let now = self.world.now() + state.offset;
        let Some(container) = state.containers.get_mut(&id) else {
            return;
        };
        if container.generation == generation && container.is_running() {
            self.end(id, container, exited, now);
        }
    }

    fn end(&self, id: Id, container: &mut Container, exited: Life, now: Timestamp) {
        let (world, ran_program) = (&self.world, container.runs_program());
        container.end(exited, now);
        world.note(|| format!("c{id} ends: {:?}", container.life));
        if ran_program {
            let mut witness = held(&world.witness);
            let program = witness.of(container.attempt);
            program.running = false;
            program.exit = container.own_exit();
            program.stopped_by = container.asked_by;
            program.printed = container.printed();
        }
    }

    /// Asks a program to end, and kills it after `grace`.
    pub(crate) fn stop(
        self: &Arc<Self>,
        id: Id,
        grace: Duration,
        asker: Asker,
    ) -> Result<(), Refusal> {
        let mut state = self.answering()?;
        let container = state.containers.get_mut(&id).ok_or(Refusal::NotFound)?;
        if !container.is_running() {
            return Ok(());
        }
        container.asked_to_end = true;
        container.asked_by = container.asked_by.or(asker.fence.filter(|_| asker.waits));
        self.world.note(|| format!("c{id} is asked to end"));
        let generation = container.generation;
        let since = container.since();
        let exited = |code, marker| Life::Exited {
            code,
            out_of_memory: false,
            since,
            at: since,
            marker,
        };
        match container.behaviour.on_term {
            OnTerm::Dies => self.settle_later(id, generation, HELD_BACK, exited(143, true)),
            OnTerm::ExitsWell => self.settle_later(id, generation, grace / 2, exited(0, true)),
            OnTerm::Ignores => self.settle_later(id, generation, grace, exited(137, false)),
        }
        Ok(())
    }

    /// Removes a container, by force where it runs.
    pub(crate) fn remove(&self, id: Id, force: bool, asker: Asker) -> Result<(), Refusal> {
        let mut state = self.answering()?;
        let container = state.containers.get_mut(&id).ok_or(Refusal::NotFound)?;
        if container.is_running() {
            if !force {
                return Err(Refusal::Conflict);
            }
            let unasked = container.runs_program()
                && !container.asked_to_end
                && asker.fence.is_some()
                && container.started_by == asker.fence;
            self.world.demand(Invariant::Grace, !unasked, || {
                format!(
                    "{} was started and then removed by one claim while it ran, unasked",
                    short(container.attempt)
                )
            });
        }
        self.take_away(&mut state, id);
        Ok(())
    }

    fn take_away(&self, state: &mut State, id: Id) {
        let now = self.world.now() + state.offset;
        if let Some(mut container) = state.containers.remove(&id) {
            if container.is_running() {
                let killed = container.killed(137);
                self.end(id, &mut container, killed, now);
            }
            container.changed.notify_waiters();
            state.names.remove(&container.attempt);
            self.world.note(|| format!("Docker removes c{id}"));
        }
    }

    // Its fate.

    /// Whether there is nothing left.
    pub(crate) fn is_empty(&self) -> bool {
        held(&self.state).containers.is_empty()
    }

    /// The containers that are left, in words.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let tell = |(id, container): (&Id, &Container)| {
            format!(
                "c{id} of {}: {:?}",
                short(container.attempt),
                container.life
            )
        };
        held(&self.state).containers.iter().map(tell).collect()
    }

    /// It stops answering, and either keeps what runs or loses it as in a power cut.
    pub(crate) fn go_down(&self, keeps_running: bool) {
        self.world.note(|| {
            let what = if keeps_running { "keeps" } else { "loses" };
            format!("Docker goes down and {what} what runs")
        });
        let mut state = held(&self.state);
        state.down = true;
        let now = self.world.now() + state.offset;
        if !keeps_running {
            for (id, container) in &mut state.containers {
                if container.is_running() {
                    let code = self.world.draw(|random| random.pick(&[0, 137, 255]));
                    let killed = container.killed(code);
                    self.end(*id, container, killed, now);
                }
            }
        }
        self.broken.notify_waiters();
    }

    pub(crate) fn come_back(&self) {
        self.world.note(|| "Docker is back".to_owned());
        held(&self.state).down = false;
    }

    /// A person kills, or removes, one of the containers.
    pub(crate) fn meddle(&self, removes: bool) {
        let mut state = held(&self.state);
        let now = self.world.now() + state.offset;
        let ids: Vec<Id> = state.containers.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = self.world.draw(|random| random.pick(&ids));
        self.world
            .note(|| format!("an operator changes c{id} (removes: {removes})"));
        if removes {
            self.take_away(&mut state, id);
        } else if let Some(container) = state.containers.get_mut(&id)
            && container.is_running()
        {
            let killed = container.killed(137);
            self.end(id, container, killed, now);
        }
    }
}

/// An attempt in notes.
pub(crate) fn short(attempt: AttemptId) -> String {
    format!("attempt {}", attempt.0.as_u128())
}
