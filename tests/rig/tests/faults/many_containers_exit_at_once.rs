//! F12: many containers are released at the same moment, and every stream from Docker is cut while they
//! exit. No end is missed.
//!
//! `RIG_CONTAINERS` says how many.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::moment;
use trainyard_rig::programme::{argument, within};
use trainyard_rig::trials::Trials;
use trainyard_rig::witness::Witness;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, report, timed};

const CONTAINERS: u64 = 60;

const MANY_CONTAINERS: u64 = 1_000;

/// The capacity of a Docker engine: inspecting and removing a container each take their time, on two cores.
const EACH: Duration = Duration::from_millis(100);

/// A gate opens by itself after two minutes, and so many containers may take longer to start: a container that waited
/// so long asks again. The shell does that itself: another program in each container would spread the ends.
fn gate(witness: &Witness) -> String {
    let now = |name: &str| format!("read {name} rest < /proc/uptime");
    format!(
        "while {}; {}; {}; test $((${{after%.*}} - ${{before%.*}})) -ge 100; do :; done",
        now("before"),
        witness.gate(),
        now("after")
    )
}

#[test]
fn every_end_is_seen_though_streams_are_cut() {
    let count = argument("RIG_CONTAINERS", CONTAINERS, MANY_CONTAINERS);
    let count = usize::try_from(count).unwrap();
    let bound = Duration::from_secs(15).max(EACH * u32::try_from(count).unwrap_or(u32::MAX));
    let trials = Trials::new(
        &format!("F12 {count} containers exit at once, streams cut"),
        &format!("all terminal {} s later", bound.as_secs()),
        1,
    );
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                parallelism: u32::try_from(count).unwrap_or(u32::MAX),
                ..FleetOptions::new(trial.seed)
            };
            // A file of the host's would be simpler; stages have no mounts of it.
            Fleet::with_wide_dag(&options, count, gate)
        },
        |_, fleet| {
            let (started, ended) = (fleet.witness.started(), fleet.witness.ended());
            let run = fleet.trigger();
            until_true("the start of all", BOUND * 4, || {
                fleet.witness.started() == started + count
            });
            let opened = moment::now();
            fleet.witness.open(run);
            let docker = &fleet.first().docker;
            until_true("the end of half of them", BOUND, || {
                fleet.witness.ended() >= ended + count / 2
            });
            docker.cut_all();
            until_true("the end of all programs", BOUND, || {
                fleet.witness.ended() == ended + count
            });
            docker.cut_all();
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let ended = |which: &str| -> f64 {
                let seconds = fleet.cluster.sql(&format!(
                    "select extract(epoch from {which}(finished_at) - '{opened}') from attempt where run = {run}"
                ));
                seconds.parse().unwrap()
            };
            let (first, last) = (ended("min"), ended("max"));
            report(&format!(
                "F12: {count} containers ended {first:.2} s to {last:.2} s after they were released, by Docker's clock"
            ));
            assert!(first > 0.0, "the first ended {first} s after they were released");
            let mut verdict = judge(fleet, run, Some(recovery));
            if recovery > within(bound) {
                verdict
                    .violations
                    .push(format!("all terminal after {recovery:?}"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
