//! Words that people bring from elsewhere. They are never accepted, only reported with the right one.

const SYNONYMS: [(&str, &str); 57] = [
    ("after", "needs"),
    ("artifacts", "outputs"),
    ("branch", "branches"),
    ("build_args", "args"),
    ("cmd", "command"),
    ("commands", "run"),
    ("condition", "if"),
    ("container", "image"),
    ("cpu", "cpus"),
    ("cron", "schedule"),
    ("crons", "schedule"),
    ("dependencies", "needs"),
    ("depends", "needs"),
    ("depends_on", "needs"),
    ("docker", "image"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("file", "dockerfile"),
    ("files", "paths"),
    ("gates", "gate"),
    ("img", "image"),
    ("input", "inputs"),
    ("jobs", "stages"),
    ("max_parallel", "limit"),
    ("mem", "memory"),
    ("memory_limit", "memory"),
    ("needed", "needs"),
    ("on", "triggers"),
    ("output", "outputs"),
    ("parameters", "params"),
    ("path", "paths"),
    ("ram", "memory"),
    ("requires", "needs"),
    ("retries", "retry"),
    ("schedule", "triggers"),
    ("schedules", "triggers"),
    ("script", "run"),
    ("secret", "secrets"),
    ("shm_size", "shm"),
    ("steps", "stages"),
    ("tasks", "stages"),
    ("timeout_minutes", "timeout"),
    ("timezones", "timezone"),
    ("trigger", "triggers"),
    ("tz", "timezone"),
    ("variables", "env"),
    ("when", "if"),
    ("enum", "choices"),
    ("options", "choices"),
    ("max_runs", "limit"),
    ("wait", "backoff"),
    ("retry_delay", "backoff"),
    ("delay", "backoff"),
    ("max_retries", "attempts"),
    ("count", "attempts"),
    ("times", "attempts"),
    ("max_attempts", "attempts"),
];

/// Keys of other systems that have no counterpart, or one of another form: the key, a key of the maps that the entry
/// applies to, and what to do.
const FOREIGN: [(&str, &str, &str); 60] = [
    // Stages.
    (
        "runs_on",
        "needs",
        "leave it out: there are no runners to choose; stages share what is scarce by `pools`",
    ),
    (
        "tags",
        "needs",
        "leave it out: there are no runners to choose; stages share what is scarce by `pools`",
    ),
    (
        "agent",
        "needs",
        "leave it out: there are no agents to choose; stages share what is scarce by `pools`",
    ),
    (
        "steps",
        "needs",
        "a stage has one `run` of several lines: `run: |`",
    ),
    (
        "uses",
        "needs",
        "there are no actions: choose an `image` that has the program, and `run` it",
    ),
    (
        "with",
        "needs",
        "there are no actions: pass values by `env`",
    ),
    (
        "name",
        "needs",
        "leave it out: a stage is named by its key under `stages`",
    ),
    (
        "id",
        "needs",
        "leave it out: a stage is named by its key under `stages`",
    ),
    (
        "before_script",
        "needs",
        "write it at the beginning of `run`",
    ),
    (
        "after_script",
        "needs",
        "write it at the end of `run`, or in a stage with `run_on: [always]`",
    ),
    (
        "continue_on_error",
        "needs",
        "stages that need this one say `run_on: [success, failed]`; the run fails all the same",
    ),
    (
        "allow_failure",
        "needs",
        "stages that need this one say `run_on: [success, failed]`; the run fails all the same",
    ),
    (
        "trigger_rule",
        "needs",
        "write `run_on`: success, failed or always",
    ),
    (
        "only",
        "needs",
        "write `if`, as in `if: cause.branch == \"main\"`, or `branches` of the push trigger",
    ),
    (
        "except",
        "needs",
        "write `if`, as in `if: cause.branch != \"main\"`, or `branches` of the push trigger",
    ),
    (
        "rules",
        "needs",
        "write `if`, as in `if: cause.branch == \"main\"`",
    ),
    (
        "strategy",
        "needs",
        "a stage runs once; write one stage for each value",
    ),
    (
        "parallel",
        "needs",
        "stages that do not need each other run at the same time; write one for each",
    ),
    (
        "working_directory",
        "needs",
        "write `cd FOLDER` at the beginning of `run`",
    ),
    (
        "working_dir",
        "needs",
        "write `cd FOLDER` at the beginning of `run`",
    ),
    (
        "workdir",
        "needs",
        "write `cd FOLDER` at the beginning of `run`",
    ),
    (
        "cwd",
        "needs",
        "write `cd FOLDER` at the beginning of `run`",
    ),
    (
        "volumes",
        "needs",
        "stages see no folders of the host; files go from stage to stage by `outputs` and `inputs`",
    ),
    (
        "mounts",
        "needs",
        "stages see no folders of the host; files go from stage to stage by `outputs` and `inputs`",
    ),
    (
        "privileged",
        "needs",
        "leave it out: stages have no privileges",
    ),
    (
        "cap_add",
        "needs",
        "leave it out: the daemon's configuration says which capabilities stages have",
    ),
    (
        "network",
        "needs",
        "leave it out: stages of a repo share a network of their own",
    ),
    (
        "user",
        "needs",
        "say in the Dockerfile as which user the image runs",
    ),
    (
        "ports",
        "needs",
        "leave it out: stages are not reached from outside",
    ),
    (
        "permissions",
        "needs",
        "leave it out: stages get those `secrets` that they name, and no other rights",
    ),
    ("dockerfile", "needs", "write `build: {dockerfile: …}`"),
    ("context", "needs", "write `build: {context: …}`"),
    (
        "schedule",
        "needs",
        "schedules are the DAG's: `triggers: {schedule: [{cron: …}]}`",
    ),
    (
        "concurrency",
        "needs",
        "runs are limited for the whole DAG: `concurrency` next to `stages`; stages share `pools`",
    ),
    ("memory", "needs", "write `resources: {memory: …}`"),
    ("cpus", "needs", "write `resources: {cpus: …}`"),
    // The file.
    (
        "image",
        "stages",
        "write `defaults: {image: …}` for all stages, or `image` in each",
    ),
    (
        "build",
        "stages",
        "write `defaults: {build: …}` for all stages, or `build` in each",
    ),
    (
        "secrets",
        "stages",
        "write `defaults: {secrets: […]}` for all stages, or `secrets` in each",
    ),
    (
        "retry",
        "stages",
        "write `defaults: {retry: …}` for all stages, or `retry` in each",
    ),
    (
        "resources",
        "stages",
        "write `defaults: {resources: …}` for all stages, or `resources` in each",
    ),
    ("default_args", "stages", "write `defaults`"),
    ("default", "stages", "write `defaults`"),
    (
        "max_active_runs",
        "stages",
        "write `concurrency: {limit: …}`",
    ),
    (
        "catchup",
        "stages",
        "write `missed: all` or `missed: none` in the schedule",
    ),
    (
        "start_date",
        "stages",
        "leave it out: a schedule starts when the file is on the followed branch",
    ),
    (
        "schedule_interval",
        "stages",
        "write `triggers: {schedule: [{cron: …}]}`",
    ),
    ("dag_id", "stages", "write `name`"),
    (
        "version",
        "stages",
        "leave it out: the format has no versions",
    ),
    (
        "workflow_dispatch",
        "stages",
        "leave it out: starting by hand is always possible, and its inputs are `params`",
    ),
    (
        "permissions",
        "stages",
        "leave it out: stages get those `secrets` that they name, and no other rights",
    ),
    // Triggers.
    (
        "workflow_dispatch",
        "schedule",
        "leave it out: starting by hand is always possible, and its inputs are `params` of the DAG",
    ),
    (
        "workflow_call",
        "schedule",
        "leave it out: DAGs do not call each other",
    ),
    ("branches", "schedule", "write `push: {branches: […]}`"),
    ("paths", "schedule", "write `push: {paths: […]}`"),
    (
        "branches_ignore",
        "paths",
        "exclusions are not supported; list the branches that start runs",
    ),
    (
        "paths_ignore",
        "paths",
        "exclusions are not supported; list the paths that start runs",
    ),
    ("tags", "paths", "leave it out: tags start no runs yet"),
    // The rest.
    (
        "cancel_in_progress",
        "overlap",
        "write `overlap: cancel_running`",
    ),
    (
        "limits",
        "memory",
        "write the limits themselves, as in `{cpus: 2, memory: 4GiB}`",
    ),
];

/// The help for a key of another system among `keys`.
pub(super) fn foreign(written: &str, keys: &[&'static str]) -> Option<&'static str> {
    let folded = folded(written);
    let (_, _, help) = FOREIGN
        .iter()
        .find(|(word, key, _)| *word == folded && keys.contains(key))?;
    Some(help)
}

/// Those keys that this version supports, and does not refuse.
pub(super) fn working(keys: &[&'static str]) -> impl Iterator<Item = &'static str> {
    keys.iter()
        .copied()
        .filter(|key| !super::unsupported::KEYS.contains(key))
}

fn folded(written: &str) -> String {
    written.to_ascii_lowercase().replace('-', "_")
}

/// The key among `keys` that `written` stands for.
pub(super) fn right_word(written: &str, keys: &[&'static str]) -> Option<&'static str> {
    let folded = folded(written);
    if let Some(key) = keys.iter().find(|key| **key == folded) {
        return Some(key);
    }
    // A word may stand for another one in two places: take the first that fits here.
    let mut word = folded.as_str();
    for _ in 0..2 {
        let (_, right) = SYNONYMS.iter().find(|(synonym, _)| *synonym == word)?;
        if let Some(key) = keys.iter().find(|key| *key == right) {
            return Some(key);
        }
        word = right;
    }
    None
}
