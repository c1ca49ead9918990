//! Locks runs, and reads what is needed of them in the same round trip.

use std::collections::HashMap;

use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence, RunId};

use crate::db::error::Result;
use crate::runs::state::{Held, held_attempts, reference};

/// A run whose row this transaction has locked.
#[derive(Debug)]
pub(crate) struct LockedRun {
    pub(crate) id: RunId,
    pub(crate) version: i64,
    pub(crate) wake_at: Option<Timestamp>,
    /// Read after the lock was taken.
    pub(crate) now: Timestamp,
}

/// The held attempts of runs.
pub(crate) type HeldByRun = HashMap<RunId, Vec<Held>>;

/// Locks runs in the order of their ids, and reads their held attempts.
///
/// The time is read after the lock was taken, since the outer select sees a row only once it is locked. Attempts are
/// read as they were when the statement began: if it waited for the lock and the run was changed meanwhile, which its
/// version shows, they are read again.
pub(crate) async fn lock_runs(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<(Vec<LockedRun>, HeldByRun)> {
    let rows = sqlx::query!(
        r#"with locked as materialized (
            select id, version, wake_at from run where id = any($1) order by id for no key update
        )
        select l.id, l.version, l.wake_at, clock_timestamp() as "now!", seen.version as seen_version,
            a.id as "attempt?", a.stage as "stage?", a.number as "number?", a.fence as "fence?",
            a.claimed_at as "claimed_at?", a.started_at, a.image
        from locked l join run seen on seen.id = l.id
        left join attempt a on a.run = l.id and a.state in ('claimed', 'running')
        order by l.id"#,
        ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut locked: Vec<LockedRun> = Vec::new();
    let mut held = HeldByRun::new();
    let mut outdated = false;
    for row in rows {
        outdated |= row.seen_version != row.version;
        let id = RunId(row.id);
        if locked.last().is_none_or(|last| last.id != id) {
            locked.push(LockedRun {
                id,
                version: row.version,
                wake_at: row.wake_at,
                now: row.now,
            });
        }
        if let (Some(attempt), Some(stage), Some(number), Some(fence), Some(claimed_at)) = (
            row.attempt,
            row.stage,
            row.number,
            row.fence,
            row.claimed_at,
        ) {
            held.entry(id).or_default().push(Held {
                id: AttemptId(attempt),
                reference: reference(stage, number),
                fence: Fence(fence),
                claimed_at,
                started_at: row.started_at,
                image: row.image,
            });
        }
    }
    if outdated {
        held = held_attempts(connection, ids).await?;
    }
    Ok((locked, held))
}
