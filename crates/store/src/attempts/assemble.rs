//! Reads everything that is needed to run claimed attempts.
//!
//! This happens after the claim's transaction, in a snapshot of its own: reading locks nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::adopted::Adopted;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::name::InputName;
use trainyard_core::run::{AttemptRef, Run};
use trainyard_failpoint::{AtPoint as _, Point};

use crate::attempts::holding::{self, ClaimedRow};
use crate::care::quarantine::{self, Subject, Weight};
use crate::db::encoding::event::place;
use crate::db::error::{Error, Result, answered};
use crate::db::topics::Topic;
use crate::files::artifacts::content;
use crate::runs::state::{CachedRun, load_runs};
use crate::store::Core;
use crate::triggers::dags::PinnedDag;

/// One claimed attempt with all that is needed to run it.
#[derive(Debug, Clone)]
pub struct Claim {
    pub attempt: AttemptId,
    /// Carry it in every write for the attempt.
    pub fence: Fence,
    /// The attempt's place in its run.
    pub reference: AttemptRef,
    /// The run, with everything that ended before this attempt was queued.
    pub run: Arc<Run>,
    /// The DAG version that the run pins.
    pub pinned: Arc<PinnedDag>,
    /// The artifact of each declared input; `None` where its stage did not succeed and left none.
    pub inputs: BTreeMap<InputName, Option<ArtifactContent>>,
    /// What an earlier claim of the same attempt left; `None` for a first claim.
    pub adopted: Option<Adopted>,
}

/// Assembles claims that are committed, and announces them to viewers. A run that cannot be read is quarantined; its
/// claimed attempts are released, unless their program may have started.
pub(crate) async fn assemble(core: &Arc<Core>, rows: Vec<ClaimedRow>) -> Result<Vec<Claim>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    for row in &rows {
        core.wakes.topics.changed(Topic::Run(row.run));
    }
    let mut known: HashMap<RunId, Result<CachedRun>> = HashMap::new();
    let mut unknown = Vec::new();
    for row in &rows {
        match core
            .runs
            .get(row.run)
            .filter(|known| known.version >= row.run_version)
        {
            Some(current) => {
                known.insert(row.run, Ok(current));
            }
            None => unknown.push(row.run.0),
        }
    }
    let takes_inputs = rows.iter().any(|row| match known.get(&row.run) {
        Some(Ok(run)) => !run
            .pinned
            .dag
            .stage(row.reference.stage)
            .program()
            .inputs
            .is_empty(),
        Some(Err(_)) | None => true,
    });
    let mut inputs = InputsByPlace::new();
    if !unknown.is_empty() || takes_inputs {
        answered(async {
            let mut snapshot = core
                .pool
                .begin_with("begin isolation level repeatable read read only")
                .await?;
            if !unknown.is_empty() {
                known.extend(load_runs(core, &mut snapshot, &unknown).await?);
            }
            inputs = load_inputs(&mut snapshot, &rows, &known).await?;
            Ok(snapshot.commit().await?)
        })
        .await?;
    }
    let mut claims = Vec::with_capacity(rows.len());
    for row in rows {
        match known.get(&row.run) {
            Some(Ok(run)) => claims.push(claim(row, run, &inputs)),
            Some(Err(error)) => quarantine_run(core, &row, error).await,
            None => quarantine_run(core, &row, &Error::not_found(format!("run {}", row.run))).await,
        }
    }
    Ok(claims)
}

fn claim(row: ClaimedRow, known: &CachedRun, artifacts: &InputsByPlace) -> Claim {
    let dag = &known.pinned.dag;
    let find = |source: &trainyard_core::stage::InputSource| {
        let stage = place(dag.index_of(source.stage.as_str())?);
        artifacts
            .get(&(row.run.0, stage, source.output.to_string()))
            .cloned()
    };
    let inputs = dag
        .stage(row.reference.stage)
        .program()
        .inputs
        .iter()
        .map(|(name, source)| (name.clone(), find(source)))
        .collect();
    Claim {
        attempt: row.attempt,
        fence: row.fence,
        reference: row.reference,
        run: Arc::clone(&known.run),
        pinned: Arc::clone(&known.pinned),
        inputs,
        adopted: row.adopted,
    }
}

/// Artifacts by run, stage and output.
type InputsByPlace = HashMap<(i64, i32, String), ArtifactContent>;

async fn load_inputs(
    connection: &mut PgConnection,
    rows: &[ClaimedRow],
    known: &HashMap<RunId, Result<CachedRun>>,
) -> Result<InputsByPlace> {
    let (mut runs, mut stages, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let Some(Ok(run)) = known.get(&row.run) else {
            continue;
        };
        for source in run
            .pinned
            .dag
            .stage(row.reference.stage)
            .program()
            .inputs
            .values()
        {
            if let Some(stage) = run.pinned.dag.index_of(source.stage.as_str()) {
                runs.push(row.run.0);
                stages.push(place(stage));
                outputs.push(source.output.to_string());
            }
        }
    }
    if runs.is_empty() {
        return Ok(InputsByPlace::new());
    }
    let found = sqlx::query!(
        "select distinct a.run, a.stage, a.output, a.kind, a.sha256, b.size
         from unnest($1::bigint[], $2::integer[], $3::text[]) as u (run, stage, output)
         join artifact a on a.run = u.run and a.stage = u.stage and a.output = u.output join blob b using (sha256)",
        &runs,
        &stages,
        &outputs
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            let content = content(&row.kind, row.sha256, row.size)?;
            Ok(((row.run, row.stage, row.output), content))
        })
        .collect()
}

/// Quarantines a run that cannot be read, and gives its attempt back. If both fail, the attempt stays this daemon's
/// unsupervised claim and is adopted later.
async fn quarantine_run(core: &Core, row: &ClaimedRow, error: &Error) {
    let held = if error.is_transient() {
        Err(error.to_string())
    } else {
        let reason = error.to_string();
        let held = answered(quarantine_run_as(core, row, &reason)).await;
        held.map_err(|error| error.to_string())
    };
    if let Err(error) = held {
        tracing::warn!(
            error, run.id = %row.run, attempt = %row.attempt,
            "could not read a claimed attempt; it is adopted later"
        );
    }
}

/// Both happen in one transaction: a quarantined run is not planned again, so an
/// attempt that it still held would stay held.
async fn quarantine_run_as(core: &Core, row: &ClaimedRow, reason: &str) -> Result<()> {
    let mut transaction = core.begin().await?;
    let (subject, weight) = (Subject::Run(row.run), Weight::Certain);
    quarantine::record_in(&mut transaction, subject, "dispatch", reason, weight).await?;
    // Without a handle no program was started; a container that was created but not started is found by its name.
    let may_run = row
        .adopted
        .as_ref()
        .is_some_and(|adopted| adopted.container.is_some());
    if !may_run {
        holding::release(&mut transaction, row).await?;
    }
    transaction.commit().at(Point::HoldBack).await?;
    core.wakes.topics.changed(Topic::Run(row.run));
    Ok(())
}
