//! F13: who killed a stage is told by evidence: itself, the kernel for its use of memory, or somebody
//! from outside.

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::{until, until_true};

use crate::BOUND;

/// Stages, what they run, and what their end must be told as: outcome and reason.
const STAGES: [(&str, &str, [&str; 2]); 5] = [
    ("itself", "kill -KILL $$", ["failed", "killed"]),
    (
        "child",
        "sh -c \"kill -KILL \\$\\$\" || exit 3",
        ["failed", "exit_code"],
    ),
    ("memory", "exec tail /dev/zero", ["failed", "out_of_memory"]),
    (
        "child-memory",
        "tail /dev/zero || exit 3",
        ["failed", "out_of_memory"],
    ),
    ("outside", "sleep 600", ["errored", "killed"]),
];

#[test]
fn a_killed_stage_is_told_by_who_killed_it() {
    let trials = Trials::new("F13 stages killed", "every cause told rightly", 2).long(25);
    let summary = trials.run(
        |trial| {
            Fleet::start(&FleetOptions::new(trial.seed), |witness| {
                let mut text = "stages:\n".to_owned();
                for (name, work, _) in STAGES {
                    let script = witness.script(work);
                    text.push_str(&format!(
                        "  {name}: {{image: \"{IMAGE}\", checkout: false, retry: {{attempts: 1}}, \
                         resources: {{memory: 32MiB}}, run: '{script}'}}\n"
                    ));
                }
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |_, fleet| {
            let run = fleet.trigger();
            let outside = format!("{run}.outside.1");
            until_true("the start of what is killed", BOUND, || {
                fleet.witness.accounts().contains_key(&outside)
            });
            // The engine may be the last to know that it runs.
            let container = until("what is killed", BOUND, || {
                let label = "label=io.trainyard.stage=outside";
                let found = fleet.engine.docker(&["ps", "--quiet", "--filter", label]);
                let found = found.trim().to_owned();
                if found.is_empty() {
                    Err(found)
                } else {
                    Ok(found)
                }
            });
            let _ = fleet.engine.docker(&["kill", &container]);
            let shown = fleet.finished(run, BOUND);
            let stages = shown["stages"].as_array().unwrap();
            let mut violations = fleet.violations();
            for (name, _, expected) in STAGES {
                let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
                let attempt = &stage["attempts"][0];
                let told = [&attempt["state"], &attempt["reason"]["code"]];
                if told != expected {
                    violations.push(format!("{name} is told as {attempt}"));
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
