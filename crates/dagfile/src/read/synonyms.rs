//! Words that people bring from elsewhere. They are never accepted, only reported with the right one.

use crate::document::{self, FORMS, Form};

/// Keys of other systems that have no counterpart, or one of another form: the map, its foreign keys, and what to do.
const FOREIGN: &[(&Form, &[&str], &str)] = &[
    (
        document::Stage::FORM,
        &["runs_on", "tags"],
        "leave it out: there are no runners to choose; stages share what is scarce by `pools`",
    ),
    (
        document::Stage::FORM,
        &["agent"],
        "leave it out: there are no agents to choose; stages share what is scarce by `pools`",
    ),
    (
        document::Stage::FORM,
        &["steps"],
        "a stage has one `run` of several lines: `run: |`",
    ),
    (
        document::Stage::FORM,
        &["uses"],
        "there are no actions: choose an `image` that has the program, and `run` it",
    ),
    (
        document::Stage::FORM,
        &["with"],
        "there are no actions: pass values by `env`",
    ),
    (
        document::Stage::FORM,
        &["name", "id"],
        "leave it out: a stage is named by its key under `stages`",
    ),
    (
        document::Stage::FORM,
        &["before_script"],
        "write it at the beginning of `run`",
    ),
    (
        document::Stage::FORM,
        &["after_script"],
        "write it at the end of `run`, or in a stage with `run_on: [always]`",
    ),
    (
        document::Stage::FORM,
        &["continue_on_error", "allow_failure"],
        "stages that need this one say `run_on: [success, failed]`; the run fails all the same",
    ),
    (
        document::Stage::FORM,
        &["trigger_rule"],
        "write `run_on`: success, failed or always",
    ),
    (
        document::Stage::FORM,
        &["only"],
        "write `if`, as in `if: cause.branch == \"main\"`, or `branches` of the push trigger",
    ),
    (
        document::Stage::FORM,
        &["except"],
        "write `if`, as in `if: cause.branch != \"main\"`, or `branches` of the push trigger",
    ),
    (
        document::Stage::FORM,
        &["rules"],
        "write `if`, as in `if: cause.branch == \"main\"`",
    ),
    (
        document::Stage::FORM,
        &["strategy"],
        "a stage runs once; write one stage for each value",
    ),
    (
        document::Stage::FORM,
        &["parallel"],
        "stages that do not need each other run at the same time; write one for each",
    ),
    (
        document::Stage::FORM,
        &["working_directory", "working_dir", "workdir", "cwd"],
        "write `cd FOLDER` at the beginning of `run`",
    ),
    (
        document::Stage::FORM,
        &["volumes", "mounts"],
        "stages see no folders of the host; files go from stage to stage by `outputs` and `inputs`",
    ),
    (
        document::Stage::FORM,
        &["privileged"],
        "leave it out: stages have no privileges",
    ),
    (
        document::Stage::FORM,
        &["cap_add"],
        "leave it out: the daemon's configuration says which capabilities stages have",
    ),
    (
        document::Stage::FORM,
        &["network"],
        "leave it out: stages of a repo share a network of their own",
    ),
    (
        document::Stage::FORM,
        &["user"],
        "say in the Dockerfile as which user the image runs",
    ),
    (
        document::Stage::FORM,
        &["ports"],
        "leave it out: stages are not reached from outside",
    ),
    (
        document::Stage::FORM,
        &["permissions"],
        "leave it out: stages get those `secrets` that they name, and no other rights",
    ),
    (
        document::Stage::FORM,
        &["dockerfile"],
        "write `build: {dockerfile: …}`",
    ),
    (
        document::Stage::FORM,
        &["context"],
        "write `build: {context: …}`",
    ),
    (
        document::Stage::FORM,
        &["schedule"],
        "schedules are the DAG's: `triggers: {schedule: [{cron: …}]}`",
    ),
    (
        document::Stage::FORM,
        &["concurrency"],
        "runs are limited for the whole DAG: `concurrency` next to `stages`; stages share `pools`",
    ),
    (
        document::Stage::FORM,
        &["memory"],
        "write `resources: {memory: …}`",
    ),
    (
        document::Stage::FORM,
        &["cpus"],
        "write `resources: {cpus: …}`",
    ),
    (
        document::Dag::FORM,
        &["image"],
        "write `defaults: {image: …}` for all stages, or `image` in each",
    ),
    (
        document::Dag::FORM,
        &["build"],
        "write `defaults: {build: …}` for all stages, or `build` in each",
    ),
    (
        document::Dag::FORM,
        &["secrets"],
        "write `defaults: {secrets: […]}` for all stages, or `secrets` in each",
    ),
    (
        document::Dag::FORM,
        &["retry"],
        "write `defaults: {retry: …}` for all stages, or `retry` in each",
    ),
    (
        document::Dag::FORM,
        &["resources"],
        "write `defaults: {resources: …}` for all stages, or `resources` in each",
    ),
    (
        document::Dag::FORM,
        &["default_args", "default"],
        "write `defaults`",
    ),
    (
        document::Dag::FORM,
        &["max_active_runs"],
        "write `concurrency: {limit: …}`",
    ),
    (
        document::Dag::FORM,
        &["catchup"],
        "write `missed: all` or `missed: none` in the schedule",
    ),
    (
        document::Dag::FORM,
        &["start_date"],
        "leave it out: a schedule starts when the file is on the followed branch",
    ),
    (
        document::Dag::FORM,
        &["schedule_interval"],
        "write `triggers: {schedule: [{cron: …}]}`",
    ),
    (document::Dag::FORM, &["dag_id"], "write `name`"),
    (
        document::Dag::FORM,
        &["version"],
        "leave it out: the format has no versions",
    ),
    (
        document::Dag::FORM,
        &["workflow_dispatch"],
        "leave it out: starting by hand is always possible, and its inputs are `params`",
    ),
    (
        document::Dag::FORM,
        &["permissions"],
        "leave it out: stages get those `secrets` that they name, and no other rights",
    ),
    (
        document::Triggers::FORM,
        &["workflow_dispatch"],
        "leave it out: starting by hand is always possible, and its inputs are `params` of the DAG",
    ),
    (
        document::Triggers::FORM,
        &["workflow_call"],
        "leave it out: DAGs do not call each other",
    ),
    (
        document::Triggers::FORM,
        &["branches"],
        "write `push: {branches: […]}`",
    ),
    (
        document::Triggers::FORM,
        &["paths"],
        "write `push: {paths: […]}`",
    ),
    (
        document::Push::FORM,
        &["branches_ignore"],
        "exclusions are not supported; list the branches that start runs",
    ),
    (
        document::Push::FORM,
        &["paths_ignore"],
        "exclusions are not supported; list the paths that start runs",
    ),
    (
        document::Push::FORM,
        &["tags"],
        "leave it out: tags start no runs yet",
    ),
    (
        document::Concurrency::FORM,
        &["cancel_in_progress"],
        "write `overlap: cancel_running`",
    ),
    (
        document::Resources::FORM,
        &["limits"],
        "write the limits themselves, as in `{cpus: 2, memory: 4GiB}`",
    ),
];

/// The help for a key of another system in this map.
pub(super) fn foreign(written: &str, form: &Form) -> Option<&'static str> {
    let folded = folded(written);
    let (_, _, help) = FOREIGN
        .iter()
        .find(|(of, words, _)| of.name == form.name && words.contains(&&*folded))?;
    Some(help)
}

fn folded(written: &str) -> String {
    written.to_ascii_lowercase().replace('-', "_")
}

/// The key of this map that `written` stands for.
pub(super) fn right_word(written: &str, form: &Form) -> Option<&'static str> {
    let folded = folded(written);
    if let Some(key) = form.key(&folded) {
        return Some(key.name);
    }
    // A word may stand for another one in two places: take the first that fits here.
    let mut word = folded.as_str();
    for _ in 0..2 {
        let mut keys = FORMS.iter().flat_map(|form| form.keys);
        let right = keys.find(|key| key.also.contains(&word))?.name;
        if form.key(right).is_some() {
            return Some(right);
        }
        word = right;
    }
    None
}
