//! What there is in the whole installation, counted: for figures that are asked for, not collected.

use crate::db::error::Result;
use crate::fleet::figures::{
    ATTEMPTS_QUEUED, DATABASE_UP, QUARANTINES, REPOS_FAILING, STORE_CONNECTIONS_IN_USE,
};
use crate::store::Store;

impl Store {
    /// Sets the figures that only the database knows, and those of its connections. While it does not
    /// answer, what was counted last stands.
    ///
    /// # Errors
    /// Trouble with the database; that is told by a figure of its own.
    pub async fn count_for_figures(&self) -> Result<()> {
        STORE_CONNECTIONS_IN_USE.set(self.connections_in_use() as f64);
        // Until it has answered: the caller may not wait for it.
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
