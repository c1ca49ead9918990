//! Logs of attempts: text by byte offset, compressed, and bounded.
//!
//! 1. Of a long log the beginning and the end are kept, half of the limit each; the middle is
//!    dropped chunk by chunk as the end moves on.
//! 2. The logs of one run have a common limit as well: once all attempts together reach it, only a short beginning
//!    and end of further logs are kept.
//! 3. Offsets count every byte that was ever written, so they stay valid, and a
//!    reader that reaches the gap gets its size.

use bytes::Bytes;
use trainyard_core::Timestamp;
use trainyard_core::adopted::LogCursor;
use trainyard_core::id::{AttemptId, Fence};
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::error::{Error, Result};
use crate::db::topics::Topic;
use crate::fleet::metrics::LOG_BYTES_DROPPED;
use crate::store::Store;

/// The most bytes in one stored chunk, before compression: a small read never unpacks much.
const CHUNK_AT_MOST: usize = 128 * 1024;

/// The most chunks that one read covers: there may be very many small ones.
const CHUNKS_AT_ONCE: i64 = 512;

/// How often the logs of a whole run are summed up: once per this many bytes of one log.
const ADDED_UP_EACH: i64 = 1024 * 1024;

/// The bytes that every attempt may log, however much the other attempts of its run logged.
const LEAST: i64 = 64 * 1024;

/// zstd's default: text shrinks to a tenth in a fraction of a millisecond.
const LEVEL: i32 = 3;

/// A new piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whole records, each ending in a line break.
    pub text: Bytes,
    /// The position in the executor's log up to which this reaches.
    pub cursor: Option<LogCursor>,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSlice {
    /// The text, in order; the pieces follow each other without a gap.
    pub pieces: Vec<Bytes>,
    /// The offset of the first piece.
    pub start: u64,
    pub next_offset: u64,
    /// How many bytes between the requested offset and `start` are not kept.
    pub dropped: u64,
    /// How many records these are; 0 where that is not known.
    pub dropped_lines: u64,
    /// Whether this reaches the end, and the log will not grow.
    pub complete: bool,
    /// When retention deleted the log, if it did.
    pub pruned_at: Option<Timestamp>,
}

impl Store {
    /// Appends to the log of an attempt. Durable when it returns. If the same chunks are appended again at once, as
    /// after a lost answer, they are stored once. They are recognised by the same content and the same cursor, since
    /// a program may print the same text again and again.
    ///
    /// # Errors
    /// `Fenced`, or a database error.
    pub async fn append_log(
        &self,
        attempt: AttemptId,
        fence: Fence,
        chunks: &[LogChunk],
    ) -> Result<()> {
        let cursor = chunks.iter().rev().find_map(|chunk| chunk.cursor);
        let mut columns = ChunkColumns::default();
        for piece in chunks.iter().flat_map(|chunk| pieces(&chunk.text)) {
            columns.add(piece)?;
        }
        if columns.length.is_empty() && cursor.is_none() {
            return Ok(());
        }
        let head = sqlx::query!(
            r#"with fenced as materialized (
                select id from attempt where id = $1 and fence = $2 and state in ('claimed', 'running') for share
            ),
            told_before as (
                select from (
                    select content from log_chunk where attempt = $1 order by start_offset desc limit 1
                ) last, attempt_log l
                where last.content = $3 and l.attempt = $1
                    and ($5::bigint is null or ($5, $6::bigint) = (l.cursor_major, l.cursor_minor))
            ),
            head as (
                insert into attempt_log (attempt, length, cursor_major, cursor_minor)
                select id, $4, $5, $6 from fenced where not exists (select from told_before)
                on conflict (attempt) do update
                set length = attempt_log.length + excluded.length,
                    cursor_major = coalesce(excluded.cursor_major, attempt_log.cursor_major),
                    cursor_minor = coalesce(excluded.cursor_minor, attempt_log.cursor_minor)
                returning attempt, length
            ),
            stored as (
                insert into log_chunk (attempt, start_offset, length, lines, content, stored_at)
                select h.attempt, h.length - $4 + u.start, u.length, u.lines, u.content, clock_timestamp()
                from head h, unnest($7::bigint[], $8::integer[], $9::integer[], $10::bytea[])
                    as u (start, length, lines, content)
            )
            select exists (select from fenced) as "fenced_in!", (select length from head) as length"#,
            attempt.0,
            fence.0,
            columns.content.last().map(Vec::as_slice),
            columns.total,
            cursor.map(|cursor| cursor.major),
            cursor.map(|cursor| cursor.minor),
            &columns.start,
            &columns.length,
            &columns.lines,
            &columns.content,
        )
        .fetch_one(&self.core.pool).at(Point::AppendLog)
        .await?;
        if !head.fenced_in {
            return Err(Error::Fenced);
        }
        if let Some(length) = head.length {
            let before = length - columns.total;
            let limit = if before / ADDED_UP_EACH == length / ADDED_UP_EACH {
                self.core.log_limit
            } else {
                self.log_room(attempt).await?
            };
            if length > limit {
                self.drop_middle(attempt, length, limit / 2).await?;
            }
        }
        self.core.wakes.topics.changed(Topic::Log(attempt));
        Ok(())
    }

    /// How much of the log of an attempt is kept, given how much the other attempts of its run logged.
    async fn log_room(&self, attempt: AttemptId) -> Result<i64> {
        let limit = self.core.log_limit;
        let others = sqlx::query_scalar!(
            r#"select coalesce(sum(least(l.length, $2)), 0)::bigint as "others!"
            from attempt this join attempt a on a.run = this.run and a.id <> this.id
            join attempt_log l on l.attempt = a.id and l.pruned_at is null
            where this.id = $1"#,
            attempt.0,
            limit
        )
        .fetch_one(&self.core.pool)
        .await?;
        let room = self.core.run_log_limit.saturating_sub(others);
        Ok(room.max(LEAST).min(limit))
    }

    /// Deletes the chunks after the kept beginning and before the kept end.
    async fn drop_middle(&self, attempt: AttemptId, length: i64, half: i64) -> Result<()> {
        let dropped = sqlx::query_scalar!(
            r#"with dropped as (
                delete from log_chunk
                where attempt = $1 and start_offset >= $2 and start_offset + length <= $3 returning length, lines
            ),
            sums as (
                select coalesce(sum(length), 0)::bigint as length, coalesce(sum(lines), 0)::bigint as lines
                from dropped
            ),
            counted as (
                update attempt_log l
                set dropped = l.dropped + sums.length, dropped_lines = l.dropped_lines + sums.lines
                from sums where l.attempt = $1 and sums.length > 0
            )
            select length as "dropped!" from sums"#,
            attempt.0,
            half,
            length - half
        )
        .fetch_one(&self.core.relaxed).at(Point::DropLogMiddle)
        .await?;
        LOG_BYTES_DROPPED.add(dropped.unsigned_abs());
        Ok(())
    }

    /// Reads a log from an offset: at least one chunk, and then up to about `max_bytes`.
    ///
    /// # Errors
    /// `NotFound` for an unknown attempt, `Corrupt`, or a database error.
    pub async fn read_log(
        &self,
        attempt: AttemptId,
        from: u64,
        max_bytes: u64,
    ) -> Result<LogSlice> {
        // The head is read first: text that is appended after that is beyond it, and is read next time.
        let head = sqlx::query!(
            r#"select a.state = 'finished' as "ended!", l.length as "length?", l.pruned_at,
                l.dropped as "dropped?", l.dropped_lines as "dropped_lines?"
            from attempt a left join attempt_log l on l.attempt = a.id where a.id = $1"#,
            attempt.0
        )
        .fetch_optional(&self.core.reading)
        .await?
        .ok_or_else(|| Error::not_found(format!("attempt {attempt}")))?;
        let length = head.length.unwrap_or(0).unsigned_abs();
        let lines = head.dropped_lines.unwrap_or(0).unsigned_abs();
        let rows = sqlx::query!(
            r#"select start_offset, length, content from (
                select start_offset, length, content,
                    sum(length) over (order by start_offset rows unbounded preceding)::bigint - length as before
                from (
                    select start_offset, length, content from log_chunk
                    where attempt = $1 and start_offset > $2::bigint - $5::bigint and start_offset + length > $2
                        and start_offset < $3
                    order by start_offset limit $6
                ) near
            ) chunk
            where before < $4 or before = 0 order by start_offset"#,
            attempt.0,
            i64::try_from(from).unwrap_or(i64::MAX),
            i64::try_from(length).unwrap_or(i64::MAX),
            i64::try_from(max_bytes).unwrap_or(i64::MAX),
            CHUNK_AT_MOST as i64,
            CHUNKS_AT_ONCE
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut slice = LogSlice {
            start: from.min(length),
            next_offset: from.min(length),
            pruned_at: head.pruned_at,
            ..LogSlice::default()
        };
        for row in rows {
            let start = row.start_offset.unsigned_abs();
            if start > slice.next_offset {
                if !slice.pieces.is_empty() {
                    // The gap begins here; the next read reports it.
                    break;
                }
                slice.dropped = start - slice.next_offset;
                slice.start = start;
                // A reader that reads while the middle grows skips only a part of it.
                let share = slice.dropped as f64 / head.dropped.unwrap_or(0).max(1) as f64;
                slice.dropped_lines = (lines as f64 * share.min(1.0)).round() as u64;
                slice.next_offset = start;
            }
            let text = unpack(&row.content, row.length).map_err(|problem| {
                Error::corrupt(format!("the log of attempt {attempt}"), problem)
            })?;
            let skip = usize::try_from(slice.next_offset - start).unwrap_or(usize::MAX);
            slice.next_offset = start + text.len() as u64;
            slice.pieces.push(text.slice(skip.min(text.len())..));
        }
        if slice.pieces.is_empty() && slice.pruned_at.is_some() {
            slice.dropped = length - slice.next_offset;
            slice.dropped_lines = lines;
            slice.start = length;
            slice.next_offset = length;
        }
        slice.complete = head.ended && slice.next_offset >= length;
        Ok(slice)
    }

    /// The position up to which an executor's log is stored for an attempt.
    pub async fn log_cursor(&self, attempt: AttemptId) -> Result<Option<LogCursor>> {
        let row = sqlx::query!(
            "select cursor_major, cursor_minor from attempt_log where attempt = $1",
            attempt.0
        )
        .fetch_optional(&self.core.pool)
        .await?;
        Ok(row.and_then(|row| log_cursor(row.cursor_major, row.cursor_minor)))
    }
}

/// A cursor from its columns.
pub(crate) fn log_cursor(major: Option<i64>, minor: Option<i64>) -> Option<LogCursor> {
    let (major, minor) = major.zip(minor)?;
    Some(LogCursor { major, minor })
}

#[derive(Debug, Default)]
struct ChunkColumns {
    total: i64,
    start: Vec<i64>,
    length: Vec<i32>,
    lines: Vec<i32>,
    content: Vec<Vec<u8>>,
}

impl ChunkColumns {
    fn add(&mut self, text: &[u8]) -> Result<()> {
        let content = zstd::bulk::compress(text, LEVEL)
            .map_err(|problem| Error::corrupt("a piece of log to be stored", problem))?;
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        self.start.push(self.total);
        self.length
            .push(i32::try_from(text.len()).unwrap_or(i32::MAX));
        self.lines.push(i32::try_from(lines).unwrap_or(i32::MAX));
        self.content.push(content);
        self.total += i64::try_from(text.len()).unwrap_or(i64::MAX);
        Ok(())
    }
}

/// Splits a text into pieces of a bounded size, after line breaks where there are any.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let window = &rest[..rest.len().min(CHUNK_AT_MOST)];
        let end = if window.len() == rest.len() {
            rest.len()
        } else {
            window
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(window.len(), |at| at + 1)
        };
        let (piece, more) = rest.split_at(end);
        rest = more;
        Some(piece)
    })
}

fn unpack(content: &[u8], length: i32) -> Result<Bytes, String> {
    let length = usize::try_from(length).map_err(|problem| problem.to_string())?;
    let text = zstd::bulk::decompress(content, length).map_err(|problem| problem.to_string())?;
    if text.len() == length {
        Ok(text.into())
    } else {
        Err(format!("{} bytes instead of {length}", text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_after_line_breaks_and_nothing_is_lost() {
        let text = "0123456789\n".repeat(50_000);
        let cut: Vec<&[u8]> = pieces(text.as_bytes()).collect();
        assert!(cut.len() > 1 && cut.iter().all(|piece| piece.len() <= CHUNK_AT_MOST));
        assert!(cut.iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(cut.concat(), text.as_bytes());
    }

    #[test]
    fn text_without_line_breaks_is_cut_all_the_same() {
        let text = vec![b'x'; CHUNK_AT_MOST * 2 + 1];
        assert_eq!(
            pieces(&text).map(<[u8]>::len).collect::<Vec<_>>(),
            [CHUNK_AT_MOST, CHUNK_AT_MOST, 1]
        );
    }
}
