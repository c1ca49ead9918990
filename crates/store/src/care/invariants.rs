//! Invariants: conditions that hold in a database at any time, whatever happened to daemons, Docker and networks.
//!
//! 1. The schema already refuses violations that a CHECK can see. The invariants here compare rows, or check that
//!    something has happened by now.
//! 2. Each invariant is a query for the rows that break it: no row is good, and a row shows what is wrong.
//! 3. All are read in one snapshot and lock nothing; daemons may keep working meanwhile.
//! 4. Overdue work is a violation only after some daemon has been alive for a while: in an
//!    installation that is down, nothing is late.

use sqlx::AssertSqlSafe;
use trainyard_api::Violation;

use crate::db::error::Result;
use crate::store::Store;

/// How many rows of one violation are reported.
const ROWS_AT_MOST: u32 = 20;

/// A condition that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    /// A short name, to search for.
    pub name: &'static str,
    /// The condition, in one sentence.
    pub says: &'static str,
    /// The rows that break it.
    pub sql: &'static str,
}

/// Whether a daemon, one that reads a format, has been alive long enough for due work to be done.
macro_rules! attended {
    () => {
        attended!("1")
    };
    ($format:literal) => {
        concat!(
            "exists (select from daemon where stopped_at is null and lease_until > clock_timestamp()
                and started_at < clock_timestamp() - interval '60 s' and format >= ",
            $format,
            ")"
        )
    };
}

pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "one-live-attempt",
        says: "a stage has at most one attempt that has not ended",
        sql: "select run, stage, count(*) from attempt where state <> 'finished'
            group by run, stage having count(*) > 1",
    },
    Invariant {
        name: "attempts-are-numbered-densely",
        says: "the attempts of a stage are numbered from 1 without a gap",
        sql: "select run, stage, max(number), count(*) from attempt
            group by run, stage having max(number) <> count(*)",
    },
    Invariant {
        name: "one-end-in-history",
        says: "history records the end of an attempt once, and only of an attempt that ended",
        sql: "select a.run, a.stage, a.number, a.state, count(e.id) as ends
            from attempt a left join run_event e on e.run = a.run and e.stage = a.stage
                and e.attempt = a.number and e.kind in ('attempt_finished', 'attempt_withdrawn')
            group by a.id having count(e.id) <> case when a.state = 'finished' then 1 else 0 end",
    },
    Invariant {
        name: "fences-are-unique",
        says: "no two attempts have the same fence",
        sql: "select fence, array_agg(id) as attempts from attempt where fence is not null
            group by fence having count(*) > 1",
    },
    Invariant {
        name: "fences-grow",
        says: "a later attempt of a stage has a higher fence than an earlier one, and none is from the future",
        sql: "select later.run, later.stage, later.number, later.fence
            from attempt later left join attempt earlier
                on earlier.run = later.run and earlier.stage = later.stage and earlier.number < later.number
            where earlier.fence >= later.fence or later.fence > (select last_value from fence)",
    },
    Invariant {
        name: "success-was-claimed",
        says: "an attempt succeeds only under a claim: a crash of Postgres may lose the handle and the start of its \
            container, but not its owner",
        sql: "select id, run, stage, number from attempt
            where outcome = 'succeeded'
                and (owner is null or executor is null or claimed_at is null or fence is null)",
    },
    Invariant {
        name: "needs-come-first",
        says: "a stage has an attempt only after all stages that it needs have ended",
        sql: "select c.run, c.name, p.name as need
            from stage_run c join run r on r.id = c.run join dag_version v on v.id = r.dag_version
            cross join lateral jsonb_array_elements_text(
                coalesce(v.spec -> 'stages' -> c.position -> 'needs', '[]')) as n (need)
            left join stage_run p on p.run = c.run and p.name = n.need
            where exists (select from attempt a where a.run = c.run and a.stage = c.position
                and (p.finished_at is null or p.finished_at > a.queued_at))",
    },
    Invariant {
        name: "failure-stops-what-needs-it",
        says: "a stage that runs on success only has an attempt only where all that it needs succeeded",
        sql: "select c.run, c.name, p.name as need, p.outcome
            from stage_run c join run r on r.id = c.run join dag_version v on v.id = r.dag_version
            cross join lateral jsonb_array_elements_text(
                coalesce(v.spec -> 'stages' -> c.position -> 'needs', '[]')) as n (need)
            join stage_run p on p.run = c.run and p.name = n.need
            where v.spec -> 'stages' -> c.position -> 'run_on' = '[\"success\"]'
                and p.outcome is distinct from 'succeeded'
                and exists (select from attempt a where a.run = c.run and a.stage = c.position)",
    },
    Invariant {
        name: "a-success-has-its-attempt",
        says: "a stage that succeeded has a last attempt that did, or takes an earlier run's result over",
        sql: "select s.run, s.name from stage_run s
            where s.outcome = 'succeeded' and s.reused_from is null
                and (select a.outcome from attempt a where a.run = s.run and a.stage = s.position
                    order by a.number desc limit 1) is distinct from 'succeeded'",
    },
    Invariant {
        name: "active-means-attempted",
        says: "a stage is active exactly while it has an attempt that has not ended",
        sql: "select s.run, s.name, s.state from stage_run s
            where (s.state = 'active') <> exists (select from attempt a
                where a.run = s.run and a.stage = s.position and a.state <> 'finished')",
    },
    Invariant {
        name: "an-ended-run-is-whole",
        says: "a run has ended only when all its stages have, and then at once",
        sql: "select r.id, r.phase from run r
            where r.phase <> 'queued' and (r.phase = 'finished') = exists (select from stage_run s
                where s.run = r.id and s.state <> 'finished')",
    },
    Invariant {
        name: "counts-agree",
        says: "a run's counts of stages are those of its stages",
        sql: "select r.id, r.stages_total, r.stages_finished, r.stages_failed
            from run r join stage_run s on s.run = r.id
            group by r.id
            having r.stages_total <> count(*) or r.stages_finished <> count(s.outcome)
                or r.stages_failed <> count(*) filter (where s.outcome not in ('succeeded', 'skipped'))",
    },
    Invariant {
        name: "a-running-run-waits-for-something",
        says: "a running run has an attempt that has not ended, or a stage that backs off",
        sql: "select r.id from run r
            where r.phase = 'running'
                and not exists (select from attempt a where a.run = r.id and a.state <> 'finished')
                and not exists (select from stage_run s where s.run = r.id and s.state = 'backing_off')",
    },
    Invariant {
        name: "a-queued-run-is-looked-at-again",
        says: "a queued run, and one with a stage that backs off, has a time at which it is planned again",
        sql: "select r.id, r.phase from run r
            where r.wake_at is null and (r.phase = 'queued' or r.phase = 'running'
                and exists (select from stage_run s where s.run = r.id and s.state = 'backing_off'))",
    },
    Invariant {
        name: "every-cause-has-one-answer",
        says: "a cause has either a run or the reason why it has none",
        sql: "select c.id, c.kind, c.summary, c.refused from cause c left join run r on r.cause = c.id
            where (r.id is null) = (c.refused is null)",
    },
    Invariant {
        name: "a-tick-fires-once",
        says: "a schedule's tick starts at most one run",
        sql: "select dag, detail -> 'schedule' as tick, count(*) from cause where kind = 'schedule'
            group by dag, detail -> 'schedule' having count(*) > 1",
    },
    Invariant {
        name: "artifacts-are-of-ended-attempts",
        says: "an artifact is kept only once the attempt that made it has ended",
        sql: "select x.run, x.stage, x.output, a.id as attempt from artifact x join attempt a on a.id = x.attempt
            where a.state <> 'finished'",
    },
    Invariant {
        name: "pieces-of-log-do-not-overlap",
        says: "the pieces of a log follow each other and stay within its length",
        sql: "select attempt, start_offset, length from (
                select c.attempt, c.start_offset, c.length, l.length as whole,
                    lead(c.start_offset) over (partition by c.attempt order by c.start_offset) as next
                from log_chunk c join attempt_log l on l.attempt = c.attempt) as pieces
            where start_offset + length > coalesce(next, whole)",
    },
    Invariant {
        name: "what-is-held-has-a-holder",
        says: "an attempt is held by a known daemon, and while any daemon lives that reads its run, by a live one, \
            unless the run is in quarantine",
        sql: concat!(
            "select a.id, a.run, a.owner, d.stopped_at, d.lease_until
            from attempt a left join daemon d on d.id = a.owner
            where a.state in ('claimed', 'running')
                and not exists (select from quarantine q where q.run = a.run and q.held_at is not null)
                and (d.id is null or ",
            attended!("(select r.format from run r where r.id = a.run)"),
            " and least(d.stopped_at, d.lease_until) < clock_timestamp() - interval '30 s')"
        ),
    },
    Invariant {
        name: "nothing-due-is-forgotten",
        says: "while a daemon lives that reads a run, it is not overdue to be planned, unless it is in quarantine",
        sql: concat!(
            "select id, phase, wake_at from run r where wake_at < clock_timestamp() - interval '60 s'
                and not exists (select from quarantine q where q.run = r.id and q.held_at is not null) and ",
            attended!("r.format")
        ),
    },
    Invariant {
        name: "no-tick-is-overdue",
        says: "while a daemon lives that reads a DAG, no tick of its schedules is overdue, unless it is in quarantine",
        sql: concat!(
            "select dag, position, next_tick from schedule s
            where next_tick < clock_timestamp() - interval '120 s'
                and not exists (select from quarantine q where q.dag = s.dag and q.held_at is not null) and ",
            attended!("(select v.format from dag_version v where v.id = s.dag_version)")
        ),
    },
    Invariant {
        name: "every-delivery-is-answered",
        says: "while a daemon lives and the remote answers, no webhook delivery stays unprocessed",
        sql: concat!(
            "select d.id, d.repo, d.received_at from delivery d join repo r on r.id = d.repo
            where d.processed_at is null and r.last_error is null
                and d.received_at < clock_timestamp() - interval '10 min' and ",
            attended!()
        ),
    },
    Invariant {
        name: "containers-are-removed",
        says: "while a daemon lives that has claimed at its Docker engine, the container of an attempt that ended is \
            removed",
        sql: concat!(
            "select a.id, a.run, a.handle, a.finished_at from attempt a
            where a.state = 'finished' and not a.removed and a.executor is not null
                and a.finished_at < clock_timestamp() - interval '10 min'
                and exists (select from attempt b join daemon d on d.id = b.owner
                    where b.executor = a.executor and b.engine is not distinct from a.engine
                        and d.stopped_at is null and d.lease_until > clock_timestamp()) and ",
            attended!()
        ),
    },
];

impl Store {
    /// Finds the rows that break an invariant. An empty result is good.
    pub async fn check_invariants(&self) -> Result<Vec<Violation>> {
        let mut snapshot = self
            .core
            .pool
            .begin_with("begin isolation level repeatable read read only")
            .await?;
        // This reads whole tables, which no other statement may do.
        sqlx::raw_sql("set local statement_timeout = '10min'; set local enable_seqscan = on")
            .execute(&mut *snapshot)
            .await?;
        let mut violations = Vec::new();
        for invariant in INVARIANTS {
            // The text consists of constants of this file.
            let sql = AssertSqlSafe(format!(
                "select to_jsonb(broken)::text from ({}) as broken limit {ROWS_AT_MOST}",
                invariant.sql
            ));
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *snapshot).await?;
            if !rows.is_empty() {
                violations.push(Violation {
                    invariant: invariant.name.to_owned(),
                    says: invariant.says.to_owned(),
                    rows,
                });
            }
        }
        snapshot.commit().await?;
        Ok(violations)
    }
}
