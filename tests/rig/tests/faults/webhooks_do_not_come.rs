//! F22: the forge does not reach the daemon, and no webhook ever comes. The daemon finds the pushes by polling.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::moment;
use trainyard_rig::programme::within;
use trainyard_rig::trials::Trials;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, judge};

/// How often the remote is polled.
const POLL: Duration = Duration::from_secs(3);

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2);

#[test]
fn pushes_are_found_within_the_poll_interval() {
    let trials = Trials::new(
        "F22 no webhook comes",
        "found within the poll interval (3 s) and 2 s",
        2,
    )
    .long(50);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                more: format!("poll_every = \"{}s\"\n", POLL.as_secs()),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::start(&options, |witness| {
                let script = witness.script("true");
                let text = format!(
                    "triggers: {{push: {{}}}}
stages: {{only: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}}}\n"
                );
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |trial, fleet| {
            // Whenever between two looks.
            std::thread::sleep(trial.dice().between(Duration::ZERO, POLL));
            let name = trial.seed.to_string();
            let head = fleet.remote.push("main", &[("change", &name)]);
            let pushed = moment::now().timestamp_micros();
            let found = format!(
                "select r.id || ' ' || (extract(epoch from c.recorded_at) * 1000000)::bigint
                 from run r join cause c on c.id = r.cause
                 where c.kind = 'push' and c.commit = '{head}'"
            );
            let (run, at) = until("a run of the push", BOUND, || {
                let found = fleet.cluster.sql(&found);
                let (run, at) = found.split_once(' ').ok_or("none yet")?;
                Ok((run.parse().unwrap(), at.parse::<i64>().unwrap()))
            });
            let late = Duration::from_micros(at.saturating_sub(pushed).unsigned_abs());
            let mut verdict = judge(fleet, run, Some(late));
            if late > within(POLL + LOOK) {
                let late = format!("a push was found after {late:?}");
                verdict.violations.push(late);
            }
            let came = fleet.cluster.sql("select count(*) from delivery");
            if came != "0" {
                verdict.violations.push(format!("{came} webhooks came"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
