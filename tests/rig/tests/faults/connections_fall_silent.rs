//! F15, the other way: connections to Postgres fall silent in the middle of statements, and new ones work, as if a
//! primary was fenced off and its address moved. Sent data was acknowledged and no connection is closed, so nothing
//! fails by itself. Every wait for an answer ends by a timeout: in the planner, the scheduler, the watcher, the
//! dispatcher and the supervisors.

use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::BOUND;

/// How many fall silent, one after the other as something is asked on them: most of those that a daemon works with.
const SILENT: u32 = 12;

/// When all goes on, at the latest: a query times out after 45 s, and the next connection may be silent too.
const GOES_ON: Duration = Duration::from_secs(120);

/// A stage that waits for the planner between its attempts, and one parallel to it; every push starts a run.
fn dag(script: &str) -> String {
    let head = format!("image: \"{IMAGE}\", checkout: false");
    format!(
        "triggers: {{push: {{}}}}
stages:
  again: {{{head}, retry: {{attempts: 2, backoff: 3s, factor: 1, on: [failed]}}, run: '{script}; test $TRAINYARD_ATTEMPT = 2'}}
  beside: {{{head}, run: '{script}'}}
  after: {{{head}, needs: [again, beside], run: '{script}'}}
"
    )
}

#[test]
fn nothing_waits_for_good() {
    let trials = Trials::new(
        "F15 connections fall silent without an end",
        "0 lost, 0 duplicates, all goes on in 120 s",
        1,
    )
    .long(50);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                more: "poll_every = \"1s\"\n".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let text = dag(&witness.script("sleep 1"));
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |trial, fleet| {
            let mut dice = trial.dice();
            let run = fleet.trigger();
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(2)));
            let postgres = &fleet.first().postgres;
            // Instead of what was found; a sign of life is given without that.
            let when = Matcher::answers_with(b"SELECT ");
            postgres.add(Rule::times("silent", when, Action::BlackHole, SILENT));
            postgres.until_fired("silent", SILENT as usize, BOUND);
            let begun = Instant::now();
            let seed = trial.seed.to_string();
            let head = fleet.remote.push("main", &[("change", &seed)]);
            let unended = format!(
                "select case when exists (select from cause where kind = 'push' and commit = '{head}')
                    then '' else 'no run of the push, ' end
                    || (select count(*) from run where phase <> 'finished') || ' runs to end'"
            );
            until("all runs and the push", within(GOES_ON), || {
                match fleet.cluster.sql(&unended) {
                    left if left == "0 runs to end" => Ok(()),
                    left => Err(left),
                }
            });
            let recovery = begun.elapsed();
            postgres.clear();
            let mut violations = fleet.violations();
            let wrong = fleet.cluster.sql(&format!(
                "select string_agg(id || ' ' || outcome, ', ') from run where id >= {run} and outcome <> 'succeeded'"
            ));
            if !wrong.is_empty() {
                violations.push(format!("runs that did not succeed: {wrong}"));
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
