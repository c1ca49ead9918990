//! F13: evidence says what killed a stage: itself, the kernel for its use of memory, or a signal from outside.
//!
//! The first process of a container is the init, which the kernel does not choose when memory is short, as it uses
//! none; with a program of its own in that place, Docker reports the kills of the kernel. On the first
//! version of control groups the evidence is the count of kills in `memory.oom_control`.

use serde_json::Value;
use trainyard_rig::engine::PrivateEngine;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::daemon::{signal, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, report};

/// The signal that a stage gets from outside.
type Outside = fn(&PrivateEngine, &str);

/// A stage, its script, what is done to it, and how its end must be reported: outcome, reason, and words.
struct Case {
    name: &'static str,
    work: &'static str,
    outside: Option<Outside>,
    expected: [&'static str; 3],
}

const fn alone(name: &'static str, work: &'static str, expected: [&'static str; 3]) -> Case {
    Case {
        name,
        work,
        outside: None,
        expected,
    }
}

/// A stage that runs until something is done to it.
const fn struck(name: &'static str, outside: Outside, expected: [&'static str; 3]) -> Case {
    Case {
        name,
        work: "exec sleep 600",
        outside: Some(outside),
        expected,
    }
}

const UNKNOWN: [&str; 3] = ["failed", "killed", "cause unknown"];

const MEMORY: [&str; 3] = ["failed", "out_of_memory", "32 MiB"];

const CASES: [Case; 10] = [
    alone("itself", "kill -KILL $$", UNKNOWN),
    // Shells use this exit code if a signal ended their program: which of both it was is unknown.
    alone("own-code", "exit 137", UNKNOWN),
    alone(
        "child",
        "sh -c \"kill -KILL \\$\\$\" || exit 3",
        ["failed", "exit_code", "exit code 3"],
    ),
    alone("memory", "exec tail /dev/zero", MEMORY),
    alone("child-memory", "tail /dev/zero || exit 3", MEMORY),
    // A program that gets over it has not failed.
    alone(
        "child-memory-endured",
        "tail /dev/zero || true",
        ["succeeded", "", ""],
    ),
    struck(
        "killed-container",
        |engine, container| {
            let _ = engine.docker(&["kill", container]);
        },
        ["errored", "killed", "from outside"],
    ),
    struck(
        "killed-first-process",
        |engine, container| signal(engine.first_process(container), "KILL"),
        ["errored", "killed", "from outside"],
    ),
    struck(
        "killed-program",
        |engine, container| {
            for program in engine.programs(container) {
                signal(program, "KILL");
            }
        },
        UNKNOWN,
    ),
    struck(
        "stopped",
        |engine, container| {
            let _ = engine.docker(&["stop", container]);
        },
        ["errored", "killed", "stopped from outside Trainyard"],
    ),
];

#[test]
fn a_killed_stage_is_reported_with_its_killer() {
    let trials = Trials::new("F13 stages killed", "every cause reported correctly", 2).long(25);
    let summary = trials.run(
        |trial| {
            let fleet = Fleet::start(&FleetOptions::new(trial.seed), |witness| {
                let mut text = "stages:\n".to_owned();
                for case in &CASES {
                    let (name, script) = (case.name, witness.script(case.work));
                    text.push_str(&format!(
                        "  {name}: {{image: \"{IMAGE}\", checkout: false, retry: {{attempts: 1}}, \
                         resources: {{memory: 32MiB}}, run: '{script}'}}\n"
                    ));
                }
                vec![("dags/dag.yaml".to_owned(), text)]
            });
            let version = fleet
                .engine
                .docker(&["info", "--format", "{{.CgroupVersion}}"]);
            report(&format!("F13: control groups of version {version}"));
            fleet
        },
        |_, fleet| {
            let run = fleet.trigger();
            for case in &CASES {
                let Some(outside) = case.outside else {
                    continue;
                };
                let attempt = format!("{run}.{}.1", case.name);
                until_true("the start of what is struck", BOUND, || {
                    fleet.witness.accounts().contains_key(&attempt)
                });
                outside(&fleet.engine, &container_of(fleet, case.name));
            }
            let shown = fleet.finished(run, BOUND);
            let mut violations = fleet.violations();
            for case in &CASES {
                let attempt = &stage(&shown, case.name)["attempts"][0];
                if !is_reported_as(attempt, case.expected) {
                    violations.push(format!("{} is reported as {attempt}", case.name));
                }
            }
            Verdict {
                violations,
                recovery: None,
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// The container of a stage, once its program runs. Docker may be the last to know.
fn container_of(fleet: &Fleet, name: &str) -> String {
    until("what is struck", BOUND, || {
        let label = format!("label=io.trainyard.stage={name}");
        let found = fleet.engine.docker(&["ps", "--quiet", "--filter", &label]);
        if found.is_empty() || fleet.engine.programs(&found).is_empty() {
            Err(found)
        } else {
            Ok(found)
        }
    })
}

fn is_reported_as(attempt: &Value, [state, code, words]: [&str; 3]) -> bool {
    let reason = |key: &str| attempt["reason"][key].as_str().unwrap_or_default();
    attempt["state"] == state && reason("code") == code && reason("message").contains(words)
}
