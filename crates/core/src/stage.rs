//! A stage: a node of the DAG. What to run, in which image, after what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::expression::{Condition, Template};
use crate::gate::GateRule;
use crate::name::{InputName, OutputName, PoolName, SecretName, StageName, VariableName};
use crate::retry::Retry;

/// A stage's place in its DAG's list of stages. Stable within one DAG version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageIndex(pub usize);

/// The part of the commit that a stage gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkout {
    pub tree: bool,
    /// With the contents of its files of Git LFS, and not their pointers.
    pub lfs: bool,
    /// With its submodules, and not empty folders.
    pub submodules: bool,
}

impl Checkout {
    /// The tree as git has it.
    pub const TREE: Self = Self {
        tree: true,
        lfs: false,
        submodules: false,
    };

    pub const NONE: Self = Self {
        tree: false,
        lfs: false,
        submodules: false,
    };
}

/// One stage as declared, with the DAG's defaults already applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name, unique within the DAG.
    pub name: StageName,
    /// The stages that must end before it; the only source of order.
    pub needs: Vec<StageName>,
    /// On which upstream outcomes it runs. Never empty.
    pub run_on: BTreeSet<RunOn>,
    /// `if:`, evaluated once everything it needs has ended.
    pub condition: Option<Condition>,
    pub kind: StageKind,
}

/// What a stage does when it is its turn.
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// It runs a program to its end.
    Program(StageProgram),
}

/// The program of a stage: one container for each attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct StageProgram {
    /// The image it runs in.
    pub image: ImageSource,
    /// The program or script that it runs; `None` runs the image's own command.
    pub command: Option<Command>,
    /// The part of the commit that is laid out in `/workspace`.
    pub checkout: Checkout,
    /// Environment variables, over the DAG's.
    pub env: BTreeMap<VariableName, Template>,
    /// Secrets that it gets as environment variables of the same name.
    pub secrets: BTreeSet<SecretName>,
    /// Artifacts of earlier stages, laid out in `/trainyard/inputs/NAME`.
    pub inputs: BTreeMap<InputName, InputSource>,
    /// Files or folders below `/trainyard/outputs` that are kept as artifacts.
    pub outputs: BTreeMap<OutputName, DeclaredOutput>,
    /// A flat JSON object of numbers below `/trainyard/outputs`.
    pub metrics: Option<RelativePath>,
    /// Conditions on its own metrics, all of which must hold.
    pub gate: Vec<GateRule>,
    /// When it is retried.
    pub retry: Retry,
    /// How long one attempt may run, from the start of its container. Making its image ready before that may take as
    /// long, or ten minutes if that is longer.
    pub timeout: Option<Duration>,
    pub resources: Resources,
    /// Pools that an attempt takes slots from while it runs.
    pub pools: BTreeMap<PoolName, u32>,
}

impl Stage {
    /// Its program. Each stage has one, until there are other kinds of stages.
    #[must_use]
    pub const fn program(&self) -> &StageProgram {
        let StageKind::Program(program) = &self.kind;
        program
    }

    #[must_use]
    pub const fn program_mut(&mut self) -> &mut StageProgram {
        let StageKind::Program(program) = &mut self.kind;
        program
    }

    /// Whether a result of `other` is a result of this stage as well: both run the same in the same image over the
    /// same inputs, under the same conditions. How often, how long and with which resources a stage may run does not
    /// count, nor do earlier stages that are not an input.
    #[must_use]
    pub fn makes_the_same_as(&self, other: &Self) -> bool {
        let Self {
            name,
            needs: _,
            run_on: _,
            condition,
            kind: StageKind::Program(program),
        } = self;
        *name == other.name
            && *condition == other.condition
            && program.makes_the_same_as(other.program())
    }

    /// Whether its condition, image, variables or arguments depend on the run's cause: kind, branch or commit.
    pub(crate) fn reads_cause(&self) -> bool {
        self.condition.as_ref().is_some_and(Condition::reads_cause)
            || self.templates().any(Template::reads_cause)
    }

    /// All its texts that may hold expressions.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.program().templates()
    }
}

impl StageProgram {
    /// The image's own command, with nothing else said.
    #[must_use]
    pub fn new(image: ImageSource) -> Self {
        Self {
            image,
            command: None,
            checkout: Checkout::NONE,
            env: BTreeMap::new(),
            secrets: BTreeSet::new(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            metrics: None,
            gate: Vec::new(),
            retry: Retry::default(),
            timeout: None,
            resources: Resources::default(),
            pools: BTreeMap::new(),
        }
    }

    fn makes_the_same_as(&self, other: &Self) -> bool {
        let Self {
            image,
            command,
            checkout,
            env,
            secrets,
            inputs,
            outputs,
            metrics,
            gate,
            retry: _,
            timeout: _,
            resources: _,
            pools: _,
        } = self;
        *image == other.image
            && *command == other.command
            && *checkout == other.checkout
            && *env == other.env
            && *secrets == other.secrets
            && *inputs == other.inputs
            && *outputs == other.outputs
            && *metrics == other.metrics
            && *gate == other.gate
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let (image, args) = match &self.image {
            ImageSource::Reference { image, .. } => (Some(image), None),
            ImageSource::Build(build) => (None, Some(build.args.values())),
        };
        let items = match &self.command {
            Some(Command::Exec(items)) => items.as_slice(),
            Some(Command::Script(_)) | None => &[],
        };
        self.env
            .values()
            .chain(image)
            .chain(args.into_iter().flatten())
            .chain(items)
    }
}

/// When a stage runs, seen from how the stages that it needs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunOn {
    /// All of them succeeded.
    Success,
    /// At least one of them failed.
    Failed,
    /// However they ended, and also when the run is cancelled.
    Always,
}

impl RunOn {
    pub const ALL: [Self; 3] = [Self::Success, Self::Failed, Self::Always];

    /// The word in DAG files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Always => "always",
        }
    }
}

/// Where a stage's image comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageSource {
    /// An image by reference, as `docker pull` takes it.
    Reference {
        /// The reference; may hold expressions.
        image: Template,
        pull: PullPolicy,
    },
    /// An image built from the commit's source tree.
    Build(BuildSource),
}

/// The sources that an image is built from.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildSource {
    /// The context folder within the source tree; `.` is all of it.
    pub context: RelativePath,
    /// The Dockerfile within the context.
    pub dockerfile: RelativePath,
    pub args: BTreeMap<VariableName, Template>,
    /// The stage of a multi-stage Dockerfile to stop at.
    pub target: Option<String>,
}

/// When an image is pulled from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PullPolicy {
    /// When Docker does not have it.
    #[default]
    IfMissing,
    /// Before each attempt.
    Always,
    /// Never; it must be there.
    Never,
}

impl PullPolicy {
    pub const ALL: [Self; 3] = [Self::IfMissing, Self::Always, Self::Never];

    /// The word in DAG files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfMissing => "if_missing",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// The most that the kernel passes to a program as one argument or variable, in bytes, with the zero at its end. A
/// variable counts with its name and `=`.
pub const ARGUMENT_LARGEST: usize = 128 << 10;

/// The most of all arguments and variables together: a quarter of the usual stack of 8 MiB, minus the share of
/// the image's own variables.
pub const ARGUMENTS_LARGEST: usize = (2 << 20) - (128 << 10);

/// The cost of an argument or variable in addition to its bytes: the zero at its end, and a pointer.
pub const ARGUMENT_BESIDE: usize = 1 + 8;

/// The program or script that a stage runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `run:`, a script for `sh -eu`, with `pipefail` where that has it. Never evaluated by Trainyard: `$VAR` is the
    /// shell's.
    Script(String),
    /// `command:`, a program and its arguments, with no shell; or a `run:` with its own `shell:`, to which the script
    /// is the last argument.
    Exec(Vec<Template>),
}

/// The artifact that an input names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputSource {
    /// The stage that made it; among those needed, directly or not.
    pub stage: StageName,
    pub output: OutputName,
}

/// A file or folder that a stage leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredOutput {
    /// Where, below `/trainyard/outputs`.
    pub path: RelativePath,
    /// The attempts of which it is kept.
    pub keep: Keep,
}

impl From<RelativePath> for DeclaredOutput {
    fn from(path: RelativePath) -> Self {
        let keep = Keep::default();
        Self { path, keep }
    }
}

/// The attempts of which an output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Keep {
    /// Those whose program succeeded.
    #[default]
    Success,
    /// Those that failed, timed out or were cancelled as well.
    Always,
}

impl Keep {
    pub const ALL: [Self; 2] = [Self::Success, Self::Always];

    /// The word in DAG files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Always => "always",
        }
    }
}

/// Limits of a stage's container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    /// CPUs, in whole and parts: 0.5 is half a core. `None` takes the daemon's default.
    pub cpus: Option<f64>,
    /// Memory in bytes. `None` takes the daemon's default.
    pub memory: Option<u64>,
    /// Size of `/dev/shm` in bytes. `None` takes Docker's default.
    pub shm: Option<u64>,
    /// Processes and threads. `None` takes the daemon's default.
    pub pids: Option<u32>,
}

impl Resources {
    /// The least memory in bytes: Docker rejects less.
    pub const LEAST_MEMORY: u64 = 6 << 20;
}

/// A `/`-separated path that stays below its root: never absolute, without `..`, not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// The longest path, in bytes.
    pub const LONGEST: usize = 1024;

    /// Checks a path and brings it to its shortest form (`./a//b/` becomes `a/b`).
    ///
    /// # Errors
    /// The fault, as a sentence part.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > Self::LONGEST {
            return Err(format!("is longer than {} bytes", Self::LONGEST));
        }
        if text.starts_with('/') {
            return Err("is absolute; give it relative to its folder".to_owned());
        }
        if text.contains(['\0', '\\', '\n', '\r']) {
            return Err("holds a character that paths cannot have".to_owned());
        }
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        if parts.contains(&"..") {
            return Err("leaves its folder with `..`".to_owned());
        }
        Ok(Self(if parts.is_empty() {
            ".".to_owned()
        } else {
            parts.join("/")
        }))
    }

    /// The path as text; `.` is the folder itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the folder itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }
}

impl std::fmt::Display for RelativePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_never_leaves_its_folder() {
        for wrong in ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "a\\b"] {
            assert!(RelativePath::new(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(RelativePath::new("./a//b/").unwrap().as_str(), "a/b");
        assert!(RelativePath::new("./").unwrap().is_root());
    }
}
