//! Content lives as long as it has an owner.
//!
//! 1. An owner is a row that refers to a row of `blob`; the view `blob_reference` has all of them. The foreign key
//!    makes it impossible to refer to content that has no row, and to delete the row of content that has an owner.
//! 2. Content comes before its row, and goes after it. So each row has its content.
//! 3. Content without a row is removed once it is old enough: an attempt stores its outputs before its end is recorded.
//!    The age is a day more than that of the oldest attempt that has not ended. The outputs of such an attempt are
//!    younger than the attempt, whether they came for the first time or again ([`Blobs::put`]), and
//!    [`Blobs::remove_old`] spares what came in this very moment. Content that is stored for another reason has
//!    to get its owner within a day.
//! 4. Content that loses its last owner keeps its row until the sweep. The sweep locks the rows of content without an
//!    owner, and looks for owners again before it deletes them. A new owner locks the row as well: it comes first, and
//!    the row is kept, or it waits, and then writes the row again.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use trainyard_api::Violation;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::care::invariants::ROWS_AT_MOST;
use crate::care::retention::Retention;
use crate::db::error::Result;
use crate::files::blobs::{BlobEntry, Blobs};
use crate::store::Store;

/// How much older content has to be than the oldest attempt. It bounds how much the clocks of the artifact store and
/// of the database may differ, and how long other content may take to get its owner.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How many blobs one statement covers.
const AT_ONCE: usize = 500;

/// How many blobs are looked up at the same time.
const LOOKUPS: usize = 16;

/// What a sweep removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

impl Store {
    /// Removes content that has no owner, and leftovers of arrivals. `dry_run` only counts what could be removed once
    /// the runs that this rule does not keep are gone.
    ///
    /// # Errors
    /// An error of the artifact store or the database.
    pub async fn sweep_blobs(
        &self,
        blobs: &dyn Blobs,
        dry_run: Option<&Retention>,
    ) -> Result<Swept> {
        let gone = match dry_run {
            Some(rule) => self.old_runs(rule).await?.runs,
            None => {
                self.forget_blobs().await?;
                Vec::new()
            }
        };
        let dry_run = dry_run.is_some();
        let age = self.sweep_age().await?;
        let mut swept = Swept::default();
        let mut old = blobs.list(age).chunks(AT_ONCE);
        while let Some(entries) = old.next().await {
            let entries: Vec<BlobEntry> = entries.into_iter().collect::<Result<_>>()?;
            let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
            let kept = self.kept_blobs(&names, dry_run, &gone).await?;
            for BlobEntry { name, size } in entries {
                if !kept.contains(&name) && (dry_run || blobs.remove_old(&name, age).await?) {
                    swept.files += 1;
                    swept.bytes += size;
                }
            }
        }
        Ok(swept)
    }

    /// Deletes the rows of content that has no owner. Looks through all of them in pages, since a statement over a million
    /// rows would run into its timeout.
    async fn forget_blobs(&self) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = sqlx::query!(
                r#"select sha256, exists (select from blob_reference r where r.sha256 = b.sha256) as "has_owner!"
                from blob b where sha256 > $1 order by sha256 limit $2"#,
                after,
                AT_ONCE as i64
            )
            .fetch_all(&self.core.pool)
            .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after.clone_from(&last.sha256);
            let unowned = page.into_iter().filter(|row| !row.has_owner);
            let unowned: Vec<String> = unowned.map(|row| row.sha256).collect();
            if !unowned.is_empty() {
                self.forget(&unowned).await?;
            }
        }
    }

    /// Deletes those of these rows that still have no owner.
    async fn forget(&self, hashes: &[String]) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let locked = sqlx::query_scalar!(
            "select sha256 from blob where sha256 = any($1) for update skip locked",
            hashes
        )
        .fetch_all(&mut *transaction)
        .await?;
        // A statement of its own, which sees every owner that came before the locks. No further one can come.
        sqlx::query!(
            "delete from blob b where sha256 = any($1)
                and not exists (select from blob_reference r where r.sha256 = b.sha256)",
            &locked
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().at(Point::SweepBlobs).await?;
        Ok(())
    }

    /// The age from which content without a row is removed.
    async fn sweep_age(&self) -> Result<Duration> {
        let oldest = sqlx::query_scalar!(
            r#"select coalesce(extract(epoch from max(clock_timestamp() - queued_at)), 0)::float8 as "seconds!"
            from attempt where state in ('claimed', 'running')"#
        )
        .fetch_one(&self.core.pool)
        .await?;
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        Ok(oldest + SWEEP_AFTER)
    }

    /// Which of these blobs are kept; in a `dry_run`, which would be without the runs that are `gone`.
    async fn kept_blobs(
        &self,
        hashes: &[String],
        dry_run: bool,
        gone: &[i64],
    ) -> Result<HashSet<String>> {
        let kept = sqlx::query_scalar!(
            "select sha256 from blob b where sha256 = any($1) and (not $2 or exists (
                select from blob_reference r where r.sha256 = b.sha256 and (r.run is null or r.run <> all($3))))",
            hashes,
            dry_run,
            gone
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(kept.into_iter().collect())
    }

    /// Finds blobs whose content is missing or cut short: files were removed by hand, or a backup did not have them.
    ///
    /// # Errors
    /// An error of the artifact store or the database.
    pub async fn check_blobs(&self, blobs: &dyn Blobs) -> Result<Option<Violation>> {
        let mut rows = Vec::new();
        let mut after = String::new();
        while rows.len() < ROWS_AT_MOST as usize {
            let page = sqlx::query!(
                "select sha256, size from blob where sha256 > $1 order by sha256 limit $2",
                after,
                AT_ONCE as i64
            )
            .fetch_all(&self.core.reading)
            .await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.sha256);
            let lookups = page.into_iter().map(|row| async move {
                let stored = blobs.size(&row.sha256).await?;
                let is_whole = stored == Some(row.size.unsigned_abs());
                Ok::<_, crate::Error>((!is_whole).then_some((row.sha256, row.size, stored)))
            });
            let mut lookups = stream::iter(lookups).buffered(LOOKUPS);
            while let Some(broken) = lookups.next().await {
                let Some((sha256, size, stored)) = broken? else {
                    continue;
                };
                // A sweep may have removed both meanwhile.
                if self
                    .kept_blobs(std::slice::from_ref(&sha256), true, &[])
                    .await?
                    .is_empty()
                {
                    continue;
                }
                rows.push(json!({"sha256": sha256, "size": size, "stored": stored}).to_string());
            }
        }
        rows.truncate(ROWS_AT_MOST as usize);
        Ok((!rows.is_empty()).then(|| Violation {
            invariant: "blobs-are-stored".to_owned(),
            says: "the artifact store has the whole content of every blob".to_owned(),
            rows,
        }))
    }
}
