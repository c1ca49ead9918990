//! Webhook deliveries: each is stored once, before it is acknowledged.

use trainyard_core::id::{DeliveryId, RepoId};
use trainyard_core::text::recorded;
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::db::error::Result;
use crate::store::Store;
use crate::triggers::repos::AddressNumber;

/// A delivery whose signature was verified.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// The forge's name: `github`.
    pub provider: String,
    pub repo: RepoId,
    /// The forge's own id of the delivery, by which repeats are recognised.
    pub delivery_id: String,
    /// The forge's name of the event.
    pub event: String,
    /// The branch that a push moved; `None` for all other events.
    pub push: Option<BranchMove>,
    /// Recorded as the result where there is no `push`: nothing is to be done, and why.
    pub without_push: String,
}

/// A branch that a push moved, as the forge reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchMove {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// The commit before the push; `None` for a new branch.
    pub before: Option<String>,
    /// The commit after the push; `None` where the branch was deleted.
    pub after: Option<String>,
    pub actor: Option<String>,
}

/// The result of recording a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryRecorded {
    /// It is stored now.
    New(DeliveryId),
    /// It was stored before; nothing changed.
    Duplicate,
}

/// A push delivery that waits to be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPush {
    pub delivery: DeliveryId,
    pub moved: BranchMove,
}

impl Store {
    /// Stores a delivery; a push also makes its repo due for a sync. Durable when it
    /// returns: acknowledge the delivery then.
    pub async fn record_delivery(&self, new: &NewDelivery) -> Result<DeliveryRecorded> {
        let id = Uuid::now_v7();
        let push = new.push.as_ref();
        let row = sqlx::query!(
            r#"with stored as (
                insert into delivery (id, provider, repo, delivery_id, event, branch, before, after, actor,
                    received_at, processed_at, result)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp(),
                    case when $6::text is null then clock_timestamp() end,
                    case when $6::text is null then $10::text end)
                on conflict (provider, repo, delivery_id) do nothing
                returning id, branch
            ),
            due as (
                update repo set next_sync_at = clock_timestamp()
                where id = $3 and exists (select from stored where branch is not null)
            )
            select count(*) as "count!" from stored"#,
            id,
            new.provider,
            new.repo.0,
            new.delivery_id,
            new.event,
            push.map(|push| push.branch.as_str()),
            push.and_then(|push| push.before.as_deref()),
            push.and_then(|push| push.after.as_deref()),
            push.and_then(|push| push.actor.as_deref()),
            new.without_push
        )
        .fetch_one(&self.core.pool).at(Point::RecordDelivery)
        .await?;
        if row.count == 0 {
            return Ok(DeliveryRecorded::Duplicate);
        }
        if push.is_some() {
            self.core.wakes.sync.wake();
        }
        Ok(DeliveryRecorded::New(DeliveryId(id)))
    }

    /// The unprocessed push deliveries of a repo, in the order of their arrival.
    pub async fn pending_pushes(&self, repo: RepoId) -> Result<Vec<PendingPush>> {
        let rows = sqlx::query!(
            r#"select id, branch as "branch!", before, after, actor from delivery
            where repo = $1 and processed_at is null and branch is not null order by received_at, id"#,
            repo.0
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| PendingPush {
                delivery: DeliveryId(row.id),
                moved: BranchMove {
                    branch: row.branch,
                    before: row.before,
                    after: row.after,
                    actor: row.actor,
                },
            })
            .collect())
    }

    /// Records that a delivery was processed, with its result in words. A repeated call changes nothing, nor does one
    /// for another address than the one that the repo has.
    pub async fn finish_delivery(
        &self,
        repo: RepoId,
        address: AddressNumber,
        delivery: DeliveryId,
        result: &str,
    ) -> Result<()> {
        sqlx::query!(
            "with locked as materialized (select id from repo where id = $3 and address_number = $4 for no key update)
             update delivery set processed_at = clock_timestamp(), result = $2
             where id = $1 and repo in (select id from locked) and processed_at is null",
            delivery.0,
            recorded(result),
            repo.0,
            address.0
        )
        .execute(&self.core.pool)
        .at(Point::FinishDelivery)
        .await?;
        Ok(())
    }
}
