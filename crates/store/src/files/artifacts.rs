//! Artifacts: which content is which output of which stage run.

use sqlx::PgConnection;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_core::id::{AttemptId, RunId};
use trainyard_core::run::AttemptRef;
use uuid::Uuid;

use crate::db::encoding::event::place;
use crate::db::error::{Error, Result};
use crate::store::Store;

/// The content that a row names.
pub(crate) fn content(kind: &str, sha256: String, size: i64) -> Result<ArtifactContent> {
    let kind = ArtifactKind::from_word(kind)
        .ok_or_else(|| Error::corrupt("an artifact", format!("`{kind}` is not a kind")))?;
    Ok(ArtifactContent {
        kind,
        sha256,
        size: size.unsigned_abs(),
    })
}

impl Store {
    /// The total size in bytes of a run's artifacts, and of those that later attempts replaced: their content stays
    /// on the disk until it is swept.
    pub async fn kept_by_run(&self, run: RunId) -> Result<u64> {
        let bytes = sqlx::query_scalar!(
            r#"select (select coalesce(sum(size), 0)::bigint from artifact join blob using (sha256) where run = $1)
                + (select coalesce(sum(replaced_bytes), 0)::bigint from attempt where run = $1) as "bytes!""#,
            run.0
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(bytes.unsigned_abs())
    }
}

/// Rows of `artifact`, and of `blob` for their content.
#[derive(Debug, Default)]
pub(crate) struct ArtifactColumns {
    run: Vec<i64>,
    stage: Vec<i32>,
    output: Vec<String>,
    attempt: Vec<Uuid>,
    kind: Vec<String>,
    sha256: Vec<String>,
    size: Vec<i64>,
}

impl ArtifactColumns {
    pub(crate) fn add(
        &mut self,
        run: RunId,
        reference: AttemptRef,
        attempt: AttemptId,
        outputs: &[KeptOutput],
    ) {
        for KeptOutput { name, content } in outputs {
            self.run.push(run.0);
            self.stage.push(place(reference.stage));
            self.output.push(name.to_string());
            self.attempt.push(attempt.0);
            self.kind.push(content.kind.as_str().to_owned());
            self.sha256.push(content.sha256.clone());
            self.size
                .push(i64::try_from(content.size).unwrap_or(i64::MAX));
        }
    }

    /// Writes the rows. An earlier attempt of the same stage may have left the same output: the later one replaces
    /// it, and its attempt records how many bytes it replaced.
    ///
    /// A blob that has a row is updated, which changes nothing and locks it: a sweep cannot delete the row before the
    /// artifact refers to it. The blobs come in the order of their hashes, so that no two writers block each other.
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "with new as materialized (
                select * from unnest($1::bigint[], $2::integer[], $3::text[], $4::uuid[], $5::text[], $6::text[],
                    $7::bigint[]) as new (run, stage, output, attempt, kind, sha256, size)
            ), kept as (
                insert into blob (sha256, size) select sha256, max(size) from new group by sha256 order by sha256
                on conflict (sha256) do update set size = blob.size
            ), replaced as materialized (
                select new.attempt, sum(blob.size)::bigint as bytes
                from new join artifact old using (run, stage, output) join blob on blob.sha256 = old.sha256
                where old.sha256 <> new.sha256 and blob.size > 0 group by new.attempt
            ), counted as (
                update attempt a set replaced_bytes = replaced.bytes from replaced where a.id = replaced.attempt
            )
            insert into artifact (run, stage, output, attempt, kind, sha256, created_at)
            select run, stage, output, attempt, kind, sha256, clock_timestamp() from new
            on conflict (run, stage, output) do update
            set attempt = excluded.attempt, kind = excluded.kind, sha256 = excluded.sha256,
                created_at = excluded.created_at",
            &self.run,
            &self.stage,
            &self.output,
            &self.attempt,
            &self.kind,
            &self.sha256,
            &self.size
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
