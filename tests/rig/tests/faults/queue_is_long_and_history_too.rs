//! F25: ten thousand runs wait, over a long history, and a client holds a transaction open, so that dead rows cannot
//! be removed. Claiming stays quick, by its indexes.
//!
//! `RIG_HISTORY` says how many runs have ended before.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::{argument, is_long};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_store::{ClaimCapacity, ClaimRequest, DaemonInfo, Store, StoreOptions};
use trainyard_tests::wait::until;

use crate::{BOUND, report};

const QUEUED: u32 = 10_000;

const HISTORY: u64 = 20_000;

const LONG_HISTORY: u64 = 1_000_000;

/// How many claims are timed.
const CLAIMS: usize = 100;

/// How many attempts each takes.
const AT_ONCE: u32 = 20;

/// How many are claimed and ended behind the back of the open transaction before claims are timed again:
/// what is dead of them stands before what waits.
const DEAD: u32 = 5_000;

/// The bounds for 99 of 100 claims.
const FREE: Duration = Duration::from_millis(50);
const HELD: Duration = Duration::from_millis(200);

/// Copies a run that ended, `count` times, from the number `first` on: ended as well, or waiting.
fn copies(fleet: &Fleet, of: i64, first: u32, count: u32, waiting: bool) {
    let (phase, outcome, at) = if waiting {
        ("running", "null", "null")
    } else {
        ("finished", "'succeeded'", "r.finished_at")
    };
    let (stage, attempt) = if waiting {
        ("active", "queued")
    } else {
        ("finished", "finished")
    };
    let numbers = format!("generate_series({first}, {}) n", first + count - 1);
    let owner = if waiting { "null" } else { "a.owner" };
    let started = if waiting { "null" } else { "a.started_at" };
    let finished = u32::from(!waiting);
    let _ = fleet.cluster.sql(&format!(
        "insert into cause (id, dag, kind, detail, actor, commit, summary, branch, recorded_at)
         select md5('cause' || n)::uuid, c.dag, c.kind, c.detail, c.actor, c.commit, c.summary, c.branch, c.recorded_at
         from run r join cause c on c.id = r.cause, {numbers} where r.id = {of};
         insert into run (id, dag, dag_version, cause, params, logical_time, phase, outcome, stages_total,
             stages_finished, stages_failed, created_at, started_at, finished_at)
         select n, r.dag, r.dag_version, md5('cause' || n)::uuid, r.params, r.logical_time, '{phase}', {outcome},
             r.stages_total, {finished}, 0, r.created_at, r.started_at, {at}
         from run r, {numbers} where r.id = {of};
         insert into stage_run (run, position, name, state, outcome, finished_at)
         select n, s.position, s.name, '{stage}', {outcome}, {at}
         from run r join stage_run s on s.run = r.id, {numbers} where r.id = {of};
         insert into attempt (id, repo, run, stage, number, state, owner, executor, fence, queued_at, claimed_at,
             started_at, finished_at, outcome, removed)
         select md5('attempt' || n)::uuid, a.repo, n, a.stage, 1, '{attempt}', {owner}, a.executor, a.fence, a.queued_at,
             a.claimed_at, {started}, {at}, {outcome}, {}
         from run r join attempt a on a.run = r.id, {numbers} where r.id = {of}",
        !waiting
    ));
}

/// Ends what was claimed, as if it had run.
fn end_claimed(fleet: &Fleet) {
    let _ = fleet.cluster.sql(
        "update attempt set state = 'finished', outcome = 'succeeded', finished_at = clock_timestamp(),
         removed = true where state = 'claimed'",
    );
}

/// A transaction that is held open, and with it all rows that died since; ended when it is dropped.
struct Held(Child);

impl Held {
    fn open(fleet: &Fleet) -> Self {
        let mut psql = Command::new("psql")
            .args([fleet.cluster.url().as_str(), "-At"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let statements = b"begin isolation level repeatable read; select count(*) from instance;\n";
        psql.stdin.as_mut().unwrap().write_all(statements).unwrap();
        until("an open transaction", BOUND, || {
            let open = fleet.cluster.sql(
                "select count(*) from pg_stat_activity where state = 'idle in transaction' and backend_xmin is not null",
            );
            if open == "1" { Ok(()) } else { Err(open) }
        });
        Self(psql)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long 99 of 100 claims take at most.
async fn claims(fleet: &Fleet, store: &Store, request: &ClaimRequest) -> Duration {
    let mut times = Vec::new();
    for _ in 0..CLAIMS {
        let begun = Instant::now();
        let claimed = store.claim(request).await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(claimed.len(), AT_ONCE as usize);
        end_claimed(fleet);
    }
    times.sort_unstable();
    times[(CLAIMS * 99).div_ceil(100) - 1]
}

/// A claim's plan, as Postgres logs it.
async fn plan(fleet: &Fleet, request: &ClaimRequest) -> String {
    let _ = fleet.cluster.sql(
        "alter database trainyard set session_preload_libraries = 'auto_explain';
         alter database trainyard set auto_explain.log_min_duration = 0",
    );
    let before = fleet.cluster.log().len();
    let store = Store::connect(&StoreOptions::new(fleet.cluster.url()))
        .await
        .unwrap();
    let claimed = store.claim(request).await.unwrap();
    assert_eq!(claimed.len(), AT_ONCE as usize);
    store.close().await;
    fleet.cluster.log()[before..].to_owned()
}

#[test]
fn claiming_stays_quick() {
    let history = argument("RIG_HISTORY", HISTORY, LONG_HISTORY);
    let history = u32::try_from(history).unwrap();
    let trials = Trials::new(
        &format!("F25 10000 queued, {history} of history, transaction held"),
        "claim p99 50 ms free, 200 ms held",
        1,
    );
    let summary = trials.run(
        |trial| {
            let mut fleet =
                Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 1, |_| "true".to_owned());
            let run = fleet.trigger();
            let _ = fleet.finished(run, BOUND);
            fleet.first_mut().kill();
            copies(&fleet, run, 1_000_000, history, false);
            let _ = fleet.cluster.sql("analyze");
            (fleet, run)
        },
        |trial, (fleet, run)| {
            let first = 100_000_000 + trial.number * QUEUED;
            copies(fleet, *run, first, QUEUED, true);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let (free, held, plan) = runtime.block_on(async {
                let store = Store::connect(&StoreOptions::new(fleet.cluster.url()))
                    .await
                    .unwrap();
                let info = DaemonInfo {
                    host: "rig".to_owned(),
                    pid: 1,
                    version: "0".to_owned(),
                    alone_on_host: false,
                };
                let lease = Duration::from_secs(3_600);
                let request = ClaimRequest {
                    daemon: store.register_daemon(&info, lease).await.unwrap(),
                    executor: "docker".to_owned(),
                    engine: None,
                    capacity: ClaimCapacity {
                        slots_total: AT_ONCE,
                        ..ClaimCapacity::default()
                    },
                };
                let free = claims(fleet, &store, &request).await;
                let transaction = Held::open(fleet);
                let _ = fleet.cluster.sql(&format!(
                    "update attempt set state = 'finished', outcome = 'succeeded',
                         finished_at = clock_timestamp(), removed = true
                     where id in (select id from attempt where state = 'queued' order by run limit {DEAD})"
                ));
                let held = claims(fleet, &store, &request).await;
                drop(transaction);
                store.close().await;
                (free, held, plan(fleet, &request).await)
            });
            report(&format!(
                "F25: claim p99 {free:?} free, {held:?} with a transaction held"
            ));
            let mut violations = Vec::new();
            // In the gate, which has no machine for itself, the plan alone is held to anything.
            if is_long() && free > FREE {
                violations.push(format!("claim p99 {free:?}"));
            }
            if is_long() && held > HELD {
                violations.push(format!("claim p99 {held:?} with a transaction held"));
            }
            for index in ["attempt_waiting", "attempt_held"] {
                if !plan.contains(&format!("using {index} on attempt")) {
                    violations.push(format!("{index} was not used:\n{plan}"));
                }
            }
            if plan.contains("Seq Scan on attempt") || plan.contains("Seq Scan on run") {
                violations.push(format!("a table was read whole:\n{plan}"));
            }
            Verdict {
                violations,
                recovery: Some(held),
            }
        },
        |(fleet, _)| fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
