//! Expressions.

use crate::{check, stage};

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
        (&file("{group: }"), &["`group` must be a text, not empty"]),
        (&file("{group: github.ref}"), &["write `cause.branch`"]),
    ]);
}

#[test]
fn the_mark_of_an_expression_can_be_written_as_a_text() {
    let file = stage("env: {A: '${{ \"$\" }}{{ x }}'}, run: \"printf '%s' '$''{{ x }}'\"");
    check(&[(&file, &[])]);
}
