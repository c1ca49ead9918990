//! F26, the other way: a daemon's statements about its attempts wait in Postgres, behind a lock of another session,
//! for longer than it may act without a renewal. The lease waits for none of them.

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, timed};

const STAGES: usize = 3;

/// Longer than the two thirds of a lease of 10 s after which its holder stops, by more than a tick.
const HOLD: &str =
    "begin; lock table attempt in access exclusive mode; select pg_sleep(14); commit";

#[test]
fn the_lease_is_kept_while_all_work_waits() {
    let trials = Trials::new("F26 work waits for a lock", "no lease lost, 0 lost", 1).long(10);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                more: "lease = \"10s\"\n".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, STAGES, |_| "sleep 3".to_owned())
        },
        |_, fleet| {
            let started = fleet.witness.started();
            let lost = || fleet.first().get().figure("trainyard_leases_lost_total");
            let before = lost();
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + STAGES
            });
            let _ = fleet.cluster.sql(HOLD);
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut verdict = judge(fleet, run, Some(recovery));
            if lost() > before {
                verdict.violations.push("the lease was lost".to_owned());
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
