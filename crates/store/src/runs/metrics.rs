//! Metrics that stages reported, as rows to be written.

use sqlx::PgConnection;
use trainyard_core::id::RunId;
use trainyard_core::run::{AttemptRef, Run};

use crate::db::encoding::event::{number, place};
use crate::db::error::Result;

/// Rows of `metric`.
#[derive(Debug, Default)]
pub(crate) struct MetricColumns {
    run: Vec<i64>,
    stage: Vec<i32>,
    attempt: Vec<i32>,
    name: Vec<String>,
    value: Vec<f64>,
}

impl MetricColumns {
    pub(crate) fn add_one(&mut self, run: RunId, stage: i32, attempt: i32, name: &str, value: f64) {
        self.run.push(run.0);
        self.stage.push(stage);
        self.attempt.push(attempt);
        self.name.push(name.to_owned());
        self.value.push(value);
    }

    /// Adds those of an attempt that has ended in this step of the run.
    pub(crate) fn add(&mut self, run: &Run, reference: AttemptRef) {
        let stage = place(reference.stage);
        let attempt = number(reference);
        for (name, value) in &run.stages[reference.stage.0].metrics {
            self.add_one(run.facts.id, stage, attempt, name.as_str(), *value);
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "insert into metric (run, stage, attempt, name, value)
             select * from unnest($1::bigint[], $2::integer[], $3::integer[], $4::text[], $5::double precision[])",
            &self.run,
            &self.stage,
            &self.attempt,
            &self.name,
            &self.value
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
