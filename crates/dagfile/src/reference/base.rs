//! The surroundings of each map of a DAG file, to make a whole file of one key.

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
