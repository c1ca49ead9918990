//! Webhook deliveries as they are shown: without their bodies.

use trainyard_core::Timestamp;
use trainyard_core::id::RepoId;

use crate::db::error::Result;
use crate::store::Store;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// The forge's own id of the delivery.
    pub delivery_id: String,
    /// The forge's name: `github`.
    pub provider: String,
    /// The forge's name of the event.
    pub event: String,
    /// The branch that was pushed to; `None` for all but pushes.
    pub branch: Option<String>,
    /// The commit after the push; `None` where the branch was deleted.
    pub after: Option<String>,
    pub actor: Option<String>,
    pub received_at: Timestamp,
    /// When it was processed; `None` while it waits for a sync.
    pub processed_at: Option<Timestamp>,
    /// The result, in words.
    pub result: Option<String>,
}

impl Store {
    /// The newest deliveries for a repo, the newest first.
    pub async fn list_deliveries(&self, repo: RepoId, limit: u32) -> Result<Vec<DeliveryView>> {
        let deliveries = sqlx::query_as!(
            DeliveryView,
            "select delivery_id, provider, event, branch, after, actor, received_at, processed_at, result
             from delivery where repo = $1 order by received_at desc, id desc limit $2",
            repo.0,
            i64::from(limit)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(deliveries)
    }
}
