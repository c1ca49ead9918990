//! The supervisor: one attempt's life, from its claim to the removal of its container.
//!
//! It follows the attempt protocol (ARCHITECTURE.md): create, write the handle down, start only what
//! was never started, watch, collect, finish under the fence, remove. It enters at any of these
//! points, so that taking over after a restart is the same code. It reports facts to its [`Ledger`]
//! and decides nothing about the run: retries, timeouts and what comes next are the core's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::render::RenderedStage;
use trainyard_executor::{
    AnyExecutor, Error, ErrorKind, Executor, Handle, Limits, PreparedImage, Status,
};

use crate::assignment::{Assignment, Materials};
use crate::clock;
use crate::collect::{self, Results};
use crate::ledger::{FencedOff, Ledger};
use crate::log_pump::LogPump;
use crate::mask::Masker;

/// How long trouble of the engine is waited out before an attempt that has no container gives up.
const PATIENCE_BEFORE_CREATE: Duration = Duration::from_secs(120);

/// The first wait after trouble of the engine; it doubles up to [`WAIT_AT_MOST`].
const WAIT_AT_FIRST: Duration = Duration::from_millis(100);

/// The longest wait after trouble of the engine.
const WAIT_AT_MOST: Duration = Duration::from_secs(5);

/// How long the rest of the log may take once the container has ended.
const LOG_DRAIN: Duration = Duration::from_secs(30);

/// How long an absence must last, over at least two looks, before a container counts as gone.
const ABSENCE: Duration = Duration::from_secs(2);

/// What supervisors of one executor share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What runs the attempts.
    pub executor: AnyExecutor,
    /// Limits for stages that set none.
    pub limits: Limits,
    /// How long a program has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The largest output that is kept, in bytes.
    pub output_limit: u64,
    /// A folder for outputs on their way into the artifact store, on the same file system.
    pub scratch: PathBuf,
}

/// How others reach a running supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Line {
    stop: Arc<watch::Sender<Option<Reason>>>,
    look: Arc<Notify>,
}

impl Line {
    /// A line to a supervisor that is about to start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stop: Arc::new(watch::Sender::new(None)),
            look: Arc::new(Notify::new()),
        }
    }

    /// Asks for the attempt to be stopped. Asking again changes nothing.
    pub fn stop(&self, why: Reason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(why);
            first
        });
    }

    /// Asks the supervisor to look at its container: a listing disagreed with what it believes.
    pub fn look(&self) {
        self.look.notify_one();
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

/// How supervision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervised {
    /// The attempt's end is recorded.
    Finished,
    /// Somebody else acts on the attempt.
    FencedOff,
}

/// Runs one attempt to its recorded end.
///
/// `materials` is fetched by the caller; where that failed, its reason ends the attempt. Dropping
/// the future leaves the container alone: the next supervisor takes over.
pub async fn supervise<L: Ledger>(
    surroundings: &Surroundings,
    assignment: &Assignment,
    materials: Result<(RenderedStage, Materials), Reason>,
    ledger: &L,
    line: &Line,
) -> Supervised {
    let (rendered, materials) = match materials {
        Ok(materials) => materials,
        Err(reason) => {
            let end = ended(Ending::Errored(reason));
            return finish(ledger, end, Vec::new()).await;
        }
    };
    let masker = materials.masker();
    let attempt = Attempt {
        surroundings,
        assignment,
        ledger,
        line,
        masker,
    };
    match attempt.run(&rendered, &materials).await {
        Ok(()) => Supervised::Finished,
        Err(FencedOff) => {
            info!(attempt = %assignment.attempt, "somebody else acts on this attempt now; leaving it");
            Supervised::FencedOff
        }
    }
}

async fn finish<L: Ledger>(
    ledger: &L,
    end: AttemptEnd,
    outputs: Vec<crate::ledger::KeptOutput>,
) -> Supervised {
    match ledger.finished(end, outputs).await {
        Ok(()) => Supervised::Finished,
        Err(FencedOff) => Supervised::FencedOff,
    }
}

fn ended(ending: Ending) -> AttemptEnd {
    AttemptEnd {
        ending,
        ended_at: clock::now(),
        metrics: Default::default(),
    }
}

struct Attempt<'a, L> {
    surroundings: &'a Surroundings,
    assignment: &'a Assignment,
    ledger: &'a L,
    line: &'a Line,
    masker: Masker,
}

/// Where an attempt stands once it has a container.
enum Entry {
    /// To be started.
    Fresh(Handle, PreparedImage),
    /// It was started before.
    Started(Handle, Option<Timestamp>),
    /// It never came to a container.
    Ended(AttemptEnd),
}

impl<L: Ledger> Attempt<'_, L> {
    async fn run(&self, rendered: &RenderedStage, materials: &Materials) -> Result<(), FencedOff> {
        let adopted = self.assignment.adopted.as_ref();
        let cursor = adopted.and_then(|adopted| adopted.log_cursor);
        let mut pump = LogPump::new(self.masker.clone(), cursor);
        let entry = match adopted.and_then(|adopted| adopted.handle.clone()) {
            Some(handle) => self.find(handle, rendered, materials, &mut pump).await?,
            None => self.create(rendered, materials, &mut pump).await?,
        };
        let (handle, since, image) = match entry {
            Entry::Ended(end) => return self.end(end, None, pump).await,
            Entry::Started(handle, since) => (handle, since, None),
            Entry::Fresh(handle, image) => {
                if let Err(end) = self.start(&handle).await {
                    return self.end(end, Some(handle), pump).await;
                }
                (handle, None, Some(image))
            }
        };
        let end = self.watch(&handle, since, image, &mut pump).await?;
        self.end(end, Some(handle), pump).await
    }

    /// Finds the container that an earlier claim wrote down.
    async fn find(
        &self,
        handle: Handle,
        rendered: &RenderedStage,
        materials: &Materials,
        pump: &mut LogPump,
    ) -> Result<Entry, FencedOff> {
        let since = self
            .assignment
            .adopted
            .as_ref()
            .and_then(|adopted| adopted.started_at);
        match self.look_until_sure(&handle).await {
            Some(Status::Created) => self.create(rendered, materials, pump).await,
            Some(Status::Running { since }) => Ok(Entry::Started(handle, Some(since))),
            Some(Status::Exited { .. } | Status::Unknown) => Ok(Entry::Started(handle, since)),
            None => {
                let message = "its container vanished from the engine while no daemon watched";
                let reason = Reason::new(ReasonCode::Unproved, message);
                Ok(Entry::Ended(ended(Ending::Lost(reason))))
            }
        }
    }

    /// Makes the image ready and creates the container, or adopts the one that is there.
    async fn create(
        &self,
        rendered: &RenderedStage,
        materials: &Materials,
        pump: &mut LogPump,
    ) -> Result<Entry, FencedOff> {
        let executor = &self.surroundings.executor;
        let request = self.assignment.image_request(rendered, materials);
        let said = Arc::new(std::sync::Mutex::new(Vec::new()));
        let progress = {
            let said = Arc::clone(&said);
            move |text: String| {
                if let Ok(mut said) = said.lock() {
                    said.push((clock::now(), text));
                }
            }
        };
        let prepared = self
            .patiently(|| executor.prepare(&request, &progress))
            .await;
        if let Ok(mut said) = said.lock() {
            for (at, text) in said.drain(..) {
                pump.say(at, &text);
            }
        }
        let image = match prepared {
            Ok(image) => image,
            Err(end) => return Ok(Entry::Ended(end)),
        };
        let spec = self
            .assignment
            .spec(rendered, materials, &image.id, &self.surroundings.limits);
        let handle = match self.patiently(|| executor.create(&spec)).await {
            Ok(handle) => handle,
            Err(end) => return Ok(Entry::Ended(end)),
        };
        self.ledger.created(&handle, &spec.hash()).await?;
        if self.assignment.adopted.is_some() {
            // Adopted by name: an earlier claim may have started it before it could say so.
            match self.look_until_sure(&handle).await {
                Some(Status::Created) | None => {}
                Some(Status::Running { since }) => {
                    return Ok(Entry::Started(handle, Some(since)));
                }
                Some(Status::Exited { .. } | Status::Unknown) => {
                    return Ok(Entry::Started(handle, None));
                }
            }
        }
        Ok(Entry::Fresh(handle, image))
    }

    /// Starts the container. Trouble that leaves open whether it runs is left to the watch.
    async fn start(&self, handle: &Handle) -> Result<(), AttemptEnd> {
        if self.stop_requested() {
            return Err(ended(Ending::Withdrawn));
        }
        match self.surroundings.executor.start(handle).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_transient() => {
                warn!(attempt = %handle.attempt, %error, "the engine did not confirm a start; asking again");
                let again = self
                    .patiently(|| self.surroundings.executor.start(handle))
                    .await;
                again.or_else(|end| {
                    // Whether it was started is not known: only an end that the watch finds counts.
                    if matches!(end.ending, Ending::Errored(_)) {
                        Ok(())
                    } else {
                        Err(end)
                    }
                })
            }
            Err(error) => Err(ended(self.ending_of(&error))),
        }
    }

    /// Follows a started container to its end.
    async fn watch(
        &self,
        handle: &Handle,
        since: Option<Timestamp>,
        image: Option<PreparedImage>,
        pump: &mut LogPump,
    ) -> Result<AttemptEnd, FencedOff> {
        let executor = &self.surroundings.executor;
        let gone = watch::Sender::new(false);
        let end = async {
            let end = self.wait_for_end(handle, since).await;
            gone.send_replace(true);
            end
        };
        let told = async {
            match &image {
                // What was started now; a container found was told of when it was started.
                Some(image) => {
                    self.ledger
                        .started(&self.masker.mask_text(&image.shown))
                        .await
                }
                None => Ok(()),
            }
        };
        let logs = pump.follow(executor, handle, self.ledger, gone.subscribe(), LOG_DRAIN);
        let (end, told, logs) = tokio::join!(end, told, logs);
        told?;
        logs?;
        Ok(end)
    }

    async fn wait_for_end(&self, handle: &Handle, since: Option<Timestamp>) -> AttemptEnd {
        let executor = &self.surroundings.executor;
        let mut stop = self.line.stop.subscribe();
        let mut timeout = std::pin::pin!(self.timeout(since));
        let mut timed_out = false;
        let mut stopping = false;
        let mut wait = WAIT_AT_FIRST;
        let mut waiting = Box::pin(executor.wait(handle));
        loop {
            let ended = tokio::select! {
                biased;
                ended = &mut waiting => ended,
                () = asked(&mut stop), if !stopping => {
                    stopping = true;
                    if let Err(error) = executor.stop(handle, self.surroundings.grace).await {
                        warn!(attempt = %handle.attempt, %error, "the engine did not stop a container; asking again");
                        tokio::time::sleep(wait).await;
                        stopping = false;
                    }
                    continue;
                }
                () = &mut timeout, if !timed_out => {
                    timed_out = true;
                    self.ledger.timeout_passed().await;
                    continue;
                }
                () = self.line.look.notified() => match executor.inspect(handle).await {
                    Ok(Some(status @ Status::Exited { .. })) => Ok(status),
                    Ok(None) => Err(Error::new(ErrorKind::Gone, "its container is gone")),
                    Ok(Some(Status::Created | Status::Running { .. } | Status::Unknown))
                    | Err(_) => continue,
                },
            };
            match ended {
                Ok(Status::Exited {
                    code,
                    out_of_memory,
                    at,
                }) => {
                    let ending = Ending::Exited {
                        code,
                        out_of_memory,
                    };
                    return AttemptEnd {
                        ending,
                        ended_at: at,
                        metrics: Default::default(),
                    };
                }
                Ok(Status::Unknown) => {
                    let message = "the engine cannot tell how its container ended";
                    return lost(message);
                }
                Ok(Status::Created) => {
                    // A start that was never confirmed did not happen; only now it may be repeated.
                    if self.stop_requested() {
                        return AttemptEnd {
                            ending: Ending::Withdrawn,
                            ..lost("")
                        };
                    }
                    if let Err(error) = executor.start(handle).await
                        && !error.is_transient()
                    {
                        return AttemptEnd {
                            ending: self.ending_of(&error),
                            ..lost("")
                        };
                    }
                }
                Ok(Status::Running { .. }) => {}
                Err(error) if error.kind == ErrorKind::Gone => {
                    if self.look_until_sure(handle).await.is_none() {
                        if self.stop_requested() {
                            // Stopping what was never started removes it.
                            return AttemptEnd {
                                ending: Ending::Withdrawn,
                                ..lost("")
                            };
                        }
                        return lost("its container vanished from the engine while it ran");
                    }
                }
                Err(error) => {
                    debug!(attempt = %handle.attempt, %error, "lost sight of a container; waiting again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_AT_MOST);
                }
            }
            waiting = Box::pin(executor.wait(handle));
        }
    }

    /// Passes when the stage's timeout has; never where there is none.
    async fn timeout(&self, since: Option<Timestamp>) {
        let Some(timeout) = self.assignment.stage().timeout else {
            return std::future::pending().await;
        };
        let passed = since.map_or(Duration::ZERO, |since| {
            (clock::now() - since).to_std().unwrap_or_default()
        });
        // A little late, so that by the database's clock it has passed as well.
        tokio::time::sleep(timeout.saturating_sub(passed) + Duration::from_millis(20)).await;
    }

    /// Collects, finishes under the fence, and removes the container.
    async fn end(
        &self,
        mut end: AttemptEnd,
        handle: Option<Handle>,
        mut pump: LogPump,
    ) -> Result<(), FencedOff> {
        let mut results = Results::default();
        if let (Some(handle), Ending::Exited { code: 0, .. }) = (&handle, &end.ending) {
            let stage = self.assignment.stage();
            match collect::collect(self.surroundings, stage, handle, self.ledger).await {
                Ok(collected) => results = collected,
                Err(ending) => end.ending = ending,
            }
        }
        end.metrics = std::mem::take(&mut results.metrics);
        mask_ending(&mut end.ending, &self.masker);
        if let Some(reason) = reason_of(&end.ending) {
            pump.say(clock::now(), &reason.message);
        }
        pump.flush(self.ledger).await?;
        self.ledger.finished(end, results.outputs).await?;
        if let Some(handle) = handle {
            match self.surroundings.executor.remove(&handle).await {
                Ok(()) => self.ledger.removed().await,
                // The sweeper removes what is finished and still there.
                Err(error) => {
                    warn!(attempt = %handle.attempt, %error, "a finished container was not removed");
                }
            }
        }
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.line.stop.borrow().is_some()
    }

    /// Calls until it succeeds, trouble that may pass is over, or a stop is asked for.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, AttemptEnd>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let give_up = tokio::time::Instant::now() + PATIENCE_BEFORE_CREATE;
        let mut stop = self.line.stop.subscribe();
        let mut wait = WAIT_AT_FIRST;
        loop {
            let result = tokio::select! {
                biased;
                () = asked(&mut stop) => return Err(ended(Ending::Withdrawn)),
                result = call() => result,
            };
            match result {
                Ok(value) => return Ok(value),
                Err(error)
                    if error.is_transient()
                        && error.kind != ErrorKind::ImagePull
                        && tokio::time::Instant::now() < give_up =>
                {
                    warn!(attempt = %self.assignment.attempt, %error, "trouble with the engine; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_AT_MOST);
                }
                Err(error) => return Err(ended(self.ending_of(&error))),
            }
        }
    }

    /// Looks until the engine answers; absence counts only when it lasts.
    async fn look_until_sure(&self, handle: &Handle) -> Option<Status> {
        let mut absent_since = None;
        let mut wait = WAIT_AT_FIRST;
        loop {
            match self.surroundings.executor.inspect(handle).await {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {
                    let since = *absent_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() >= ABSENCE {
                        return None;
                    }
                }
                Err(error) => {
                    debug!(attempt = %handle.attempt, %error, "the engine does not answer; asking again");
                    absent_since = None;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ABSENCE);
        }
    }

    /// What trouble of the executor means for the attempt: the stage's fault, or not.
    fn ending_of(&self, error: &Error) -> Ending {
        let reason = error.reason();
        match error.kind {
            ErrorKind::Start | ErrorKind::ImageBuild => Ending::Rejected(reason),
            ErrorKind::Gone => Ending::Lost(reason),
            ErrorKind::ImageNotFound
            | ErrorKind::ImagePull
            | ErrorKind::Mismatch
            | ErrorKind::TooLarge
            | ErrorKind::OutputUnfit
            | ErrorKind::Storage
            | ErrorKind::Unreachable
            | ErrorKind::Engine => Ending::Errored(reason),
        }
    }
}

/// Waits for a stop request.
async fn asked(stop: &mut watch::Receiver<Option<Reason>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn lost(message: &str) -> AttemptEnd {
    ended(Ending::Lost(Reason::new(ReasonCode::Unproved, message)))
}

fn reason_of(ending: &Ending) -> Option<&Reason> {
    match ending {
        Ending::Rejected(reason) | Ending::Errored(reason) | Ending::Lost(reason) => Some(reason),
        Ending::Exited { .. } | Ending::Withdrawn => None,
    }
}

fn mask_ending(ending: &mut Ending, masker: &Masker) {
    match ending {
        Ending::Rejected(reason) | Ending::Errored(reason) | Ending::Lost(reason) => {
            reason.message = masker.mask_text(&reason.message);
        }
        Ending::Exited { .. } | Ending::Withdrawn => {}
    }
}
