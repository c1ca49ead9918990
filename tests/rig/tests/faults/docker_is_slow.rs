//! F10: Docker is slow for all, or hangs on one container, or on listing. Work that does not need the answer goes on,
//! health reports it in time, and all heals by itself.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::proxy::{Action, Direction, Matcher, Pattern, Rule};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::wait::until;

use crate::{BOUND, judge, report, timed};

const STAGES: usize = 4;

/// The longest that an answer of the API may take meanwhile.
const ANSWER: Duration = Duration::from_secs(1);

fn fleet(seed: u64, work: &str) -> Fleet {
    Fleet::with_wide_dag(&FleetOptions::new(seed), STAGES, |_| work.to_owned())
}

/// How long an API call takes that needs the database, but no Docker engine.
fn asked(fleet: &Fleet) -> Duration {
    timed(|| fleet.first().get().cli(&["run", "list"]).good()).1
}

/// Leases that expired for lack of time. No fault of a Docker engine may cost one.
fn lapses(fleet: &Fleet) -> (f64, usize) {
    let lost = fleet.first().get().figure("trainyard_leases_lost_total");
    (lost, fleet.first().log().matches("lease").count())
}

fn with_lapses(mut verdict: Verdict, before: (f64, usize), fleet: &Fleet) -> Verdict {
    let now = lapses(fleet);
    if now != before {
        verdict.violations.push(format!(
            "leases lost, and lines about it: {now:?}, {before:?} before"
        ));
    }
    verdict
}

/// How long it takes until readiness says `degraded`, with such a reason.
fn until_degraded(fleet: &Fleet, reason: &str) -> Duration {
    let ((), shown) = timed(|| {
        until("health that reports it", BOUND, || {
            match fleet.first().get().readiness() {
                (state, reasons) if state == "degraded" && reasons.contains(reason) => Ok(()),
                shown => Err(format!("{shown:?}")),
            }
        });
    });
    shown
}

/// The largest delay, in seconds: three times the timeout of calls.
const SLOWEST: u64 = 30;

/// By then a Docker engine counts as one that does not answer, from the moment when it became so slow.
const SLOW_IS_REPORTED: Duration = Duration::from_secs(15);

#[test]
fn a_slow_docker_delays_only_its_own_stages() {
    let trials = Trials::new(
        "F10 Docker slow for all",
        "API answers in 1 s, no lease lost, 30 s reported in 15 s",
        1,
    )
    .long(5);
    let summary = trials.run(
        |trial| fleet(trial.seed, "sleep 1"),
        |trial, fleet| {
            let mut dice = trial.dice();
            let before = lapses(fleet);
            let docker = &fleet.first().docker;
            // In the gate as slow as calls still endure; then as slow as can be; over many trials in between.
            let (least, most) = match trial.number {
                1 => (5, 6),
                2 => (SLOWEST, SLOWEST),
                _ => (5, SLOWEST),
            };
            let by = dice.between(Duration::from_secs(least), Duration::from_secs(most));
            docker.add(Rule::always(
                "slow",
                Matcher::all(Direction::Request),
                Action::Delay {
                    by,
                    jitter: Duration::from_secs(1),
                },
            ));
            let run = fleet.trigger();
            let shown = (least == SLOWEST).then(|| until_degraded(fleet, "Docker does not answer"));
            docker.until_fired("slow", STAGES, BOUND);
            let slowest = (0..6)
                .map(|_| {
                    std::thread::sleep(Duration::from_secs(1));
                    asked(fleet)
                })
                .max()
                .unwrap_or_default();
            docker.clear();
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut verdict = with_lapses(judge(fleet, run, Some(recovery)), before, fleet);
            if slowest > within(ANSWER) {
                verdict
                    .violations
                    .push(format!("the API answered after {slowest:?}"));
            }
            if let Some(shown) = shown {
                report(&format!(
                    "F10: a Docker engine slower by {by:?} was reported after {shown:.1?}"
                ));
                if shown > within(SLOW_IS_REPORTED) {
                    verdict.violations.push(format!("reported after {shown:?}"));
                }
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// Without a complete listing for 20 s a daemon is degraded. It looks once a second, and a busy machine may take
/// some more.
const UNLISTED_IS_TOLD: Duration = Duration::from_secs(26);

/// When requests on a connection that is dead were repeated: a listing under way times out after 10 s, the next one
/// comes 5 s later and shows the end, and a log is silent for 5 s before it is opened again.
const HEALED: Duration = Duration::from_secs(10 + 5 + 5 + 5);

/// Waits until all stages of a run have ended except the one that hangs, and for another run, whose start is not
/// delayed either, and whose stages all end. Returns how long that took.
fn others_go_on(fleet: &Fleet, run: i64, hung: &str) -> Duration {
    fleet.first().docker.until_fired("container", 1, BOUND);
    until("the end of all others", BOUND, || {
        let open = fleet.cluster.sql(&format!(
            "select string_agg(id::text, ' ') from attempt where run = {run} and state <> 'finished'"
        ));
        if open == hung { Ok(()) } else { Err(open) }
    });
    let other = fleet.trigger();
    timed(|| fleet.finished(other, BOUND)).1
}

#[test]
fn a_container_and_a_listing_that_hang_hold_up_nothing_else() {
    let trials = Trials::new(
        "F10 Docker hangs on one container and on listing",
        "others go on, no lease lost, reported in 26 s, healed in 25 s",
        1,
    )
    .long(10);
    let summary = trials.run(
        |trial| fleet(trial.seed, "sleep 2"),
        |_, fleet| {
            let before = lapses(fleet);
            let run = fleet.trigger();
            let instance = fleet.cluster.sql("select id from instance");
            let hung = until("a running container", BOUND, || {
                let seen = fleet.engine.containers_of(&instance);
                seen.into_iter()
                    .find(|seen| seen.state == "running")
                    .ok_or_else(|| "none".to_owned())
            });
            let docker = &fleet.first().docker;
            let of_container = Pattern::Bytes(hung.container.as_bytes().to_vec());
            for (name, when) in [
                ("container", Matcher::requests(of_container)),
                ("list", Matcher::http("GET", "/containers/json")),
            ] {
                docker.add(Rule::always(name, when, Action::BlackHole));
            }
            // Requests under way on it are cut, and repeated without an answer.
            docker.cut_all();
            let unlisted = "Docker does not list its containers";
            let fleet: &Fleet = fleet;
            let (took, shown) = std::thread::scope(|scope| {
                let shown = scope.spawn(|| until_degraded(fleet, unlisted));
                let took = others_go_on(fleet, run, &hung.attempt);
                (took, shown.join().unwrap())
            });
            // A lease that waits for a listing has lapsed by then.
            docker.until_fired("list", 2, BOUND);
            let lag = fleet
                .first()
                .get()
                .figure("trainyard_reconcile_lag_seconds");
            assert!(lag > 20.0, "{unlisted}, for {lag} s");
            report(&format!(
                "F10: a listing that hangs was reported after {shown:.1?}"
            ));
            let slowest = asked(fleet);
            docker.clear();
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut verdict = with_lapses(judge(fleet, run, Some(recovery)), before, fleet);
            for (what, time, bound) in [
                ("another run took", took, Duration::from_secs(15)),
                ("the API answered after", slowest, ANSWER),
                (
                    "a listing that hangs was reported after",
                    shown,
                    UNLISTED_IS_TOLD,
                ),
                ("healed after", recovery, HEALED),
            ] {
                if time > within(bound) {
                    verdict.violations.push(format!("{what} {time:?}"));
                }
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
