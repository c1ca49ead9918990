//! F3: the daemon that owns stages is paused for twice its lease, another adopts them, and the first
//! continues where it was. The attempts that it believes to own are no longer its own; nothing runs twice.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

const STAGES: usize = 8;

/// The shortest there is, for the sake of many trials: the default is 15 s.
const LEASE: Duration = Duration::from_secs(10);

/// The other has everything in hand by then, from the moment of the pause.
const TAKEOVER: Duration = Duration::from_secs(10 + 5);

#[test]
fn attempts_adopted_from_a_paused_daemon_are_no_longer_its_own() {
    let trials = Trials::new(
        "F3 owner paused for two leases of 10 s",
        "0 duplicates, adopted in a lease and 5 s",
        1,
    )
    .long(100);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                daemons: 2,
                // Not all at once: there is always one to be started next.
                parallelism: 3,
                more: format!("lease = \"{}s\"\n", LEASE.as_secs()),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, STAGES, |_| "sleep 2".to_owned())
        },
        |trial, fleet| {
            let run = fleet.trigger();
            let pid = fleet.daemons[1].get().pid();
            let lost = |fleet: &Fleet| {
                let daemon = fleet.daemons[1].get();
                daemon.figure("trainyard_leases_lost_total")
            };
            let lost_before = lost(fleet);
            let owned = |fleet: &Fleet| {
                fleet.cluster.sql(&format!(
                    "select count(*) from attempt a join daemon d on d.id = a.owner
                     where a.state in ('claimed', 'running') and d.pid = {pid}"
                ))
            };
            until("stages at the one to be paused", BOUND, || {
                let owned = owned(fleet);
                if owned == "0" { Err(owned) } else { Ok(()) }
            });
            std::thread::sleep(trial.dice().between(Duration::ZERO, Duration::from_secs(2)));
            fleet.daemons[1].freeze();
            let ((), recovery) = timed(|| {
                until("all in the other's hands", BOUND, || {
                    let owned = owned(fleet);
                    if owned == "0" { Ok(()) } else { Err(owned) }
                });
            });
            std::thread::sleep((LEASE * 2).saturating_sub(recovery));
            fleet.daemons[1].thaw();
            until("the metric of leases lost", BOUND, || match lost(fleet) {
                lost if lost > lost_before => Ok(()),
                lost => Err(lost.to_string()),
            });
            let mut verdict = judge(fleet, run, Some(recovery));
            if recovery > within(TAKEOVER) {
                verdict
                    .violations
                    .push(format!("adopted after {recovery:?}"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
