//! Retries runs: at their own commit, or resumed with the code of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainyard_api::{RetryRequest, RunStarted};
use trainyard_core::cause::{Again, Cause, CauseKind, RetryAt};
use trainyard_core::dag::Dag;
use trainyard_core::id::{DagVersionId, RunId};
use trainyard_core::measure::counted;
use trainyard_core::name::{ParamName, StageName};
use trainyard_core::param::{GivenValue, ParamValue, resolve};
use trainyard_core::principal::Act;
use trainyard_core::run::Run;
use trainyard_core::stage::{ImageSource, Stage};
use trainyard_core::text::short_commit;
use trainyard_forge::CommitSha;
use trainyard_store::{NewRun, PinnedDag};

use crate::asked::AskedVersion;
use crate::{App, AppError, Result};
use crate::{dags, names};

/// How many changed files a note names.
const FILES_SHOWN: usize = 3;

impl App {
    pub async fn retry_run(&self, act: &Act, run: i64, retry: RetryRequest) -> Result<RunStarted> {
        let of = RunId(run);
        let (earlier, pinned) = self.store().run_state(of).await?;
        let mut target = match reference(&retry, &earlier)? {
            Some(reference) => Target::at(self, &earlier, &pinned, reference).await?,
            None => Target::same_commit(self, &earlier, &pinned).await?,
        };
        let again = again(retry.from, retry.from_failed, &target)?;
        let new = NewRun {
            dag: pinned.dag_id,
            version: target.version,
            cause: Cause {
                kind: CauseKind::Retry {
                    of,
                    again,
                    at: target.at,
                    request: retry.request,
                },
                actor: Some(act.by.name.clone()),
                commit: target.commit,
                summary: target.summary,
                branch: target.branch,
            },
            params: target.params,
            logical_time: None,
        };
        let recorded = self.store().start_run(act, &new).await.map_err(|error| {
            let error = AppError::from(error);
            match target.notes.is_empty() {
                true => error,
                false => error.help(target.notes.join("; ")),
            }
        })?;
        let mut started = dags::started(self, recorded).await?;
        if !started.existed {
            let (run, _) = self.store().run_state(RunId(started.id)).await?;
            target.notes.extend(taken_over(
                &target.dag,
                target.changed.as_deref(),
                &run,
                &earlier,
            ));
            started.notes = target.notes;
        }
        Ok(started)
    }
}

/// The DAG version of a retry, and notes on how it was chosen.
struct Target {
    version: DagVersionId,
    dag: Arc<Dag>,
    commit: String,
    summary: String,
    branch: Option<String>,
    params: BTreeMap<ParamName, ParamValue>,
    at: RetryAt,
    /// The files that differ from the earlier run's commit: `None` where the commits cannot be compared.
    changed: Option<Vec<String>>,
    notes: Vec<String>,
}

/// The branch, tag or commit to resume the run at; `None` is its own commit.
fn reference(retry: &RetryRequest, earlier: &Run) -> Result<Option<String>> {
    match (&retry.reference, retry.latest) {
        (Some(_), true) => Err(AppError::invalid(
            "`reference` and `latest` cannot both be given",
        )),
        (Some(reference), false) => Ok(Some(reference.clone())),
        (None, true) => match &earlier.facts.branch {
            Some(branch) => Ok(Some(branch.clone())),
            None => Err(AppError::invalid(format!(
                "run {} is of a tag or a commit, not of a branch that could have a newer one",
                earlier.facts.id
            ))
            .help("name a branch, tag or commit with `--ref`")),
        },
        (None, false) => Ok(None),
    }
}

fn again(from: Option<String>, from_failed: bool, target: &Target) -> Result<Again> {
    match (from, from_failed) {
        (Some(_), true) => Err(AppError::invalid(
            "`from` and `from_failed` cannot both be given",
        )),
        (Some(stage), false) => {
            let name =
                StageName::new(stage).map_err(|fault| AppError::invalid(fault.to_string()))?;
            if target.dag.index_of(name.as_str()).is_none() {
                let message = format!(
                    "DAG `{}` has no stage `{name}` at commit {}",
                    target.dag.name(),
                    short_commit(&target.commit)
                );
                let stages = target.dag.stages().iter().map(|stage| stage.name.as_str());
                let help = names::meant(name.as_str(), stages)
                    .unwrap_or_else(|| "`trainyard dag show` draws its stages".to_owned());
                return Err(AppError::not_found(message).help(help));
            }
            Ok(Again::From(name))
        }
        (None, true) => Ok(Again::FromFailed),
        (None, false) => Ok(match target.at {
            RetryAt::SameCommit { .. } => Again::All,
            RetryAt::Reference { .. } => Again::FromFailed,
        }),
    }
}

impl Target {
    /// The DAG version of the earlier run.
    async fn same_commit(app: &App, earlier: &Run, pinned: &PinnedDag) -> Result<Self> {
        let facts = &earlier.facts;
        let head = match &facts.branch {
            Some(branch) => app.store().refs(pinned.repo).await?.remove(branch),
            None => None,
        };
        let branch_head = head.filter(|head| *head != facts.commit);
        let notes = facts.branch.iter().zip(&branch_head).map(|(branch, head)| {
            format!(
                "it is of commit {}, as run {of} was; branch {branch} is at {} now: \
                 `trainyard run retry {of} --latest` resumes the run there",
                short_commit(&facts.commit),
                short_commit(head),
                of = facts.id
            )
        });
        Ok(Self {
            version: pinned.version,
            dag: Arc::clone(&pinned.dag),
            commit: facts.commit.clone(),
            summary: app.store().run_summary(facts.id).await?.commit_summary,
            branch: facts.branch.clone(),
            params: facts.params.clone(),
            notes: notes.collect(),
            at: RetryAt::SameCommit { branch_head },
            changed: Some(Vec::new()),
        })
    }

    /// The DAG at a branch, tag or commit, with the earlier run's parameters as far as it still has them.
    async fn at(app: &App, earlier: &Run, pinned: &PinnedDag, reference: String) -> Result<Self> {
        let asked = AskedVersion::at(app, pinned.dag_id, &reference).await?;
        let declared = &asked.dag.declared().params;
        let (kept, gone): (Vec<_>, Vec<_>) = earlier
            .facts
            .params
            .iter()
            .partition(|(name, _)| declared.contains_key(*name));
        let given = kept
            .into_iter()
            .map(|(name, value)| (name.to_string(), GivenValue::Typed(value.clone())));
        let params = resolve(declared, &given.collect()).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            AppError::invalid(faults.join("\n")).help(format!(
                "give it its parameters at commit {} with `trainyard dag trigger --ref`",
                short_commit(&asked.commit)
            ))
        })?;
        let mut notes = asked.notes.clone();
        notes.extend(gone.iter().map(|(name, _)| {
            format!("parameter `{name}` is left out: the DAG does not have it any more")
        }));
        if asked.commit == earlier.facts.commit {
            notes.push(format!(
                "`{reference}` is at commit {}, as run {} was",
                short_commit(&asked.commit),
                earlier.facts.id
            ));
        }
        let changed = changed(app, earlier, pinned, &asked).await?;
        let rebuilt = rebuilt(&asked.dag, changed.as_deref());
        Ok(Self {
            version: asked.version,
            dag: asked.dag,
            commit: asked.commit,
            summary: asked.summary,
            branch: asked.branch,
            params,
            at: RetryAt::Reference { reference, rebuilt },
            changed,
            notes,
        })
    }
}

/// The files that differ between the commits of an earlier run and of a new one; `None` where they cannot be compared.
async fn changed(
    app: &App,
    earlier: &Run,
    pinned: &PinnedDag,
    asked: &AskedVersion,
) -> Result<Option<Vec<String>>> {
    if asked.commit == earlier.facts.commit {
        return Ok(Some(Vec::new()));
    }
    let commits = (
        CommitSha::new(&earlier.facts.commit),
        CommitSha::new(&asked.commit),
    );
    let (Ok(before), Ok(after)) = commits else {
        return Ok(None);
    };
    let git = app.git();
    Ok(git.changed_paths(pinned.repo, Some(before), after).await?)
}

/// The stages whose Dockerfile is among the changed files. Where these are not known, all that have one.
fn rebuilt(dag: &Dag, changed: Option<&[String]>) -> BTreeSet<StageName> {
    // A change in a submodule shows as a change of its folder.
    let differs = |dockerfile: &str| {
        let dockerfile = std::path::Path::new(dockerfile);
        changed.is_none_or(|paths| paths.iter().any(|path| dockerfile.starts_with(path)))
    };
    let is_rebuilt = |stage: &&Stage| match &stage.program().image {
        ImageSource::Build(build) if build.context.is_root() => {
            differs(&build.dockerfile.to_string())
        }
        ImageSource::Build(build) => differs(&format!("{}/{}", build.context, build.dockerfile)),
        ImageSource::Reference { .. } => false,
    };
    let rebuilt = dag.stages().iter().filter(is_rebuilt);
    rebuilt.map(|stage| stage.name.clone()).collect()
}

/// Notes on which stages of a new run are reused, which run again, and which changes do not count for the reused ones.
fn taken_over(dag: &Dag, changed: Option<&[String]>, run: &Run, earlier: &Run) -> Vec<String> {
    let of = earlier.facts.id;
    let names = |reused: bool| {
        let stages = dag.stages().iter().zip(&run.stages);
        let names = stages
            .filter(|(_, app)| app.reused_from.is_some() == reused)
            .map(|(stage, _)| stage.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let (reused, again) = (names(true), names(false));
    if reused.is_empty() {
        return Vec::new();
    }
    let again = match again.is_empty() {
        true => String::new(),
        false => format!("; to run again: {again}"),
    };
    let mut notes = vec![format!("reused from run {of}: {reused}{again}")];
    let files = match changed {
        Some([]) => return notes,
        Some(files) => shown(files),
        None => "changes since then do".to_owned(),
    };
    notes.push(format!(
        "the reused results are of commit {}; {files} not count for them. `--from STAGE` runs a stage again, and \
         those that need it",
        short_commit(&earlier.facts.commit)
    ));
    notes
}

/// Changed files as the subject of a sentence.
fn shown(files: &[String]) -> String {
    let names = files.iter().take(FILES_SHOWN).map(String::as_str);
    let names = names.collect::<Vec<_>>().join(", ");
    match files.len() {
        1 => format!("the changed file {names} does"),
        0..=FILES_SHOWN => format!("the changed files {names} do"),
        count => format!("{} ({names}, …) do", counted(count as u64, "changed file")),
    }
}
