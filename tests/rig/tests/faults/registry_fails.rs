//! F27: the image registry refuses, fails, is slow or silent, or closes the connection in the middle of a layer, and
//! an image that was there disappears. Transient errors are retried by the retry rule, final ones are reported at
//! once, nothing is stuck longer than a pull may be idle, and other runs do not wait for it.

use std::time::Duration;

use serde_json::Value;
use trainyard_rig::engine::EngineOptions;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::registry::{Fault, Part, Registry};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::daemon::stage;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, report, timed};

/// How long a pull may be idle here, in seconds.
const IDLE: u64 = 4;

/// The longest that another run may take meanwhile.
const BESIDE: Duration = Duration::from_secs(10);

/// The fault of an image's pull.
#[derive(Clone, Copy)]
enum Ending {
    /// It is tried again, by the retry rule, until the registry is well; each failure says these words.
    Retried(&'static str),
    /// It ends as errored at once, with these words.
    Final(&'static str),
    /// Docker makes up for it by itself.
    Unnoticed,
}

/// An image with what is wrong about it.
struct Case {
    name: &'static str,
    part: Part,
    fault: Fault,
    ending: Ending,
}

const fn case(name: &'static str, part: Part, fault: Fault, ending: Ending) -> Case {
    Case {
        name,
        part,
        fault,
        ending,
    }
}

const BROKEN: &str = "could not be pulled from its registry";

const REFUSALS: [Case; 7] = [
    case(
        "too-many",
        Part::Manifest,
        Fault::Status(429),
        Ending::Retried("rate-limited the pull"),
    ),
    case(
        "out-of-order",
        Part::Manifest,
        Fault::Status(503),
        Ending::Retried(BROKEN),
    ),
    case(
        "at-a-loss",
        Part::Manifest,
        Fault::Status(500),
        Ending::Retried(BROKEN),
    ),
    case(
        "unknown",
        Part::Manifest,
        Fault::Status(404),
        Ending::Final("there is no image"),
    ),
    case(
        "locked",
        Part::Manifest,
        Fault::Status(401),
        Ending::Final("without a login"),
    ),
    // Once, which Docker makes up for; and for longer than it tries again.
    case("cut", Part::Layer, Fault::Half, Ending::Unnoticed),
    case(
        "cut-for-long",
        Part::Layer,
        Fault::Half,
        Ending::Retried(BROKEN),
    ),
];

const SILENCE: &str = "made no progress for 4 s";

const SILENCES: [Case; 3] = [
    case(
        "silent-manifest",
        Part::Manifest,
        Fault::Silence,
        Ending::Retried(SILENCE),
    ),
    case(
        "silent-layer",
        Part::Layer,
        Fault::Silence,
        Ending::Retried(SILENCE),
    ),
    // Longer in all than a pull may be idle, and never idle for so long.
    case(
        "slow",
        Part::Layer,
        Fault::Slow {
            pieces: 12,
            pause: Duration::from_millis(500),
        },
        Ending::Unnoticed,
    ),
];

/// A fleet with a stage for each case, and another DAG.
fn fleet(seed: u64, registry: &Registry, cases: &[Case]) -> Fleet {
    let options = FleetOptions {
        more: format!("docker.pull_idle = \"{IDLE}s\"\n{}", registry.permission()),
        engine: EngineOptions {
            download_attempts: Some(1),
            ..EngineOptions::default()
        },
        ..FleetOptions::new(seed)
    };
    Fleet::start(&options, |witness| {
        let script = witness.script("true");
        let mut text = "defaults: {checkout: false, retry: {attempts: 9, backoff: 1s, factor: 2, on: [errored]}}\n\
                        stages:\n"
            .to_owned();
        for case in cases {
            let image = registry.reference(case.name);
            text.push_str(&format!(
                "  {}: {{image: \"{image}\", pull: always, run: '{script}'}}\n",
                case.name
            ));
        }
        let beside =
            format!("stages: {{s: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}}}\n");
        vec![
            ("dags/dag.yaml".to_owned(), text),
            ("dags/beside.yaml".to_owned(), beside),
        ]
    })
}

/// The reasons of a stage's attempts that ended as errored.
fn errors(shown: &Value, name: &str) -> Vec<String> {
    stage(shown, name)["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|attempt| attempt["state"] == "errored")
        .map(|attempt| {
            format!(
                "{}: {}",
                attempt["reason"]["code"].as_str().unwrap_or_default(),
                attempt["reason"]["message"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

/// One trial of all of these at once.
fn attempt(seed: u64, fleet: &Fleet, registry: &Registry, cases: &[Case]) -> Verdict {
    for (case, seed) in cases.iter().zip(seed..) {
        // New content: what Docker has already it does not fetch.
        let _ = registry.publish(case.name, seed);
        registry.misbehave(case.name, case.part, case.fault);
    }
    let run = fleet.trigger();
    let (_, beside) = timed(|| {
        let run = fleet.first().get().json(&["dag", "trigger", "beside"]);
        fleet.finished(run["id"].as_i64().unwrap(), BOUND)
    });
    let shown = || fleet.first().get().json(&["run", "show", &run.to_string()]);
    for case in cases {
        match case.ending {
            Ending::Retried(_) => {
                until("two tries that failed", BOUND, || {
                    let errors = errors(&shown(), case.name);
                    if errors.len() >= 2 {
                        Ok(())
                    } else {
                        Err(format!("{} {errors:?}", case.name))
                    }
                });
            }
            Ending::Final(_) => {}
            Ending::Unnoticed => until_true(case.name, BOUND, || {
                registry.asked(case.name, case.part) > 0
            }),
        }
        if !matches!(case.fault, Fault::Slow { .. }) {
            registry.heal(case.name);
        }
    }
    let (shown, recovery) = timed(|| fleet.finished(run, BOUND));
    let mut violations = fleet.violations();
    for case in cases {
        let (name, errors) = (case.name, errors(&shown, case.name));
        let state = stage(&shown, name)["state"].as_str().unwrap_or_default();
        let (expected, right) = match case.ending {
            Ending::Retried(words) => {
                let fits =
                    |error: &String| error.starts_with("image_pull: ") && error.contains(words);
                ("succeeded", errors.len() >= 2 && errors.iter().all(fits))
            }
            Ending::Final(words) => {
                let fits = errors
                    .iter()
                    .all(|error| error.starts_with("image_not_found: ") && error.contains(words));
                ("errored", errors.len() == 1 && fits)
            }
            Ending::Unnoticed => ("succeeded", errors.is_empty()),
        };
        if state != expected || !right {
            violations.push(format!("{name} {state}: {errors:?}"));
        }
    }
    report(&format!("F27: another run took {beside:.2?}"));
    if beside > within(BESIDE) {
        violations.push(format!("another run took {beside:?}"));
    }
    violations.extend(impatience(fleet, run));
    Verdict {
        violations,
        recovery: Some(recovery),
    }
}

/// Tries that were not apart as the retry rule says, or that were stuck.
fn impatience(fleet: &Fleet, run: i64) -> Vec<String> {
    let found = fleet.cluster.sql(&format!(
        "select s.name || ' ' || n.number || ' after ' || n.claimed_at - a.finished_at
         from attempt a join attempt n on (n.run, n.stage, n.number) = (a.run, a.stage, a.number + 1)
         join stage_run s on s.run = a.run and s.position = a.stage
         where a.run = {run} and n.claimed_at < a.finished_at + interval '1 s' * power(2, a.number - 1)
         union all
         select s.name || ' ' || a.number || ' was stuck for ' || a.finished_at - a.claimed_at
         from attempt a join stage_run s on s.run = a.run and s.position = a.stage
         where a.run = {run} and a.outcome = 'errored' and a.finished_at > a.claimed_at + interval '{} s'",
        IDLE + 5
    ));
    found.lines().map(ToOwned::to_owned).collect()
}

fn registry_that(fault: &str, cases: &'static [Case]) {
    let trials = Trials::new(
        fault,
        "retried or reported correctly, 0 stuck longer than a pull may be idle",
        1,
    )
    .long(20);
    let registry = Registry::start();
    let summary = trials.run(
        |trial| fleet(trial.seed, &registry, cases),
        |trial, fleet| attempt(trial.seed >> 8, fleet, &registry, cases),
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn transient_refusals_are_retried_and_final_ones_reported_at_once() {
    registry_that("F27 registry refuses", &REFUSALS);
}

#[test]
fn a_silent_pull_is_cancelled_and_a_slow_one_is_not() {
    registry_that("F27 registry silent", &SILENCES);
}

#[test]
fn an_image_that_goes_before_its_container_comes_is_fetched_again() {
    let trials = Trials::new(
        "F27 image removed before its container is made",
        "fetched again by the retry rule",
        1,
    )
    .long(20);
    let registry = Registry::start();
    let cases = [case("gone", Part::Layer, Fault::Half, Ending::Unnoticed)];
    let summary = trials.run(
        |trial| fleet(trial.seed, &registry, &cases),
        |trial, fleet| {
            // Docker gets what all containers need first.
            let beside = fleet.first().get().json(&["dag", "trigger", "beside"]);
            let _ = fleet.finished(beside["id"].as_i64().unwrap(), BOUND);
            let image = registry.publish("gone", trial.seed);
            let docker = &fleet.first().docker;
            let by = Duration::from_secs(2);
            let jitter = Duration::ZERO;
            let slow = Action::Delay { by, jitter };
            let create = Matcher::http("POST", "/containers/create");
            docker.add(Rule::once("create", create, slow));
            let run = fleet.trigger();
            docker.until_fired("create", 1, BOUND);
            let _ = fleet.engine.docker(&["rmi", &image]);
            let (shown, recovery) = timed(|| fleet.finished(run, BOUND));
            docker.clear();
            let mut violations = fleet.violations();
            let errors = errors(&shown, "gone");
            let ending = errors
                .iter()
                .all(|error| error.contains("was removed from the Docker engine"));
            if shown["state"] != "succeeded" || errors.len() != 1 || !ending {
                violations.push(format!("it ended so: {shown}"));
            }
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
