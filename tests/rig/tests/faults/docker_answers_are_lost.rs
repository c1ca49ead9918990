//! F11: Docker does what it is asked and the answer is lost. Nothing runs twice, nothing is left.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::trials::Trials;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, report, timed};

/// The stages of a run that ends by itself, and of one that is cancelled.
const STAGES: usize = 8;
const LONG_STAGES: usize = 4;

/// Calls that change something, or wait, of every run, and how likely each answer is lost: where calls are
/// few, every one.
const CALLS: [(&str, &str, &str, f64); 5] = [
    ("lost-create", "POST", "/containers/create", 0.5),
    ("lost-start", "POST", "/containers/*/start", 0.5),
    ("lost-stop", "POST", "/containers/*/stop", 1.0),
    ("lost-wait", "POST", "/containers/*/wait", 0.5),
    ("lost-remove", "DELETE", "/containers/*", 0.5),
];

/// The time that a program that ignores SIGTERM has before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A run that was cancelled is over by then, after the grace.
const OVER: Duration = Duration::from_secs(10);

/// A fleet that knows two DAGs: `dag`, and `long` whose stages end when they are stopped, half of them not before
/// they have to.
fn fleet(seed: u64) -> Fleet {
    let options = FleetOptions {
        more: format!("[stage]\ngrace = \"{}s\"\n", GRACE.as_secs()),
        ..FleetOptions::new(seed)
    };
    Fleet::start(&options, |witness| {
        let dag = |count: usize, work: &dyn Fn(usize) -> String| {
            (1..=count).fold("stages:\n".to_owned(), |text, number| {
                let script = witness.script(&work(number));
                text + &format!(
                    "  s{number}: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}\n"
                )
            })
        };
        let short = dag(STAGES, &|_| "sleep 0.2".to_owned());
        let long = dag(LONG_STAGES, &|number| {
            let trap = if number % 2 == 0 {
                "trap \"\" TERM; "
            } else {
                ""
            };
            format!("{trap}sleep 600")
        });
        vec![
            ("dags/dag.yaml".to_owned(), short),
            ("dags/long.yaml".to_owned(), long),
        ]
    })
}

/// Starts the run that is long, and cancels it once all of it runs. Returns what is wrong with its end.
fn cancelled(fleet: &Fleet) -> Vec<String> {
    let run = fleet.first().get().json(&["dag", "trigger", "long"]);
    let run = run["id"].as_i64().unwrap();
    let of_run = format!("{run}.");
    until_true("the start of what is cancelled", BOUND, || {
        let accounts = fleet.witness.accounts().into_keys();
        accounts
            .filter(|attempt| attempt.starts_with(&of_run))
            .count()
            == LONG_STAGES
    });
    let cancel = ["run", "cancel", &run.to_string()];
    let _ = fleet.first().get().cli(&cancel).good();
    let (ended, took) = timed(|| fleet.finished(run, BOUND));
    let mut violations = Vec::new();
    if ended["state"] != "cancelled" {
        violations.push(format!("the other run was not cancelled: {ended}"));
    }
    if took > within(GRACE + OVER) {
        violations.push(format!("cancelled after {took:?}"));
    }
    violations
}

#[test]
fn nothing_runs_twice_and_no_container_is_left() {
    let trials = Trials::new(
        "F11 answers of Docker dropped",
        "0 duplicates, 0 orphans",
        3,
    )
    .long(25);
    let summary = trials.run(
        |trial| fleet(trial.seed),
        |_, fleet| {
            let docker = &fleet.first().docker;
            let before = docker.fired().len();
            for (name, method, path, probability) in CALLS {
                let when = Matcher::http(method, path).with_probability(probability);
                docker.add(Rule::times(name, when, Action::DropAnswer, 6));
            }
            let run = fleet.trigger();
            let violations = cancelled(fleet);
            let _ = fleet.finished(run, BOUND);
            assert!(docker.fired().len() >= before + 8, "{}", docker.record());
            let lost = CALLS.map(|(name, ..)| format!("{} {name}", docker.count(name)));
            report(&format!("F11: {}", lost.join(", ")));
            assert!(docker.count("lost-stop") > 0, "{}", docker.record());
            docker.clear();
            let mut verdict = judge(fleet, run, None);
            verdict.violations.extend(violations);
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// Strikes the start of each of eight stages that end at once.
fn short_programs(fault: &str, action: &Action) {
    let trials = Trials::new(fault, "0 duplicates", 2).long(20);
    let summary = trials.run(
        |trial| Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 8, |_| "true".to_owned()),
        |_, fleet| {
            let docker = &fleet.first().docker;
            let before = docker.count("start");
            let when = Matcher::http("POST", "/containers/*/start");
            docker.add(Rule::times("start", when, action.clone(), 8));
            let run = fleet.trigger();
            let verdict = judge(fleet, run, None);
            assert_eq!(docker.count("start"), before + 8);
            docker.clear();
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_program_that_ends_at_once_runs_once_though_its_start_was_not_confirmed() {
    let fault = "F11 answers to starts of short programs dropped";
    short_programs(fault, &Action::DropAnswer);
}

#[test]
fn a_start_that_is_tried_again_while_the_engine_is_at_it_happens_once() {
    let fault = "F11 connections cut at starts of short programs";
    short_programs(fault, &Action::HangUp);
}
