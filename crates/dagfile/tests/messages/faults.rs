//! All faults of a file, and no other.

use crate::check;

#[test]
fn one_fault_makes_no_noise_elsewhere() {
    check(&[
        (
            "defaults: {shell: bash}\nstages: {a: {image: x, run: a | b}}",
            &["write `shell: [bash, -euo, pipefail, -c]`"],
        ),
        // A parameter that is wrong, with triggers, expressions and values that rely on it.
        (
            "params: {b: {type: integer, default: x}}
triggers: {schedule: [{cron: \"@daily\"}, {cron: \"@weekly\", params: {b: 3}}], push: {}}
stages: {a: {image: x, if: params.b > 3, env: {B: \"${{ params.b }}\"}}}",
            &["parameter `b` must be an integer"],
        ),
        (
            "params: {b: {typ: integer}}
triggers: {schedule: {cron: \"@daily\", params: {b: 3}}, push: {}}
stages: {a: {image: x, if: params.b > 3}}",
            &["did you mean `type`?"],
        ),
        (
            "parameters: {b: {type: integer}}\nstages: {a: {image: x, if: params.b > 3}}",
            &["did you mean `params`?"],
        ),
        (
            "params: {b: {type: integer}}
triggers: {schedule: [{cron: \"@daily\", params: {b: x}}]}
stages: {a: {image: x}}",
            &["must be an integer"],
        ),
        // A stage whose name, image, outputs, metrics or needs are wrong, with stages that rely on it.
        (
            "stages: {A b: {image: x, outputs: {m: m}}, c: {image: x, needs: [A b], inputs: {m: A b.m}}}",
            &["not a valid stage name"],
        ),
        (
            "stages: {a: {outputs: {m: m}}, b: {image: x, needs: [a], inputs: {m: a.m}}}",
            &["needs an `image`"],
        ),
        (
            "stages: {a: {image: x, outputs: {m: \"*\"}}, b: {image: x, needs: [a], inputs: {m: a.m}}}",
            &["is a pattern"],
        ),
        (
            "stages: {a: {image: x, artifacts: {m: m}}, b: {image: x, needs: [a], inputs: {m: a.m}}}",
            &["did you mean `outputs`?"],
        ),
        (
            "stages: {a: {image: x, metric: m}, b: {image: x, needs: [a], if: stages.a.metrics.x > 1}}",
            &["did you mean `metrics`?"],
        ),
        (
            "stages: {a: {image: x, metrics: /m, gate: {metric: x, min: 1}}}",
            &["absolute"],
        ),
        (
            "stages: {a: {image: x, outputs: {m: m}}, b: {image: x, needs: [aa], inputs: {m: a.m}}, c: {image: x, needs: [b], if: stages.a.outcome == \"failed\"}}",
            &["did you mean `a`?"],
        ),
        (
            "stages: {a: {image: x, outputs: {m: m}}, b: {image: x, depends_on: [a], run_on: [failed], inputs: {m: a.m}, if: stages.a.outcome == \"failed\"}}",
            &["did you mean `needs`?"],
        ),
        (
            "stages: {a: {image: x}, b: {image: x, needs: [a], run_on: [allways], if: stages.a.outcome == \"failed\"}}",
            &["did you mean `always`?"],
        ),
        (
            "stages: {a: {image: x, gate: {metrc: auc, min: 1}, metrics: m}}",
            &["did you mean `metric`?"],
        ),
        ("stages: {a: {imag: x}}", &["did you mean `image`?"]),
        ("jobs: {a: {image: x}}", &["did you mean `stages`?"]),
        (
            "stages: {a: 3, b: {image: x, needs: [a], inputs: {m: a.m}}}",
            &["must be a map"],
        ),
        // A value that all stages share.
        (
            "env: {A: \"${{ params.x }}\"}\nstages: {a: {image: x}, b: {image: x}}",
            &["there is no parameter `x`"],
        ),
        (
            "defaults: {env: {A: \"${{ params.x }}\"}, secrets: [CI]}\nstages: {a: {image: x}, b: {image: x}}",
            &[
                "there is no parameter `x`",
                "`CI` is a variable of the stage already",
            ],
        ),
    ]);
}

#[test]
fn all_faults_of_a_file_are_reported_at_once() {
    check(&[(
        "triggers: {push: {paths: [/a]}}
params: {n: {type: int}, m: {type: string}}
stages:
  a: {run: echo}
  b: {needs: [zz], image: Alpine, timeout: 3, if: params.q}
  A c: {image: x, needs: [yy], gate: {metric: auc, min: 1}}
  d: [1]
  b: {image: x, retry: 3}
  e: {image: x, needs: [e], inputs: {m: a.m}}
  f: {image: x, build: ., needs: [g]}
  g: {image: x, needs: [f], schedule: x}
",
        &[
            "a push gives no value to parameter `m`",
            "the pattern `/a` matches nothing",
            "a parameter's type cannot be `int`",
            "stage `a` needs an `image`",
            "no stage named `zz`",
            "invalid image reference `Alpine`",
            "the timeout is not a duration",
            "there is no parameter `q`",
            "not a valid stage name",
            "no stage named `yy`",
            "stage `A c` has a gate but reports no metrics",
            "stage `d` must be a map",
            "`b` stands here twice",
            "write `retry: {attempts: 3}`",
            "needs itself",
            "stage `a` has no output named `m`",
            "both `image` and `build`",
            "in a circle",
            "schedules are the DAG's",
        ],
    )]);
}
