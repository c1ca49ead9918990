//! The labels by which Trainyard finds its containers and images again.
//!
//! An image's labels pass on to its containers, so images carry other labels than containers: a container
//! that a user runs from an image that was built here does not count as an attempt.

use std::collections::HashMap;

use trainyard_core::id::{AttemptId, Fence};
use trainyard_init::Nonce;

use crate::spec::{AttemptSpec, SpecHash};

pub(super) const INSTANCE: &str = "io.trainyard.instance";
pub(super) const ATTEMPT: &str = "io.trainyard.attempt";
pub(super) const FENCE: &str = "io.trainyard.fence";
pub(super) const SPEC: &str = "io.trainyard.spec";
pub(super) const BUILD_INSTANCE: &str = "io.trainyard.build.instance";
/// Marks containers that run under the init, with the version of its records; 0 for none.
const INIT: &str = "io.trainyard.init";
/// The init's nonce, which its records prove. A program in the container cannot read its own labels.
const NONCE: &str = "io.trainyard.nonce";
/// The scope whose builds take steps from an image.
pub(super) const BUILD_SCOPE: &str = "io.trainyard.build.scope";
pub(super) const BUILD_CONTENT: &str = "io.trainyard.build.content";

/// The first process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FirstProcess {
    /// The program itself.
    Program,
    /// The init of an older daemon, before the nonce.
    OlderInit,
    Init(Nonce),
}

impl FirstProcess {
    pub(super) fn read(labels: &HashMap<String, String>) -> Self {
        match labels.get(INIT).map(String::as_str) {
            None | Some("0") => Self::Program,
            Some(_) => {
                let nonce = labels.get(NONCE).and_then(|text| Nonce::parse(text));
                nonce.map_or(Self::OlderInit, Self::Init)
            }
        }
    }

    /// All labels for it, so that those that an image may bring along under these names are overwritten.
    fn labels(&self) -> [(&'static str, String); 2] {
        let (init, nonce) = match self {
            Self::Program => ("0", ""),
            Self::OlderInit => ("1", ""),
            Self::Init(nonce) => ("2", nonce.as_str()),
        };
        [(INIT, init.to_owned()), (NONCE, nonce.to_owned())]
    }
}

/// The labels of an attempt's container. They never hold a secret of a user's: any user of Docker can list them.
pub(super) fn of(spec: &AttemptSpec, first: &FirstProcess) -> HashMap<String, String> {
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
    .chain(first.labels())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The parsed labels of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) attempt: AttemptId,
    pub(super) fence: Fence,
    pub(super) spec_hash: SpecHash,
}

impl Identity {
    /// Reads the labels; `None` where one is missing or invalid.
    pub(super) fn read(labels: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            attempt: labels.get(ATTEMPT)?.parse().ok()?,
            fence: Fence(labels.get(FENCE)?.parse().ok()?),
            spec_hash: SpecHash(labels.get(SPEC)?.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::spec;

    #[test]
    fn the_first_process_is_read_from_the_labels_of_all_versions() {
        let nonce = Nonce::new([1; 32]);
        for first in [
            FirstProcess::Program,
            FirstProcess::OlderInit,
            FirstProcess::Init(nonce),
        ] {
            assert_eq!(FirstProcess::read(&of(&spec(), &first)), first);
        }
        let older = HashMap::from([(INIT.to_owned(), "1".to_owned())]);
        assert_eq!(FirstProcess::read(&older), FirstProcess::OlderInit);
        assert_eq!(FirstProcess::read(&HashMap::new()), FirstProcess::Program);
    }

    #[test]
    fn labels_that_an_image_brought_along_are_overwritten() {
        let labels = of(&spec(), &FirstProcess::Program);
        assert!(labels.contains_key(INIT) && labels.contains_key(NONCE));
    }
}
