//! For each key: its default, a value, and a value that is refused.

/// The maps that have a section, by the names of their types, with the title of the section.
pub(super) const SECTIONS: [(&str, &str); 15] = [
    ("Dag", "The file"),
    ("Triggers", "`triggers`"),
    ("Schedule", "`schedule`"),
    ("Push", "`push`"),
    ("Param", "A parameter"),
    ("Concurrency", "`concurrency`"),
    ("Defaults", "`defaults`"),
    ("Stage", "A stage"),
    ("Build", "`build`"),
    ("Checkout", "`checkout`"),
    ("Input", "An input"),
    ("Output", "An output"),
    ("Gate", "`gate`"),
    ("Retry", "`retry`"),
    ("Resources", "`resources`"),
];

/// The surroundings of a map: a whole file with `…` for its keys, and the keys that it needs besides, each with those
/// that it does not go with.
pub(super) struct Base {
    pub(super) file: &'static str,
    pub(super) keys: &'static [(&'static str, &'static [&'static str], &'static str)],
}

pub(super) fn base(map: &str) -> Base {
    let (file, keys): (_, &'static [_]) = match map {
        "Dag" => (
            "{…}",
            &[(
                "stages",
                &["stage"] as &[_],
                "stages: {a: {image: alpine:3}}",
            )],
        ),
        "Triggers" => ("triggers: {…}\nstages: {a: {image: alpine:3}}", &[]),
        "Schedule" => (
            "triggers: {schedule: [{…}]}
params: {full: {type: boolean, default: false}}
stages: {a: {image: alpine:3}}",
            &[("cron", &[], "cron: '@daily'")],
        ),
        "Push" => ("triggers: {push: {…}}\nstages: {a: {image: alpine:3}}", &[]),
        "Param" => (
            "params: {epochs: {…}}\nstages: {a: {image: alpine:3}}",
            &[("type", &[], "type: integer")],
        ),
        "Concurrency" => (
            "concurrency: {…}\nstages: {a: {image: alpine:3}}",
            &[("limit", &[], "limit: 1")],
        ),
        "Defaults" => ("defaults: {…}\nstages: {a: {image: alpine:3}}", &[]),
        "Stage" => (
            "params: {epochs: {type: integer, default: 10}, rate: {type: number, default: 0.1}}
stages: {train: {image: alpine:3, outputs: {model: model.bin}, metrics: metrics.json}, b: {…}}",
            &[
                ("needs", &[], "needs: [train]"),
                ("image", &["build"], "image: alpine:3"),
                ("metrics", &[], "metrics: metrics.json"),
            ],
        ),
        "Build" => ("stages: {a: {build: {…}}}", &[]),
        "Checkout" => ("stages: {a: {image: alpine:3, checkout: {…}}}", &[]),
        "Input" => (
            "stages: {train: {image: alpine:3, outputs: {model: model.bin}}, b: {image: alpine:3, needs: [train], inputs: {model: {…}}}}",
            &[],
        ),
        "Output" => (
            "stages: {a: {image: alpine:3, outputs: {model: {…}}}}",
            &[("path", &[], "path: model.bin")],
        ),
        "Gate" => (
            "stages: {a: {image: alpine:3, metrics: metrics.json, gate: [{…}]}}",
            &[
                ("metric", &["metrics"], "metric: auc"),
                ("min", &["max"], "min: 0.85"),
            ],
        ),
        "Retry" => ("stages: {a: {image: alpine:3, retry: {…}}}", &[]),
        "Resources" => ("stages: {a: {image: alpine:3, resources: {…}}}", &[]),
        _ => panic!("no file for {map}"),
    };
    Base { file, keys }
}

/// A row of the reference.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) map: &'static str,
    pub(super) key: &'static str,
    /// The value that holds without the key; empty for nothing.
    pub(super) default: &'static str,
    pub(super) example: &'static str,
    pub(super) wrong: &'static str,
}

macro_rules! keys {
    ($($map:ident { $($key:literal, $default:literal, $example:literal, $wrong:literal;)* })*) => {
        &[$($(Key {
            map: stringify!($map),
            key: $key,
            default: $default,
            example: $example,
            wrong: $wrong,
        },)*)*]
    };
}

pub(super) const KEYS: &[Key] = keys! {
    Dag {
        "name", "the name of the file without its ending", "name: churn", "name: My DAG";
        "description", "", "description: Monthly churn model", "description: [a]";
        "triggers", "none; the DAG is started by hand only", "triggers: {push: {branches: [main]}}", "triggers: push";
        "params", "", "params: {epochs: {type: integer, default: 10}}", "params: {epochs: 10}";
        "concurrency", "no limit", "concurrency: {limit: 1, overlap: queue}", "concurrency: 1";
        "timeout", "no limit", "timeout: 6h", "timeout: 6";
        "env", "", "env: {PYTHONUNBUFFERED: '1'}", "env: [A=b]";
        "defaults", "", "defaults: {image: 'python:3.12-slim', timeout: 1h}", "defaults: {imag: alpine}";
        "stages", "", "stages: {hello: {image: 'alpine:3', run: echo hi}}", "stages: [hello]";
    }
    Triggers {
        "schedule", "", "schedule: [{cron: '0 3 1 * *', timezone: Europe/Berlin}]", "schedule: '0 3 * * *'";
        "push", "", "push: {branches: [main, 'release/*']}", "push: main";
        "manual", "always possible", "manual: {}", "manual: {branch: main}";
    }
    Schedule {
        "cron", "", "cron: '0 5 * * mon-fri'", "cron: '0 25 * * *'";
        "timezone", "`UTC`", "timezone: Europe/Berlin", "timezone: Berlin";
        "missed", "`last`", "missed: all", "missed: latest";
        "params", "the defaults of the parameters", "params: {full: true}", "params: {ful: true}";
    }
    Push {
        "branches", "the followed branch of the repo", "branches: [main, 'release/*']", "branches: [refs/heads/main]";
        "paths", "every push counts", "paths: ['src/**', Dockerfile]", "paths: ['/src/**']";
    }
    Param {
        "type", "", "type: integer", "type: int";
        "default", "none: the run must be given a value", "default: 10", "default: ten";
        "minimum", "no bound", "minimum: 1", "minimum: one";
        "maximum", "no bound", "maximum: 100", "maximum: lots";
        "choices", "any text", "type: string, choices: [sgd, adam]", "type: string, default: rmsprop, choices: [sgd, adam]";
        "description", "", "description: How often all rows are seen", "description: [a]";
    }
    Concurrency {
        "limit", "no limit; with a `group`, 1", "limit: 2", "limit: 0";
        "overlap", "`queue`", "limit: 1, overlap: cancel_running", "overlap: cancel";
        "group", "all runs of the DAG are one group", "group: cause.branch", "group: brnch";
    }
    Defaults {
        "image", "", "image: 'python:3.12-slim'", "image: Python";
        "pull", "`if_missing`", "pull: always", "pull: sometimes";
        "build", "", "build: {context: image}", "build: /image";
        "shell", "`[sh, -eu, -c]`, with `-o pipefail` where the image's `sh` has it", "shell: [bash, -euo, pipefail, -c]", "shell: bash";
        "checkout", "`true`", "checkout: {lfs: true}", "checkout: no";
        "env", "", "env: {PIP_NO_CACHE_DIR: '1'}", "env: {CI: '1'}";
        "secrets", "", "secrets: [WAREHOUSE_DSN]", "secrets: [warehouse-dsn]";
        "retry", "one attempt", "retry: {attempts: 2, on: [errored]}", "retry: 2";
        "timeout", "the daemon's `stage.timeout_at_most`, 30d", "timeout: 1h", "timeout: an hour";
        "resources", "those of the daemon's `[stage]`", "resources: {cpus: 2, memory: 4GiB}", "resources: 4GiB";
    }
    Stage {
        "needs", "none; it runs at once", "needs: [train]", "needs: [trian]";
        "run_on", "`success`", "run_on: [failed]", "run_on: [failure]";
        "if", "it runs", "if: stages.train.metrics.auc > 0.9", "if: stages.train.metrics.auc = 0.9";
        "image", "that of `defaults`; a stage has `image` or `build`", "image: 'python:3.12-slim'", "image: 'https://example.org/python'";
        "pull", "that of `defaults`, else `if_missing`", "pull: always", "pull: sometimes";
        "build", "that of `defaults`", "build: {context: ., dockerfile: Dockerfile.train}", "build: [a]";
        "run", "the command of the image", "run: 'python src/train.py --out \"$OUTPUTS/model.bin\"'", "run: 'echo ${{ params.epochs }}'";
        "shell", "that of `defaults`, else `[sh, -eu, -c]`, with `-o pipefail` where the image's `sh` has it", "run: make, shell: [bash, -euo, pipefail, -c]", "run: make, shell: bash";
        "command", "the command of the image", "command: [python, src/train.py]", "command: python src/train.py";
        "checkout", "that of `defaults`, else `true`", "checkout: false", "checkout: no";
        "env", "", "env: {RATE: '${{ params.rate * 2.0 }}'}", "env: {OUTPUTS: /tmp}";
        "secrets", "", "secrets: [WAREHOUSE_DSN]", "secrets: {TOKEN: abc}";
        "inputs", "", "inputs: {model: train.model}", "inputs: [train.model]";
        "outputs", "", "outputs: {model: model.bin}", "outputs: {model: '*.bin'}";
        "metrics", "", "metrics: metrics.json", "metrics: $OUTPUTS/metrics.json";
        "gate", "", "gate: [{metric: auc, min: 0.85}]", "gate: 'auc > 0.85'";
        "retry", "that of `defaults`, else one attempt", "retry: {attempts: 3, backoff: 30s}", "retry: 3";
        "timeout", "that of `defaults`, else the daemon's `stage.timeout_at_most`, 30d", "timeout: 4h", "timeout: 4";
        "resources", "that of `defaults`, else the daemon's `[stage]`", "resources: {cpus: 8, memory: 32GiB}", "resources: {memory: 32}";
        "pools", "none", "pools: {gpu: 1}", "pools: {gpu: 0}";
    }
    Build {
        "context", "`.`, the whole tree", "context: image", "context: /image";
        "dockerfile", "`Dockerfile`", "dockerfile: Dockerfile.train", "dockerfile: ../Dockerfile";
        "args", "", "args: {PYTHON: '3.12'}", "args: [PYTHON=3.12]";
        "target", "the last stage of the Dockerfile", "target: runtime", "target: [runtime]";
    }
    Checkout {
        "lfs", "`false`", "lfs: true", "lfs: yes";
        "submodules", "`false`", "submodules: true", "submodules: recursive";
    }
    Input {
        "from", "", "from: train.model", "from: model";
    }
    Output {
        "path", "", "path: model.bin", "path: ../model.bin";
        "keep", "`success`", "keep: always", "keep: alway";
    }
    Gate {
        "metric", "", "metric: auc", "metric: 'area under curve'";
        "min", "no bound; one of `min` and `max` is required", "min: 0.85", "min: high";
        "max", "no bound", "max: 0.1", "max: 10%";
    }
    Retry {
        "attempts", "1", "attempts: 3", "attempts: 0";
        "on", "`[failed, errored]`", "attempts: 2, on: [timed_out]", "on: [timeout]";
        "lost", "2", "lost: 0", "lost: -1";
        "backoff", "10s", "attempts: 3, backoff: 30s", "backoff: 30";
        "factor", "2", "attempts: 3, factor: 1", "factor: 0";
        "max", "10m", "attempts: 9, backoff: 30s, max: 5m", "backoff: 30s, max: 10s";
    }
    Resources {
        "cpus", "the daemon's `stage.cpus`: all CPUs", "cpus: 0.5", "cpus: 500m";
        "memory", "the daemon's `stage.memory`: 4GiB", "memory: 8GiB", "memory: 8G";
        "shm", "the daemon's `stage.shm`: 64MiB, Docker's own default", "shm: 1GiB", "shm: 1";
        "pids", "the daemon's `stage.pids`: 4096", "pids: 256", "pids: many";
    }
};
