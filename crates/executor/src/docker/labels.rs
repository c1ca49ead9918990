//! The labels by which Trainyard finds its containers and images again.
//!
//! An image's labels pass on to its containers, so images carry other names than containers: what
//! somebody else runs from an image that was built here is not taken for an attempt.

use std::collections::HashMap;

use trainyard_core::id::{AttemptId, Fence};

use crate::spec::{AttemptSpec, SpecHash};

pub(super) const INSTANCE: &str = "io.trainyard.instance";
pub(super) const ATTEMPT: &str = "io.trainyard.attempt";
pub(super) const FENCE: &str = "io.trainyard.fence";
pub(super) const SPEC: &str = "io.trainyard.spec";
pub(super) const BUILD_INSTANCE: &str = "io.trainyard.build.instance";
/// Which containers run under the init, and the version of what it writes.
pub(super) const INIT: &str = "io.trainyard.init";
/// The repo that an image was built for.
pub(super) const BUILD_REPO: &str = "io.trainyard.build.repo";
pub(super) const BUILD_CONTENT: &str = "io.trainyard.build.content";

/// The labels of an attempt's container. Never a secret: whoever lists containers sees them.
pub(super) fn of(spec: &AttemptSpec, under_init: bool) -> HashMap<String, String> {
    let init = under_init.then(|| (INIT, "1".to_owned()));
    [
        (INSTANCE, spec.instance.to_string()),
        ("io.trainyard.run", spec.run.to_string()),
        ("io.trainyard.dag", spec.dag.to_string()),
        ("io.trainyard.stage", spec.stage.to_string()),
        (ATTEMPT, spec.attempt.to_string()),
        ("io.trainyard.number", spec.number.to_string()),
        (FENCE, spec.fence.to_string()),
        (SPEC, spec.hash().to_string()),
    ]
    .into_iter()
    .chain(init)
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What the labels of a container say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) attempt: AttemptId,
    pub(super) fence: Fence,
    pub(super) spec_hash: SpecHash,
}

impl Identity {
    /// Reads the labels; `None` where one is missing or makes no sense.
    pub(super) fn read(labels: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            attempt: labels.get(ATTEMPT)?.parse().ok()?,
            fence: Fence(labels.get(FENCE)?.parse().ok()?),
            spec_hash: SpecHash(labels.get(SPEC)?.clone()),
        })
    }
}
