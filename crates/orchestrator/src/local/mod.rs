//! Runs one DAG file on this machine: no daemon, no database, the same core, supervisor and executor.
//!
//! The run's state is in memory; artifacts are in a directory of the call. A [`Witness`] gets every event
//! as it happens.

pub mod outputs;
pub mod working_tree;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trainyard_core::Timestamp;
use trainyard_core::admit::{Capacity, Waiting, admit};
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::dag::Dag;
use trainyard_core::event::{AttemptEnd, Effect, Event};
use trainyard_core::id::{AttemptId, Fence, InstanceId, RepoId, RunId};
use trainyard_core::name::{OutputName, PoolName, StageName};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::render::{RenderedImage, RenderedStage};
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, Run, RunFacts};
use trainyard_core::transition::{Step, step};
use trainyard_executor::{Containers, Handle, InputSpec, LocalFile, SpecHash};
use uuid::Uuid;

use crate::attempt::assignment::{Assignment, Materials};
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_lines::Batch;
use crate::attempt::supervisor::{StopSignal, Supervised, Surroundings, supervise};
use crate::clock;
use crate::local::outputs::LocalOutputs;

/// How many facts may be queued: a few for each running attempt.
const FACTS_AT_MOST: usize = 256;

/// Stands for the repo, which a file by itself does not have.
const NO_REPO: RepoId = RepoId(Uuid::nil());

/// Receives the events of a local run.
pub trait Witness: Send + Sync {
    /// Log records of a stage; see [`crate::attempt::log_lines`] for their form.
    fn log(&self, stage: &StageName, records: &[u8]);

    /// A message about the run as a whole.
    fn note(&self, text: &str);

    /// The state changed by these `effects`.
    fn changed(&self, dag: &Dag, run: &Run, effects: &[Effect]);
}

#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// A tar archive of the source tree.
    pub source: Option<PathBuf>,
    /// The parts that the archive leaves out, in words.
    pub notes: Vec<String>,
    /// A folder for artifacts; the caller removes it.
    pub folder: PathBuf,
    /// Values of secrets, by name.
    pub secrets: BTreeMap<String, SecretString>,
    /// How many stages run at the same time.
    pub slots: u32,
    /// The installation that containers are labelled with.
    pub instance: InstanceId,
}

/// Artifacts and facts of one local run.
struct Shared {
    facts: mpsc::Sender<Event>,
    artifacts: Mutex<BTreeMap<(StageName, OutputName), ArtifactContent>>,
    folder: PathBuf,
}

/// Runs a DAG to its end and returns the run as it ended, and what it kept.
///
/// `cancel` may send a name at any time: the person who asks to cancel the run.
pub async fn run_locally(
    dag: Arc<Dag>,
    facts: RunFacts,
    options: LocalOptions,
    surroundings: Surroundings,
    witness: Arc<dyn Witness>,
    mut cancel: mpsc::Receiver<String>,
) -> (Run, LocalOutputs) {
    let (sender, mut received) = mpsc::channel(FACTS_AT_MOST);
    let shared = Arc::new(Shared {
        facts: sender,
        artifacts: Mutex::default(),
        folder: options.folder.clone(),
    });
    let mut local = Local {
        run: Run::new(&dag, facts),
        dag,
        options,
        surroundings: Arc::new(surroundings),
        witness,
        shared,
        signals: HashMap::new(),
        supervisors: JoinSet::new(),
    };
    let mut wake_at = local.apply(&[Event::RunStarted]);
    while !local.run.is_finished() {
        local.start_queued();
        let wait = wake_at.map(|at| (at - clock::now()).to_std().unwrap_or_default());
        let event = tokio::select! {
            event = received.recv() => event,
            Some(by) = cancel.recv() => {
                Some(Event::CancelRequested { by: CancelledBy::Actor(by) })
            }
            () = sleep(wait) => None,
        };
        wake_at = local.apply(event.as_slice());
    }
    // Removing the last containers is part of the work.
    while local.supervisors.join_next().await.is_some() {}
    local.remove_left().await;
    let kept = local.shared.artifacts.lock();
    let outputs = LocalOutputs {
        from: local.options.folder,
        kept: kept.map(|kept| kept.clone()).unwrap_or_default(),
    };
    (local.run, outputs)
}

async fn sleep(wait: Option<std::time::Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

struct Local {
    dag: Arc<Dag>,
    run: Run,
    options: LocalOptions,
    surroundings: Arc<Surroundings>,
    witness: Arc<dyn Witness>,
    shared: Arc<Shared>,
    signals: HashMap<AttemptRef, StopSignal>,
    supervisors: JoinSet<()>,
}

impl Local {
    /// Removes containers whose creation was abandoned and succeeded all the same: no later run would find them.
    async fn remove_left(&self) {
        let executor = &self.surroundings.executor;
        for left in executor.list().await.unwrap_or_default() {
            if let Err(error) = executor.remove(&left.handle).await {
                self.witness.note(&format!(
                    "container {} is left: {error}",
                    left.handle.container
                ));
            }
        }
    }

    fn apply(&mut self, events: &[Event]) -> Option<Timestamp> {
        let Step {
            effects, wake_at, ..
        } = step(&self.dag, &mut self.run, events, clock::now());
        // Read from the state, not from the effects: a stage's timeout is a fact that sets the stop itself.
        for (reference, signal) in &self.signals {
            let attempt = self.run.attempt(*reference);
            if let Some((_, why)) = attempt.and_then(|attempt| attempt.stop.as_ref()) {
                signal.stop(why.clone());
                if self.run.cancel.as_ref().is_some_and(|cancel| cancel.force) {
                    signal.force();
                }
            }
        }
        self.witness.changed(&self.dag, &self.run, &effects);
        wake_at
    }

    /// Claims queued attempts while there are slots; pools have no limit here.
    fn start_queued(&mut self) {
        let mut references = Vec::new();
        let mut waiting = Vec::new();
        let mut held = 0;
        let mut pools: BTreeMap<PoolName, u32> = BTreeMap::new();
        for stage in self.dag.indices() {
            let attempts = &self.run.stages[stage.0].attempts;
            let number = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
            match attempts.last().map(|attempt| &attempt.state) {
                Some(AttemptState::Queued { since }) => {
                    let needed = self.dag.stage(stage).program().pools.clone();
                    pools.extend(needed.keys().map(|pool| (pool.clone(), u32::MAX)));
                    references.push(AttemptRef { stage, number });
                    waiting.push(Waiting {
                        repo: NO_REPO,
                        run: self.run.facts.id,
                        since: *since,
                        pools: needed,
                    });
                }
                Some(AttemptState::Claimed { .. } | AttemptState::Running { .. }) => held += 1,
                Some(AttemptState::Finished { .. }) | None => {}
            }
        }
        let slots = self.options.slots.saturating_sub(held);
        for place in admit(
            &waiting,
            Capacity {
                slots,
                pools,
                ..Capacity::default()
            },
        ) {
            self.start(references[place]);
        }
    }

    fn start(&mut self, reference: AttemptRef) {
        self.apply(&[Event::AttemptClaimed(reference)]);
        let assignment = Assignment {
            instance: self.options.instance,
            repo: None,
            attempt: AttemptId(Uuid::now_v7()),
            fence: Fence(1),
            reference,
            dag: Arc::clone(&self.dag),
            run: Arc::new(self.run.clone()),
            adopted: None,
        };
        let materials = self.materials(&assignment);
        let ledger = LocalLedger {
            stage: assignment.stage().name.clone(),
            reference,
            shared: Arc::clone(&self.shared),
            witness: Arc::clone(&self.witness),
        };
        let signal = StopSignal::new();
        self.signals.insert(reference, signal.clone());
        let surroundings = Arc::clone(&self.surroundings);
        self.supervisors.spawn(async move {
            let supervised =
                supervise(&surroundings, &assignment, materials, &ledger, &signal).await;
            if let Supervised::Finished {
                container: Some(container),
                ..
            } = supervised
            {
                surroundings.remove(&container, &ledger).await;
            }
        });
    }

    fn materials(&self, assignment: &Assignment) -> Result<(RenderedStage, Materials), Reason> {
        let rendered = assignment.render()?;
        let stage = assignment.stage();
        let mut secrets = BTreeMap::new();
        for name in &stage.program().secrets {
            let value = self.options.secrets.get(name.as_str()).ok_or_else(|| {
                let message = format!(
                    "secret {name} is not set; give it as an environment variable of that name"
                );
                Reason::new(ReasonCode::MissingSecret, message)
            })?;
            secrets.insert(name.to_string(), value.clone());
        }
        let artifacts = self.shared.artifacts.lock().map_err(|_| {
            Reason::new(
                ReasonCode::Internal,
                "the lock of the artifacts is poisoned",
            )
        })?;
        let mut inputs = Vec::new();
        for (name, source) in &stage.program().inputs {
            let key = (source.stage.clone(), source.output.clone());
            let content = artifacts.get(&key).ok_or_else(|| {
                let message = format!(
                    "input {name}: {}.{} was not made in this run",
                    source.stage, source.output
                );
                Reason::new(ReasonCode::MissingInput, message)
            })?;
            inputs.push(InputSpec {
                name: name.clone(),
                content: content.clone(),
                blob: LocalFile::blob(self.shared.folder.join(&content.sha256)),
            });
        }
        let sees_source =
            stage.program().checkout.tree || matches!(rendered.image, RenderedImage::Build { .. });
        let notes = match sees_source {
            true => self.options.notes.clone(),
            false => Vec::new(),
        };
        Ok((
            rendered,
            Materials {
                source: self.options.source.clone().map(LocalFile::blob),
                notes,
                inputs,
                secrets,
            },
        ))
    }
}

/// Writes into the memory of one local run.
struct LocalLedger {
    stage: StageName,
    reference: AttemptRef,
    shared: Arc<Shared>,
    witness: Arc<dyn Witness>,
}

impl LocalLedger {
    async fn send(&self, event: Event) {
        // The receiver is dropped once the run has ended: then the fact no longer matters.
        let _ = self.shared.facts.send(event).await;
    }
}

impl Ledger for LocalLedger {
    type Next = ();

    async fn created(&self, _: &Handle, _: &SpecHash, _: &[String]) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn started(&self, image: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        let image = image.map(ToOwned::to_owned);
        self.send(Event::AttemptStarted {
            attempt: self.reference,
            image,
        })
        .await;
        Ok(())
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        self.witness.log(&self.stage, &batch.text);
        Ok(())
    }

    async fn timeout_passed(&self) {
        self.send(Event::TimeoutPassed(self.reference)).await;
    }

    async fn keep(&self, file: &Path, content: &ArtifactContent) -> Result<(), String> {
        let to = self.shared.folder.join(&content.sha256);
        tokio::fs::rename(file, to)
            .await
            .map_err(|error| error.to_string())
    }

    async fn finished(&self, end: AttemptEnd, outputs: Vec<KeptOutput>) -> Result<(), FencedOff> {
        if let Ok(mut artifacts) = self.shared.artifacts.lock() {
            for output in outputs {
                artifacts.insert((self.stage.clone(), output.name), output.content);
            }
        }
        self.send(Event::AttemptFinished {
            attempt: self.reference,
            end,
        })
        .await;
        Ok(())
    }

    async fn removed(&self) {}
}

/// The inputs of a run by hand.
#[must_use]
pub fn facts(
    dag: &Dag,
    params: BTreeMap<trainyard_core::name::ParamName, trainyard_core::param::ParamValue>,
    commit: String,
    branch: Option<String>,
) -> RunFacts {
    RunFacts {
        id: RunId(0),
        repo: None,
        dag: dag.name().clone(),
        cause: "manual".to_owned(),
        commit,
        branch,
        logical_time: clock::now(),
        params,
    }
}
