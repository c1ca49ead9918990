//! F26: outsiders take every connection that Postgres has. The daemon waits, and goes on as soon as
//! they release them.

use std::time::Duration;

use trainyard_rig::crowd::Crowd;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_rig::witness::Witness;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, timed};

const STAGES: usize = 6;

/// How many connections Postgres takes: enough for the daemon, and soon full.
const CONNECTIONS: u32 = 30;

/// How often outsiders are refused in a row before all places count as taken.
const FULL: usize = 500;

/// How soon all is well once there is a place.
const RECOVERED: Duration = Duration::from_secs(5);

fn fleet(seed: u64, work: impl FnOnce(&Witness) -> String) -> Fleet {
    let options = FleetOptions {
        max_connections: CONNECTIONS,
        ..FleetOptions::new(seed)
    };
    Fleet::with_wide_dag(&options, STAGES, work)
}

fn in_time(mut verdict: Verdict) -> Verdict {
    if let Some(late) = verdict
        .recovery
        .filter(|recovery| *recovery > within(RECOVERED))
    {
        verdict.violations.push(format!("recovered after {late:?}"));
    }
    verdict
}

#[test]
fn the_daemon_waits_and_goes_on() {
    let trials = Trials::new(
        "F26 connections exhausted",
        "no crash, recovered 5 s after the release",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| fleet(trial.seed, |_| "sleep 4".to_owned()),
        |_, fleet| {
            let (started, ended) = (fleet.witness.started(), fleet.witness.ended());
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + STAGES
            });
            let crowd = Crowd::gather(&fleet.cluster);
            until_true("a crowd", BOUND, || crowd.refused() > FULL);
            // The crowd now has the daemon's connections.
            fleet.first().postgres.cut_all();
            until_true("the end of all programs", BOUND, || {
                fleet.witness.ended() == ended + STAGES
            });
            until_true("a full house", BOUND, || crowd.refused() > FULL);
            until_true("a health that says so", BOUND, || {
                // The daemon may have got a place in between, before the crowd did.
                fleet.first().postgres.cut_all();
                let (state, reasons) = fleet.first().get().readiness();
                state == "unready" && reasons.contains("the database does not answer")
            });
            let refused = fleet.first().get().cli(&["dag", "trigger", "dag"]);
            drop(crowd);
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut verdict = judge(fleet, run, Some(recovery));
            if refused.code == Some(0) || !refused.stderr.contains("does not answer") {
                verdict
                    .violations
                    .push(format!("a refused request says so: {refused:?}"));
            }
            in_time(verdict)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn a_daemon_without_a_connection_says_so_and_its_next_start_adopts() {
    let trials = Trials::new(
        "F26 connections exhausted at a start",
        "reported in words, adopted 5 s after the release",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| fleet(trial.seed, |witness| witness.gate()),
        |_, fleet| {
            let started = fleet.witness.started();
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + STAGES
            });
            fleet.first_mut().kill();
            let crowd = Crowd::gather(&fleet.cluster);
            until_true("a crowd", BOUND, || crowd.refused() > FULL);
            let begun = fleet.first_mut().try_start();
            drop(crowd);
            let (_, recovery) = timed(|| {
                fleet.first_mut().start();
                fleet.witness.open(run);
                fleet.finished(run, BOUND)
            });
            let mut verdict = judge(fleet, run, Some(recovery));
            match begun {
                Err(said) if said.contains("too many clients") => {}
                other => verdict
                    .violations
                    .push(format!("a start without a place: {other:?}")),
            }
            in_time(verdict)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
