//! Default and largest resources of a stage.

use serde::Serialize;

use super::faults::Faults;
use super::quantity::{Size, Span};
use super::sections::StageSettings;

/// Docker rejects less.
const LEAST_MEMORY: Size = Size::mebibytes(6);

/// Default and largest resources of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// CPUs; `None` means unlimited.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory: Size,
    /// Size of `/dev/shm`; `None` is Docker's default.
    pub shm: Option<Size>,
    /// Processes and threads.
    pub pids: u32,
    /// The most memory that a stage may ask for; `None` is all of Docker's machine.
    pub memory_at_most: Option<Size>,
    /// The most CPUs; `None` is all of Docker's machine.
    pub cpus_at_most: Option<f64>,
    /// The largest `/dev/shm`; `None` is half of the memory.
    pub shm_at_most: Option<Size>,
    /// The most processes and threads.
    pub pids_at_most: u32,
    /// The longest timeout.
    pub timeout_at_most: Span,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Span,
}

impl Stage {
    /// `cpus` are those of this machine, if Docker runs on it.
    pub(super) fn new(given: StageSettings, cpus: Option<u32>) -> Self {
        Self {
            cpus: given.cpus.or_else(|| cpus.map(f64::from)),
            memory: given.memory.unwrap_or(Size::mebibytes(4096)),
            shm: given.shm,
            pids: given.pids.unwrap_or(4096),
            memory_at_most: given.memory_at_most,
            cpus_at_most: given.cpus_at_most,
            shm_at_most: given.shm_at_most,
            pids_at_most: given.pids_at_most.unwrap_or(32768),
            timeout_at_most: given.timeout_at_most.unwrap_or(Span::days(30)),
            grace: given.grace.unwrap_or(Span::seconds(10)),
        }
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        let are_cpus = |cpus: f64| cpus >= 0.01 && cpus.is_finite();
        faults.require(
            self.cpus.is_none_or(are_cpus),
            "stage.cpus must be at least 0.01",
        );
        faults.require(
            self.memory >= LEAST_MEMORY,
            format!("stage.memory must be at least {LEAST_MEMORY}"),
        );
        faults.require(self.pids >= 1, "stage.pids must be at least 1");
        faults.require(
            self.memory_at_most.is_none_or(|most| most >= self.memory),
            "stage.memory_at_most must be at least stage.memory",
        );
        faults.require(
            self.pids_at_most >= self.pids,
            "stage.pids_at_most must be at least stage.pids",
        );
        faults.require(
            self.cpus_at_most.is_none_or(are_cpus),
            "stage.cpus_at_most must be at least 0.01",
        );
        faults.require(
            self.timeout_at_most >= Span::seconds(1),
            "stage.timeout_at_most must be at least 1s",
        );
    }
}
