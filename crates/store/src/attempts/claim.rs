//! Claiming: waiting attempts get capacity, and an owner.
//!
//! Under one short advisory lock for the whole database, so that what is counted as free is free.
//! No row is waited for within it: an attempt that another transaction has locked is passed by.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use trainyard_core::admit::{Blocked, Capacity, Waiting, admit};
use trainyard_core::id::{AttemptId, DaemonId, Fence, RepoId, RunId};
use trainyard_core::name::PoolName;
use trainyard_core::run::AttemptRef;
use trainyard_failpoint::{Effect as _, Point};
use uuid::Uuid;

use crate::attempts::assemble::{Claim, assemble};
use crate::care::quarantine::{self, Subject, Weight};
use crate::db::error::{Error, Result, repeated};
use crate::runs::state::reference;
use crate::store::{Core, Store};

/// The advisory lock of admission: `trainyar` in ASCII.
const ADMISSION: i64 = 0x7472_6169_6e79_6172;

/// How many runs one admission looks at of those whose attempts take the same of pools, the oldest of each
/// repo first. The repos share them evenly, so a repo hides nothing of another; but each has at least as many
/// in sight as hold a slot or could get one, so only runs that would not get a turn anyway are out of sight.
const RUNS_AT_MOST: i64 = 512;

/// How many started runs' claims may wait for the claimer. It only has to start a task for each; who
/// starts runs faster than that waits for it.
const HANDED_OVER_AT_MOST: usize = 64;

/// What there is to share, in all: what is in use is found in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimCapacity {
    /// How many attempts the claiming daemon may hold at the same time.
    pub slots_total: u32,
    /// The slots of each pool, shared by all daemons.
    pub pools_total: BTreeMap<PoolName, u32>,
    /// How many attempts of one repo all daemons together may hold at the same time; `None` is no bound.
    pub stages_of_a_repo: Option<u32>,
}

/// A request for attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    pub daemon: DaemonId,
    /// The word of the executor that will run them.
    pub executor: String,
    /// Which engine it reaches, where it can say: who reaches the same one may adopt them later.
    pub engine: Option<String>,
    /// What there is to share.
    pub capacity: ClaimCapacity,
}

/// Who gets the claims that are made on the way, in the transactions that start runs.
#[derive(Debug)]
pub(crate) struct Claimer {
    pub(crate) request: ClaimRequest,
    claims: mpsc::Sender<Vec<Claim>>,
}

impl Claimer {
    /// Hands over what was granted. What does not arrive (the database went away, the daemon is
    /// going) is held and attended by nobody, and taken over like all such attempts.
    pub(crate) async fn hand_over(&self, core: &Arc<Core>, granted: Granted) {
        if granted.rows.is_empty() {
            return;
        }
        match assemble(core, granted.rows).await {
            Ok(claims) => drop(self.claims.send(claims).await),
            Err(error) => {
                tracing::warn!(%error, "could not read claimed attempts; they are adopted later")
            }
        }
    }
}

/// An attempt that was claimed, as its row says.
#[derive(Debug)]
pub(crate) struct ClaimedRow {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) run: RunId,
    pub(crate) run_version: i64,
    pub(crate) reference: AttemptRef,
    pub(crate) adopted: Option<crate::attempts::assemble::Adopted>,
}

/// What an admission granted.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) rows: Vec<ClaimedRow>,
    /// Whether attempts were seen that got nothing.
    pub(crate) some_wait: bool,
}

impl Store {
    /// From now on, whoever starts a run in this process claims in the same transaction what can go
    /// at once; the claims come out of the receiver. That saves a durable commit between a trigger
    /// and its containers. There is one claimer in a process: the first.
    #[must_use]
    pub fn claims_of_started_runs(&self, request: ClaimRequest) -> mpsc::Receiver<Vec<Claim>> {
        let (claims, claimed) = mpsc::channel(HANDED_OVER_AT_MOST);
        // A second receiver is of no use; it says so by being closed.
        let _ = self.core.claimer.set(Claimer { request, claims });
        claimed
    }

    /// Claims waiting attempts for a daemon, as many as there is capacity for, in the order of
    /// [`admit`]. A daemon whose lease ran out gets nothing until it renews it, and one whose
    /// [condition](crate::Condition) pauses claims gets nothing.
    ///
    /// # Errors
    /// Trouble with the database. A run that cannot be read is held back in quarantine.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>> {
        if self.core.condition.pauses_claims() {
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

/// Claims within a transaction of the caller's. Call it last: from here on the transaction keeps
/// all other claims waiting.
pub(crate) async fn claim_in(
    connection: &mut PgConnection,
    request: &ClaimRequest,
) -> Result<Granted> {
    // In a statement of its own: the next one must not see the database as it was before the wait.
    sqlx::query!("select pg_advisory_xact_lock($1)", ADMISSION)
        .execute(&mut *connection)
        .await?;
    let Sight {
        free,
        may_fit,
        mut some_wait,
    } = look(connection, request).await?;
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
    let rows = sqlx::query!(
        r#"with picked as (
            select id from attempt where id = any($1) and state = 'queued' for update skip locked
        ),
        claimed as (
            update attempt a
            set state = 'claimed', owner = $2, executor = $3, engine = $4, fence = nextval('fence'),
                claimed_at = clock_timestamp()
            from picked where a.id = picked.id
                and exists (select from daemon where id = $2 and stopped_at is null and lease_until > clock_timestamp())
            returning a.id, a.run, a.stage, a.number, a.fence, a.claimed_at
        ),
        history as (
            insert into run_event (run, at, kind, stage, attempt)
            select run, claimed_at, 'attempt_claimed', stage, number from claimed
        )
        select c.id as "id!", c.run as "run!", c.stage as "stage!", c.number as "number!", c.fence as "fence!",
            r.version as "version!"
        from claimed c join run r on r.id = c.run"#,
        &granted,
        request.daemon.0,
        request.executor,
        request.engine
    )
    .fetch_all(connection)
    .await?;
    let rows = rows
        .into_iter()
        .map(|row| ClaimedRow {
            attempt: AttemptId(row.id),
            fence: Fence(row.fence),
            run: RunId(row.run),
            run_version: row.version,
            reference: reference(row.stage, row.number),
            adopted: None,
        })
        .collect();
    Ok(Granted { rows, some_wait })
}

/// What an admission sees before it looks at single attempts.
struct Sight {
    /// Slots of the claiming daemon, pools of everybody.
    free: Capacity,
    /// The keys of those that take the same of pools, where that much is free.
    may_fit: Vec<i64>,
    /// Whether attempts wait that cannot fit.
    some_wait: bool,
}

/// Finds what is free, and for which of the attempts that wait it may be enough: of those that take the
/// same of pools, one stands for all.
async fn look(connection: &mut PgConnection, request: &ClaimRequest) -> Result<Sight> {
    // The recursion steps over the index from one key to the next, however many have it; it begins before
    // all keys.
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
        // What it takes of pools is known to nobody any more; its slot counts.
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
    // Those that cannot be read are looked at one by one, and held back. One that only its repo's bound
    // blocks stands for others of other repos as well.
    let fits = |one: &Result<Waiting>| match one {
        Ok(one) => matches!(free.blocks(one), None | Some(Blocked::RepoFull)),
        Err(_) => true,
    };
    let may_fit: Vec<i64> = alike
        .iter()
        .filter(|(_, one)| fits(one))
        .map(|(key, _)| *key)
        .collect();
    Ok(Sight {
        some_wait: free.slots == 0 || may_fit.len() < alike.len(),
        may_fit,
        free,
    })
}

/// The attempts that wait and may fit: of each run and each key as many as there are free slots, as no
/// run can be granted more.
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
    // The recursions step from repo to repo and from run to run over the index, so a run with thousands of
    // waiting attempts costs no more than one with a few, and a repo with thousands of runs neither.
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
        slots
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
    let doc: BTreeMap<String, u32> = crate::db::encoding::read(json, what)?;
    doc.into_iter()
        .map(|(name, slots)| {
            let name = PoolName::new(name).map_err(|fault| Error::corrupt(what(), fault))?;
            Ok((name, slots))
        })
        .collect()
}
