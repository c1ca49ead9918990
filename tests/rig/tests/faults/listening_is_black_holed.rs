//! F8: the connection on which a daemon listens for others goes silent without closing. The daemon gets no
//! notifications, and finds changes by polling; when the network is back, it listens again.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Pattern, Rule};
use trainyard_rig::trials::Trials;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, judge};

/// The longest a start may be late: the dispatcher's poll of 2 s, and 1 s.
const LATE: Duration = Duration::from_secs(3);

/// The sessions that listen, by Postgres' records.
const LISTENERS: &str = "select count(*) from pg_stat_activity where query ilike 'listen %'";

#[test]
fn starts_are_late_by_no_more_than_a_poll() {
    let trials = Trials::new(
        "F8 LISTEN connection black-holed",
        "starts 3 s late at the most",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                daemons: 2,
                // The first daemon is full with one stage, so the other has to learn of the second.
                parallelism: 1,
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let held = witness.script(&witness.gate());
                let free = witness.script("true");
                let stage = |script: &str| {
                    format!(
                        "stages: {{s: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}}}\n"
                    )
                };
                vec![
                    ("dags/held.yaml".to_owned(), stage(&held)),
                    ("dags/dag.yaml".to_owned(), stage(&free)),
                ]
            })
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let held = fleet.first().get().json(&["dag", "trigger", "held"]);
            let held = held["id"].as_i64().unwrap();
            until_true("the start of what fills a daemon", BOUND, || {
                fleet.witness.started() > started
            });
            let mut runs = Vec::new();
            for daemon in &fleet.daemons {
                daemon.postgres.add(Rule::always(
                    "deaf",
                    Matcher::requests(Pattern::Bytes(b"LISTEN \"trainyard\"".to_vec())),
                    Action::BlackHole,
                ));
                daemon.postgres.cut_all();
                daemon.postgres.until_fired("deaf", 1, BOUND);
            }
            for _ in 0..3 {
                let run = fleet.trigger();
                let _ = fleet.finished(run, BOUND);
                runs.push(run);
            }
            let late = fleet.cluster.sql(&format!(
                "select max(extract(epoch from started_at - queued_at)) from attempt where run = any(array{runs:?})"
            ));
            let late: f64 = late.parse().unwrap_or(f64::MAX);
            let slowest = Duration::from_secs_f64(late.clamp(0.0, 1e6));
            for daemon in &fleet.daemons {
                daemon.postgres.clear();
            }
            until("both listen again", BOUND, || {
                let count = fleet.cluster.sql(LISTENERS);
                if count == "2" { Ok(()) } else { Err(count) }
            });
            fleet.witness.open(held);
            until_true("the end of all", BOUND, || {
                fleet.attempts().values().all(|outcome| !outcome.is_empty())
            });
            let mut verdict = judge(fleet, runs[0], Some(slowest));
            if slowest > within(LATE) {
                verdict
                    .violations
                    .push(format!("a start was {slowest:?} late"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
