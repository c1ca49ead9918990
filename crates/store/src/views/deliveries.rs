//! Webhook deliveries.

use trainyard_api::Delivery;
use trainyard_core::id::RepoId;

use crate::db::error::Result;
use crate::store::Store;

impl Store {
    /// The newest deliveries for a repo, the newest first.
    pub async fn list_deliveries(&self, repo: RepoId, limit: u32) -> Result<Vec<Delivery>> {
        let deliveries = sqlx::query_as!(
            Delivery,
            "select delivery_id as id, provider, event, branch, after as commit, actor, received_at, processed_at, result
             from delivery where repo = $1 order by received_at desc, delivery.id desc limit $2",
            repo.0,
            i64::from(limit)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(deliveries)
    }
}
