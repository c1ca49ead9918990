//! Collects the declared results of a stage: outputs into the artifact store, metrics into numbers.
//!
//! An output that is missing or cannot be kept fails its attempt and does not affect the others: all errors are
//! reported at once, and the valid outputs are kept. Of an attempt whose program failed, only the outputs with `keep:
//! always` are kept, and they do not change how it ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempPath;
use tokio::time::Instant;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_core::backoff::Backoff;
use trainyard_core::event::Ending;
use trainyard_core::name::{MetricName, OutputName};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::stage::{Keep, RelativePath, Stage};
use trainyard_core::text::joined;
use trainyard_executor::{Attempts, ErrorKind, Handle, LocalFile, StageFolder};

use crate::attempt::allowance::Allowance;
use crate::attempt::copy_budget::CopyBudget;
use crate::attempt::ledger::Ledger;
use crate::attempt::mask::Masker;
use crate::attempt::metrics_file::{self, MetricsRead};
use crate::attempt::near_misses::{self, Left};
use crate::attempt::supervisor::Surroundings;
use crate::health::retry_log::RetryLog;

/// How often a Docker error is waited out before collecting stops retrying.
const TRIES: u32 = 8;

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outputs: Vec<KeptOutput>,
    pub(crate) metrics: BTreeMap<MetricName, f64>,
    /// The outputs that are missing or cannot be kept.
    pub(crate) faults: Vec<Reason>,
}

impl Results {
    /// The end of an attempt whose program succeeded and whose outputs are not valid.
    pub(crate) fn rejection(&self) -> Option<Ending> {
        let code = self.faults.first()?.code;
        let faults: Vec<&str> = self
            .faults
            .iter()
            .map(|fault| fault.message.as_str())
            .collect();
        Some(Ending::Rejected(Reason::new(code, joined(&faults))))
    }
}

/// Collects outputs and metrics from one exited container.
pub(crate) struct Collector<'a, E, L> {
    pub(crate) surroundings: &'a Surroundings<E>,
    pub(crate) stage: &'a Stage,
    pub(crate) handle: &'a Handle,
    pub(crate) ledger: &'a L,
    pub(crate) masker: &'a Masker,
}

impl<E: Attempts, L: Ledger> Collector<'_, E, L> {
    /// Collects everything that the stage declared.
    ///
    /// # Errors
    /// How the attempt ends if that is not the stage's fault: the container is gone, or its outputs could not be
    /// copied or stored.
    pub(crate) async fn all(
        &self,
        allowance: &mut Allowance,
        budget: &mut CopyBudget,
    ) -> Result<Results, Ending> {
        let mut results = Results::default();
        let mut missing = Vec::new();
        let outputs = self.stage.program().outputs.keys();
        let copied = self
            .copy_outputs(
                outputs,
                allowance,
                budget,
                &mut results.faults,
                &mut missing,
            )
            .await?;
        if let Some(path) = &self.stage.program().metrics {
            match self.metrics(path, budget).await? {
                Some(Ok(read)) => {
                    results.metrics = read.metrics;
                    results
                        .faults
                        .extend(read.fault.map(|fault| invalid(path, &fault)));
                }
                Some(Err(fault)) => results.faults.push(fault),
                None => missing.push((None, path)),
            }
        }
        if !missing.is_empty() {
            let faults = self.missing(&missing).await;
            results.faults.splice(0..0, faults);
        }
        // Only once all were checked: artifacts of an attempt that ends `errored` would stay on the disk for a day.
        results.outputs = self.keep(copied).await?;
        Ok(results)
    }

    /// Collects the outputs that are kept of failed attempts too. A missing one was not written in time.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub(crate) async fn kept_always(
        &self,
        allowance: &mut Allowance,
        budget: &mut CopyBudget,
    ) -> Result<Results, Ending> {
        let mut results = Results::default();
        let outputs = self.stage.program().outputs.iter();
        let names = outputs
            .filter(|(_, output)| output.keep == Keep::Always)
            .map(|(name, _)| name);
        let copied = self
            .copy_outputs(
                names,
                allowance,
                budget,
                &mut results.faults,
                &mut Vec::new(),
            )
            .await?;
        results.outputs = self.keep(copied).await?;
        Ok(results)
    }

    async fn copy_outputs<'n>(
        &'n self,
        mut names: impl Iterator<Item = &'n OutputName>,
        allowance: &mut Allowance,
        budget: &mut CopyBudget,
        faults: &mut Vec<Reason>,
        missing: &mut Vec<Missing<'n>>,
    ) -> Result<Vec<Copied<'n>>, Ending> {
        let mut copied = Vec::new();
        while let Some(name) = names.next() {
            if let Some(why) = budget.exhausted() {
                faults.push(left_out(name, names.count(), &why));
                break;
            }
            let path = &self.stage.program().outputs[name].path;
            let file = self.scratch_file()?;
            let left = allowance.left();
            let limit = self.surroundings.output_limit.min(left);
            match self.copy(path, file.path(), limit, budget).await? {
                Ok(Some(content)) => match allowance.take(content.size) {
                    Ok(()) => copied.push((name, file.into_temp_path(), content)),
                    Err(why) => {
                        budget.read_in_vain(content.size);
                        faults.push(refused(name, &why));
                    }
                },
                Ok(None) => missing.push((Some(name), path)),
                Err(fault) if budget.is_late() => {
                    faults.push(left_out(name, names.count(), &fault.message));
                    break;
                }
                Err(fault)
                    if fault.code == ReasonCode::Storage
                        && left < self.surroundings.output_limit =>
                {
                    faults.push(refused(name, &allowance.words()));
                }
                Err(mut fault) => {
                    if fault.code == ReasonCode::Storage {
                        fault.message.push_str(" (limits.artifact)");
                    }
                    faults.push(fault);
                }
            }
        }
        Ok(copied)
    }

    /// Moves the copied outputs into the artifact store.
    async fn keep(&self, copied: Vec<Copied<'_>>) -> Result<Vec<KeptOutput>, Ending> {
        let mut outputs = Vec::new();
        for (name, file, content) in copied {
            let kept = self.ledger.keep(&file, &content).await;
            kept.map_err(|problem| {
                let message = format!("output `{name}` could not be kept: {problem}");
                Ending::Errored(Reason::new(ReasonCode::Storage, message))
            })?;
            let name = name.clone();
            outputs.push(KeptOutput { name, content });
        }
        Ok(outputs)
    }

    /// The messages about missing declared files, with the files that may have been meant.
    async fn missing(&self, missing: &[Missing<'_>]) -> Vec<Reason> {
        let list = async |folder| {
            // A hint is not worth an error.
            self.surroundings
                .executor
                .files(self.handle, folder)
                .await
                .ok()
        };
        let outputs = list(StageFolder::Outputs).await;
        let left = Left::new(outputs, list(StageFolder::Working).await);
        let declared = self
            .stage
            .program()
            .outputs
            .values()
            .map(|output| &output.path);
        let declared: Vec<&str> = declared
            .chain(&self.stage.program().metrics)
            .map(RelativePath::as_str)
            .collect();
        let named = missing.iter().map(|(name, path)| {
            let hint = near_misses::hint(path, &declared, &left);
            match name {
                Some(name) => {
                    let message =
                        format!("declared output missing: `{name}` (outputs/{path}){hint}");
                    Reason::new(ReasonCode::MissingOutput, message)
                }
                None => invalid(path, &format!("is missing{hint}")),
            }
        });
        named.collect()
    }

    /// The content of the metrics file; `None` if there is none.
    async fn metrics(
        &self,
        path: &RelativePath,
        budget: &mut CopyBudget,
    ) -> Result<Option<Result<MetricsRead, Reason>>, Ending> {
        let file = self.scratch_file()?;
        let copied = self
            .copy(path, file.path(), metrics_file::LARGEST, budget)
            .await?;
        Ok(match copied {
            Ok(None) => None,
            Ok(Some(ArtifactContent {
                kind: ArtifactKind::Folder,
                ..
            })) => Some(Err(invalid(path, "is a folder"))),
            Ok(Some(ArtifactContent {
                kind: ArtifactKind::File | ArtifactKind::Executable,
                ..
            })) => {
                // Small, and written just now: not worth a thread.
                let bytes = std::fs::read(file.path()).map_err(|error| storage(&error))?;
                Some(Ok(metrics_file::read(&bytes, self.masker)))
            }
            Err(fault) => Some(Err(of_metrics(&fault))),
        })
    }

    /// Copies a file or folder; the inner error is the stage's fault.
    async fn copy(
        &self,
        path: &RelativePath,
        to: &Path,
        limit: u64,
        budget: &mut CopyBudget,
    ) -> Result<Result<Option<ArtifactContent>, Reason>, Ending> {
        let mut backoff = Backoff::new(
            Duration::from_millis(100),
            Duration::from_secs(10),
            self.handle.attempt.0,
        );
        let mut trouble = RetryLog::new(
            "the outputs of a stage could not be copied from its container; will retry",
            "the outputs of a stage were copied from its container",
        );
        let executor = &self.surroundings.executor;
        let sink = LocalFile::sink(to);
        for attempt in 1.. {
            let asked = Instant::now();
            let collected = executor.collect(self.handle, path, &sink, limit);
            let Ok(collected) = tokio::time::timeout_at(budget.until(), collected).await else {
                return Ok(Err(Reason::new(ReasonCode::Storage, budget.late())));
            };
            if collected.is_err() {
                // A copy that failed has left as many bytes there as were read of it.
                let read = std::fs::metadata(to).map_or(0, |about| about.len());
                budget.read_in_vain(read);
            }
            match collected {
                Ok(collected) => {
                    trouble.over();
                    return Ok(Ok(collected));
                }
                Err(error)
                    if attempt < TRIES
                        && matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Engine)
                        && budget.exhausted().is_none() =>
                {
                    trouble.met(asked, &error);
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(error)
                    if matches!(error.kind, ErrorKind::TooLarge | ErrorKind::OutputUnfit) =>
                {
                    return Ok(Err(error.reason()));
                }
                Err(error) if error.kind == ErrorKind::Gone => {
                    return Err(Ending::Lost(error.reason()));
                }
                Err(error) => return Err(Ending::Errored(error.reason())),
            }
        }
        Ok(Ok(None))
    }

    fn scratch_file(&self) -> Result<tempfile::NamedTempFile, Ending> {
        tempfile::Builder::new()
            .prefix("output-")
            .tempfile_in(&self.surroundings.scratch)
            .map_err(|error| storage(&error))
    }
}

/// An output that was copied from its container.
type Copied<'a> = (&'a OutputName, TempPath, ArtifactContent);

/// A declared file that is not there: an output by its name, or the metrics file.
type Missing<'a> = (Option<&'a OutputName>, &'a RelativePath);

/// The message about an output that exceeds its run's allowance.
fn refused(name: &OutputName, why: &str) -> Reason {
    let message = format!("output `{name}` is not kept: {why}");
    Reason::new(ReasonCode::Storage, message)
}

/// The message about an output, and `more` after it, that are not copied any more.
fn left_out(name: &OutputName, more: usize, why: &str) -> Reason {
    let message = match more {
        0 => format!("output `{name}` is not kept: {why}"),
        more => format!("output `{name}` and {more} more are not kept: {why}"),
    };
    Reason::new(ReasonCode::Storage, message)
}

fn invalid(path: &RelativePath, fault: &str) -> Reason {
    let message = format!("metrics file outputs/{path} {fault}");
    Reason::new(ReasonCode::InvalidMetrics, message)
}

/// The executor calls each file that it copies an output.
fn of_metrics(fault: &Reason) -> Reason {
    let message = match fault.message.strip_prefix("output ") {
        Some(rest) => format!("metrics file {rest}"),
        None => fault.message.clone(),
    };
    Reason::new(ReasonCode::InvalidMetrics, message)
}

fn storage(error: &std::io::Error) -> Ending {
    let message =
        format!("the stage's outputs could not be written to the daemon's data folder: {error}");
    Ending::Errored(Reason::new(ReasonCode::Storage, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metrics_file_that_cannot_be_copied_is_not_called_an_output() {
        let fault = |message: &str| Reason::new(ReasonCode::MissingOutput, message);
        assert_eq!(
            of_metrics(&fault("output `m.json` cannot be kept: it is a socket")).message,
            "metrics file `m.json` cannot be kept: it is a socket"
        );
        assert_eq!(of_metrics(&fault("other")).message, "other");
    }
}
