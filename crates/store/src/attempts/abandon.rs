//! Abandoning attempts: an attempt whose end is never reported counts as lost once an operator abandons it.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use trainyard_core::Timestamp;
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::principal::Act;
use trainyard_core::run::AttemptRef;
use trainyard_core::transition::{Illegal, TOLD_WITHIN};

use crate::db::error::Result;
use crate::runs::advance::Input;
use crate::runs::state::reference;
use crate::store::Store;

/// The result of abandoning a run's attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    /// Whether any attempt counts as lost now.
    pub any: bool,
    /// Why the other attempts were not abandoned.
    pub refused: Vec<Illegal>,
}

/// A claim whose daemon is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unattended {
    pub(crate) reference: AttemptRef,
    fence: Fence,
    pub(crate) since: Timestamp,
}

/// The claims of a run whose daemons seemed to be gone when they were read.
#[derive(Debug, Clone)]
pub struct SeenGone(Vec<Unattended>);

impl SeenGone {
    /// Whether there are no such claims.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A request to abandon the attempts that a run holds.
#[derive(Debug, Clone)]
pub struct GivingUp {
    pub by: Act,
    /// How long an attempt may take to end after it was asked to stop.
    pub patience: Duration,
    /// The claims that were [already seen as gone](Store::seen_gone) one lease renewal earlier. Once is not enough:
    /// after the database was away or its clock jumped, every daemon seems to be gone until it has renewed its lease.
    pub gone: SeenGone,
}

impl Store {
    /// The claims of a run whose daemons have been gone for [`TOLD_WITHIN`] and that no other daemon has adopted.
    pub async fn seen_gone(&self, run: RunId) -> Result<SeenGone> {
        let gone = unattended(&self.core.pool, run, TOLD_WITHIN).await?;
        Ok(SeenGone(gone))
    }

    /// Ends as lost the attempts of a run that may be abandoned:
    ///
    /// 1. those that were asked to stop and have not ended within the time that they may take;
    /// 2. those whose daemon was seen as gone, and still is, under the same claim.
    ///
    /// Their containers may still run; a daemon that reaches their Docker engine removes them.
    ///
    /// # Errors
    /// As [`Store::advance`].
    pub async fn abandon(&self, run: RunId, giving_up: GivingUp) -> Result<Abandoned> {
        let input = Input {
            act: Some(giving_up.by.clone()),
            giving_up: Some(giving_up),
            ..Input::default()
        };
        let advanced = self.advance_by(run, &input).await?;
        Ok(Abandoned {
            any: advanced.lost > 0,
            refused: advanced.refused,
        })
    }

    /// Which of `attempts` ended longer than `ago` ago.
    pub async fn ended_before(
        &self,
        attempts: &[AttemptId],
        ago: Duration,
    ) -> Result<Vec<AttemptId>> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = attempts.iter().map(|attempt| attempt.0).collect();
        let ended = sqlx::query_scalar!(
            "select id from attempt where id = any($1) and state = 'finished'
                and finished_at not between clock_timestamp() - make_interval(secs => $2) and clock_timestamp()",
            &ids,
            ago.as_secs_f64()
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(ended.into_iter().map(AttemptId).collect())
    }
}

impl GivingUp {
    /// One event for each attempt that the run holds. The run is locked; from here on its attempts are locked as
    /// well, so that no daemon adopts one meanwhile.
    pub(crate) async fn events(
        &self,
        connection: &mut PgConnection,
        run: RunId,
    ) -> Result<Vec<Event>> {
        let held = sqlx::query!(
            "select stage, number from attempt where run = $1 and state in ('claimed', 'running')
            order by id for update",
            run.0
        )
        .fetch_all(&mut *connection)
        .await?;
        let gone = unattended(connection, run, TOLD_WITHIN).await?;
        let events = held.into_iter().map(|row| {
            let attempt = reference(row.stage, row.number);
            let is_same = |now: &&Unattended| {
                let mut before = self.gone.0.iter();
                now.reference == attempt && before.any(|seen| seen.fence == now.fence)
            };
            Event::AttemptAbandoned {
                attempt,
                by: self.by.by.name.clone(),
                patience: self.patience,
                unattended: gone.iter().find(is_same).is_some(),
            }
        });
        Ok(events.collect())
    }
}

/// The claims on attempts of a run whose daemon has been gone for longer than `after`.
pub(crate) async fn unattended(
    database: impl PgExecutor<'_>,
    run: RunId,
    after: Duration,
) -> Result<Vec<Unattended>> {
    let rows = sqlx::query!(
        r#"select a.stage, a.number, a.fence as "fence!",
            coalesce(least(d.lease_until, d.stopped_at), a.claimed_at) as "since!"
        from attempt a left join daemon d on d.id = a.owner
        where a.run = $1 and a.state in ('claimed', 'running') and (d.id is null
            or least(d.lease_until, d.stopped_at) < clock_timestamp() - make_interval(secs => $2))
        order by a.stage"#,
        run.0,
        after.as_secs_f64()
    )
    .fetch_all(database)
    .await?;
    let claims = rows.into_iter().map(|row| Unattended {
        reference: reference(row.stage, row.number),
        fence: Fence(row.fence),
        since: row.since,
    });
    Ok(claims.collect())
}
