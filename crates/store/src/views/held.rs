//! The attempts that daemons hold and supervise.

use std::collections::BTreeMap;

use trainyard_api::HeldAttempt;
use trainyard_core::id::DaemonId;

use crate::db::error::Result;
use crate::store::Core;
use crate::views::run::live_word;

/// How many attempts of a daemon are shown. More than any machine runs at a time, so nothing is missing unless
/// something is very wrong; and even then a page can show the answer.
const SHOWN_AT_MOST: i64 = 1_000;

/// The attempts of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pub(crate) count: u64,
    /// The attempts, the oldest run's first; at most [`SHOWN_AT_MOST`].
    pub(crate) attempts: Vec<HeldAttempt>,
}

/// The attempts of each daemon, including daemons that are gone.
pub(crate) async fn by_daemon(core: &Core) -> Result<BTreeMap<DaemonId, Holding>> {
    let rows = sqlx::query!(
        r#"select h.owner as "owner!", h.count as "count!", h.run, s.name, h.number, h.state,
            h.claimed_at as "claimed_at!"
        from (
            select owner, run, stage, number, state, claimed_at, count(*) over (partition by owner) as count,
                row_number() over (partition by owner order by run, stage, number) as place
            from attempt where state in ('claimed', 'running')
        ) h join stage_run s on s.run = h.run and s.position = h.stage
        where h.place <= $1 order by h.owner, h.place"#,
        SHOWN_AT_MOST
    )
    .fetch_all(&core.reading)
    .await?;
    let mut holdings: BTreeMap<DaemonId, Holding> = BTreeMap::new();
    for row in rows {
        let holding = holdings.entry(DaemonId(row.owner)).or_default();
        holding.count = row.count.unsigned_abs();
        holding.attempts.push(HeldAttempt {
            run: row.run,
            stage: row.name,
            attempt: u32::try_from(row.number).unwrap_or_default(),
            state: live_word(&row.state).to_owned(),
            since: row.claimed_at,
        });
    }
    Ok(holdings)
}
