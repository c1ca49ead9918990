//! Values that other systems would expand.

use crate::{stage, warnings};

/// Files of one stage with one warning, and a part of it.
#[track_caller]
fn warned(rows: &[(&str, &str)]) {
    for (says, wanted) in rows {
        let found = warnings(&stage(says));
        assert_eq!(found.len(), 1, "{says}: {found:?}");
        assert!(found[0].contains(wanted), "{found:?}");
    }
}

#[test]
fn a_variable_where_no_shell_reads_it_is_a_warning() {
    warned(&[
        (
            "run: a, env: {PATH: \"/opt/tool/bin:$PATH\"}",
            "$PATH: `$PATH` in the variable `PATH` is not expanded: no shell reads it (in `run` the shell expands it",
        ),
        ("run: a, env: {DATA: \"$INPUTS/raw\"}", "`$INPUTS`"),
        ("run: a, env: {DATA: \"${OUTPUTS}\"}", "`${OUTPUTS}`"),
        ("run: a, env: {OPTS: \"-Dhome=$HOME\"}", "`$HOME`"),
        (
            "command: [train, \"--out=$OUTPUTS/model\"]",
            "`$OUTPUTS` in `command`",
        ),
        (
            "command: [train, --out, $OUTPUTS]",
            "`$OUTPUTS` in `command`",
        ),
        (
            "run: a, env: {A: \"${{ cause.branch }}:$HOME\"}",
            "$HOME: `$HOME` in the variable `A`",
        ),
    ]);
    let file = "stages: {a: {build: {context: ., args: {DIR: \"$HOME/x\"}}, run: a}}";
    assert!(warnings(file)[0].contains("the build argument `DIR`"));
}

#[test]
fn jinja_is_a_warning_with_what_to_write() {
    warned(&[
        (
            "run: \"train {{ params.epochs }}\"",
            "$TRAINYARD_PARAM_NAME",
        ),
        ("run: \"train --date {{ ds }}\"", "$TRAINYARD_LOGICAL_TIME"),
        (
            "run: a, env: {DAY: \"{{ ds_nodash }}\"}",
            "${{ cause.logical_time }}",
        ),
        (
            "run: a, env: {E: \"{{params.epochs}}\"}",
            "`${{ params.NAME }}` in `env`",
        ),
        (
            "run: a, env: {B: \"{{ cause.branch }}\"}",
            "write `${{ … }}` in `env`",
        ),
        ("command: [train, \"{{ run_id }}\"]", "$TRAINYARD_RUN_ID"),
    ]);
}

#[test]
fn values_that_are_meant_as_they_are_bring_no_warning() {
    for says in [
        "run: \"echo $PATH ${HOME} {{ x }}\"",
        "run: \"docker ps --format '{{ .Names }}' | cat\"",
        "run: \"python -c 'print(f\\\"{{x}}\\\")'\"",
        "command: [sh, -c, $CMD]",
        "command: [/bin/bash, -c, \"$HOME/x\"]",
        "command: [awk, \"{print $NF}\"]",
        "run: a, env: {PASSWORD: \"pa$WORD:x$\"}",
        "run: a, env: {PASSWORD: \"a$$HOME\"}",
        "run: a, env: {PRICE: \"$5\", LOG: \"$host:$remote_addr\"}",
        "run: a, env: {FORMAT: \"{{ .Names }} {{x}} {}\"}",
        "run: a, env: {A: '${{ \"$HOME\" }}', B: \"${{ params.n }}\"}",
    ] {
        let file = format!(
            "params: {{n: {{type: integer, default: 1}}}}\n{}",
            stage(says)
        );
        assert_eq!(warnings(&file), [""; 0], "{file}");
    }
}
