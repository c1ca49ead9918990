//! Giving attempts up: what nobody tells the end of counts as lost once somebody says so.

use std::time::Duration;

use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, RunId};
use trainyard_core::transition::{ABANDON_AFTER, Illegal};

use crate::error::Result;
use crate::runs::state::reference;
use crate::store::Store;

/// What came of giving up a run's attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    /// Whether any counts as lost now.
    pub some: bool,
    /// Why the others do not.
    pub refused: Vec<Illegal>,
}

impl Store {
    /// Ends as lost the attempts of a run that may be given up: those that were asked to stop
    /// [`ABANDON_AFTER`] ago or longer and have not ended, and those whose daemon is gone for as long
    /// and that no other has taken over. Their containers may still run; whoever reaches their engine
    /// again removes them.
    ///
    /// # Errors
    /// As [`Store::advance`].
    pub async fn abandon(&self, run: RunId, by: &str) -> Result<Abandoned> {
        let held = sqlx::query!(
            r#"select a.stage, a.number, d.id is null
                or least(d.lease_until, d.stopped_at) < clock_timestamp() - make_interval(secs => $2) as "unattended!"
            from attempt a left join daemon d on d.id = a.owner
            where a.run = $1 and a.state in ('claimed', 'running') order by a.stage"#,
            run.0,
            ABANDON_AFTER.as_secs_f64()
        )
        .fetch_all(&self.core.pool)
        .await?;
        let events: Vec<Event> = held
            .into_iter()
            .map(|row| Event::AttemptAbandoned {
                attempt: reference(row.stage, row.number),
                by: by.to_owned(),
                unattended: row.unattended,
            })
            .collect();
        let refused = self.advance(run, &events).await?.refused;
        Ok(Abandoned {
            some: refused.len() < events.len(),
            refused,
        })
    }

    /// Which of `attempts` ended longer than `ago` ago: whoever still attends to one of them was not
    /// the one to record its end.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn ended_attempts(
        &self,
        attempts: &[AttemptId],
        ago: Duration,
    ) -> Result<Vec<AttemptId>> {
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
