//! Values: the right form of each, what YAML takes for something else, and bounds.

use crate::{check, stage};

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
        ("checkout: no", "did you mean `false`?"),
        ("checkout: {lfs: yes}", "did you mean `true`? YAML 1.2"),
        ("checkout: {lfs: \"true\"}", "write true without quotes"),
        ("pools: {gpu: 0}", "a pool's slots must be from 1"),
        (
            "shell: bash, run: a | b",
            "`shell: [bash, -euo, pipefail, -c]`",
        ),
        ("command: echo hi", "write it as a list, or use `run`"),
        ("build: [a]", "write `build: .`"),
        ("build: {args: x}", "build arguments must be a map"),
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
