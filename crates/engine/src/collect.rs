//! Collecting what a stage declared: outputs into the artifact store, metrics into numbers.

use std::collections::BTreeMap;

use tokio::time::Instant;
use trainyard_core::event::Ending;
use trainyard_core::name::{MetricName, OutputName};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::stage::{RelativePath, Stage};
use trainyard_executor::{Collected, CollectedKind, ErrorKind, Executor, Handle};

use crate::allowance::Allowance;
use crate::lasting_trouble::LastingTrouble;
use crate::ledger::{KeptOutput, Ledger};
use crate::metrics_file;
use crate::supervisor::Surroundings;

/// How often trouble of the engine is waited out before collecting gives up.
const TRIES: u32 = 8;

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outputs: Vec<KeptOutput>,
    pub(crate) metrics: BTreeMap<MetricName, f64>,
}

/// Collects from an exited container all that its stage declared.
///
/// # Errors
/// How the attempt ends instead: rejected where something is missing or wrong, errored where it
/// could not be kept.
pub(crate) async fn collect<E: Executor, L: Ledger>(
    surroundings: &Surroundings<E>,
    stage: &Stage,
    handle: &Handle,
    ledger: &L,
    allowance: &mut Allowance,
) -> Result<Results, Ending> {
    let mut results = Results::default();
    let mut copied = Vec::new();
    let mut missing = Vec::new();
    for (name, path) in &stage.outputs {
        let file = scratch_file(surroundings)?;
        let left = allowance.left();
        let Some(content) = copy(
            surroundings,
            handle,
            path,
            file.path(),
            surroundings.output_limit.min(left),
        )
        .await
        .map_err(|ending| match ending {
            Ending::Rejected(Reason {
                code: ReasonCode::Storage,
                ..
            }) if left < surroundings.output_limit => refused(name, &allowance.words()),
            ending => ending,
        })?
        else {
            missing.push(format!("`{name}` (outputs/{path})"));
            continue;
        };
        allowance
            .take(content.size)
            .map_err(|why| refused(name, &why))?;
        copied.push((name, file.into_temp_path(), content));
    }
    if !missing.is_empty() {
        let message = format!("declared output missing: {}", missing.join(", "));
        return Err(Ending::Rejected(Reason::new(
            ReasonCode::MissingOutput,
            message,
        )));
    }
    if let Some(path) = &stage.metrics {
        results.metrics = read_metrics(surroundings, handle, path).await?;
    }
    // Only once all is there: what an attempt keeps that fails after all would lie about for a day.
    for (name, file, content) in copied {
        ledger.keep(&file, &content).await.map_err(|problem| {
            let message = format!("output `{name}` could not be kept: {problem}");
            Ending::Errored(Reason::new(ReasonCode::Storage, message))
        })?;
        results.outputs.push(KeptOutput {
            name: name.clone(),
            content,
        });
    }
    Ok(results)
}

/// How an attempt ends whose outputs take more than its run may.
fn refused(name: &OutputName, why: &str) -> Ending {
    let message = format!("output `{name}` is not kept: {why}");
    Ending::Rejected(Reason::new(ReasonCode::Storage, message))
}

async fn read_metrics<E: Executor>(
    surroundings: &Surroundings<E>,
    handle: &Handle,
    path: &RelativePath,
) -> Result<BTreeMap<MetricName, f64>, Ending> {
    let reject = |problem: String| {
        let message = format!("metrics file outputs/{path} {problem}");
        Ending::Rejected(Reason::new(ReasonCode::InvalidMetrics, message))
    };
    let file = scratch_file(surroundings)?;
    match copy(
        surroundings,
        handle,
        path,
        file.path(),
        metrics_file::LARGEST,
    )
    .await?
    {
        None => Err(reject("is missing".to_owned())),
        Some(Collected {
            kind: CollectedKind::Folder,
            ..
        }) => Err(reject("is a folder".to_owned())),
        Some(Collected {
            kind: CollectedKind::File,
            ..
        }) => {
            // Small, and written just now: not worth a thread.
            let bytes = std::fs::read(file.path()).map_err(|error| storage(&error))?;
            metrics_file::read(&bytes).map_err(reject)
        }
    }
}

async fn copy<E: Executor>(
    surroundings: &Surroundings<E>,
    handle: &Handle,
    path: &RelativePath,
    to: &std::path::Path,
    limit: u64,
) -> Result<Option<Collected>, Ending> {
    let mut wait = std::time::Duration::from_millis(100);
    let mut trouble = LastingTrouble::new(
        "what a stage left could not be copied from its container; trying again",
        "what a stage left was copied from its container",
    );
    for attempt in 1.. {
        let asked = Instant::now();
        match surroundings.executor.collect(handle, path, to, limit).await {
            Ok(collected) => {
                trouble.over();
                return Ok(collected);
            }
            Err(error)
                if attempt < TRIES
                    && matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Engine) =>
            {
                trouble.met(asked, &error);
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(error) if matches!(error.kind, ErrorKind::TooLarge | ErrorKind::OutputUnfit) => {
                return Err(Ending::Rejected(error.reason()));
            }
            Err(error) if error.kind == ErrorKind::Gone => {
                return Err(Ending::Lost(error.reason()));
            }
            Err(error) => return Err(Ending::Errored(error.reason())),
        }
    }
    Ok(None)
}

fn scratch_file<E>(surroundings: &Surroundings<E>) -> Result<tempfile::NamedTempFile, Ending> {
    tempfile::Builder::new()
        .prefix("output-")
        .tempfile_in(&surroundings.scratch)
        .map_err(|error| storage(&error))
}

fn storage(error: &std::io::Error) -> Ending {
    let message =
        format!("what the stage left could not be written to the daemon's data folder: {error}");
    Ending::Errored(Reason::new(ReasonCode::Storage, message))
}
