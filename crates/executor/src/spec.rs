//! The complete description of an attempt to run, with nothing left to decide.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::{AttemptId, Fence, InstanceId, RepoId, RunId};
use trainyard_core::name::{DagName, InputName, StageName};
use trainyard_core::render::RenderedCommand;

use crate::blob::Blob;

/// One attempt to run.
#[derive(Debug, Clone)]
pub struct AttemptSpec {
    /// The attempt; its container's name is made from it.
    pub attempt: AttemptId,
    /// The installation that the container is labelled with.
    pub instance: InstanceId,
    /// Its repo, whose network it is in; `None` for a file run by hand. Not part of the [hash](Self::hash), so that
    /// containers of an earlier version are adopted.
    pub repo: Option<RepoId>,
    pub run: RunId,
    pub dag: DagName,
    pub stage: StageName,
    /// The attempt's number within the stage run, from 1.
    pub number: u32,
    /// The fence of the claim.
    pub fence: Fence,
    /// The image: an id that [`crate::Attempts::prepare`] gave.
    pub image: String,
    /// The command to run; `None` runs the image's own command.
    pub command: Option<RenderedCommand>,
    /// Environment variables without secrets. The executor adds `INPUTS` and `OUTPUTS`.
    pub env: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretString>,
    /// A tar archive of the source tree, compressed by zstd or not, laid out in the working directory `/workspace`.
    pub source: Option<Arc<dyn Blob>>,
    /// Artifacts, laid out read-only below `/trainyard/inputs`.
    pub inputs: Vec<InputSpec>,
    /// Whether `/trainyard/outputs` has to be there: outputs or metrics are declared.
    pub outputs: bool,
    pub limits: Limits,
}

/// One artifact to lay out.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// Its name below `/trainyard/inputs`.
    pub name: InputName,
    pub content: ArtifactContent,
    /// The bytes of this content.
    pub blob: Arc<dyn Blob>,
}

/// Limits of a container, with the daemon's defaults applied.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// CPUs, in whole and parts; `None` for no limit.
    pub cpus: Option<f64>,
    /// Memory in bytes; `None` for no limit.
    pub memory: Option<u64>,
    /// Size of `/dev/shm` in bytes; `None` for Docker's default.
    pub shm: Option<u64>,
    /// Processes and threads; `None` for no limit.
    pub pids: Option<u32>,
}

/// The most that a stage may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ceilings {
    /// Of its container; `None` for no ceiling.
    pub limits: Limits,
    /// How long it may run.
    pub timeout: Option<Duration>,
}

/// A hash over all that an attempt runs, to check whether a container belongs to this spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpecHash(pub String);

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AttemptSpec {
    /// The hash over all that is stable when the same attempt is claimed again: not the fence, not
    /// where content is kept, and only the names of secrets.
    #[must_use]
    pub fn hash(&self) -> SpecHash {
        let mut hasher = Sha256::new();
        let mut add = |label: &str, text: &str| {
            hasher.update(label.as_bytes());
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add("attempt", &self.attempt.to_string());
        add("instance", &self.instance.to_string());
        add("image", &self.image);
        match &self.command {
            None => add("command", ""),
            Some(RenderedCommand::Script(script)) => add("script", script),
            Some(RenderedCommand::Exec(items)) => {
                items.iter().for_each(|item| add("item", item));
            }
        }
        for (name, value) in &self.env {
            add("env", name);
            add("value", value);
        }
        self.secrets.keys().for_each(|name| add("secret", name));
        for input in &self.inputs {
            add("input", input.name.as_str());
            add("sha256", &input.content.sha256);
        }
        add("source", if self.source.is_some() { "yes" } else { "no" });
        add("outputs", if self.outputs { "yes" } else { "no" });
        // The text that earlier versions hashed, since containers outlive an upgrade. A field that is added gets an
        // `add` of its own where it is set, so that the hash of a container without it stays the same.
        let Limits {
            cpus,
            memory,
            shm,
            pids,
        } = self.limits;
        let limits = format!(
            "Limits {{ cpus: {cpus:?}, memory: {memory:?}, shm: {shm:?}, pids: {pids:?} }}"
        );
        add("limits", &limits);
        SpecHash(hex::encode(hasher.finalize()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use trainyard_core::artifact::ArtifactKind;
    use trainyard_core::name::InputName;
    use uuid::Uuid;

    use super::*;
    use crate::blob::LocalFile;

    /// A spec with something in every field.
    pub(crate) fn spec() -> AttemptSpec {
        let secret = |text: &str| SecretString::from(text.to_owned());
        AttemptSpec {
            attempt: AttemptId(Uuid::from_u128(1)),
            instance: InstanceId(Uuid::from_u128(2)),
            repo: Some(RepoId(Uuid::from_u128(4))),
            run: RunId(7),
            dag: DagName::new("churn").unwrap(),
            stage: StageName::new("train").unwrap(),
            number: 1,
            fence: Fence(3),
            image: "sha256:abc".to_owned(),
            command: Some(RenderedCommand::Script("echo hi".to_owned())),
            env: BTreeMap::from([("CI".to_owned(), "true".to_owned())]),
            secrets: BTreeMap::from([("TOKEN".to_owned(), secret("hush"))]),
            source: Some(LocalFile::blob("/nowhere/source.tar")),
            inputs: vec![InputSpec {
                name: InputName::new("raw").unwrap(),
                content: ArtifactContent {
                    kind: ArtifactKind::File,
                    sha256: "00".to_owned(),
                    size: 4,
                },
                blob: LocalFile::blob("/nowhere/raw"),
            }],
            outputs: true,
            limits: Limits {
                cpus: Some(1.5),
                memory: Some(64 << 20),
                shm: Some(16 << 20),
                pids: Some(100),
            },
        }
    }

    #[test]
    fn a_hash_is_that_of_earlier_versions() {
        let full = spec().hash();
        let golden = "cf3749765afdb2e8c2f3abafba9fdcf78dbc5a99d031a6cdcfc9529151674561";
        assert_eq!(full.0, golden, "containers of earlier versions mismatch");
        let mut bare = spec();
        let items = ["a", "b"].map(str::to_owned).to_vec();
        bare.command = Some(RenderedCommand::Exec(items));
        bare.env.clear();
        bare.secrets.clear();
        bare.source = None;
        bare.inputs.clear();
        bare.outputs = false;
        bare.limits = Limits::default();
        let golden = "3a0e16300e20cf1c1d6daf21dfecfaaecda8430f7a5d306c65b36c335e7856f1";
        assert_eq!(bare.hash().0, golden);
    }

    #[test]
    fn a_later_claim_of_the_same_attempt_has_the_same_hash() {
        let mut later = spec();
        later.fence = Fence(9);
        later.source = Some(LocalFile::blob("/elsewhere/source.tar"));
        later.inputs[0].blob = LocalFile::blob("/elsewhere/raw");
        assert_eq!(later.hash(), spec().hash());
    }

    #[test]
    fn another_command_has_another_hash_however_it_is_cut() {
        let with = |items: &[&str]| {
            let mut spec = spec();
            let items = items.iter().map(|item| (*item).to_owned()).collect();
            spec.command = Some(RenderedCommand::Exec(items));
            spec.hash()
        };
        assert_ne!(with(&["a", "b"]), with(&["ab"]));
        assert_ne!(with(&["a", "b"]), with(&["b", "a"]));
    }
}
