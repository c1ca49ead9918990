//! The supervisor: one attempt's life, from its claim to the removal of its container.
//!
//! It follows the attempt protocol (ARCHITECTURE.md): create the container, record its handle, start only a container
//! that was never started, watch, collect, finish under the fence, remove. It can enter at any of these steps, so
//! that adopting an attempt after a restart runs the same code. It reports facts to its [`Ledger`] and decides
//! nothing about the run: retries, timeouts and the next stages are the core's. The removal is a call of its own, since
//! the next stages do not wait for it.

mod endings;
mod patience;
mod preparing;
mod said;
mod stop_signal;
mod watch;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio::time::Instant;
use tracing::{info, warn};
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::stage::Keep;
use trainyard_core::transition::classify;
use trainyard_executor::{
    AnyExecutor, Attempts, Ceilings, Error, ErrorKind, Handle, Limits, Listed, PreparedImage,
    Status,
};

use self::endings::{ended, ending_of, fault_of, mask_ending, mask_names, reason_of};
pub use self::stop_signal::StopSignal;
use self::stop_signal::asked;
use crate::attempt::allowance::Allowance;
use crate::attempt::assignment::Assignment;
use crate::attempt::collect::{Collector, Results};
use crate::attempt::copy_budget::CopyBudget;
use crate::attempt::layers::Layers;
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_pump::LogPump;
use crate::attempt::mask::Masker;
use crate::attempt::supplies::Supplies;
use crate::clock;

/// The first wait after a Docker error.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait after a Docker error.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Shared by the supervisors of one executor.
#[derive(Debug, Clone)]
pub struct Surroundings<E = AnyExecutor> {
    pub executor: E,
    /// Limits for stages that set none.
    pub limits: Limits,
    /// The operator's ceilings for the limits that stages ask for.
    pub ceilings: Ceilings,
    /// How long a program has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The largest output that is kept, in bytes.
    pub output_limit: u64,
    /// The disk use of running containers.
    pub layers: Layers,
    /// A directory for outputs on their way into the artifact store, on the same file system.
    pub scratch: PathBuf,
}

impl<E> Surroundings<E> {
    /// The same with another executor.
    #[must_use]
    pub fn with_executor<F>(&self, executor: F) -> Surroundings<F> {
        Surroundings {
            executor,
            limits: self.limits,
            ceilings: self.ceilings,
            grace: self.grace,
            output_limit: self.output_limit,
            layers: self.layers.clone(),
            scratch: self.scratch.clone(),
        }
    }
}

impl<E: Attempts> Surroundings<E> {
    /// Removes the container of an attempt whose end is recorded.
    pub async fn remove(&self, container: &Handle, ledger: &impl Ledger) {
        match self.executor.remove(container).await {
            Ok(()) => ledger.removed().await,
            // The sweeper removes finished containers that are still there.
            Err(error) => {
                warn!(%error, "a finished container was not removed");
            }
        }
    }
}

/// How supervision ended.
#[derive(Debug)]
pub enum Supervised<N> {
    /// The attempt's end is recorded.
    Finished {
        /// What the ledger returned for it.
        next: N,
        /// Its container, which the caller [removes](Surroundings::remove).
        container: Option<Handle>,
    },
    /// Another owner acts on the attempt.
    FencedOff,
}

/// Runs one attempt to its recorded end.
///
/// `supplies` are fetched only to create a container; if that fails, the attempt ends with the reason. Dropping the
/// future leaves the container alone: the next supervisor adopts it.
pub async fn supervise<E: Attempts, L: Ledger>(
    surroundings: &Surroundings<E>,
    assignment: &Assignment,
    supplies: impl Supplies,
    ledger: &L,
    signal: &StopSignal,
) -> Supervised<L::Next> {
    let attempt = Attempt {
        surroundings,
        assignment,
        ledger,
        signal,
        masker: supplies.masker().await,
        begun: OnceLock::new(),
        wrote_too_much: Sender::new(None),
    };
    match attempt.run(supplies).await {
        Ok((next, container)) => Supervised::Finished { next, container },
        Err(FencedOff) => {
            info!("another owner acts on this attempt now; no longer supervising it");
            Supervised::FencedOff
        }
    }
}

struct Attempt<'a, E, L> {
    surroundings: &'a Surroundings<E>,
    assignment: &'a Assignment,
    ledger: &'a L,
    signal: &'a StopSignal,
    masker: Masker,
    /// When this supervisor requested a start that may have happened. From then on, Docker reporting the container as
    /// `created` does not prove that its program never ran.
    begun: OnceLock<Instant>,
    /// How the attempt ends once its container is stopped for its disk use.
    wrote_too_much: Sender<Option<Ending>>,
}

/// Where an attempt stands once it has a container.
enum StartingPoint {
    /// Not started yet.
    Fresh(Handle, PreparedImage),
    /// Started before.
    Started(Handle, Option<Timestamp>),
    /// The attempt ended without a container.
    Ended(AttemptEnd),
}

impl<E: Attempts, L: Ledger> Attempt<'_, E, L> {
    async fn run(&self, supplies: impl Supplies) -> Result<(L::Next, Option<Handle>), FencedOff> {
        let adopted = self.assignment.adopted.as_ref();
        let cursor = adopted.and_then(|adopted| adopted.log_cursor);
        let mut pump = LogPump::new(self.masker.clone(), cursor);
        let entry = match self.assignment.adopted_container() {
            // On the heap: the future that creates a container would be part of each supervisor, twice.
            Some(handle) => Box::pin(self.find(handle, supplies, &mut pump)).await?,
            None => Box::pin(self.create(supplies, &mut pump)).await?,
        };
        let (handle, since, image) = match entry {
            StartingPoint::Ended(end) => return Box::pin(self.end(end, None, pump)).await,
            StartingPoint::Started(handle, since) => (handle, since, None),
            StartingPoint::Fresh(handle, image) => {
                if let Err(end) = Box::pin(self.start(&handle)).await {
                    return Box::pin(self.end(end, Some(handle), pump)).await;
                }
                (handle, None, Some(image))
            }
        };
        let end = Box::pin(self.watch(&handle, since, image, &mut pump)).await?;
        Box::pin(self.end(end, Some(handle), pump)).await
    }

    /// Finds the container that an earlier claim recorded.
    async fn find(
        &self,
        handle: Handle,
        supplies: impl Supplies,
        pump: &mut LogPump,
    ) -> Result<StartingPoint, FencedOff> {
        match self.look_until_sure(&handle).await {
            Some(Status::Created) => Box::pin(self.create(supplies, pump)).await,
            Some(started) => Ok(self.started(handle, &started)),
            None => {
                let message = "its container vanished from Docker while no daemon watched";
                let reason = Reason::new(ReasonCode::Unproved, message);
                Ok(StartingPoint::Ended(ended(Ending::Lost(reason))))
            }
        }
    }

    /// Handles a container that was started.
    fn started(&self, handle: Handle, status: &Status) -> StartingPoint {
        let since = match status {
            Status::Running { since } | Status::Exited { since, .. } => Some(*since),
            Status::Created | Status::Unknown => {
                let adopted = self.assignment.adopted.as_ref();
                adopted.and_then(|adopted| adopted.started_at)
            }
        };
        StartingPoint::Started(handle, since)
    }

    /// Handles an attempt for which no container can be created. An earlier claim may have created one and failed
    /// to record it.
    async fn without_supplies(&self, reason: Reason) -> StartingPoint {
        let is_mine = |listed: &Listed| listed.handle.attempt == self.assignment.attempt;
        if self.assignment.adopted.is_some() {
            let listed = self.patiently(|| self.surroundings.executor.list()).await;
            let found = match listed {
                Ok(listed) => listed.into_iter().find(is_mine),
                Err(end) => return StartingPoint::Ended(end),
            };
            if let Some(found) = found.filter(|found| !matches!(found.status, Status::Created)) {
                return self.started(found.handle, &found.status);
            }
        }
        StartingPoint::Ended(ended(Ending::Errored(reason)))
    }

    /// Prepares the image and creates the container, or adopts the existing one.
    async fn create(
        &self,
        supplies: impl Supplies,
        pump: &mut LogPump,
    ) -> Result<StartingPoint, FencedOff> {
        let (rendered, materials) = match supplies.fetch().await {
            Ok(supplied) => supplied,
            Err(reason) => return Ok(self.without_supplies(reason).await),
        };
        if let Some(reason) = self.assignment.beyond(&self.surroundings.ceilings) {
            return Ok(StartingPoint::Ended(ended(Ending::Rejected(reason))));
        }
        let notes: Vec<String> = materials
            .notes
            .iter()
            .map(|note| self.masker.mask_text(note))
            .collect();
        for note in &notes {
            pump.say(clock::now(), note);
        }
        let executor = &self.surroundings.executor;
        let limits = &self.surroundings.limits;
        let request = self.assignment.image_request(&rendered, &materials, limits);
        let image = match self.prepare(&request, pump).await? {
            Ok(image) => image,
            Err(end) => return Ok(StartingPoint::Ended(end)),
        };
        let spec = self
            .assignment
            .spec(&rendered, &materials, &image.id, limits);
        let creating = self.patiently_ending(patience::MADE, || executor.create(&spec));
        let handle = match creating.await {
            Ok(handle) => handle,
            Err(end) => return Ok(StartingPoint::Ended(end)),
        };
        self.ledger.created(&handle, &spec.hash(), &notes).await?;
        if self.assignment.adopted.is_some() {
            // Adopted by name: an earlier claim may have started it and died before recording that.
            match self.look_until_sure(&handle).await {
                Some(Status::Created) | None => {}
                Some(started) => return Ok(self.started(handle, &started)),
            }
        }
        Ok(StartingPoint::Fresh(handle, image))
    }

    /// Starts the container. Where an error leaves open whether it runs, the watch finds out.
    async fn start(&self, handle: &Handle) -> Result<(), AttemptEnd> {
        if self.stop_requested() {
            return Err(ended(Ending::Withdrawn));
        }
        match self.begin(handle).await {
            Ok(()) => Ok(()),
            // One check that finds nothing does not prove that there is no container.
            Err(error) if error.is_transient() || error.kind == ErrorKind::Gone => {
                warn!(error = %self.masked(&error), "Docker did not confirm a start");
                Ok(())
            }
            Err(error) => Err(ended(ending_of(&error))),
        }
    }

    /// Asks Docker to start the container, and notes whether its program may run since.
    async fn begin(&self, handle: &Handle) -> Result<(), Error> {
        let begun = self.surroundings.executor.start(handle).await;
        // A Docker engine that dies while it starts a container may have run the program and forgotten it.
        let may_run = match &begun {
            Ok(()) => true,
            Err(error) => error.kind == ErrorKind::Unreachable,
        };
        if may_run {
            self.begun.get_or_init(Instant::now);
        }
        begun
    }

    /// Collects, and finishes under the fence.
    async fn end(
        &self,
        mut end: AttemptEnd,
        handle: Option<Handle>,
        mut pump: LogPump,
    ) -> Result<(L::Next, Option<Handle>), FencedOff> {
        let mut results = Results::default();
        let mut allowance = Allowance::unlimited();
        if let Some(handle) = &handle {
            results = self
                .collect(handle, &mut end.ending, &mut allowance, &mut pump)
                .await?;
        }
        let metrics = std::mem::take(&mut results.metrics);
        end.metrics = mask_names(metrics, self.assignment.stage(), &self.masker);
        mask_ending(&mut end.ending, &self.masker);
        let is_as_asked = self.is_as_asked(&end);
        if let Some(reason) = reason_of(&end.ending).filter(|_| !is_as_asked) {
            pump.say(clock::now(), &reason.message);
        }
        pump.flush(self.ledger).await?;
        let fault = fault_of(&end.ending).filter(|_| !is_as_asked);
        let is_kept = !results.outputs.is_empty();
        let next = self.ledger.finished(end, results.outputs).await?;
        if is_kept {
            allowance.recorded();
        }
        if let Some((outcome, Reason { code, message })) = fault {
            warn!(
                %outcome,
                reason.code = %code,
                reason = message,
                "an attempt ended, but its program did not end it"
            );
        }
        Ok((next, handle))
    }

    /// Collects what the container's end permits, which may change that end. A request to stop ends it, as the outputs
    /// may take as long as the program did; but not the request that has stopped the program, which only a forced one
    /// follows.
    async fn collect(
        &self,
        handle: &Handle,
        ending: &mut Ending,
        allowance: &mut Allowance,
        pump: &mut LogPump,
    ) -> Result<Results, FencedOff> {
        let stage = self.assignment.stage();
        let mut outputs = stage.program().outputs.values();
        let succeeded = match ending {
            Ending::Exited { code: 0, .. } => true,
            Ending::Exited { .. } | Ending::Stopped { .. } | Ending::Rejected(_) => false,
            Ending::Errored(_) | Ending::Lost(_) | Ending::Withdrawn => {
                return Ok(Results::default());
            }
        };
        if outputs.any(|output| succeeded || output.keep == Keep::Always) {
            *allowance = self.ledger.allowance().await?;
        }
        let collector = Collector {
            surroundings: self.surroundings,
            stage,
            handle,
            ledger: self.ledger,
            masker: &self.masker,
        };
        let time = self.time_beside_its_program();
        let mut budget = CopyBudget::new(time, self.surroundings.output_limit);
        let (mut stop, mut force) = (self.signal.stop.subscribe(), self.signal.forced.subscribe());
        let stops_now = succeeded || !self.was_to_stop();
        let interrupted = async {
            tokio::select! {
                () = asked(&mut stop), if stops_now => {}
                () = asked(&mut force) => {}
            }
        };
        let collecting = async {
            if succeeded {
                collector.all(allowance, &mut budget).await
            } else {
                collector.kept_always(allowance, &mut budget).await
            }
        };
        let collected = tokio::select! {
            biased;
            collected = Box::pin(collecting) => collected,
            () = interrupted => {
                let message = "its outputs were not all copied, since it was asked to stop; none of them is kept";
                pump.say(clock::now(), message);
                if succeeded {
                    *ending = Ending::Stopped { code: 0 };
                }
                return Ok(Results::default());
            }
        };
        if succeeded {
            let rejection = collected
                .as_ref()
                .map_or_else(|ending| Some(ending.clone()), Results::rejection);
            if let Some(rejection) = rejection {
                *ending = rejection;
            }
            return Ok(collected.unwrap_or_default());
        }
        match collected {
            Ok(results) => {
                for fault in &results.faults {
                    pump.say(clock::now(), &fault.message);
                }
                Ok(results)
            }
            Err(problem) => {
                if let Some(reason) = reason_of(&problem) {
                    pump.say(clock::now(), &reason.message);
                }
                Ok(Results::default())
            }
        }
    }

    /// A Docker error with its secrets masked: it may quote the command and the environment.
    fn masked(&self, error: &Error) -> String {
        self.masker.mask_text(&error.message)
    }

    /// Whether an end is recorded as the stop that was asked for, whatever Docker saw of it: then nothing else is said
    /// of it either.
    fn is_as_asked(&self, end: &AttemptEnd) -> bool {
        let signalled = self.signal.stop.borrow().clone();
        let stop = self
            .recorded_stop()
            .cloned()
            .or_else(|| signalled.map(|why| (end.ended_at, why)));
        let (outcome, _) = classify(self.assignment.stage(), stop.as_ref(), end);
        matches!(outcome, Outcome::Cancelled | Outcome::TimedOut)
    }

    /// The request to stop that was recorded when the attempt was claimed.
    fn recorded_stop(&self) -> Option<&(Timestamp, Reason)> {
        let attempt = self.assignment.run.attempt(self.assignment.reference);
        attempt.and_then(|attempt| attempt.stop.as_ref())
    }

    fn stop_requested(&self) -> bool {
        self.signal.stop.borrow().is_some()
    }
}
