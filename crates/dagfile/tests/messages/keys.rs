//! Keys: those of other systems, unknown ones, and merge keys.

use crate::{check, stage};

#[test]
fn keys_of_other_systems_get_what_to_do_instead() {
    for (key, answer) in [
        (
            "runs-on: ubuntu-latest",
            "there are no runners to choose; stages share what is scarce by `pools`",
        ),
        ("steps: [{run: echo}]", "one `run` of several lines"),
        ("uses: actions/checkout@v4", "there are no actions"),
        (
            "continue-on-error: true",
            "`run_on: [success, failed]`; the run fails all the same",
        ),
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
