//! Metrics across runs.

use trainyard_api::Metric;
use trainyard_core::id::{DagId, RunId};

use crate::db::error::Result;
use crate::store::Store;

/// Which metrics to list, those of the newest runs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricFilter {
    pub run: Option<RunId>,
    pub dag: Option<DagId>,
    /// Of one stage, by name.
    pub stage: Option<String>,
    pub name: Option<String>,
    pub limit: u32,
}

impl Default for MetricFilter {
    /// The newest 200 of all.
    fn default() -> Self {
        Self {
            run: None,
            dag: None,
            stage: None,
            name: None,
            limit: 200,
        }
    }
}

impl Store {
    /// Lists metrics, those of the newest runs first. For a stage with several attempts, the metrics
    /// of each attempt are listed. Reused metrics are listed for their own run; across runs they
    /// belong to the earlier run, while that exists.
    pub async fn list_metrics(&self, filter: &MetricFilter) -> Result<Vec<Metric>> {
        let rows = sqlx::query!(
            r#"select m.run, p.name as repo, d.name as dag, s.name as stage, m.name, m.value, c.commit, r.created_at
            from metric m join stage_run s on s.run = m.run and s.position = m.stage
            join run r on r.id = m.run join cause c on c.id = r.cause
            join dag d on d.id = r.dag join repo p on p.id = d.repo
            where ($1::bigint is null or m.run = $1) and ($2::uuid is null or r.dag = $2)
                and ($3::text is null or s.name = $3) and ($4::text is null or m.name = $4)
                and (m.attempt > 0 or m.run = $1 or not exists (select from run e where e.id = s.reused_from))
            order by m.run desc, m.stage, m.name, m.attempt limit $5"#,
            filter.run.map(|run| run.0),
            filter.dag.map(|dag| dag.0),
            filter.stage.as_deref(),
            filter.name.as_deref(),
            i64::from(filter.limit)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Metric {
                run: row.run,
                dag: format!("{}/{}", row.repo, row.dag),
                stage: row.stage,
                name: row.name,
                value: row.value,
                commit: row.commit,
                at: row.created_at,
            })
            .collect())
    }
}
