//! F10: Docker no longer reports anything about one container. A cancel of its run has no effect, and an operator
//! abandons it: it is lost, its slot is free, and its container is removed once Docker reports it again.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Matcher, Pattern, Rule};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, timed};

/// How long a container may exist after Docker is well: the daemon stops supervising it 10 s after its end and within
/// a pass of the keeper, and the sweeper's next pass removes it; a busy machine needs more.
const GONE: Duration = Duration::from_secs(10 + 5 + 5 + 10);

#[test]
fn a_stage_that_never_ends_is_lost_once_it_is_abandoned() {
    let trials = Trials::new(
        "F10 one container silent for good, abandoned",
        "lost, others go on in its place, container gone in 30 s",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                parallelism: 1,
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, 1, |witness| witness.gate())
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let run = fleet.trigger();
            until_true("a program", BOUND, || fleet.witness.started() > started);
            let instance = fleet.cluster.sql("select id from instance");
            let silent = fleet.engine.containers_of(&instance).remove(0);
            let daemon = fleet.first().get();
            let docker = &fleet.first().docker;
            let of_it = Pattern::Bytes(silent.container.as_bytes().to_vec());
            docker.add(Rule::always("it", Matcher::requests(of_it), Action::BlackHole));
            docker.cut_all();
            let id = run.to_string();
            let abandon = || daemon.cli(&["run", "abandon", &id]);
            let refused = abandon().stderr;
            assert!(refused.contains("was not asked to stop"), "{refused}");
            let _ = daemon.cli(&["run", "cancel", &id]).good();
            let refused = abandon().stderr;
            assert!(refused.contains("may still end by itself"), "{refused}");
            docker.until_fired("it", 1, BOUND);
            // As after an hour: what a daemon has in memory of a run holds until its version changes.
            let _ = fleet.cluster.sql(&format!(
                "update attempt set stop_requested_at = stop_requested_at - interval '1 hour' where run = {run}"
            ));
            let _ = fleet
                .cluster
                .sql(&format!("update run set version = version + 1 where id = {run}"));
            let why = daemon.cli(&["run", "why", &id]).good().stdout;
            assert!(why.contains("`trainyard run abandon` counts it as lost"), "{why}");
            let _ = abandon().good();
            let mut violations = Vec::new();
            let ended = fleet.finished(run, BOUND);
            if ended["state"] != "lost" {
                violations.push(format!("abandoned, but its state is {ended}"));
            }
            // It no longer holds the only slot.
            let other = fleet.trigger();
            fleet.witness.open(other);
            let ended = fleet.finished(other, BOUND);
            if ended["state"] != "succeeded" {
                violations.push(format!("after it, another run: {ended}"));
            }
            // Connections of the time before end as well.
            docker.clear();
            docker.cut_all();
            let (_, recovery) = timed(|| {
                until("the end of its container", BOUND, || {
                    match fleet.engine.containers_of(&instance) {
                        left if left.is_empty() => Ok(()),
                        left => Err(format!("{left:?}")),
                    }
                });
            });
            if recovery > within(GONE) {
                violations.push(format!("its container was there for {recovery:?}"));
            }
            violations.extend(fleet.violations());
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
