//! Who holds an attempt: the columns of its holder, which only the statements in this file write.
//!
//! The core's [`apply`](trainyard_core::transition::apply) decides what happens to a run, and [`crate::runs`] writes
//! that under the run's lock. Which daemon holds an attempt, and how far its container is, are facts that its holder
//! knows. The holder writes them without the run's lock, so no claim waits for a run.
//!
//! 1. The holder's columns are `owner`, `executor`, `engine`, `fence`, `claimed_at`, `handle`, `spec_hash`, `notes`,
//!    `image`, `started_at`, and `state` until the attempt ends.
//! 2. A claim and an adoption take a new fence. Every later write carries it, and changes nothing under another one.
//! 3. The version of a run does not count these writes. [`overlay`](crate::runs::state::overlay) lays them over the
//!    run's state wherever that is used.
//! 4. [`end_unread`] ends a run in quarantine: `apply` cannot, since the run's state cannot be read.

use std::time::Duration;

use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::adopted::Adopted;
use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::AttemptRef;
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::attempts::claim::ClaimRequest;
use crate::attempts::progress::{CreatedNote, StartedNote};
use crate::db::encoding;
use crate::db::encoding::event::{ended, kind};
use crate::db::error::Result;
use crate::files::logs::log_cursor;
use crate::runs::state::reference;
use crate::store::Core;

/// An attempt that was claimed, as its row says.
#[derive(Debug)]
pub(crate) struct ClaimedRow {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) run: RunId,
    pub(crate) run_version: i64,
    pub(crate) reference: AttemptRef,
    pub(crate) adopted: Option<Adopted>,
}

/// Claims waiting attempts, except those that another transaction has locked. A daemon whose lease expired gets none.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    request: &ClaimRequest,
    attempts: &[Uuid],
) -> Result<Vec<ClaimedRow>> {
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
            select run, claimed_at, $5::text, stage, number from claimed
        )
        select c.id as "id!", c.run as "run!", c.stage as "stage!", c.number as "number!", c.fence as "fence!",
            r.version as "version!"
        from claimed c join run r on r.id = c.run"#,
        attempts,
        request.daemon.0,
        request.executor,
        request.engine,
        kind::ATTEMPT_CLAIMED
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter().map(|row| ClaimedRow {
        attempt: AttemptId(row.id),
        fence: Fence(row.fence),
        run: RunId(row.run),
        run_version: row.version,
        reference: reference(row.stage, row.number),
        adopted: None,
    });
    Ok(rows.collect())
}

/// Adopts attempts that are not supervised any more; see [`Store::adoptable`](crate::Store::adoptable).
pub(crate) async fn adopt(
    core: &Core,
    request: &ClaimRequest,
    attended: &[AttemptId],
    attend_within: Duration,
    spared: &[DaemonId],
) -> Result<Vec<ClaimedRow>> {
    let spared: Vec<_> = spared.iter().map(|daemon| daemon.0).collect();
    let attended: Vec<_> = attended.iter().map(|attempt| attempt.0).collect();
    let rows = sqlx::query!(
        r#"with picked as (
            select a.id, a.owner as before, d.host as before_host
            from attempt a left join daemon d on d.id = a.owner
            where a.state in ('claimed', 'running') and a.executor = $2
                and not exists (select from quarantine q where q.run = a.run and q.held_at is not null)
                and (select r.format from run r where r.id = a.run) <= $8
                and (a.engine is null or a.engine is not distinct from $5)
                and case when a.owner = $1
                    then a.id <> all($3) and a.claimed_at not between clock_timestamp() - make_interval(secs => $4)
                        and clock_timestamp() + make_interval(secs => $4)
                    else d.id is null or d.stopped_at is not null
                        or (d.lease_until < clock_timestamp() and d.id <> all($6)) end
            for update of a skip locked
        ),
        adopted as (
            update attempt a set owner = $1, fence = nextval('fence'), claimed_at = clock_timestamp()
            from picked where a.id = picked.id
            returning a.id, a.run, a.stage, a.number, a.fence, a.handle, a.started_at, a.claimed_at, a.queued_at,
                picked.before, picked.before_host
        ),
        history as (
            insert into run_event (run, at, kind, stage, attempt, detail)
            select run, claimed_at, $7::text, stage, number, jsonb_build_object('daemon', $1::uuid,
                'host', (select host from daemon where id = $1), 'from', before, 'from_host', before_host)
            from adopted
        )
        select a.id as "id!", a.run as "run!", a.stage as "stage!", a.number as "number!", a.fence as "fence!",
            a.handle, a.started_at, r.version as "version!",
            extract(epoch from clock_timestamp() - coalesce(a.started_at, a.queued_at))::float8
                as "running_seconds!",
            l.cursor_major as "cursor_major?", l.cursor_minor as "cursor_minor?"
        from adopted a join run r on r.id = a.run left join attempt_log l on l.attempt = a.id"#,
        request.daemon.0,
        request.executor,
        &attended,
        attend_within.as_secs_f64(),
        request.engine,
        &spared,
        kind::ATTEMPT_ADOPTED,
        encoding::latest_format()
    )
    .fetch_all(&core.pool).at(Point::Adopt)
    .await?;
    let rows = rows.into_iter().map(|row| ClaimedRow {
        attempt: AttemptId(row.id),
        fence: Fence(row.fence),
        run: RunId(row.run),
        run_version: row.version,
        reference: reference(row.stage, row.number),
        adopted: Some(Adopted {
            container: row.handle,
            started_at: row.started_at,
            running_for: Duration::try_from_secs_f64(row.running_seconds).unwrap_or_default(),
            log_cursor: log_cursor(row.cursor_major, row.cursor_minor),
        }),
    });
    Ok(rows.collect())
}

/// Gives an attempt back to the queue: it has not started, and was not asked to stop.
pub(crate) async fn release(connection: &mut PgConnection, claimed: &ClaimedRow) -> Result<()> {
    sqlx::query!(
        "with released as (
            update attempt set state = 'queued', owner = null, claimed_at = null
            where id = $1 and fence = $2 and state = 'claimed' and stop_requested_at is null
            returning run, stage, number
        )
        insert into run_event (run, at, kind, stage, attempt)
        select run, clock_timestamp(), $3::text, stage, number from released",
        claimed.attempt.0,
        claimed.fence.0,
        kind::ATTEMPT_RELEASED
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the containers of attempts. Returns the attempts that are still held under these fences.
pub(crate) async fn created(core: &Core, notes: &[CreatedNote]) -> sqlx::Result<Vec<Uuid>> {
    let (mut ids, mut fences) = (Vec::new(), Vec::new());
    let (mut handles, mut hashes, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for note in notes {
        ids.push(note.attempt.0);
        fences.push(note.fence.0);
        handles.push(note.handle.clone());
        hashes.push(note.spec_hash.clone());
        texts.push(note.notes.clone());
    }
    sqlx::query_scalar!(
        "update attempt a set handle = u.handle, spec_hash = u.spec_hash, notes = u.notes
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[])
            as u (id, fence, handle, spec_hash, notes)
         where a.id = u.id and a.fence = u.fence and a.state in ('claimed', 'running')
         returning a.id",
        &ids,
        &fences,
        &handles,
        &hashes,
        &texts as &[Option<String>]
    )
    .fetch_all(&core.pool)
    .at(Point::NoteCreated)
    .await
}

/// Records that containers run. Returns the attempts that are still held under these fences, with their runs.
pub(crate) async fn started(
    core: &Core,
    notes: &[StartedNote],
) -> sqlx::Result<Vec<(Uuid, RunId)>> {
    let (mut ids, mut fences) = (Vec::new(), Vec::new());
    let (mut images, mut since) = (Vec::new(), Vec::new());
    for note in notes {
        ids.push(note.attempt.0);
        fences.push(note.fence.0);
        images.push(note.image.clone());
        since.push(note.since);
    }
    let started = sqlx::query!(
        r#"with before as materialized (
            select a.id, a.state, u.image, u.since from attempt a
            join unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[]) as u (id, fence, image, since)
                on a.id = u.id and a.fence = u.fence
            where a.state in ('claimed', 'running')
            for no key update of a
        ),
        started as (
            update attempt a
            set state = 'running', image = coalesce(b.image, a.image),
                started_at = coalesce(a.started_at, case when b.since is null then clock_timestamp()
                    else least(greatest(b.since, a.queued_at), clock_timestamp()) end)
            from before b where a.id = b.id
            returning a.id, a.run, a.stage, a.number, a.started_at, a.image, b.state as state_before
        ),
        history as (
            insert into run_event (run, at, kind, stage, attempt, detail)
            select run, started_at, $5::text, stage, number, jsonb_build_object('image', image)
            from started where state_before = 'claimed'
        )
        select id as "id!", run as "run!" from started"#,
        &ids,
        &fences,
        &images as &[Option<String>],
        &since as &[Option<Timestamp>],
        kind::ATTEMPT_STARTED
    )
    .fetch_all(&core.relaxed)
    .at(Point::NoteStarted)
    .await?;
    let started = started.into_iter().map(|row| (row.id, RunId(row.run)));
    Ok(started.collect())
}

/// Ends a run that is locked and in quarantine, and all in it that has not ended.
pub(crate) async fn end_unread(
    connection: &mut PgConnection,
    run: RunId,
    outcome: Outcome,
    reason: &Reason,
) -> Result<()> {
    let detail = ended(outcome, Some(reason));
    let stages = sqlx::query_scalar!("select outcome from stage_run where run = $1", run.0)
        .fetch_all(&mut *connection)
        .await?;
    // A stage whose outcome cannot be read did not succeed.
    let is_failed = |word: &Option<String>| match word {
        Some(word) => Outcome::from_word(word).is_none_or(Outcome::is_failure),
        None => outcome.is_failure(),
    };
    let failed = stages.iter().filter(|word| is_failed(word)).count();
    sqlx::query!(
        "with stages as (
            update stage_run set state = 'finished', finished_at = now(), until = null, outcome = $2,
                reason_code = $3, reason_message = $4
            where run = $1 and state <> 'finished'
        ),
        attempts as (
            update attempt set state = 'finished', finished_at = now(), outcome = $2, reason_code = $3,
                reason_message = $4, removed = (state = 'queued')
            where run = $1 and state <> 'finished' returning stage, number
        )
        insert into run_event (run, at, kind, stage, attempt, detail)
        select $1, now(), $5::text, stage, number, $6::jsonb from attempts",
        run.0,
        outcome.as_str(),
        reason.code.as_str(),
        reason.message,
        kind::ATTEMPT_FINISHED,
        detail
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "with run as (
            update run set phase = 'finished', finished_at = now(), outcome = $2, reason_code = $3,
                reason_message = $4, wake_at = null, version = version + 1, stages_finished = stages_total,
                stages_failed = $5
            where id = $1
        )
        insert into run_event (run, at, kind, detail) values ($1, now(), $6::text, $7::jsonb)",
        run.0,
        outcome.as_str(),
        reason.code.as_str(),
        reason.message,
        i32::try_from(failed).unwrap_or(i32::MAX),
        kind::RUN_FINISHED,
        detail
    )
    .execute(connection)
    .await?;
    Ok(())
}
