//! F6: Postgres commits and the answer is lost. The daemon reads what is there and goes on; nothing
//! is recorded twice and nothing runs twice.

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::proxy::{Action, Matcher, Pattern, Rule};
use trainyard_rig::trials::{Trials, Verdict};

use crate::{BOUND, judge};

fn tried(fault: &str, pattern: &Pattern, probability: f64, at_least: usize) {
    let trials = Trials::new(fault, "0 duplicate rows, 0 duplicates", 3).long(50);
    let summary = trials.run(
        |trial| {
            Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 8, |_| {
                "sleep 0.2".to_owned()
            })
        },
        |_, fleet| {
            let before = fleet.first().postgres.fired().len();
            let lost = || fleet.first().postgres.fired().len() - before;
            let mut verdict = Verdict::default();
            // Ends that come together are one commit, so that one run may lose few answers.
            while lost() < at_least {
                // The trigger is the caller's to repeat: its answer is not at stake here.
                let run = fleet.trigger();
                let postgres = &fleet.first().postgres;
                let when = Matcher::requests(pattern.clone()).with_probability(probability);
                postgres.add(Rule::times("lost-answer", when, Action::DropAnswer, 12));
                let _ = fleet.finished(run, BOUND);
                postgres.clear();
                verdict
                    .violations
                    .extend(judge(fleet, run, None).violations);
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_commit_without_an_answer_is_found_out() {
    tried("F6 answers to COMMIT dropped", &Pattern::Commit, 0.5, 4);
}

#[test]
fn a_statement_that_commits_by_itself_without_an_answer_is_found_out() {
    tried(
        "F6 answers to autocommitted statements dropped",
        &Pattern::Autocommit,
        0.2,
        4,
    );
}
