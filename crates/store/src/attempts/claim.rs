//! Claiming: waiting attempts get capacity, and an owner.
//!
//! A claim holds one advisory lock for the whole database for a short time, so that capacity which
//! is counted as free stays free. It never waits for a row while it holds that lock: it skips
//! attempts that another transaction has locked.
//!
//! # Example
//! Daemon A has 4 slots, and pool `gpu` has 2. A runs an attempt of shop's run 7; daemon B runs one of lab's run 9
//! with `gpu: 1`. So A has 3 slots free, and `gpu` has 1. These attempts wait:
//!
//! ```text
//!      repo  run  queued  pools   A's claim
//! a    shop    7  10:00           waits: no slot is left, and shop holds 2 by then
//! b    shop    8  10:01   gpu 1   2nd: shop and lab hold 1 each, but run 8 holds none
//! c    lab     9  10:02   gpu 1   waits: b took the last gpu
//! d    lab     9  10:03           3rd: lab holds 1, shop holds 2
//! e    web    10  10:04           1st: web holds none
//! f    web    10  09:59   gpu 2   is not a candidate: gpu has only 1 free
//! ```
//!
//! [`admit`] serves the repo that holds the fewest slots, there the run that holds the fewest, and only then the
//! attempt that has waited longest. So A's claim sets owner A and new fences on `e`, `b` and `d`.
//!
//! 1. If B claims at the same moment, it waits for the lock. Then it reads these
//!    three rows as claimed, and `gpu` as full.
//! 2. If another transaction has `d` locked (run 9 is being cancelled), A gets `e` and `b`. The third
//!    slot stays free until the next claim.
//! 3. If A's lease has expired, the claim changes no row.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::PgConnection;
use trainyard_core::admit::{Blocked, Capacity, Waiting, admit};
use trainyard_core::id::{DaemonId, RepoId, RunId};
use trainyard_core::name::PoolName;
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::attempts::assemble::{Claim, assemble};
use crate::attempts::holding::{self, ClaimedRow};
use crate::care::quarantine::{self, Subject, Weight};
use crate::db::encoding;
use crate::db::error::{Error, Result, repeated};
use crate::store::Store;

/// The advisory lock of admission: `trainyar` in ASCII.
const ADMISSION: i64 = 0x7472_6169_6e79_6172;

/// How many runs one admission reads, of the runs whose attempts take the same slots of the same pools. It
/// reads the oldest runs of each repo and divides the number evenly among the repos, so that no repo hides
/// another. Each repo gets at least as many as there are runs that hold a slot or could get one, so a run that
/// is not read would not have got a slot anyway.
const RUNS_AT_MOST: i64 = 512;

/// The total capacity. The database knows how much of it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimCapacity {
    /// How many attempts the claiming daemon may hold at the same time.
    pub slots_total: u32,
    /// The slots of each pool, shared by all daemons.
    pub pools_total: BTreeMap<PoolName, u32>,
    /// How many attempts of one repo all daemons together may hold at the same time; `None` sets no bound.
    pub stages_of_a_repo: Option<u32>,
}

/// A request for attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    pub daemon: DaemonId,
    /// The name of the executor that will run them.
    pub executor: String,
    /// The Docker engine that it reaches, if it has one: daemons that reach
    /// the same one may adopt the attempts later.
    pub engine: Option<String>,
    /// The capacity that the claim shares out.
    pub capacity: ClaimCapacity,
}

/// What an admission granted.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) rows: Vec<ClaimedRow>,
    /// Whether attempts were seen that got no capacity.
    pub(crate) some_wait: bool,
}

impl Store {
    /// Claims waiting attempts for a daemon, as many as there is capacity for, in the order of [`admit`]. A daemon
    /// whose lease expired gets none until it has renewed the lease, and a daemon whose
    /// [health](crate::DaemonHealth) pauses claims gets none.
    ///
    /// # Errors
    /// A database error. A run that cannot be read is quarantined.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>> {
        if self.core.health.pauses_claims() {
            return Ok(Vec::new());
        }
        let granted = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let granted = claim_in(&mut transaction, request).await?;
            transaction.commit().at(Point::Claim).await?;
            Ok(granted)
        })
        .await?;
        assemble(&self.core, granted.rows).await
    }
}

/// Claims within the caller's transaction. Call it last: from here on, all other claims wait for this transaction.
pub(crate) async fn claim_in(
    connection: &mut PgConnection,
    request: &ClaimRequest,
) -> Result<Granted> {
    // The lock is a statement of its own: the next statement must not read a snapshot from before the wait.
    sqlx::query!("select pg_advisory_xact_lock($1)", ADMISSION)
        .execute(&mut *connection)
        .await?;
    let Supply {
        free,
        may_fit,
        mut some_wait,
    } = supply(connection, request).await?;
    let (ids, waiting) = candidates(connection, &may_fit, &free).await?;
    let granted: Vec<Uuid> = admit(&waiting, free)
        .into_iter()
        .filter_map(|place| ids.get(place).copied())
        .collect();
    some_wait |= granted.len() < ids.len();
    if granted.is_empty() {
        return Ok(Granted {
            rows: Vec::new(),
            some_wait,
        });
    }
    let rows = holding::claim(connection, request, &granted).await?;
    Ok(Granted { rows, some_wait })
}

/// What an admission reads before it reads single attempts.
struct Supply {
    /// Slots of the claiming daemon, and pools of all daemons.
    free: Capacity,
    /// Keys of attempts that take the same slots of the same pools, where that many are free.
    may_fit: Vec<i64>,
    /// Whether attempts wait that cannot fit.
    some_wait: bool,
}

/// Finds the free capacity, and the waiting attempts that may fit into it: of those that take the same slots of the
/// same pools, one is read for all.
async fn supply(connection: &mut PgConnection, request: &ClaimRequest) -> Result<Supply> {
    // The recursion steps over the index from one key to the next, however many
    // attempts have it. It begins before all keys.
    let rows = sqlx::query!(
        r#"with recursive
        held as materialized (
            select repo, run, owner = $1 as own, pools from attempt where state in ('claimed', 'running')
        ),
        alike as (
            select '-9223372036854775808'::bigint as key, null::uuid as repo, 0::bigint as run,
                null::timestamptz as queued_at, null::jsonb as pools
            where (select count(*) from held where own) < $2
            union all
            select next.* from alike cross join lateral (
                select coalesce(jsonb_hash_extended(a.pools, 0), 0) as key, a.repo, a.run, a.queued_at, a.pools
                from attempt a where a.state = 'queued' and coalesce(jsonb_hash_extended(a.pools, 0), 0) > alike.key
                order by 1 limit 1
            ) next
        )
        select null::bigint as key, null::timestamptz as queued_at, repo as "repo!", run as "run!", own, pools from held
        union all
        select key, queued_at, repo, run, null, pools from alike where queued_at is not null"#,
        request.daemon.0,
        i64::from(request.capacity.slots_total)
    )
    .fetch_all(connection)
    .await?;
    let mut free = Capacity {
        slots: request.capacity.slots_total,
        pools: request.capacity.pools_total.clone(),
        held: BTreeMap::new(),
        held_by_repo: BTreeMap::new(),
        stages_of_a_repo: request.capacity.stages_of_a_repo,
    };
    let mut alike = Vec::new();
    for row in rows {
        let (repo, run) = (RepoId(row.repo), RunId(row.run));
        let taken = pools(row.pools);
        if let (Some(key), Some(since)) = (row.key, row.queued_at) {
            let waiting = |pools| Waiting {
                repo,
                run,
                since,
                pools,
            };
            alike.push((key, taken.map(waiting)));
            continue;
        }
        // The slots of pools that it takes cannot be read any more; its own slot counts.
        let pools = taken.unwrap_or_default();
        *free.held.entry(run).or_default() += 1;
        *free.held_by_repo.entry(repo).or_default() += 1;
        if row.own == Some(true) {
            free.slots = free.slots.saturating_sub(1);
        }
        for (name, used) in pools {
            if let Some(slots) = free.pools.get_mut(&name) {
                *slots = slots.saturating_sub(used);
            }
        }
    }
    // Attempts that cannot be read are checked one by one later, and their runs are quarantined. An attempt that only
    // its repo's bound blocks stands for attempts of other repos as well.
    let fits = |one: &Result<Waiting>| match one {
        Ok(one) => matches!(free.blocks(one), None | Some(Blocked::RepoFull)),
        Err(_) => true,
    };
    let may_fit: Vec<i64> = alike
        .iter()
        .filter(|(_, one)| fits(one))
        .map(|(key, _)| *key)
        .collect();
    Ok(Supply {
        some_wait: free.slots == 0 || may_fit.len() < alike.len(),
        may_fit,
        free,
    })
}

/// The waiting attempts that may fit: of each run and each key as many as there are free
/// slots, since no run can be granted more.
async fn candidates(
    connection: &mut PgConnection,
    may_fit: &[i64],
    free: &Capacity,
) -> Result<(Vec<Uuid>, Vec<Waiting>)> {
    let (mut ids, mut waiting, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    if may_fit.is_empty() {
        return Ok((ids, waiting));
    }
    let slots = i64::from(free.slots);
    let holding = i64::try_from(free.held.len()).unwrap_or(i64::MAX);
    let full = free.held_by_repo.keys().filter(|repo| free.is_full(**repo));
    let full: Vec<Uuid> = full.map(|repo| repo.0).collect();
    // The recursions step from repo to repo and from run to run over the index: a run with thousands of waiting
    // attempts costs as little as a run with a few, and so does a repo with thousands of runs.
    let rows = sqlx::query!(
        r#"select a.id, a.repo as "repo!", a.run, a.queued_at, a.pools
        from unnest($1::bigint[]) as alike (key)
        cross join lateral (
            with recursive waiting_repo as (
                select '00000000-0000-0000-0000-000000000000'::uuid as repo
                union all
                select next.repo from waiting_repo w cross join lateral (
                    select a.repo from attempt a
                    where a.state = 'queued' and coalesce(jsonb_hash_extended(a.pools, 0), 0) = alike.key
                        and a.repo > w.repo
                    order by a.repo limit 1
                ) next
            )
            select repo, greatest($2 / count(*) over (), $3) as runs from waiting_repo
            where repo <> '00000000-0000-0000-0000-000000000000' and repo <> all($4)
        ) of_repo
        cross join lateral (
            with recursive waiting_run as (
                select 0::bigint as run
                union all
                select next.run from waiting_run w cross join lateral (
                    select a.run from attempt a
                    where a.state = 'queued' and coalesce(jsonb_hash_extended(a.pools, 0), 0) = alike.key
                        and a.repo = of_repo.repo and a.run > w.run
                    order by a.run limit 1
                ) next
            )
            select run from waiting_run w where run > 0
                and not exists (select from quarantine q where q.run = w.run and q.held_at is not null)
                and run not in (select id from run where phase <> 'finished' and format > 1 and format > $6)
            limit of_repo.runs
        ) w
        cross join lateral (
            select id, repo, run, queued_at, stage, pools from attempt
            where state = 'queued' and coalesce(jsonb_hash_extended(pools, 0), 0) = alike.key
                and repo = of_repo.repo and run = w.run
            order by queued_at, stage limit $5
        ) a
        order by a.run, a.queued_at, a.stage"#,
        may_fit,
        RUNS_AT_MOST,
        holding.saturating_add(slots),
        &full,
        slots,
        encoding::latest_format()
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let run = RunId(row.run);
        match pools(row.pools) {
            Ok(pools) => {
                ids.push(row.id);
                waiting.push(Waiting {
                    repo: RepoId(row.repo),
                    run,
                    since: row.queued_at,
                    pools,
                });
            }
            Err(error) => unreadable.push((run, error.to_string())),
        }
    }
    for (run, problem) in unreadable {
        let (subject, place) = (Subject::Run(run), "dispatch");
        quarantine::record_in(connection, subject, place, &problem, Weight::Certain).await?;
    }
    Ok((ids, waiting))
}

/// Reads `{"gpu": 1}`.
pub(crate) fn pools(json: Option<Value>) -> Result<BTreeMap<PoolName, u32>> {
    let Some(json) = json else {
        return Ok(BTreeMap::new());
    };
    let what = || "the pools of a waiting attempt".to_owned();
    let doc: BTreeMap<String, u32> = encoding::read(json, what)?;
    doc.into_iter()
        .map(|(name, slots)| {
            let name = PoolName::new(name).map_err(|fault| Error::corrupt(what(), fault))?;
            Ok((name, slots))
        })
        .collect()
}
