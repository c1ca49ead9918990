//! F20: thousands of schedules come due in the same second. Every tick gets its run, once, within half
//! a minute; the API answers meanwhile, the daemon stays small, and none waits for another's turn twice.
//!
//! No containers run here: what is tried is the scheduler, the planner, the dispatcher and the store, and
//! the executor is `fake`. `RIG_SCHEDULES` says how many there are.

use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::prober::{Answers, Prober};
use trainyard_rig::programme::{argument, within};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, report};

/// The gate's herd, and the long programme's.
const SCHEDULES: u64 = 500;
const LONG_SCHEDULES: u64 = 10_000;

/// How long after their moment all runs are there.
const ALL_THERE: Duration = Duration::from_secs(30);

/// 99 of 100 answers of the API come so soon, from the moment when all are due.
const ANSWERED: Duration = Duration::from_millis(300);

const ANSWERED_AT_MOST: Duration = Duration::from_secs(1);

/// The most that the daemon has in RAM.
const MEMORY: u64 = 200 << 20;

/// How many stages run at the same time.
const PARALLELISM: u32 = 20;

/// How many runs may start before one that was there before them.
const OVERTAKEN: u32 = 4 * PARALLELISM;

/// How long all of them may take to end; nothing is promised about that.
const ENDED: Duration = Duration::from_secs(1_200);

/// Makes DAGs like `dag`, each with its own version and schedule, as a sync that found so many files would.
fn multiply(fleet: &Fleet, count: u64) {
    let _ = fleet.cluster.sql(&format!(
        "create table numbers as select n, md5('dag' || n)::uuid as dag, md5('version' || n)::uuid as version
             from generate_series(1, {count}) n;
         insert into dag (id, repo, name, path, created_at)
             select n.dag, d.repo, 'herd-' || n.n, 'dags/herd-' || n.n || '.yaml', d.created_at
             from dag d, numbers n where d.name = 'dag';
         insert into dag_version (id, dag, commit, path, source, spec, created_at)
             select n.version, n.dag, v.commit, 'dags/herd-' || n.n || '.yaml', v.source,
                 jsonb_set(v.spec, '{{name}}', to_jsonb('herd-' || n.n)), v.created_at
             from dag d join dag_version v on v.id = d.current_version, numbers n where d.name = 'dag';
         update dag d set current_version = n.version from numbers n where d.id = n.dag;
         insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
             select n.dag, 0, n.version, s.cron, s.timezone, s.missed, s.params, s.next_tick
             from schedule s join dag d on d.id = s.dag, numbers n where d.name = 'dag';
         delete from schedule s using dag d where d.id = s.dag and d.name = 'dag';
         analyze"
    ));
}

/// The result of one herd.
#[derive(Debug)]
struct Herd {
    there: Duration,
    ended: Duration,
    answered: Answers,
    memory: u64,
    overtaken: u32,
}

/// Lets all schedules come due at one moment, which is midnight for them. The scheduler, which gets no wake for this
/// change, reads the schedules once more before that, within ten seconds.
fn stampede(fleet: &Fleet, count: u64) -> Herd {
    let _ = fleet.cluster.sql(
        "update schedule set next_tick = date_trunc('second', clock_timestamp()) + interval '12 s'",
    );
    let due = fleet.cluster.sql("select min(next_tick) from schedule");
    until_true("the moment", BOUND, || {
        let is_now = format!("select clock_timestamp() >= '{due}'");
        fleet.cluster.sql(&is_now) == "t"
    });
    let prober = Prober::start(fleet.first().get(), "/api/v1/runs");
    let begun = Instant::now();
    let mut memory = 0;
    let mut wait_for = |what: &str, condition: &str, bound: Duration| {
        until(what, bound, || {
            memory = fleet.first().memory().max(memory);
            let seen = fleet.cluster.sql(&format!(
                "select count(*) from run r join cause c on c.id = r.cause
                 where c.kind = 'schedule' and {condition}"
            ));
            if seen.parse::<u64>().unwrap() >= count {
                Ok(())
            } else {
                Err(format!("{seen} after {:?}", begun.elapsed()))
            }
        });
    };
    wait_for("the runs of all ticks", "true", BOUND * 2);
    wait_for("the end of all runs", "r.outcome is not null", ENDED);
    let answers = prober.stop();
    let seconds = |sql: &str| Duration::from_secs_f64(fleet.cluster.sql(sql).parse().unwrap());
    Herd {
        there: seconds(
            "select extract(epoch from max(r.created_at) - min(r.logical_time)) from run r
             join cause c on c.id = r.cause where c.kind = 'schedule'",
        ),
        ended: seconds(
            "select extract(epoch from max(r.finished_at) - min(r.logical_time)) from run r
             join cause c on c.id = r.cause where c.kind = 'schedule'",
        ),
        answered: answers,
        memory,
        overtaken: fleet
            .cluster
            .sql(
                "select max(abs(made - claimed)) from (
                    select row_number() over (order by a.run) as made,
                        row_number() over (order by a.claimed_at, a.run) as claimed
                    from attempt a join run r on r.id = a.run join cause c on c.id = r.cause
                    where c.kind = 'schedule'
                 ) as places",
            )
            .parse()
            .unwrap(),
    }
}

#[test]
fn every_tick_of_a_herd_has_its_run() {
    let count = argument("RIG_SCHEDULES", SCHEDULES, LONG_SCHEDULES);
    let trials = Trials::new(
        &format!("F20 {count} schedules due at once"),
        "every tick one run, in 30 s; API p99 300 ms, all in 1 s; 200 MiB",
        1,
    );
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                parallelism: PARALLELISM,
                // All runs are of one repo.
                more: format!("executor = \"fake\"\nlimits.unfinished_runs_of_a_repo = {count}\n"),
                ..FleetOptions::new(trial.seed)
            };
            let text = format!(
                "triggers: {{schedule: [{{cron: \"0 0 * * *\"}}]}}
stages: {{say: {{image: \"{IMAGE}\", checkout: false, run: \"true\"}}}}\n"
            );
            let fleet = Fleet::start(&options, |_| vec![("dags/dag.yaml".to_owned(), text)]);
            multiply(&fleet, count);
            fleet
        },
        |_, fleet| {
            let herd = stampede(fleet, count);
            let (slow, slowest) = (herd.answered.percentile(99), herd.answered.percentile(100));
            let (slow, slowest) = (slow.unwrap(), slowest.unwrap());
            report(&format!(
                "F20: {count} schedules: all runs there after {:?}, ended after {:?}; {} answers of the API \
                 meanwhile, p99 {slow:?}, the slowest {slowest:?}, {} not given; {} MiB; at most {} overtook",
                herd.there,
                herd.ended,
                herd.answered.times.len(),
                herd.answered.bad,
                herd.memory >> 20,
                herd.overtaken
            ));
            let mut violations = fleet.violations();
            // None of these stages can reach the witness.
            violations.retain(|reported| !reported.starts_with("succeeded without"));
            let wrong = fleet.cluster.sql(
                "select coalesce(string_agg(d.name, ' '), '') from numbers n join dag d on d.id = n.dag
                 where (select count(*) from run r where r.dag = n.dag and r.outcome = 'succeeded') <> 1
                     or (select count(*) from cause c where c.dag = n.dag) <> 1",
            );
            if !wrong.is_empty() {
                violations.push(format!("not one run that succeeded for their tick: {wrong}"));
            }
            let later = fleet
                .cluster
                .sql("select count(*) from schedule where next_tick > clock_timestamp()");
            if later != count.to_string() {
                violations.push(format!("{later} of {count} schedules tick on"));
            }
            if herd.there > within(ALL_THERE) {
                violations.push(format!("all runs were there after {:?}", herd.there));
            }
            if slow > within(ANSWERED) || slowest > within(ANSWERED_AT_MOST) || herd.answered.bad > 0 {
                violations.push(format!(
                    "the API answered in {slow:?} (p99), {slowest:?} at most, and {} times not",
                    herd.answered.bad
                ));
            }
            if herd.memory > MEMORY {
                violations.push(format!("the daemon had {} bytes in RAM", herd.memory));
            }
            if herd.overtaken > OVERTAKEN {
                violations.push(format!("a run was overtaken by {} others", herd.overtaken));
            }
            Verdict {
                violations,
                recovery: Some(herd.there),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
