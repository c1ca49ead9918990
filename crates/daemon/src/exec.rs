//! `trainyard exec`: runs one DAG file on the local Docker engine, without a daemon or a database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc::O_NONBLOCK;
use secrecy::SecretString;
use tokio::sync::mpsc;
use trainyard_core::ahead::sure_to_run;
use trainyard_core::dag::{Dag, DagFault};
use trainyard_core::id::InstanceId;
use trainyard_core::measure::counted;
use trainyard_core::name::SecretName;
use trainyard_core::param::{GivenValue, ParamFault, resolve};
use trainyard_core::run::{Run, RunFacts};
use trainyard_core::stage::ImageSource;
use trainyard_dagfile::Diagnostic;
use trainyard_executor::{AnyExecutor, Ceilings, Limits};
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::supervisor::Surroundings;
use trainyard_orchestrator::local::{LocalOptions, facts, run_locally};

use crate::config;

pub use trainyard_forge::git::{LINKED_DAG_FILE, is_dag_file};
pub use trainyard_orchestrator::local::Witness;
pub use trainyard_orchestrator::local::working_tree::WorkingTree;

#[derive(Debug, Clone)]
pub struct ExecOptions {
    pub file: PathBuf,
    /// Parameters as given: names and texts.
    pub params: Vec<(String, String)>,
    /// One stage alone, without the stages that it needs.
    pub stage: Option<String>,
    /// How many stages run at the same time.
    pub slots: u32,
    /// Where outputs are copied to at the end.
    pub outputs: Option<PathBuf>,
}

/// The reason why a file was not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file has faults.
    #[error("{file} has faults")]
    Invalid {
        file: String,
        text: String,
        diagnostics: Vec<Diagnostic>,
    },
    /// Parameters do not fit.
    #[error("{}", list(.0))]
    Params(Vec<ParamFault>),
    /// The DAG has no such stage.
    #[error("there is no stage named `{name}`; the stages are {known}")]
    UnknownStage { name: String, known: String },
    /// The stage cannot run alone: it takes outputs of others.
    #[error(
        "stage `{name}` cannot run alone: it needs {outputs}, which other stages make; run the file without --stage"
    )]
    NeedsOutputs { name: String, outputs: String },
    /// The stage cannot run alone.
    #[error(
        "stage `{name}` cannot run alone: {}; run the file without --stage",
        list_faults(.faults)
    )]
    NotAlone { name: String, faults: Vec<DagFault> },
    /// Secrets that stages name are not set.
    #[error("{}", not_set(.0))]
    MissingSecrets(Vec<SecretName>),
    /// Docker cannot be used.
    #[error(transparent)]
    Engine(#[from] trainyard_executor::Error),
    /// The disk fails.
    #[error("could not pack the source tree")]
    Storage(#[from] std::io::Error),
    /// The folder for outputs cannot be written.
    #[error("cannot write the outputs to {}", path.display())]
    Outputs {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It was cancelled before its first stage.
    #[error("cancelled by {0} before the first stage")]
    Cancelled(String),
}

impl ExecError {
    fn outputs(path: &Path, source: std::io::Error) -> Self {
        Self::Outputs {
            path: path.to_owned(),
            source,
        }
    }
}

/// On drop, signals the thread that packs the source tree that the tree is no longer needed.
#[derive(Default)]
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn list(faults: &[ParamFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn list_faults(faults: &[DagFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// A file that was read and checked, ready to run.
#[derive(Debug)]
pub struct Exec {
    dag: Arc<Dag>,
    options: ExecOptions,
    params: BTreeMap<trainyard_core::name::ParamName, trainyard_core::param::ParamValue>,
}

impl Exec {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file or the parameters are not valid.
    pub fn read(options: ExecOptions) -> Result<Self, ExecError> {
        let path = &options.file;
        let bytes = read_dag_file(path).map_err(|source| ExecError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let file = path.display().to_string();
        let parsed = trainyard_dagfile::parse_bytes(&file, &bytes);
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        let diagnostics = parsed.diagnostics;
        let Some(dag) = parsed.dag else {
            return Err(ExecError::Invalid {
                file,
                text: text(),
                diagnostics,
            });
        };
        let dag = match &options.stage {
            None => dag,
            Some(name) => alone(&dag, name)?,
        };
        let given = options
            .params
            .iter()
            .map(|(name, text)| (name.clone(), GivenValue::Text(text.clone())))
            .collect();
        let params = resolve(&dag.declared().params, &given).map_err(ExecError::Params)?;
        Ok(Self {
            dag: Arc::new(dag),
            options,
            params,
        })
    }

    #[must_use]
    pub fn dag(&self) -> &Dag {
        &self.dag
    }

    /// Runs it to its end. A name sent to `cancel` cancels it; a second one forces.
    ///
    /// # Errors
    /// Docker cannot be reached, or the disk fails.
    pub async fn run(
        self,
        docker_host: Option<String>,
        witness: Arc<dyn Witness>,
        mut cancel: mpsc::Receiver<String>,
    ) -> Result<Run, ExecError> {
        let facts = self.facts(&*witness)?;
        let secrets = self.secrets();
        self.check_secrets(&secrets, &facts)?;
        let pools: BTreeSet<&str> = self
            .dag
            .stages()
            .iter()
            .flat_map(|stage| stage.program().pools.keys().map(|pool| pool.as_str()))
            .collect();
        if !pools.is_empty() {
            witness.note(&format!(
                "pools ({}) belong to a daemon and do not count here: a run of a daemon, or another `exec`, may use the \
                 same resources at the same time",
                Vec::from_iter(pools).join(", ")
            ));
        }
        let instance = InstanceId(uuid::Uuid::now_v7());
        let checkout = WorkingTree::root_of(&self.options.file)?;
        let docker = tokio::select! {
            docker = crate::executor::docker(docker_host, instance, checkout) => docker?,
            Some(by) = cancel.recv() => return Err(ExecError::Cancelled(by)),
        };
        let folder = tempfile::Builder::new()
            .prefix("trainyard-exec-")
            .tempdir()?;
        let source = tokio::select! {
            source = self.source(folder.path(), &*witness) => source?,
            Some(by) = cancel.recv() => return Err(ExecError::Cancelled(by)),
        };
        // As in a daemon with the default configuration.
        let stage = config::Stage::default();
        let surroundings = Surroundings {
            executor: AnyExecutor::Docker(docker),
            limits: Limits {
                pids: Some(stage.pids),
                ..Limits::default()
            },
            ceilings: Ceilings::default(),
            grace: stage.grace.0,
            output_limit: config::Limits::default().artifact.0,
            // The user who runs a file by hand sees what it writes.
            layers: Layers::new(0),
            scratch: folder.path().to_owned(),
        };
        let (source, notes) = source.unzip();
        let options = LocalOptions {
            source,
            notes: notes.unwrap_or_default(),
            folder: folder.path().to_owned(),
            secrets,
            slots: self.options.slots,
            instance,
        };
        let dag = Arc::clone(&self.dag);
        let to = self.options.outputs;
        if let Some(to) = &to {
            // Checked before hours of work, not after them.
            std::fs::create_dir_all(to).map_err(|source| ExecError::outputs(to, source))?;
        }
        let running = run_locally(
            self.dag,
            facts,
            options,
            surroundings,
            Arc::clone(&witness),
            cancel,
        );
        let (run, outputs) = running.await;
        if let Some(to) = to {
            let copied = tokio::task::spawn_blocking({
                let to = to.clone();
                move || outputs.copy(&dag, &to)
            });
            let copied = copied.await.map_err(std::io::Error::other).flatten();
            let count = copied.map_err(|source| ExecError::outputs(&to, source))?;
            let copied = counted(count as u64, "output");
            witness.note(&format!("copied {copied} to {}", to.display()));
        }
        Ok(run)
    }

    /// The inputs of the run: the commit and branch are those that are checked out.
    fn facts(&self, witness: &dyn Witness) -> Result<RunFacts, std::io::Error> {
        let checked_out = WorkingTree::checked_out(&self.options.file)?.unwrap_or_default();
        let commit = checked_out.commit.map(|commit| commit.to_string());
        let branch = checked_out.branch;
        if let Some(commit) = &commit {
            let of = branch.as_ref().map(|branch| format!(" of branch {branch}"));
            witness.note(&format!(
                "commit {}{}, with the files as they are in the working tree",
                &commit[..10],
                of.unwrap_or_default()
            ));
        }
        let params = self.params.clone();
        Ok(facts(&self.dag, params, commit.unwrap_or_default(), branch))
    }

    /// The working tree as an archive, and which files it leaves out, if a stage needs it.
    async fn source(
        &self,
        folder: &Path,
        witness: &dyn Witness,
    ) -> Result<Option<(PathBuf, Vec<String>)>, std::io::Error> {
        let needed = self.dag.stages().iter().any(|stage| {
            stage.program().checkout.tree || matches!(stage.program().image, ImageSource::Build(_))
        });
        if !needed {
            return Ok(None);
        }
        let archive = folder.join("source.tar");
        let (file, to) = (self.options.file.clone(), archive.clone());
        // Dropped with this future if the run is cancelled before it begins.
        let wanted = Wanted::default();
        let given_up = Arc::clone(&wanted.0);
        let (is_file_alone, stand_ins) = tokio::task::spawn_blocking(move || {
            let tree = WorkingTree::of(&file)?;
            let stand_ins = tree.write_tar(&to, &given_up)?;
            Ok::<_, std::io::Error>((tree.is_file_alone, stand_ins))
        })
        .await
        .map_err(std::io::Error::other)??;
        if is_file_alone {
            witness.note(
                "stages get only the DAG file: the folder around it is not in a git repository, and is a home folder, \
                 `/tmp`, or above these. To give stages more files, move the DAG file into a folder of its own",
            );
        }
        Ok(Some((archive, stand_ins.notes_of_work_tree())))
    }

    /// The secrets that stages name and that are set, from the environment variables of their names. An empty variable
    /// counts as one that is not set.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<String, SecretString> {
        let stages = self.dag.stages().iter();
        let names = stages.flat_map(|stage| &stage.program().secrets);
        names
            .filter_map(|name| {
                let value = std::env::var(name.as_str()).ok()?;
                (!value.is_empty()).then(|| (name.to_string(), SecretString::from(value)))
            })
            .collect()
    }

    /// Those of stages that are sure to run have to be set before anything starts.
    fn check_secrets(
        &self,
        set: &BTreeMap<String, SecretString>,
        facts: &RunFacts,
    ) -> Result<(), ExecError> {
        let run = Run::new(&self.dag, facts.clone());
        let missing: BTreeSet<&SecretName> = sure_to_run(&self.dag, &run)
            .into_iter()
            .flat_map(|stage| &self.dag.stage(stage).program().secrets)
            .filter(|name| !set.contains_key(name.as_str()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ExecError::MissingSecrets(
            missing.into_iter().cloned().collect(),
        ))
    }
}

fn not_set(secrets: &[SecretName]) -> String {
    let all: Vec<&str> = secrets.iter().map(SecretName::as_str).collect();
    let which = match all.as_slice() {
        [one] => format!("secret {one} is"),
        all => format!("secrets {} are", all.join(", ")),
    };
    format!(
        "{which} not set; `exec` takes secrets from environment variables of their names: `{}=… trainyard exec …`",
        all.join("=… ")
    )
}

/// The text of a DAG file, at most a byte more than a DAG file may have.
///
/// # Errors
/// It cannot be read, or is not a file: reading a pipe or a device of a checkout may not end.
pub fn read_dag_file(path: &Path) -> std::io::Result<Vec<u8>> {
    /// Enough to be recognized as too large.
    const AT_MOST: u64 = (1 << 20) + 1;
    // Opening a pipe would wait for a program that writes to it.
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        let what = "it is a folder, a pipe or a device, not a file";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    }
    let mut bytes = Vec::new();
    file.take(AT_MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A DAG with one stage of another DAG.
fn alone(dag: &Dag, name: &str) -> Result<Dag, ExecError> {
    let Some(index) = dag.index_of(name) else {
        let known = dag
            .stages()
            .iter()
            .map(|stage| stage.name.as_str())
            .collect::<Vec<_>>();
        return Err(ExecError::UnknownStage {
            name: name.to_owned(),
            known: known.join(", "),
        });
    };
    let mut draft = dag.declared().clone();
    let mut stage = dag.stage(index).clone();
    if !stage.program().inputs.is_empty() {
        let outputs = stage.program().inputs.values();
        let outputs = outputs.map(|source| format!("`{}.{}`", source.stage, source.output));
        let outputs: BTreeSet<String> = outputs.collect();
        return Err(ExecError::NeedsOutputs {
            name: name.to_owned(),
            outputs: Vec::from_iter(outputs).join(", "),
        });
    }
    stage.needs.clear();
    draft.stages = vec![stage];
    Dag::new(draft).map_err(|faults| ExecError::NotAlone {
        name: name.to_owned(),
        faults,
    })
}
