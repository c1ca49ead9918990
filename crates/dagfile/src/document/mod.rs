//! Every key of a DAG file, once: its type, its description, the value that holds without it, examples, and words that
//! people bring from elsewhere. The JSON Schema, the keys that [`crate::read`] knows, and the lists of
//! `docs/dag-file.md` are made of it.

mod form;
mod types;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use self::form::{Documented, documented, forms, plain_name};
use self::types::{
    BuildOrContext, CheckoutOrNot, Duration, Expression, InputOrName, Keep, Missed, OneOrMany,
    OutputOrPath, Overlap, ParamType, PoolsOrNames, Pull, RetryOn, RunOn, Scalar, Size,
};

pub(crate) use self::form::{Form, FormKey};

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

/// A part of the format that this version cannot run yet: any value, which is refused.
type Reserved = Option<Value>;

// After the type of a key: the value that holds without it (empty for nothing), a right and a wrong value, and words of
// other systems for it, which the reader reports with the right one. Those count for each key of that name.
forms! {
    /// A DAG file.
    Dag "The file" {
        /// The DAG's name; the file's name without its ending if left out.
        name: Option<String> = "the name of the file without its ending", right "name: churn", wrong "name: My DAG";
        /// For people.
        description: Option<String> = "", right "description: Monthly churn model", wrong "description: [a]";
        /// What may start a run. By hand is always possible.
        triggers: Option<Triggers> = "none; the DAG is started by hand only",
            right "triggers: {push: {branches: [main]}}",
            wrong "triggers: push",
            also ["on", "schedule", "schedules", "trigger"];
        /// Typed parameters of runs; stages see them as TRAINYARD_PARAM_NAME.
        params: Option<BTreeMap<String, Param>> = "",
            right "params: {epochs: {type: integer, default: 10}}", wrong "params: {epochs: 10}", also ["parameters"];
        /// How many runs may be active, and what happens to one too many.
        concurrency: Option<Concurrency> = "no limit",
            right "concurrency: {limit: 1, overlap: queue}", wrong "concurrency: 1";
        /// How long a run may take, from its start. Then it is stopped, and its outcome is timed_out.
        timeout: Option<Duration> = "no limit", right "timeout: 6h", wrong "timeout: 6", also ["timeout_minutes"];
        /// Environment variables of all stages; values may hold ${{ … }}.
        env: Option<BTreeMap<String, Scalar>> = "",
            right "env: {PYTHONUNBUFFERED: '1'}", wrong "env: [A=b]", also ["environment", "variables"];
        /// Values for stages that do not have the key themselves.
        defaults: Option<Defaults> = "",
            right "defaults: {image: 'python:3.12-slim', timeout: 1h}", wrong "defaults: {imag: alpine}";
        /// The stages, by name.
        stages: BTreeMap<String, Stage> = "",
            right "stages: {hello: {image: 'alpine:3', run: echo hi}}",
            wrong "stages: [hello]",
            also ["jobs", "steps", "tasks"];
        /// Not supported yet.
        notify: Reserved;
    }

    /// What may start a run.
    Triggers "`triggers`" {
        /// Cron schedules.
        schedule: Option<OneOrMany<Schedule>> = "",
            right "schedule: [{cron: '0 3 1 * *', timezone: Europe/Berlin}]",
            wrong "schedule: '0 3 * * *'",
            also ["cron", "crons"];
        /// Pushes to branches; without branches, to the followed one.
        push: Option<Push> = "", right "push: {branches: [main, 'release/*']}", wrong "push: main";
        /// Not supported yet.
        pull_request: Reserved;
        /// Not supported yet.
        tag: Reserved;
        /// Not supported yet.
        after: Reserved;
        /// By hand; always possible.
        manual: Option<Empty> = "always possible", right "manual: {}", wrong "manual: {branch: main}";
    }

    /// No keys.
    Empty "" {}

    /// A cron schedule.
    Schedule "`schedule`" {
        /// Five fields, or @daily and the like.
        cron: String = "", right "cron: '0 5 * * mon-fri'", wrong "cron: '0 25 * * *'";
        /// A name of the tz database; UTC if left out.
        timezone: Option<String> = "`UTC`",
            right "timezone: Europe/Berlin", wrong "timezone: Berlin", also ["timezones", "tz"];
        /// What happens to ticks that passed while no daemon ran: no run (none), one for the last of them (last), or
        /// one for each of the newest 100 (all). A tick up to a minute old is late, not missed, and has its run: a
        /// short restart of the daemon loses none.
        missed: Option<Missed> = "`last`", right "missed: all", wrong "missed: latest";
        /// Parameters of its runs.
        params: Option<BTreeMap<String, Scalar>> = "the defaults of the parameters",
            right "params: {full: true}", wrong "params: {ful: true}";
    }

    /// Pushes to branches.
    Push "`push`" {
        /// Patterns of branches.
        branches: Option<OneOrMany<String>> = "the followed branch of the repo",
            right "branches: [main, 'release/*']", wrong "branches: [refs/heads/main]", also ["branch"];
        /// Patterns of changed files, one of which must match.
        paths: Option<OneOrMany<String>> = "every push counts",
            right "paths: ['src/**', Dockerfile]", wrong "paths: ['/src/**']", also ["files", "path"];
    }

    /// A typed parameter. Without a default it must be given.
    Param "A parameter" {
        /// Its type.
        r#type: ParamType = "", right "type: integer", wrong "type: int";
        /// Its value where none is given.
        default: Option<Scalar> = "none: the run must be given a value", right "default: 10", wrong "default: ten";
        /// The smallest permitted number, of type integer or number.
        minimum: Option<f64> = "no bound", right "minimum: 1", wrong "minimum: one";
        /// The largest permitted number, of type integer or number.
        maximum: Option<f64> = "no bound", right "maximum: 100", wrong "maximum: lots";
        /// The permitted texts, of a parameter of type string.
        choices: Option<OneOrMany<String>> = "any text",
            right "type: string, choices: [sgd, adam]",
            wrong "type: string, default: rmsprop, choices: [sgd, adam]",
            also ["enum", "options"];
        /// For people.
        description: Option<String> = "", right "description: How often all rows are seen", wrong "description: [a]";
    }

    /// How many runs may be active.
    Concurrency "`concurrency`" {
        /// The most; of each group, where there is a `group`, and then 1 if left out.
        limit: Option<u32> = "no limit; with a `group`, 1",
            right "limit: 2", wrong "limit: 0", also ["max_parallel", "max_runs"];
        /// What happens to a run beyond the limit: it waits (queue), it is skipped (skip), or the oldest active run is
        /// cancelled for it (cancel_running).
        overlap: Option<Overlap> = "`queue`", right "limit: 1, overlap: cancel_running", wrong "overlap: cancel";
        /// An expression over params and cause, as in cause.branch: runs for which it has the same value are a
        /// group, and count, wait and are cancelled among themselves. `branch` is short for cause.branch.
        group: Option<Expression> = "all runs of the DAG are one group",
            right "group: cause.branch", wrong "group: brnch";
    }

    /// Values for stages that do not have the key themselves.
    Defaults "`defaults`" {
        /// An image by reference, for stages with neither `image` nor `build`.
        image: Option<String> = "",
            right "image: 'python:3.12-slim'", wrong "image: Python", also ["container", "docker", "img"];
        /// When images are pulled, for stages that do not say it.
        pull: Option<Pull> = "`if_missing`", right "pull: always", wrong "pull: sometimes";
        /// An image built from the commit's tree, for stages with neither `image` nor `build`.
        build: Option<BuildOrContext> = "", right "build: {context: image}", wrong "build: /image";
        /// What runs the scripts of `run`, as in a stage.
        shell: Option<Vec<String>> = "`[sh, -eu, -c]`, with `-o pipefail` where the image's `sh` has it",
            right "shell: [bash, -euo, pipefail, -c]", wrong "shell: bash";
        /// What of the commit is laid out.
        checkout: Option<CheckoutOrNot> = "`true`", right "checkout: {lfs: true}", wrong "checkout: no";
        /// Environment variables, over those of the DAG and below those of a stage.
        env: Option<BTreeMap<String, Scalar>> = "", right "env: {PIP_NO_CACHE_DIR: '1'}", wrong "env: {CI: '1'}";
        /// Secrets that each stage gets besides its own.
        secrets: Option<OneOrMany<String>> = "",
            right "secrets: [WAREHOUSE_DSN]", wrong "secrets: [warehouse-dsn]", also ["secret"];
        /// When stages are tried again; a stage's `retry` changes single keys of it.
        retry: Option<Retry> = "one attempt",
            right "retry: {attempts: 2, on: [errored]}", wrong "retry: 2", also ["retries"];
        /// How long an attempt may run.
        timeout: Option<Duration> = "the daemon's `stage.timeout_at_most`, 30d",
            right "timeout: 1h", wrong "timeout: an hour";
        /// Limits of containers; a stage's `resources` change single keys of them.
        resources: Option<Resources> = "those of the daemon's `[stage]`",
            right "resources: {cpus: 2, memory: 4GiB}", wrong "resources: 4GiB";
    }

    /// What the commit's tree is laid out with.
    Checkout "`checkout`" {
        /// Whether files of Git LFS have their contents, and not their pointers; false if left out.
        lfs: Option<bool> = "`false`", right "lfs: true", wrong "lfs: yes";
        /// Whether submodules are there, and not empty folders; false if left out. They are fetched without credentials.
        submodules: Option<bool> = "`false`", right "submodules: true", wrong "submodules: recursive";
    }

    /// A stage: one container.
    Stage "A stage" {
        /// The stages that must end before it. This is the only source of order.
        needs: Option<OneOrMany<String>> = "none; it runs at once",
            right "needs: [train]",
            wrong "needs: [trian]",
            also ["after", "dependencies", "depends", "depends_on", "needed", "requires"];
        /// On which outcomes of those it runs: all succeeded (success), at least one failed (failed), or any, also when
        /// the run is cancelled (always).
        run_on: Option<OneOrMany<RunOn>> = "`success`", right "run_on: [failed]", wrong "run_on: [failure]";
        /// A condition in CEL over params, cause and stages, as in params.epochs > 3 && cause.branch == "main".
        r#if: Option<Expression> = "it runs",
            right "if: stages.train.metrics.auc > 0.9",
            wrong "if: stages.train.metrics.auc = 0.9",
            also ["condition", "when"];
        /// An image by reference.
        image: Option<String> = "that of `defaults`; a stage has `image` or `build`",
            right "image: 'python:3.12-slim'", wrong "image: 'https://example.org/python'";
        /// When the image is pulled: if Docker does not have it (if_missing), before each attempt (always), or not at all,
        /// so that it must be there (never). Not with `build`.
        pull: Option<Pull> = "that of `defaults`, else `if_missing`", right "pull: always", wrong "pull: sometimes";
        /// An image built from the commit's tree.
        build: Option<BuildOrContext> = "that of `defaults`",
            right "build: {context: ., dockerfile: Dockerfile.train}", wrong "build: [a]";
        /// A script for sh -eu, with pipefail where the image's sh has it, or for `shell`.
        run: Option<String> = "the command of the image",
            right "run: 'python src/train.py --out \"$OUTPUTS/model.bin\"'",
            wrong "run: 'echo ${{ params.epochs }}'",
            also ["commands", "script"];
        /// What runs the script, which is its last argument: [bash, -euo, pipefail, -c].
        shell: Option<Vec<String>> = "that of `defaults`, else `[sh, -eu, -c]`, with `-o pipefail` where the image's `sh` has it",
            right "run: make, shell: [bash, -euo, pipefail, -c]", wrong "run: make, shell: bash";
        /// A program and its arguments.
        command: Option<Vec<Scalar>> = "the command of the image",
            right "command: [python, src/train.py]", wrong "command: python src/train.py", also ["cmd", "entrypoint"];
        /// Whether the commit's tree is laid out in /workspace, and with what; true if left out.
        checkout: Option<CheckoutOrNot> = "that of `defaults`, else `true`",
            right "checkout: false", wrong "checkout: no";
        /// Environment variables; values may hold ${{ … }}.
        env: Option<BTreeMap<String, Scalar>> = "",
            right "env: {RATE: '${{ params.rate * 2.0 }}'}", wrong "env: {OUTPUTS: /tmp}";
        /// Secrets that it gets as environment variables.
        secrets: Option<OneOrMany<String>> = "", right "secrets: [WAREHOUSE_DSN]", wrong "secrets: {TOKEN: abc}";
        /// Outputs of earlier stages, laid out in /trainyard/inputs.
        inputs: Option<BTreeMap<String, InputOrName>> = "",
            right "inputs: {model: train.model}", wrong "inputs: [train.model]", also ["input"];
        /// Files or folders below /trainyard/outputs that are kept.
        outputs: Option<BTreeMap<String, OutputOrPath>> = "",
            right "outputs: {model: model.bin}", wrong "outputs: {model: '*.bin'}", also ["artifacts", "output"];
        /// A flat JSON file of numbers below /trainyard/outputs.
        metrics: Option<String> = "", right "metrics: metrics.json", wrong "metrics: $OUTPUTS/metrics.json";
        /// Conditions on its metrics.
        gate: Option<OneOrMany<Gate>> = "",
            right "gate: [{metric: auc, min: 0.85}]", wrong "gate: 'auc > 0.85'", also ["gates"];
        /// When it is tried again.
        retry: Option<Retry> = "that of `defaults`, else one attempt",
            right "retry: {attempts: 3, backoff: 30s}", wrong "retry: 3";
        /// How long an attempt may run. Its image has as long before that to be ready: at least 10m; 6h if left out.
        timeout: Option<Duration> = "that of `defaults`, else the daemon's `stage.timeout_at_most`, 30d",
            right "timeout: 4h", wrong "timeout: 4";
        /// Limits of its container.
        resources: Option<Resources> = "that of `defaults`, else the daemon's `[stage]`",
            right "resources: {cpus: 8, memory: 32GiB}", wrong "resources: {memory: 32}";
        /// Pools that it takes slots of while it runs.
        pools: Option<PoolsOrNames> = "none", right "pools: {gpu: 1}", wrong "pools: {gpu: 0}";
        /// Not supported yet.
        matrix: Reserved;
        /// Not supported yet.
        cache: Reserved;
        /// Not supported yet.
        approval: Reserved;
        /// Not supported yet.
        service: Reserved;
    }

    /// An image built from the commit's tree.
    Build "`build`" {
        /// The folder that is sent to Docker; relative to the root of the repo.
        context: Option<String> = "`.`, the whole tree", right "context: image", wrong "context: /image";
        /// The Dockerfile, relative to the context.
        dockerfile: Option<String> = "`Dockerfile`",
            right "dockerfile: Dockerfile.train", wrong "dockerfile: ../Dockerfile", also ["file"];
        /// Build arguments; values may hold ${{ … }}.
        args: Option<BTreeMap<String, Scalar>> = "",
            right "args: {PYTHON: '3.12'}", wrong "args: [PYTHON=3.12]", also ["build_args"];
        /// The stage of a multi-stage Dockerfile to stop at.
        target: Option<String> = "the last stage of the Dockerfile",
            right "target: runtime", wrong "target: [runtime]";
    }

    /// An input.
    Input "An input" {
        /// The output, as STAGE.OUTPUT. The stage must be among those that this one needs, directly or not.
        from: String = "", right "from: train.model", wrong "from: model";
        /// Not supported yet.
        best_by: Reserved;
    }

    /// An output.
    Output "An output" {
        /// The file or folder, below /trainyard/outputs.
        path: String = "", right "path: model.bin", wrong "path: ../model.bin";
        /// Of which attempts it is kept: those that succeeded (success), or also those that failed, timed out or were
        /// cancelled (always).
        keep: Option<Keep> = "`success`", right "keep: always", wrong "keep: alway";
    }

    /// A condition on a metric.
    Gate "`gate`" {
        /// The metric.
        metric: String = "", right "metric: auc", wrong "metric: 'area under curve'";
        /// The smallest value that passes.
        min: Option<f64> = "no bound; one of `min` and `max` is required", right "min: 0.85", wrong "min: high";
        /// The largest value that passes.
        max: Option<f64> = "no bound", right "max: 0.1", wrong "max: 10%";
        /// Not supported yet.
        against: Reserved;
        /// Not supported yet.
        max_drop: Reserved;
    }

    /// When a stage is tried again.
    Retry "`retry`" {
        /// How many attempts there are, the first one included.
        attempts: Option<u32> = "1",
            right "attempts: 3", wrong "attempts: 0", also ["max_retries", "count", "times", "max_attempts"];
        /// After which outcomes there is another attempt.
        on: Option<OneOrMany<RetryOn>> = "`[failed, errored]`",
            right "attempts: 2, on: [timed_out]", wrong "on: [timeout]";
        /// How often a lost attempt, one whose end cannot be proved, is replaced. These do not count as `attempts`.
        lost: Option<u32> = "2", right "lost: 0", wrong "lost: -1";
        /// The wait before the second attempt; at most 1d.
        backoff: Option<Duration> = "10s",
            right "attempts: 3, backoff: 30s", wrong "backoff: 30", also ["wait", "retry_delay", "delay"];
        /// By what the wait is multiplied for each further attempt.
        factor: Option<f64> = "2", right "attempts: 3, factor: 1", wrong "factor: 0";
        /// The longest wait.
        max: Option<Duration> = "10m", right "attempts: 9, backoff: 30s, max: 5m", wrong "backoff: 30s, max: 10s";
    }

    /// Limits of a container.
    Resources "`resources`" {
        /// CPUs, in whole and parts.
        cpus: Option<f64> = "the daemon's `stage.cpus`: all CPUs",
            right "cpus: 0.5", wrong "cpus: 500m", also ["cpu"];
        /// Memory: 4GiB.
        memory: Option<Size> = "the daemon's `stage.memory`: 4GiB",
            right "memory: 8GiB", wrong "memory: 8G", also ["mem", "memory_limit", "ram"];
        /// Size of /dev/shm.
        shm: Option<Size> = "the daemon's `stage.shm`: 64MiB, Docker's own default",
            right "shm: 1GiB", wrong "shm: 1", also ["shm_size"];
        /// Processes and threads.
        pids: Option<u32> = "the daemon's `stage.pids`: 4096", right "pids: 256", wrong "pids: many";
        /// Not supported yet.
        gpus: Reserved;
    }
}
