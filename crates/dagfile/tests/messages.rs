//! What people write who come from elsewhere, or in haste: each file gets these answers, in this order, and
//! no other. So a fault is reported with what to write instead, all faults of a file are reported at once, and
//! none of them makes noise elsewhere.

use trainyard_dagfile::parse;

/// What a file says, and a part of each answer, of message and help.
type Row<'a> = (&'a str, &'a [&'a str]);

#[track_caller]
fn check(rows: &[Row<'_>]) {
    for (file, wanted) in rows {
        let parsed = parse("dags/file.yaml", file);
        let answers: Vec<String> = parsed
            .diagnostics
            .iter()
            .map(|found| {
                let help = found.help.as_deref().unwrap_or("no help");
                format!("{} ({help})", found.message)
            })
            .collect();
        let all = answers.join("\n");
        assert_eq!(answers.len(), wanted.len(), "\n{file}\n{all}");
        for (answer, wanted) in answers.iter().zip(*wanted) {
            assert!(answer.contains(wanted), "\n{file}\n{all}\nnot: {wanted}");
        }
        assert_eq!(parsed.dag.is_some(), wanted.is_empty(), "\n{file}");
    }
}

/// A file of one stage that also says this.
fn stage(says: &str) -> String {
    format!("stages: {{a: {{image: alpine:3, {says}}}}}")
}

#[test]
fn keys_of_other_systems_get_what_to_do_instead() {
    for (key, answer) in [
        (
            "runs-on: ubuntu-latest",
            "there are no runners to choose; stages share what is scarce by `pools`",
        ),
        ("steps: [{run: echo}]", "one `run` of several lines"),
        ("uses: actions/checkout@v4", "there are no actions"),
        ("continue-on-error: true", "`run_on: [always]`"),
        ("working-directory: src", "`cd FOLDER`"),
        ("volumes: [/data]", "no folders of the host"),
        ("depends_on: [b]", "did you mean `needs`?"),
        ("commands: [echo]", "did you mean `run`?"),
        ("environment: {A: b}", "did you mean `env`?"),
    ] {
        check(&[(&stage(key), &[answer])]);
    }
    let top = |key: &str| format!("{key}\n{}", stage("run: echo"));
    for (key, answer) in [
        ("on: push", "did you mean `triggers`?"),
        (
            "workflow_dispatch: {}",
            "leave it out: starting by hand is always possible",
        ),
        (
            "triggers: {workflow_dispatch: }",
            "leave it out: starting by hand is always possible",
        ),
        (
            "concurrency: {limit: 1, cancel-in-progress: true}",
            "`overlap: cancel_running`",
        ),
        ("image: alpine:3", "`defaults: {image: …}`"),
        ("catchup: false", "`missed: all`"),
        (
            "triggers: {push: {paths-ignore: [docs]}}",
            "exclusions are not supported",
        ),
    ] {
        check(&[(&top(key), &[answer])]);
    }
}

#[test]
fn an_unknown_key_gets_a_list_of_what_works() {
    check(&[
        (
            &stage("frobnicate: 1"),
            &["retry, timeout, resources, pools)"],
        ),
        (
            "zork: 1\nstages: {a: {image: x}}",
            &["env, defaults, stages; a key that begins with `x-` may hold anything)"],
        ),
        (&stage("matix: {}"), &["(there is needs, run_on"]),
    ]);
}

#[test]
fn another_form_gets_the_right_one() {
    for (says, answer) in [
        ("retry: 3", "not a number (write `retry: {attempts: 3}`)"),
        ("outputs: [x]", "not a list (write `outputs: {x: x}`)"),
        (
            "outputs: [out/model.bin]",
            "`outputs: {model: out/model.bin}`",
        ),
        ("outputs: model.bin", "`outputs: {model: model.bin}`"),
        ("inputs: [a.m]", "`inputs: {m: a.m}`"),
        ("gate: \"auc > 0.8\"", "`gate: [{metric: auc, min: 0.8}]`"),
        ("gate: [\"loss <= 2\"]", "`gate: [{metric: loss, max: 2}]`"),
        ("env: [A=b, C=d]", "`env: {A: b, C: d}`"),
        ("secrets: {TOKEN: x}", "`secrets: [TOKEN]`"),
        ("run: [a, b]", "`run: |`"),
        ("image: {name: x}", "`image: alpine:3`"),
        ("resources: {cpus: \"2\"}", "write 2 without quotes"),
        ("checkout: no", "write false"),
        (
            "shell: bash, run: a | b",
            "`shell: [bash, -euo, pipefail, -c]`",
        ),
        ("command: echo hi", "write it as a list, or use `run`"),
        ("build: [a]", "write `build: .`"),
    ] {
        let image = match says.split(':').next() {
            Some("image" | "build") => format!("stages: {{a: {{{says}}}}}"),
            _ => stage(says),
        };
        check(&[(&image, &[answer])]);
    }
    let top = |says: &str| format!("{says}\n{}", stage("run: echo"));
    for (says, answer) in [
        (
            "triggers: {schedule: \"0 3 * * *\"}",
            "`schedule: [{cron: \"0 3 * * *\"}]`",
        ),
        (
            "triggers: {schedule: [\"0 3 * * *\"]}",
            "`- cron: \"0 3 * * *\"`",
        ),
        ("triggers: {push: main}", "`push: {branches: [main]}`"),
        (
            "triggers: {push: [main, dev]}",
            "`push: {branches: [main, dev]}`",
        ),
        ("triggers: push", "`triggers: {push: {}}`"),
        (
            "concurrency: 1",
            "not a number (write `concurrency: {limit: 1}`)",
        ),
        ("concurrency: main", "`concurrency: {group: cause.branch"),
        (
            "params: {epochs: 10}",
            "`epochs: {type: integer, default: 10}`",
        ),
        (
            "params: {rate: 0.1}",
            "`rate: {type: number, default: 0.1}`",
        ),
        (
            "params: {full: true}",
            "`full: {type: boolean, default: true}`",
        ),
        ("params: [epochs]", "`params: {epochs: {type: string}}`"),
        ("env: [A=b]", "`env: {A: b}`"),
    ] {
        check(&[(&top(says), &[answer])]);
    }
    check(&[
        (
            "stages: [{name: a}]",
            &["`stages: {NAME: {image: alpine:3, run: …}}`"],
        ),
        (
            "stages: {a: echo hi}",
            &["`a: {image: alpine:3, run: \"echo hi\"}`"],
        ),
    ]);
}

#[test]
fn expressions_of_other_systems_get_ours() {
    for (says, answer) in [
        ("if: params.x and params.y", "write `&&`"),
        ("if: params.x or params.y", "write `||`"),
        ("if: not params.x", "write `!`"),
        ("if: params.n = 1", "write `==` to compare"),
        ("if: always()", "write `run_on: [always]`"),
        (
            "env: {A: \"${{ secrets.TOKEN }}\"}",
            "`secrets: [TOKEN]` in the stage: `$TOKEN` is then",
        ),
        (
            "env: {A: \"${{ github.sha }}\"}",
            "write `cause.commit`, or `$TRAINYARD_COMMIT` in `run`",
        ),
        (
            "env: {A: \"${{ github.ref_name }}\"}",
            "write `cause.branch`",
        ),
        (
            "env: {A: \"${{ github.run_id }}\"}",
            "`$TRAINYARD_RUN_ID` in `run` has it",
        ),
        ("env: {A: \"${{ env.HOME }}\"}", "write `$HOME` in `run`"),
        (
            "env: {A: \"${{ inputs.x }}\"}",
            "parameters are in `params`",
        ),
        (
            "env: {A: \"${{ needs.b.result }}\"}",
            "earlier stages are in `stages`",
        ),
    ] {
        let params = "params: {x: {type: boolean, default: true}, y: {type: boolean, default: true}, n: {type: integer, default: 1}}";
        check(&[(&format!("{params}\n{}", stage(says)), &[answer])]);
    }
    check(&[(
        "stages: {a: {image: x, metrics: m.json}, b: {image: \"${{ stages.a.image }}\", if: stages.a.metrics.auc > 0.5}}",
        &[
            "add `a` to the needs of this stage",
            "add `a` to the needs of this stage",
        ],
    )]);
}

#[test]
fn an_expression_of_a_stage_cannot_refer_to_the_stage_itself() {
    check(&[(
        "stages: {a: {image: x, metrics: m.json, if: stages.a.metrics.auc > 0.5}}",
        &["refer to a stage that it needs"],
    )]);
}

#[test]
fn text_that_yaml_takes_for_something_else_gets_its_quotes() {
    check(&[
        (
            "stages:\n  a:\n    image: alpine:3\n    run: echo status: done\n",
            &["goes into quotes, or on lines of its own below `run: |`"],
        ),
        (
            "description: Trains: weekly\nstages: {a: {image: x}}",
            &["as in `description: \"…\"`"],
        ),
        (
            "triggers: {push: {paths: [**/*.py]}}\nstages: {a: {image: x}}",
            &["begins with `*` goes into quotes"],
        ),
        (
            "triggers: {schedule: [{cron: @daily}]}\nstages: {a: {image: x}}",
            &["begins with `@` goes into quotes"],
        ),
    ]);
}

#[test]
fn filters_and_names_that_match_nothing_are_faults() {
    let push = |says: &str| format!("triggers: {{push: {{{says}}}}}\n{}", stage("run: echo"));
    for (says, answer) in [
        (
            "paths: [/src/**]",
            "matches nothing: it starts with `/`, and paths are relative to the root of the repo (write `src/**`)",
        ),
        ("paths: [src/]", "(write `src/**`)"),
        ("paths: [./a]", "(write `a`)"),
        ("paths: [../a]", "`..`"),
        ("branches: [refs/heads/main]", "(write `main`)"),
        (
            "branches: [my branch]",
            "a character in it that no branch has",
        ),
    ] {
        check(&[(&push(says), &[answer])]);
    }
    check(&[(&push("paths: [\"/a\", b, \"c/\"]"), &["/a", "c/"])]);
    for (says, answer) in [
        (
            "outputs: {x: \"*.csv\"}",
            "is a pattern, which no file is named by",
        ),
        ("outputs: {x: \"part-[0-9].csv\"}", "is a pattern"),
        ("outputs: {x: $OUTPUTS/x.csv}", "write `x.csv`"),
        ("outputs: {x: /trainyard/outputs/x.csv}", "write `x.csv`"),
        ("outputs: {x: $HOME/x.csv}", "without variables"),
        ("outputs: {x: /x.csv}", "absolute"),
        ("metrics: \"*.json\"", "is a pattern"),
        ("metrics: $OUTPUTS/metrics.json", "write `metrics.json`"),
    ] {
        check(&[(&stage(says), &[answer])]);
    }
    for image in [
        "Alpine",
        "alpine:",
        "alpine:3:4",
        "./image",
        "https://ghcr.io/x",
        "a b",
    ] {
        let file = format!("stages: {{a: {{image: \"{image}\"}}}}");
        check(&[(&file, &["invalid image reference"])]);
        let file = format!("defaults: {{image: \"{image}\"}}\nstages: {{a: {{}}, b: {{}}}}");
        check(&[(&file, &["invalid image reference"])]);
    }
}

#[test]
fn a_trigger_that_leaves_a_parameter_without_a_value_is_a_fault() {
    let file = |triggers: &str| {
        format!(
            "triggers: {triggers}\nparams: {{target: {{type: string}}}}\n{}",
            stage("run: echo")
        )
    };
    check(&[
        (
            &file("{push: {}}"),
            &["a push gives no value to parameter `target`, which has no default (add a `default`"],
        ),
        (&file("{push: }"), &["a push gives no value"]),
        (
            &file("{schedule: [{cron: \"@daily\"}, {cron: \"@weekly\"}], push: {}}"),
            &["a schedule or a push gives no value"],
        ),
        (
            &file("{schedule: [{cron: \"@daily\", params: {target: x}}]}"),
            &[],
        ),
        (&file("{}"), &[]),
    ]);
}

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
            &["has to be a map"],
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
            "stage `d` has to be a map",
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

#[test]
fn a_group_is_an_expression_over_what_starts_a_run() {
    let file = |concurrency: &str| {
        format!(
            "concurrency: {concurrency}\nparams: {{n: {{type: integer, default: 1}}}}\n{}",
            stage("run: echo")
        )
    };
    check(&[
        (&file("{group: branch, overlap: cancel_running}"), &[]),
        (&file("{group: cause.branch}"), &[]),
        (
            &file("{group: \"${{ cause.branch }}/${{ params.n }}\", limit: 2}"),
            &[],
        ),
        (&file("{group: 'cause.branch + string(params.n)'}"), &[]),
        (&file("{group: cause.brunch}"), &["did you mean `branch`?"]),
        (&file("{group: params.m}"), &["there is no parameter `m`"]),
        (
            &file("{group: stages.a.outcome}"),
            &["there is no stage `a` before this one"],
        ),
        (&file("{group: deploy}"), &["there is no `deploy` here"]),
        (&file("{group: }"), &["`group` is empty"]),
        (&file("{group: github.ref}"), &["write `cause.branch`"]),
    ]);
}

#[test]
fn merge_keys_take_maps_within_the_bounds_on_aliases() {
    check(&[
        (
            "x-base: &base {image: alpine:3, env: &env {A: b}}
x-more: &more {run: echo, image: other:1}
stages:
  a: {<<: *base}
  b: {<<: [*base, *more], env: {<<: *env, C: d}}
",
            &[],
        ),
        (
            "x: &base {image: x}\nstages: {a: {<<: *base}}",
            &["may hold anything"],
        ),
        (
            "stages: {a: {<<: 3}}",
            &["`<<` takes a map, or a list of maps, not a number"],
        ),
        (
            "x-a: &a {image: x}\nstages: {a: {<<: *a, <<: *a}}",
            &["`<<` stands here twice"],
        ),
        (
            "x-a: &a {imag: x}\nstages: {a: {<<: *a}}",
            &["did you mean `image`?"],
        ),
        ("stages: {a: {\"<<\": x, image: x}}", &["has no key `<<`"]),
    ]);
    let mut bomb = String::from("x-0: &a0 {k: v}\n");
    for level in 1..40 {
        let before = level - 1;
        let merged =
            format!("{{<<: [*a{before}, *a{before}], m{level}: [*a{before}, *a{before}]}}");
        bomb.push_str(&format!("x-{level}: &a{level} {merged}\n"));
    }
    check(&[(&bomb, &["aliases counted"])]);
}

/// The warnings of a file that is valid.
fn warnings(file: &str) -> Vec<String> {
    let parsed = parse("dags/file.yaml", file);
    assert!(parsed.dag.is_some(), "{file}\n{:?}", parsed.diagnostics);
    let text = |found: &trainyard_dagfile::Diagnostic| {
        let help = found.help.clone().unwrap_or_default();
        format!("{}: {} ({help})", &file[found.span.clone()], found.message)
    };
    parsed.diagnostics.iter().map(text).collect()
}

#[test]
fn a_pipe_in_an_image_whose_shell_may_lack_pipefail_is_a_warning_once_per_file() {
    let file = "stages:
  a: {image: \"python:3.12-slim\", run: train | tee log}
  b:
    build: .
    run: |
      echo begin
      cat x | sort
";
    let found = warnings(file);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in [
        "train | tee log: `run` of stage `a` has a pipe",
        "so has `run` of b",
        "`shell: [bash, -euo, pipefail, -c]`",
    ] {
        assert!(found[0].contains(part), "{found:?}");
    }
}

#[test]
fn a_pipe_of_which_every_program_counts_is_no_warning() {
    for stage in [
        "image: alpine:3, run: a | b",
        "image: \"python:3.12-alpine\", run: a | b",
        "image: registry.example.org/tools/busybox, run: a | b",
        "image: x, run: a || b",
        "image: x, run: \"set -o pipefail; a | b\"",
        "image: x, shell: [bash, -euo, pipefail, -c], run: a | b",
        "image: x, command: [sh, -c, a | b]",
    ] {
        let file = format!("stages: {{s: {{{stage}}}}}");
        assert_eq!(warnings(&file), [""; 0], "{file}");
    }
    let file = "defaults: {shell: [bash, -c]}\nstages: {s: {image: x, run: a | b}}";
    assert_eq!(warnings(file), [""; 0]);
}

#[test]
fn what_is_too_long_for_the_kernel_to_pass_is_a_fault() {
    let long = "x".repeat(200 << 10);
    let fits = "x".repeat(100 << 10);
    let too_long = "and the kernel passes at most 128 KiB to a program in one";
    check(&[
        (
            &stage(&format!("env: {{LARGE: {long}}}")),
            &["the variable `LARGE` has 200 KiB"],
        ),
        (
            &format!("env: {{LARGE: {long}}}\n{}", stage("run: echo")),
            &[too_long],
        ),
        (&stage(&format!("command: [echo, {long}]")), &[too_long]),
        (
            &format!("stages: {{a: {{build: {{args: {{A: {long}}}}}, run: echo}}}}"),
            &["the build argument `A` has 200 KiB"],
        ),
        (&stage(&format!("env: {{LARGE: {fits}}}")), &[]),
    ]);
    let more: String = (1..20).map(|n| format!(", V{n}: *long")).collect();
    check(&[(
        &stage(&format!("env: {{V0: &long {fits}{more}}}")),
        &["the variables and the command of stage `a` have 2 MiB"],
    )]);
}
