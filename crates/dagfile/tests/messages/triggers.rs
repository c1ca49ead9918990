//! Triggers, filters and names that could never match.

use crate::{check, stage};

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
fn an_abbreviation_of_a_time_zone_gets_a_name_and_not_the_nearest_word() {
    for (text, zone) in [
        ("PST", "America/Los_Angeles"),
        ("cest", "Europe/Berlin"),
        ("JST", "Asia/Tokyo"),
    ] {
        let schedule = format!("{{cron: \"@daily\", timezone: {text}}}");
        let file = format!(
            "triggers: {{schedule: [{schedule}]}}\n{}",
            stage("run: echo")
        );
        let answer = format!("write a name, as in `{zone}`");
        check(&[(&file, &[&answer])]);
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
