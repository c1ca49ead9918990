//! Inputs that may not be there.

use trainyard_dagfile::parse;

/// The warnings of a file that is valid, with the text that each is about.
fn warnings(stages: &str) -> Vec<String> {
    let file = format!(
        "defaults: {{image: alpine:3}}\nparams: {{all: {{type: boolean, default: true}}}}\nstages:\n{stages}"
    );
    let parsed = parse("dags/file.yaml", &file);
    assert!(parsed.dag.is_some(), "{file}\n{:?}", parsed.diagnostics);
    let found = parsed.diagnostics.iter();
    let text = found.map(|found| format!("{}: {}", &file[found.span.clone()], found.message));
    text.collect()
}

#[test]
fn an_input_of_a_stage_that_may_be_skipped_is_a_warning_where_its_stage_runs_all_the_same() {
    let branches = "
  full: {if: params.all, outputs: {d: d}}
  incr: {if: \"!params.all\", outputs: {d: d}}
";
    let join = |run_on: &str| {
        format!(
            "{branches}  train: {{needs: [full, incr], run_on: {run_on}, inputs: {{f: full.d, i: incr.d}}}}\n"
        )
    };
    for run_on in ["always", "[success, failed]"] {
        let found = warnings(&join(run_on));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("full.d: stage `train` also runs where `full` was skipped"),
            "{found:?}"
        );
    }
    assert_eq!(warnings(&join("success")), [""; 0]);
    let behind = format!(
        "{branches}  next: {{needs: [full], outputs: {{d: d}}}}\n  end: {{needs: [next], run_on: always, inputs: {{n: next.d}}}}\n"
    );
    assert_eq!(warnings(&behind).len(), 1);
}

#[test]
fn an_input_of_a_stage_that_runs_unless_something_fails_brings_no_warning() {
    let stages = "
  a: {outputs: {d: {path: d, keep: always}}}
  b: {needs: [a], run_on: always, inputs: {d: a.d}, outputs: {e: e}}
  c: {needs: [b], run_on: [success, failed], inputs: {e: b.e}}
";
    assert_eq!(warnings(stages), [""; 0]);
}
