//! F23, the other way: the daemon's work for one run or one repo panics. That run or repo is quarantined with its
//! reason at the third time, the daemon lives, and everything else goes on.

use trainyard_failpoint::PLAN;
use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, timed};

/// Only runs that build an image come to the one place, and only syncs that find something new to the other.
const PANICS: &str = "docker.build_image.before=panic;store.record_push.before=panic";

fn fleet(seed: u64) -> Fleet {
    Fleet::start(&FleetOptions::new(seed), |witness| {
        let script = witness.script("true");
        let plain =
            format!("stages:\n  s: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}\n");
        let builds = "stages:\n  s: {build: {context: image}, run: \"true\"}\n";
        vec![
            ("dags/dag.yaml".to_owned(), plain),
            ("dags/builds.yaml".to_owned(), builds.to_owned()),
            ("image/Dockerfile".to_owned(), format!("FROM {IMAGE}\n")),
        ]
    })
}

/// Waits until the subject is quarantined, and returns the reason.
fn quarantined(fleet: &Fleet, kind: &str, name: &str) -> String {
    until("a quarantine", BOUND, || {
        let listed = fleet.first().get().json(&["quarantine", "list"]);
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .find(|item| item["kind"] == kind && item["name"] == name)
            .map(|item| item["reason"].as_str().unwrap_or_default().to_owned())
            .ok_or_else(|| listed.to_string())
    })
}

#[test]
fn a_subject_that_panics_is_quarantined_and_others_go_on() {
    let trials = Trials::new(
        "F23 the daemon's work for one run or repo panics",
        "quarantined with its reason, the daemon lives, others go on",
        1,
    )
    .long(10)
    .afresh();
    let summary = trials.run(
        |trial| {
            let mut fleet = fleet(trial.seed);
            let daemon = fleet.first_mut();
            let _ = daemon.stop();
            daemon.set_variables(vec![(PLAN.to_owned(), PANICS.to_owned())]);
            daemon.start();
            fleet
        },
        |_, fleet| {
            let daemon = fleet.first().get();
            let builds = daemon.json(&["dag", "trigger", "builds"])["id"].clone();
            // An attempt of another daemon is adopted only after a while: count as if it had panicked twice by then.
            until("the first panic of the run", BOUND, || {
                let counted =
                    "update quarantine set failures = 2 where run is not null returning run";
                match fleet.cluster.sql(counted) {
                    counted if counted.starts_with(&builds.to_string()) => Ok(()),
                    counted => Err(counted),
                }
            });
            fleet.remote.push("main", &[("more", "1")]);
            for _ in 0..3 {
                let synced = daemon.cli(&["repo", "sync", REPO]);
                assert_ne!(synced.code, Some(0), "{synced:?}");
            }
            let mut violations = Vec::new();
            let repo = quarantined(fleet, "repo", REPO);
            let (run, recovery) = timed(|| quarantined(fleet, "run", &builds.to_string()));
            for (who, reason) in [("repo", repo), ("run", run)] {
                if !reason.contains("panicked: injected at") {
                    violations.push(format!("the {who} is quarantined as: {reason}"));
                }
            }
            let other = fleet.trigger();
            let ended = fleet.finished(other, BOUND);
            if ended["state"] != "succeeded" {
                violations.push(format!("a run next to the panicking one: {ended}"));
            }
            if fleet.first_mut().has_died() {
                violations.push("the daemon died".to_owned());
            }
            violations.extend(fleet.violations());
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
