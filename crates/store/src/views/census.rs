//! Counts of the whole installation, for metrics that are read on request, not collected.

use crate::db::error::Result;
use crate::fleet::metrics::{
    ATTEMPTS_QUEUED, DATABASE_UP, QUARANTINES, REPOS_FAILING, STORE_CONNECTIONS_IN_USE,
};
use crate::store::Store;

impl Store {
    /// Sets the metrics that only the database knows, and those of its connections. While the database does not
    /// answer, the last counts stand.
    ///
    /// # Errors
    /// A database error; a metric of its own reports that.
    pub async fn count_for_metrics(&self) -> Result<()> {
        STORE_CONNECTIONS_IN_USE.set(self.connections_in_use() as f64);
        // Until the database has answered: the caller may stop waiting.
        DATABASE_UP.set(0.0);
        let queued = sqlx::query_scalar!(
            r#"select count(*) as "queued!" from attempt where state = 'queued'"#
        )
        .fetch_one(&self.core.relaxed)
        .await?;
        ATTEMPTS_QUEUED.set(queued as f64);
        QUARANTINES.set(self.quarantined_count().await? as f64);
        let failing = self.failing_syncs().await?;
        REPOS_FAILING.set(failing.map_or(0, |failing| failing.repos) as f64);
        DATABASE_UP.set(1.0);
        Ok(())
    }
}
