//! Scripts with pipes, and how they are passed.

use trainyard_core::stage::Command;
use trainyard_dagfile::parse;

use crate::warnings;

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
fn a_pipe_of_which_every_program_counts_brings_no_warning() {
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
fn a_first_line_that_names_another_program_is_a_warning_with_the_shell_to_write() {
    for (line, shell) in [
        ("#!/usr/bin/env python3", "[python3, -c]"),
        ("#!/usr/bin/env -S python3 -u", "[python3, -u, -c]"),
        ("#!/bin/bash", "[bash, -euo, pipefail, -c]"),
        ("#!/bin/bash -e", "[bash, -e, -c]"),
        ("#!/usr/bin/perl", "[perl, -e]"),
    ] {
        let file =
            format!("stages:\n  s:\n    image: x\n    run: |\n      {line}\n      import os\n");
        let found = warnings(&file);
        assert_eq!(found.len(), 1, "{found:?}");
        let begin = format!("{line}: the image's `sh` runs this script");
        let help = format!("(add `shell: {shell}`");
        assert!(
            found[0].starts_with(&begin) && found[0].contains(&help),
            "{found:?}"
        );
    }
    for stage in [
        "image: x, run: \"#!/bin/sh\\ntrue\"",
        "image: x, run: \"# comment\\ntrue\"",
        "image: x, shell: [python3, -c], run: \"#!/usr/bin/env python3\\nimport os\"",
    ] {
        let file = format!("stages: {{s: {{{stage}}}}}");
        assert_eq!(warnings(&file), [""; 0], "{file}");
    }
}

#[test]
fn a_script_that_begins_like_an_option_is_none_of_the_shell() {
    let arguments = |script: &str| {
        let file = format!("stages: {{s: {{image: x, shell: [bash, -c], run: \"{script}\"}}}}");
        let parsed = parse("dags/file.yaml", &file);
        match parsed
            .dag
            .map(|dag| dag.stages()[0].program().command.clone())
        {
            Some(Some(Command::Exec(words))) => words.last().map(|word| word.source().to_owned()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(arguments("-z").as_deref(), Some("\n-z"));
    assert_eq!(arguments("echo").as_deref(), Some("echo"));
}
