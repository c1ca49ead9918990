//! F11: Docker does what it is asked and the answer is lost. Nothing runs twice, nothing is left.

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::trials::Trials;

use crate::{BOUND, judge};

/// Every call that changes something, and how often its answers are lost.
const CALLS: [(&str, &str, &str); 4] = [
    ("lost-create", "POST", "/containers/create"),
    ("lost-start", "POST", "/containers/*/start"),
    ("lost-wait", "POST", "/containers/*/wait"),
    ("lost-remove", "DELETE", "/containers/*"),
];

#[test]
fn nothing_runs_twice_and_no_container_is_left() {
    let trials = Trials::new(
        "F11 answers of Docker dropped",
        "0 duplicates, 0 orphans",
        3,
    )
    .long(25);
    let prepare = |trial: trainyard_rig::trials::Trial| {
        Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 8, |_| {
            "sleep 0.2".to_owned()
        })
    };
    let summary = trials.run(
        prepare,
        |_, fleet| {
            let docker = &fleet.first().docker;
            let before = docker.fired().len();
            for (name, method, path) in CALLS {
                let when = Matcher::http(method, path).with_probability(0.5);
                docker.add(Rule::times(name, when, Action::DropAnswer, 6));
            }
            let run = fleet.trigger();
            let _ = fleet.finished(run, BOUND);
            assert!(docker.fired().len() >= before + 8, "{}", docker.record());
            docker.clear();
            judge(fleet, run, None)
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
    let fault = "F11 starts of short programs hung up on";
    short_programs(fault, &Action::HangUp);
}
