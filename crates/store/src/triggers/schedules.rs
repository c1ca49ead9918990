//! Schedules: which ticks are due, and the runs for them.
//!
//! A tick, its run and the advance to the next tick are one transaction, under the DAG's lock: a crash loses no tick
//! and repeats none. DAGs that are due together share transactions.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono_tz::Tz;
use futures_util::{FutureExt, StreamExt, stream};
use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::cron::Cron;
use trainyard_core::dag::Dag;
use trainyard_core::id::{DagId, DagVersionId};
use trainyard_core::name::ParamName;
use trainyard_core::param::{self, GivenValue, ParamValue};
use trainyard_core::schedule::{Due, Missed, due};
use trainyard_failpoint::Point;
use uuid::Uuid;

use crate::care::quarantine::{Subject, Weight};
use crate::db::encoding;
use crate::db::encoding::param::{ValuesDoc, values, values_doc};
use crate::db::error::{Error, Result, repeated};
use crate::runs::draft::Draft;
use crate::runs::start::{NewRun, Recorded, start_run_in};
use crate::store::{Core, Store};
use crate::triggers::dags::{PinnedDag, pinned_all};
use crate::triggers::pushes::{diagnostic, record_faults};

/// How many DAGs one pass fires; the others wait for the next pass, which follows at once.
const DAGS_AT_ONCE: i64 = 200;

/// How many DAGs fire in one transaction: at midnight thousands may be due, and each commit waits for the disk.
const FIRES_TOGETHER: usize = 16;

/// After this many runs of a repo, or stages of them, its other due ticks wait for the next transaction:
/// a DAG may have many schedules, all due in the same minute, and thousands of stages. DAGs of other
/// repos in the same transaction do not wait.
const RUNS_TOGETHER: usize = 100;
const STAGES_TOGETHER: usize = 10_000;

/// After this many ticks, those that pass without a run included, the other schedules wait for the next transaction:
/// ticks are searched on a thread that other tasks need, while the DAGs are locked.
const TICKS_TOGETHER: usize = 50_000;

/// How many such transactions run at the same time. Half of the default number of connections; the others serve
/// requests and other loops meanwhile.
const FIRES_AT_ONCE: usize = 4;

/// The result of a pass over the schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FireReport {
    pub fired: usize,
    /// Ticks whose run was started before.
    pub duplicates: usize,
    /// Ticks that pass without a run: missed ones, by their rule, and those of paused DAGs.
    pub passed_over: usize,
    /// Ticks that pass without a run because their repo has too many unfinished runs.
    pub refused: usize,
    /// Whether DAGs have more due ticks than one transaction fires.
    pub is_more_due: bool,
    /// How long until the next tick; `None` where there is none.
    pub next_in: Option<Duration>,
}

impl FireReport {
    fn add(&mut self, other: Self) {
        self.fired += other.fired;
        self.duplicates += other.duplicates;
        self.passed_over += other.passed_over;
        self.refused += other.refused;
        self.is_more_due |= other.is_more_due;
    }

    fn moved(&self) -> bool {
        self.fired + self.duplicates + self.passed_over + self.refused > 0
    }
}

struct ScheduleRow {
    dag: DagId,
    position: i32,
    cron: Cron,
    timezone: Tz,
    missed: Missed,
    params: BTreeMap<ParamName, ParamValue>,
    next_tick: Timestamp,
    version: DagVersionId,
}

impl Store {
    /// Starts the runs of all due ticks. A DAG whose schedule cannot be read is
    /// quarantined, and does not stop the others; one of a later format is left to a newer daemon.
    pub async fn fire_due_schedules(&self) -> Result<FireReport> {
        let mut report = FireReport::default();
        let dags = sqlx::query!(
            "select dag from schedule s where next_tick <= clock_timestamp()
                and (select v.format from dag_version v where v.id = s.dag_version) <= $2
                and not exists (select from quarantine q where q.dag = s.dag and q.held_at is not null)
             group by dag order by min(next_tick) limit $1",
            DAGS_AT_ONCE,
            encoding::latest_format()
        )
        .fetch_all(&self.core.pool)
        .await?;
        let more = i64::try_from(dags.len()) == Ok(DAGS_AT_ONCE);
        let dags: Vec<DagId> = dags.into_iter().map(|row| DagId(row.dag)).collect();
        let together: Vec<Vec<DagId>> = dags.chunks(FIRES_TOGETHER).map(Vec::from).collect();
        let firing = together.into_iter().map(|dags| self.fire_together(dags));
        let mut firing = std::pin::pin!(stream::iter(firing).buffer_unordered(FIRES_AT_ONCE));
        let mut failure = None;
        while let Some(fired) = firing.next().await {
            match fired {
                Ok(fired) => report.add(fired),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        // A tick that is overdue now could not fire, or is left over; neither justifies a busy loop.
        let next = sqlx::query!(
            "select extract(epoch from min(next_tick) - clock_timestamp())::double precision as seconds
             from schedule where next_tick > clock_timestamp()"
        )
        .fetch_one(&self.core.pool)
        .await?;
        report.next_in = match next.seconds {
            _ if (more || report.is_more_due) && report.moved() => Some(Duration::ZERO),
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            None => None,
        };
        Ok(report)
    }

    /// Fires DAGs in one transaction. If that fails, fires each by itself: the failure of one DAG does not affect the
    /// others, and quarantines only that DAG.
    async fn fire_together(&self, mut dags: Vec<DagId>) -> Result<FireReport> {
        // Daemons that fire the same DAGs lock them in the same order.
        dags.sort_unstable();
        match AssertUnwindSafe(self.fire(&dags)).catch_unwind().await {
            Ok(Ok(report)) => return Ok(report),
            // The more DAGs are locked together, the more often they block another transaction.
            Ok(Err(Error::Contention(_))) => {}
            Ok(Err(error)) if error.is_transient() => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        let (mut report, mut failure) = (FireReport::default(), None);
        for dag in dags {
            let (reason, weight) = match AssertUnwindSafe(self.fire(&[dag])).catch_unwind().await {
                Ok(Ok(fired)) => {
                    report.add(fired);
                    continue;
                }
                Ok(Err(error @ (Error::NotFound { .. } | Error::Conflict { .. }))) => {
                    (error.to_string(), Weight::Certain)
                }
                Ok(Err(error)) if error.is_transient() => return Err(error),
                Ok(Err(error)) => match error.fault() {
                    Some(fault) => fault,
                    None => {
                        failure = failure.or(Some(error));
                        continue;
                    }
                },
                Err(_) => {
                    let reason = "its schedule panicked, which is a bug; see the daemon's log";
                    (reason.to_owned(), Weight::Suspect)
                }
            };
            self.record_trouble(Subject::Dag(dag), "scheduling", &reason, weight)
                .await?;
        }
        failure.map_or(Ok(report), Err)
    }

    async fn fire(&self, dags: &[DagId]) -> Result<FireReport> {
        let (report, committed) = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let mut draft = Draft::default();
            let report = fire_in(&self.core, &mut transaction, &mut draft, dags).await?;
            Ok((
                report,
                draft.commit(transaction, Point::FireSchedule).await?,
            ))
        })
        .await?;
        committed.settle(&self.core).await;
        Ok(report)
    }
}

/// Fires the due ticks of DAGs within a transaction. Starting a run costs statements of its own; everything else is
/// read and written once for all of them.
async fn fire_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    dags: &[DagId],
) -> Result<FireReport> {
    let branches = lock_to_fire(connection, dags).await?;
    let (rows, now) = due_rows(connection, dags).await?;
    let firing = rows.iter().filter(|row| branches.contains_key(&row.dag));
    let versions: Vec<DagVersionId> = firing.map(|row| row.version).collect();
    let pinned = pinned_all(core, connection, &versions).await?;
    let pinned = pinned
        .into_iter()
        .map(|(version, pinned)| Ok((version, pinned?)))
        .collect::<Result<HashMap<_, _>>>()?;
    let mut report = FireReport::default();
    let mut next_ticks = NextTicks::default();
    let mut room = core.room();
    let mut refusals = BTreeMap::new();
    let mut spent = HashMap::new();
    let mut searched = 0;
    for row in &rows {
        if searched >= TICKS_TOGETHER {
            report.is_more_due = true;
            break;
        }
        let Due {
            fire,
            passed_over,
            mut next,
        } = due(&row.cron, row.timezone, row.missed, row.next_tick, now);
        searched += fire.len() + passed_over;
        report.is_more_due |= next.is_some_and(|next| next <= now);
        report.passed_over += passed_over;
        let Some(branch) = branches.get(&row.dag) else {
            next_ticks.add(row, next);
            report.passed_over += fire.len();
            continue;
        };
        let pinned = pinned
            .get(&row.version)
            .ok_or_else(|| Error::not_found("such DAG version"))?;
        let (runs, stages) = spent.entry(pinned.repo).or_insert((0, 0));
        for tick in fire {
            if *runs == RUNS_TOGETHER || *stages >= STAGES_TOGETHER {
                report.is_more_due = true;
                next = Some(tick);
                break;
            }
            let new = new_run(row, pinned, tick, branch.clone())?;
            // The pause was checked under the DAG's lock.
            match start_run_in(core, connection, draft, &new, false, &mut room).await? {
                Recorded::Started(_) => {
                    report.fired += 1;
                    *runs += 1;
                    *stages += pinned.dag.stages().len();
                }
                Recorded::Duplicate(_) => report.duplicates += 1,
                Recorded::Paused => report.passed_over += 1,
                Recorded::Full(why) => {
                    report.refused += 1;
                    let why = format!("its tick of {tick} passed without a run: {why}");
                    refusals.insert(row.dag, (pinned, branch.as_deref(), why));
                }
            }
        }
        next_ticks.add(row, next);
    }
    next_ticks.write(connection).await?;
    for (pinned, branch, why) in refusals.into_values() {
        let fault = (pinned.path.clone(), diagnostic(&pinned.path, &why));
        let branch = branch.unwrap_or_default();
        record_faults(
            connection,
            pinned.repo,
            &pinned.commit,
            branch,
            &[fault],
            now,
        )
        .await?;
    }
    Ok(report)
}

/// Locks the rows of DAGs in the order of their ids: only one transaction at a time fires a DAG's schedules or
/// applies its concurrency rule. Returns the branch of each DAG's ticks; paused DAGs, which do not fire, are missing.
async fn lock_to_fire(
    connection: &mut PgConnection,
    dags: &[DagId],
) -> Result<HashMap<DagId, Option<String>>> {
    let ids: Vec<Uuid> = dags.iter().map(|dag| dag.0).collect();
    let rows = sqlx::query!(
        r#"select d.id, d.paused, coalesce(r.current_branch, r.followed_branch) as branch
         from dag d join repo r on r.id = d.repo where d.id = any($1) order by d.id for no key update of d"#,
        &ids
    )
    .fetch_all(connection)
    .await?;
    let firing = rows.into_iter().filter(|row| !row.paused);
    Ok(firing.map(|row| (DagId(row.id), row.branch)).collect())
}

/// The next ticks of schedules, in columns.
#[derive(Default)]
struct NextTicks {
    dag: Vec<Uuid>,
    position: Vec<i32>,
    next: Vec<Option<Timestamp>>,
}

impl NextTicks {
    fn add(&mut self, row: &ScheduleRow, next: Option<Timestamp>) {
        self.dag.push(row.dag.0);
        self.position.push(row.position);
        self.next.push(next);
    }

    async fn write(self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query!(
            "update schedule s set next_tick = u.next
             from unnest($1::uuid[], $2::integer[], $3::timestamptz[]) as u (dag, position, next)
             where s.dag = u.dag and s.position = u.position",
            &self.dag,
            &self.position,
            &self.next as &[Option<Timestamp>]
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

fn new_run(
    row: &ScheduleRow,
    pinned: &PinnedDag,
    tick: Timestamp,
    branch: Option<String>,
) -> Result<NewRun> {
    let given = row
        .params
        .iter()
        .map(|(name, value)| (name.to_string(), GivenValue::Typed(value.clone())))
        .collect();
    let params = param::resolve(&pinned.dag.declared().params, &given).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::conflict(format!(
            "a schedule of DAG {} cannot start it: {}",
            pinned.dag.name(),
            faults.join("; ")
        ))
    })?;
    let schedule = format!("{} ({})", row.cron, row.timezone);
    Ok(NewRun {
        dag: pinned.dag_id,
        version: pinned.version,
        cause: Cause {
            summary: format!("tick of {schedule}"),
            kind: CauseKind::Schedule { tick, schedule },
            actor: None,
            commit: pinned.commit.clone(),
            branch,
        },
        params,
        logical_time: None,
    })
}

/// The due schedules of DAGs, locked, and the transaction's time.
async fn due_rows(
    connection: &mut PgConnection,
    dags: &[DagId],
) -> Result<(Vec<ScheduleRow>, Timestamp)> {
    let ids: Vec<Uuid> = dags.iter().map(|dag| dag.0).collect();
    let rows = sqlx::query!(
        r#"with locked as materialized (
            select dag, position, cron, timezone, missed, params, next_tick, dag_version from schedule s
            where dag = any($1) and next_tick <= clock_timestamp()
                and (select v.format from dag_version v where v.id = s.dag_version) <= $2
            order by dag, position for no key update
        )
        select *, clock_timestamp() as "now!" from locked order by dag, position"#,
        &ids,
        encoding::latest_format()
    )
    .fetch_all(connection)
    .await?;
    let now = rows.iter().map(|row| row.now).max().unwrap_or_default();
    let read = rows.into_iter().filter_map(|row| {
        let next_tick = row.next_tick?;
        let dag = DagId(row.dag);
        let what = || format!("schedule #{} of DAG {dag}", row.position);
        let corrupt = |problem: String| Error::corrupt(what(), problem);
        Some((|| {
            Ok(ScheduleRow {
                dag,
                cron: Cron::stored(&row.cron)
                    .ok_or_else(|| corrupt(format!("`{}` is not a cron expression", row.cron)))?,
                timezone: timezone(&row.timezone).map_err(corrupt)?,
                missed: encoding::dag::missed(&row.missed).map_err(corrupt)?,
                params: values(encoding::read::<ValuesDoc>(row.params, what)?).map_err(corrupt)?,
                position: row.position,
                next_tick,
                version: DagVersionId(row.dag_version),
            })
        })())
    });
    Ok((read.collect::<Result<_>>()?, now))
}

/// Replaces a DAG's schedules. A schedule whose expression and time zone are unchanged
/// continues where it was, missed ticks included.
pub(crate) async fn replace_schedules(
    connection: &mut PgConnection,
    dag: DagId,
    version: DagVersionId,
    content: &Dag,
    now: Timestamp,
) -> Result<()> {
    let mut old = sqlx::query!(
        "delete from schedule where dag = $1 returning cron, timezone, next_tick",
        dag.0
    )
    .fetch_all(&mut *connection)
    .await?;
    for (position, schedule) in content.declared().triggers.schedule.iter().enumerate() {
        let same = old.iter().position(|row| {
            row.cron == schedule.cron.as_str() && row.timezone == schedule.timezone.name()
        });
        let next_tick = match same {
            Some(place) => old.swap_remove(place).next_tick,
            None => schedule.cron.next_after(now, schedule.timezone),
        };
        sqlx::query!(
            "insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            dag.0,
            i32::try_from(position).unwrap_or(i32::MAX),
            version.0,
            schedule.cron.as_str(),
            schedule.timezone.name(),
            schedule.missed.as_str(),
            encoding::write(&values_doc(&schedule.params)),
            next_tick
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn timezone(name: &str) -> Result<Tz, String> {
    name.parse()
        .map_err(|_| format!("`{name}` is not a time zone"))
}
