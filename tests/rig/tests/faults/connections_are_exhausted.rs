//! F26: outsiders take every connection that Postgres has. The daemon waits, and goes on as soon as they
//! let go.

use std::time::Duration;

use trainyard_rig::crowd::Crowd;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, timed};

const STAGES: usize = 6;

/// How many connections Postgres takes: enough for the daemon, and soon full.
const CONNECTIONS: u32 = 30;

/// How often outsiders are refused in a row before all places count as taken.
const FULL: usize = 500;

#[test]
fn the_daemon_waits_and_goes_on() {
    let trials = Trials::new(
        "F26 connections exhausted",
        "no crash, recovered 5 s after the release",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                max_connections: CONNECTIONS,
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, STAGES, |_| "sleep 4".to_owned())
        },
        |_, fleet| {
            let (started, ended) = (fleet.witness.started(), fleet.witness.ended());
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + STAGES
            });
            let crowd = Crowd::gather(&fleet.cluster);
            until_true("a crowd", BOUND, || crowd.refused() > FULL);
            // What the daemon had, the crowd has now.
            fleet.first().postgres.cut_all();
            until_true("the end of all programs", BOUND, || {
                fleet.witness.ended() == ended + STAGES
            });
            until_true("a full house", BOUND, || crowd.refused() > FULL);
            drop(crowd);
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut verdict = judge(fleet, run, Some(recovery));
            if recovery > Duration::from_secs(5) {
                verdict
                    .violations
                    .push(format!("recovered after {recovery:?}"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
