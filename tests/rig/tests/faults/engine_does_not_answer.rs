//! F10: Docker is away. Its breaker opens: no new stage starts, the reason is visible, running attempts are not
//! abandoned, and once Docker is back all goes on by itself.

use std::time::Duration;

use trainyard_rig::engine::{EngineOptions, Killed};
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, judge, timed};

const WORDS: &str = "Docker does not answer since ";

/// How often breakers have opened, since the daemon started.
const TRIPS: &str = "trainyard_breaker_trips_total";

fn degraded(fleet: &Fleet) -> bool {
    let (state, reasons) = fleet.first().get().readiness();
    state == "degraded" && reasons.starts_with(WORDS)
}

#[test]
fn no_stage_starts_while_docker_is_away_and_none_is_abandoned() {
    let trials = Trials::new("F10 Docker away, breaker", "0 lost, 0 duplicates", 1).long(20);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                engine: EngineOptions {
                    live_restore: true,
                    ..EngineOptions::default()
                },
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, 2, |witness| witness.gate())
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let trips = fleet.first().get().figure(TRIPS);
            let running = fleet.trigger();
            until_true("the start of both stages", BOUND, || {
                fleet.witness.started() == started + 2
            });
            // A program runs before its Docker engine has noted that; one that dies in between takes the network
            // from it when it comes back.
            let instance = fleet.cluster.sql("select id from instance");
            until_true("two containers that Docker knows to run", BOUND, || {
                let seen = fleet.engine.containers_of(&instance);
                seen.iter().filter(|seen| seen.state == "running").count() == 2
            });
            fleet.engine.kill(Killed::Dockerd);
            let (_, opened) = timed(|| {
                until_true("a degraded daemon", BOUND, || degraded(fleet));
            });
            assert!(opened < within(Duration::from_secs(15)), "after {opened:?}");
            let waiting = fleet.trigger();
            let daemon = fleet.first().get();
            until("the reason", BOUND, || {
                let why = daemon.cli(&["run", "why", &waiting.to_string()]).stdout;
                if why.contains("waits: Docker does not answer since ") {
                    Ok(())
                } else {
                    Err(why)
                }
            });
            let claimed =
                format!("select count(*) from attempt where run = {waiting} and state <> 'queued'");
            assert_eq!(fleet.cluster.sql(&claimed), "0", "nothing is claimed");
            assert!(daemon.figure("trainyard_breaker_state") > 0.0);
            assert_eq!(daemon.figure(TRIPS), trips + 1.0);

            fleet.engine.up();
            let (_, recovery) = timed(|| {
                until_true("the start of what waited", BOUND, || {
                    fleet.witness.started() == started + 4
                });
            });
            fleet.witness.open(running);
            fleet.witness.open(waiting);
            let mut verdict = judge(fleet, running, None);
            verdict
                .violations
                .extend(judge(fleet, waiting, None).violations);
            verdict.recovery = Some(recovery);
            assert_eq!(fleet.first().get().readiness().0, "ready");
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn one_container_out_of_reach_opens_nothing() {
    let trials = Trials::new("F10 one container out of reach", "breaker closed", 1).long(5);
    let summary = trials.run(
        |trial| Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 1, |_| "sleep 2".to_owned()),
        |_, fleet| {
            let docker = &fleet.first().docker;
            let when = Matcher::http("POST", "/containers/*/wait");
            docker.add(Rule::times("wait", when, Action::Reset, 6));
            let run = fleet.trigger();
            docker.until_fired("wait", 5, BOUND);
            let daemon = fleet.first().get();
            assert_eq!(daemon.figure(TRIPS), 0.0);
            assert_eq!(daemon.readiness().0, "ready");
            docker.clear();
            judge(fleet, run, None)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
