//! Size limits for data from outside.

use serde::Serialize;
use trainyard_store::UnfinishedLimits;

use super::faults::Faults;
use super::quantity::Size;
use super::sections::LimitSettings;

/// Size limits for data from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Log kept of one attempt.
    pub log: Size,
    /// Largest output.
    pub artifact: Size,
    /// Log kept of all attempts of a run.
    pub logs_of_a_run: Size,
    /// All outputs of a run.
    pub artifacts_of_a_run: Size,
    /// Bytes that the container of a stage may write; 0 means unlimited.
    pub layer: Size,
    /// Largest webhook.
    pub webhook: Size,
    /// Runs of one repo that have not ended.
    pub unfinished_runs_of_a_repo: u32,
    /// Unfinished stages of these runs together.
    pub unfinished_stages_of_a_repo: u32,
}

impl Limits {
    pub(super) fn new(given: LimitSettings) -> Self {
        let unfinished = UnfinishedLimits::default();
        Self {
            log: given.log.unwrap_or(Size::mebibytes(16)),
            artifact: given.artifact.unwrap_or(Size::mebibytes(8 * 1024)),
            logs_of_a_run: given.logs_of_a_run.unwrap_or(Size::mebibytes(1024)),
            artifacts_of_a_run: given
                .artifacts_of_a_run
                .unwrap_or(Size::mebibytes(32 * 1024)),
            layer: given.layer.unwrap_or(Size::mebibytes(32 * 1024)),
            webhook: given.webhook.unwrap_or(Size::mebibytes(5)),
            unfinished_runs_of_a_repo: given.unfinished_runs_of_a_repo.unwrap_or(unfinished.runs),
            unfinished_stages_of_a_repo: given
                .unfinished_stages_of_a_repo
                .unwrap_or(unfinished.stages),
        }
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require(
            self.unfinished_runs_of_a_repo >= 1,
            "limits.unfinished_runs_of_a_repo must be at least 1",
        );
        faults.require(
            self.unfinished_stages_of_a_repo >= 1,
            "limits.unfinished_stages_of_a_repo must be at least 1",
        );
    }
}
