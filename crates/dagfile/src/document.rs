//! The form of a DAG file as types, from which the JSON Schema is made. [`crate::read`] reads the files; a test
//! checks that both have the same keys.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// The JSON Schema of DAG files (draft 2020-12), for editors.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Dag).to_value();
    schema["title"] = "Trainyard DAG file".into();
    schema["patternProperties"] = serde_json::json!({
        "^x-": {"description": "Anything: a place for anchors, `&name`, that merge keys, `<<: *name`, refer to."},
    });
    schema
}

/// One item or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

/// A text, number or truth.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Truth(bool),
}

/// A duration with its units, the larger ones first: 90s, 30m, 1h30m, 2d. The units are ms, s, m, h and d.
#[derive(JsonSchema)]
pub struct Duration(pub String);

/// A size with its unit: 512MiB, 1.5GiB. The units are B, KiB, MiB, GiB, TiB, and kB, MB, GB, TB of 1000.
#[derive(JsonSchema)]
pub struct Size(pub String);

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
    )*};
}

forms! {
    /// A DAG file.
    Dag {
        /// The DAG's name; the file's name without its ending if left out.
        name: Option<String>,
        /// For people.
        description: Option<String>,
        /// What may start a run. By hand is always possible.
        triggers: Option<Triggers>,
        /// Typed parameters of runs; stages see them as TRAINYARD_PARAM_NAME.
        params: Option<BTreeMap<String, Param>>,
        /// How many runs may be active, and what happens to one too many.
        concurrency: Option<Concurrency>,
        /// How long a run may take, from its start. Then it is stopped, and its outcome is timed_out.
        timeout: Option<Duration>,
        /// Environment variables of all stages; values may hold ${{ … }}.
        env: Option<BTreeMap<String, Scalar>>,
        /// Values for stages that do not have the key themselves.
        defaults: Option<Defaults>,
        /// The stages, by name.
        stages: BTreeMap<String, Stage>,
        /// Not supported yet.
        notify: Option<Vec<Notify>>,
    }

    /// What may start a run.
    Triggers {
        /// Cron schedules.
        schedule: Option<OneOrMany<Schedule>>,
        /// Pushes to branches; without branches, to the followed one.
        push: Option<Push>,
        /// Not supported yet.
        pull_request: Option<PullRequest>,
        /// Not supported yet.
        tag: Option<Tag>,
        /// Not supported yet.
        after: Option<OneOrMany<String>>,
        /// By hand; always possible.
        manual: Option<Empty>,
    }

    /// No keys.
    Empty {}

    /// A cron schedule.
    Schedule {
        /// Five fields, or @daily and the like.
        cron: String,
        /// A name of the tz database; UTC if left out.
        timezone: Option<String>,
        /// What happens to ticks that passed while no daemon ran: no run (none), one for the last of them (last), or
        /// one for each of the newest 100 (all).
        missed: Option<Missed>,
        /// Parameters of its runs.
        params: Option<BTreeMap<String, Scalar>>,
    }

    /// Pushes to branches.
    Push {
        /// Patterns of branches.
        branches: Option<OneOrMany<String>>,
        /// Patterns of changed files, one of which must match.
        paths: Option<OneOrMany<String>>,
    }

    /// Not supported yet.
    PullRequest {
        /// Patterns of target branches.
        branches: Option<OneOrMany<String>>,
        /// Patterns of changed files.
        paths: Option<OneOrMany<String>>,
    }

    /// Not supported yet.
    Tag {
        /// Patterns of tags.
        names: Option<OneOrMany<String>>,
    }

    /// A typed parameter. Without a default it must be given.
    Param {
        /// Its type.
        r#type: ParamType,
        /// Its value where none is given.
        default: Option<Scalar>,
        /// The smallest permitted number, of type integer or number.
        minimum: Option<f64>,
        /// The largest permitted number, of type integer or number.
        maximum: Option<f64>,
        /// The permitted texts, of a parameter of type string.
        choices: Option<OneOrMany<String>>,
        /// For people.
        description: Option<String>,
    }

    /// How many runs may be active.
    Concurrency {
        /// The most; of each group, where there is a `group`, and then 1 if left out.
        limit: Option<u32>,
        /// What happens to a run beyond the limit: it waits (queue), it is skipped (skip), or the oldest active run is
        /// cancelled for it (cancel_running).
        overlap: Option<Overlap>,
        /// An expression over params and cause, as in cause.branch: runs for which it has the same value are a
        /// group, and count, wait and are cancelled among themselves. `branch` is short for cause.branch.
        group: Option<Expression>,
    }

    /// Values for stages that do not have the key themselves.
    Defaults {
        /// An image by reference, for stages with neither `image` nor `build`.
        image: Option<String>,
        /// When images are pulled, for stages that do not say it.
        pull: Option<Pull>,
        /// An image built from the commit's tree, for stages with neither `image` nor `build`.
        build: Option<BuildOrContext>,
        /// What runs the scripts of `run`, as in a stage.
        shell: Option<Vec<String>>,
        /// What of the commit is laid out.
        checkout: Option<CheckoutOrNot>,
        /// Environment variables, over those of the DAG and below those of a stage.
        env: Option<BTreeMap<String, Scalar>>,
        /// Secrets that each stage gets besides its own.
        secrets: Option<OneOrMany<String>>,
        /// When stages are tried again; a stage's `retry` changes single keys of it.
        retry: Option<Retry>,
        /// How long an attempt may run.
        timeout: Option<Duration>,
        /// Limits of containers; a stage's `resources` change single keys of them.
        resources: Option<Resources>,
    }

    /// What the commit's tree is laid out with.
    Checkout {
        /// Whether files of Git LFS have their contents, and not their pointers; false if left out.
        lfs: Option<bool>,
        /// Whether submodules are there, and not empty folders; false if left out. They are fetched without credentials.
        submodules: Option<bool>,
    }

    /// A stage: one container.
    Stage {
        /// The stages that must end before it. This is the only source of order.
        needs: Option<OneOrMany<String>>,
        /// On which outcomes of those it runs: all succeeded (success), at least one failed (failed), or any, also when
        /// the run is cancelled (always).
        run_on: Option<OneOrMany<RunOn>>,
        /// A condition in CEL over params, cause and stages, as in params.epochs > 3 && cause.branch == "main".
        r#if: Option<Expression>,
        /// An image by reference.
        image: Option<String>,
        /// When the image is pulled: if Docker does not have it (if_missing), before each attempt (always), or not at all,
        /// so that it must be there (never). Not with `build`.
        pull: Option<Pull>,
        /// An image built from the commit's tree.
        build: Option<BuildOrContext>,
        /// A script for sh -eu, with pipefail where the image's sh has it, or for `shell`.
        run: Option<String>,
        /// What runs the script, which is its last argument: [bash, -euo, pipefail, -c].
        shell: Option<Vec<String>>,
        /// A program and its arguments.
        command: Option<Vec<Scalar>>,
        /// Whether the commit's tree is laid out in /workspace, and with what; true if left out.
        checkout: Option<CheckoutOrNot>,
        /// Environment variables; values may hold ${{ … }}.
        env: Option<BTreeMap<String, Scalar>>,
        /// Secrets that it gets as environment variables.
        secrets: Option<OneOrMany<String>>,
        /// Outputs of earlier stages, laid out in /trainyard/inputs.
        inputs: Option<BTreeMap<String, InputOrName>>,
        /// Files or folders below /trainyard/outputs that are kept.
        outputs: Option<BTreeMap<String, OutputOrPath>>,
        /// A flat JSON file of numbers below /trainyard/outputs.
        metrics: Option<String>,
        /// Conditions on its metrics.
        gate: Option<OneOrMany<Gate>>,
        /// When it is tried again.
        retry: Option<Retry>,
        /// How long an attempt may run. Its image has as long before that to be ready: at least 10m; 6h if left out.
        timeout: Option<Duration>,
        /// Limits of its container.
        resources: Option<Resources>,
        /// Pools that it takes slots of while it runs.
        pools: Option<PoolsOrNames>,
        /// Not supported yet.
        matrix: Option<BTreeMap<String, OneOrMany<Scalar>>>,
        /// Not supported yet.
        cache: Option<Cache>,
        /// Not supported yet.
        approval: Option<Approval>,
        /// Not supported yet.
        service: Option<Service>,
    }

    /// An image built from the commit's tree.
    Build {
        /// The folder that is sent to Docker; relative to the root of the repo.
        context: Option<String>,
        /// The Dockerfile, relative to the context.
        dockerfile: Option<String>,
        /// Build arguments; values may hold ${{ … }}.
        args: Option<BTreeMap<String, Scalar>>,
        /// The stage of a multi-stage Dockerfile to stop at.
        target: Option<String>,
    }

    /// An input.
    Input {
        /// The output, as STAGE.OUTPUT. The stage must be among those that this one needs, directly or not.
        from: String,
        /// Not supported yet.
        best_by: Option<String>,
    }

    /// An output.
    Output {
        /// The file or folder, below /trainyard/outputs.
        path: String,
        /// Of which attempts it is kept: those that succeeded (success), or also those that failed, timed out or were
        /// cancelled (always).
        keep: Option<Keep>,
    }

    /// A condition on a metric.
    Gate {
        /// The metric.
        metric: String,
        /// The smallest value that passes.
        min: Option<f64>,
        /// The largest value that passes.
        max: Option<f64>,
        /// Not supported yet.
        against: Option<String>,
        /// Not supported yet.
        max_drop: Option<f64>,
    }

    /// When a stage is tried again.
    Retry {
        /// How many attempts there are, the first one included.
        attempts: Option<u32>,
        /// After which outcomes there is another attempt.
        on: Option<OneOrMany<RetryOn>>,
        /// How often a lost attempt, one whose end cannot be proved, is replaced. These do not count as `attempts`.
        lost: Option<u32>,
        /// The wait before the second attempt; at most 1d.
        backoff: Option<Duration>,
        /// By what the wait is multiplied for each further attempt.
        factor: Option<f64>,
        /// The longest wait.
        max: Option<Duration>,
    }

    /// Limits of a container.
    Resources {
        /// CPUs, in whole and parts.
        cpus: Option<f64>,
        /// Memory: 4GiB.
        memory: Option<Size>,
        /// Size of /dev/shm.
        shm: Option<Size>,
        /// Processes and threads.
        pids: Option<u32>,
        /// Not supported yet.
        gpus: Option<u32>,
    }

    /// Not supported yet.
    Cache {
        /// Files that count.
        files: Option<OneOrMany<String>>,
    }

    /// Not supported yet.
    Approval {
        /// How long to wait.
        timeout: Option<Duration>,
    }

    /// Not supported yet.
    Service {
        /// Its name.
        name: Option<String>,
        /// Its port.
        port: Option<u16>,
        /// How its health is checked.
        health: Option<Health>,
        /// How long old requests may take.
        drain: Option<Duration>,
        /// Versions kept.
        keep: Option<u32>,
    }

    /// Not supported yet.
    Health {
        /// The path to request.
        http: Option<String>,
        /// How often.
        interval: Option<Duration>,
        /// How long it may take to become healthy.
        within: Option<Duration>,
    }

    /// Not supported yet.
    Notify {
        /// On what.
        on: Option<OneOrMany<String>>,
        /// To where.
        webhook: Option<BTreeMap<String, String>>,
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        pub enum $name {
            $(#[schemars(rename = $word)] $variant,)*
        }
    )*};
}

words! {
    /// A parameter's type.
    ParamType { String = "string", Integer = "integer", Number = "number", Boolean = "boolean", }
    /// What to do about missed ticks.
    Missed { None = "none", Last = "last", All = "all", }
    /// What happens to a run too many.
    Overlap { Queue = "queue", Skip = "skip", CancelRunning = "cancel_running", }
    /// When an image is pulled.
    Pull { IfMissing = "if_missing", Always = "always", Never = "never", }
    /// On which outcomes a stage runs.
    RunOn { Success = "success", Failed = "failed", Always = "always", }
    /// Of which attempts an output is kept.
    Keep { Success = "success", Always = "always", }
    /// On which outcomes a stage is tried again.
    RetryOn { Failed = "failed", Errored = "errored", TimedOut = "timed_out", }
}

macro_rules! either {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident($type:ty),)* })*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        #[schemars(untagged)]
        pub enum $name {
            $($variant($type),)*
        }
    )*};
}

either! {
    /// An expression in CEL, without `${{ … }}`.
    Expression { Text(String), Truth(bool), }
    /// Whether the tree is laid out, or what it is laid out with.
    CheckoutOrNot { Not(bool), Checkout(Checkout), }
    /// An image to build, or its context.
    BuildOrContext { Context(String), Build(Build), }
    /// An input, or STAGE.OUTPUT.
    InputOrName { Name(String), Input(Input), }
    /// An output, or its path.
    OutputOrPath { Path(String), Output(Output), }
    /// Pools with the slots that are taken of each, or their names for one slot each.
    PoolsOrNames { Slots(BTreeMap<String, u32>), Names(OneOrMany<String>), }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::read::keys;

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let mut schema = json_schema();
        schema["$defs"]["Dag"]["properties"] = schema["properties"].take();
        let properties = |definition: &Value| -> BTreeSet<String> {
            definition["properties"]
                .as_object()
                .map(|map| map.keys().cloned().collect())
                .unwrap_or_default()
        };
        let set = |keys: &[&str]| {
            keys.iter()
                .map(|key| (*key).to_owned())
                .collect::<BTreeSet<_>>()
        };
        for (name, keys) in keys::MAPS {
            assert_eq!(properties(&schema["$defs"][name]), set(keys), "{name}");
        }
    }
}
