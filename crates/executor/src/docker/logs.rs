//! A container's log as frames with cursors.
//!
//! Docker sends frames of up to 16 KiB with the time at which it received them, in the order of its
//! own file, and can send those since a given second. Frames of the two streams are stamped
//! before they are put in order, so times may run backwards by a little; equal times occur, too: all
//! pieces of a long line have the same.
//!
//! A cursor is therefore a second, and the number of frames since that second that were read: reading again
//! since then and skipping as many yields the rest, without loss or repetition. The second is one
//! before the newest one seen, so frames that are late by up to a second are covered. A log loses
//! frames, the oldest ones, only if it outgrew its size while it was not read, or faster than it was read.
//! Some of the frames that were counted may be among them: so a frame that is younger than all that was read is
//! never skipped, however many remain to be skipped.
//!
//! The init's record of the end comes as a frame, too; it is removed and remembered. The mark that the
//! init appends to an open line is removed, too: Docker sends frames at line breaks only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use trainyard_core::Timestamp;
use trainyard_failpoint::{Flow as _, Point};
use trainyard_init::{OPEN, Record};

use super::errors::{CallError, gone};
use super::labels::FirstProcess;
use super::proof::Ends;
use crate::contract::{LogCursor, LogFrame, LogStream, Stream};
use crate::error::{Error, ErrorKind};

/// How far times may run backwards, in seconds.
const LATE: i64 = 1;

/// While only frames come that were read before, an empty one is passed on this often. A program that prints
/// fast fills a second with more of them than can be skipped before silence counts as a dead connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The largest frame that is held until the next one comes, in bytes. Larger than any that Docker sends; a frame
/// that was joined from two is not held again.
const HELD_AT_MOST: usize = 17 * 1024;

/// Opens the log after a cursor. An error comes instead of the first frame.
pub(super) fn open(
    client: &Client,
    container: &str,
    after: Option<LogCursor>,
    ends: Arc<Ends>,
) -> LogStream {
    let follow = !ends.has_ended(container);
    let reader = Reader::open(client.clone(), container.to_owned(), after, follow, ends);
    Box::pin(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(frame) => Some((Ok(frame), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Reader {
    client: Client,
    container: String,
    position: Position,
    sent: BoxStream<'static, Result<LogOutput, bollard::errors::Error>>,
    following: bool,
    /// When a frame was last passed on.
    passed: Instant,
    /// A frame at whose end a record may begin that the next frame completes.
    held: Option<LogFrame>,
    /// The frame after a held one that turned out to hold no record.
    waiting: Option<LogFrame>,
    ends: Arc<Ends>,
}

impl Reader {
    fn open(
        client: Client,
        container: String,
        after: Option<LogCursor>,
        follow: bool,
        ends: Arc<Ends>,
    ) -> Self {
        Self::at(client, container, Position::after(after), follow, ends)
    }

    fn at(
        client: Client,
        container: String,
        position: Position,
        follow: bool,
        ends: Arc<Ends>,
    ) -> Self {
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(position.second).unwrap_or_default())
            .build();
        let sent = client
            .logs(&container, Some(options))
            .at(Point::Logs)
            .boxed();
        Self {
            client,
            container,
            position,
            sent,
            following: follow,
            passed: Instant::now(),
            held: None,
            waiting: None,
            ends,
        }
    }

    async fn next(&mut self) -> Option<Result<LogFrame, Error>> {
        loop {
            let frame = match self.waiting.take() {
                Some(frame) => frame,
                None => match self.read().await {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => return Some(Err(error)),
                    None => return self.held.take().map(Ok),
                },
            };
            if frame.bytes.is_empty() {
                return Some(Ok(frame));
            }
            let frame = match self.held.take() {
                Some(held) if frame.stream == Stream::Stderr => LogFrame {
                    bytes: Bytes::from([held.bytes, frame.bytes].concat()),
                    ..frame
                },
                Some(held) => {
                    self.waiting = Some(frame);
                    return Some(Ok(held));
                }
                None => frame,
            };
            if frame.stream == Stream::Stderr
                && frame.bytes.len() <= HELD_AT_MOST
                && Record::may_begin_in(&frame.bytes)
            {
                self.held = Some(frame);
                continue;
            }
            match self.without_record(frame).await {
                Ok(None) => {}
                Ok(Some(frame)) => return Some(Ok(frame)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next frame that was not read before; an empty one from time to time while only others come.
    async fn read(&mut self) -> Option<Result<LogFrame, Error>> {
        loop {
            match self.sent.next().await {
                Some(Ok(output)) => match frame(output, &mut self.position) {
                    Ok(frame) if frame.bytes.is_empty() => {
                        if self.passed.elapsed() >= SIGN_OF_LIFE {
                            self.passed = Instant::now();
                            return Some(Ok(frame));
                        }
                    }
                    read => return Some(read),
                },
                Some(Err(error)) => {
                    let call_error = CallError::from(error);
                    return Some(Err(match call_error.status() {
                        Some(404) => gone(&self.container),
                        _ => call_error.into_error("read a log"),
                    }));
                }
                // Docker 20.10 stops to follow as soon as the program has ended, whatever is still unread. The rest
                // is requested once more, now that nothing comes after it.
                None if self.following => {
                    let (client, container) = (self.client.clone(), self.container.clone());
                    let (position, ends) = (self.position.again(), Arc::clone(&self.ends));
                    let held = self.held.take();
                    *self = Self::at(client, container, position, false, ends);
                    self.held = held;
                }
                None => return None,
            }
        }
    }
}

impl Reader {
    /// Removes the init's record from a frame; `None` where the frame has nothing else. A text that only looks like a
    /// record is the program's, and stays.
    async fn without_record(&mut self, mut frame: LogFrame) -> Result<Option<LogFrame>, Error> {
        if frame.stream != Stream::Stderr || !Record::may_be_in(&frame.bytes) {
            return Ok(Some(frame));
        }
        let first = self.ends.first_process(&self.client, &self.container);
        let nonce = match first.await? {
            FirstProcess::Program => return Ok(Some(frame)),
            FirstProcess::OlderInit => None,
            FirstProcess::Init(nonce) => Some(nonce),
        };
        if let Some((place, record)) = Record::find(&frame.bytes, nonce.as_ref()) {
            self.ends.keep(&self.container, record);
            let before = frame.bytes.slice(..place.start);
            let after = frame.bytes.slice(place.end..);
            frame.bytes = if after.is_empty() {
                before
            } else {
                Bytes::from([before, after].concat())
            };
        }
        Ok((!frame.bytes.is_empty()).then_some(frame))
    }
}

/// Converts a message of Docker's to a frame; without its bytes where they were read before.
fn frame(output: LogOutput, position: &mut Position) -> Result<LogFrame, Error> {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (Stream::Stderr, message),
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => (Stream::Stdout, message),
    };
    let Some((at, bytes)) = split_time(message) else {
        return Err(Error::new(
            ErrorKind::Engine,
            "the Docker engine sent a piece of a log without its time",
        ));
    };
    let (bytes, cursor) = match position.take(at) {
        Some(cursor) => (without_mark(bytes), cursor),
        None => (Bytes::new(), position.cursor()),
    };
    Ok(LogFrame {
        stream,
        at,
        bytes,
        cursor,
    })
}

/// Removes the mark of an open line from the end of a frame.
fn without_mark(mut bytes: Bytes) -> Bytes {
    if bytes.ends_with(OPEN) {
        bytes.truncate(bytes.len() - OPEN.len());
    }
    bytes
}

/// Removes the time from the front of a frame: RFC 3339 and one space.
fn split_time(mut message: Bytes) -> Option<(Timestamp, Bytes)> {
    let end = message.iter().take(64).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&message[..end]).ok()?;
    let at = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    message.advance(end + 1);
    Some((at, message))
}

/// The place up to which a log was read.
#[derive(Debug, Default)]
struct Position {
    /// The second since which frames are counted.
    second: i64,
    /// The number of frames of each second from there on, skipped ones included.
    frames: BTreeMap<i64, i64>,
    skip: i64,
    /// Only frames up to this time may be skipped.
    skip_until: Timestamp,
    /// The newest time that was counted.
    newest: Timestamp,
}

impl Position {
    fn after(cursor: Option<LogCursor>) -> Self {
        let cursor = cursor.unwrap_or_default();
        // A cursor has only the second of the newest frame.
        let end = DateTime::from_timestamp(cursor.major + LATE + 1, 0);
        let end = end.unwrap_or(Timestamp::MAX_UTC) - chrono::TimeDelta::nanoseconds(1);
        Self {
            second: cursor.major,
            frames: BTreeMap::new(),
            skip: cursor.minor,
            skip_until: end,
            newest: Timestamp::UNIX_EPOCH,
        }
    }

    /// The same place, to read again from its second.
    fn again(&self) -> Self {
        // Frames that were to be skipped and have not come yet may be younger than all that came.
        let skip_until = if self.skip > 0 {
            self.skip_until
        } else {
            self.newest
        };
        Self {
            skip_until,
            ..Self::after(Some(self.cursor()))
        }
    }

    /// Counts a frame; returns its cursor, or `None` where it was read before.
    fn take(&mut self, at: Timestamp) -> Option<LogCursor> {
        *self.frames.entry(at.timestamp()).or_default() += 1;
        if let Some((newest, _)) = self.frames.last_key_value() {
            self.second = self.second.max(newest - LATE);
        }
        self.frames = self.frames.split_off(&self.second);
        self.newest = self.newest.max(at);
        if self.skip > 0 && at <= self.skip_until {
            self.skip -= 1;
            return None;
        }
        // Docker's log has lost the rest of them.
        self.skip = 0;
        Some(self.cursor())
    }

    /// The place after all counted frames. Docker's log lost frames that were to be skipped and never came; they
    /// count as read.
    fn cursor(&self) -> LogCursor {
        LogCursor {
            major: self.second,
            minor: self.frames.values().sum::<i64>() + self.skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    /// The frames that a Docker engine with this log sends when asked for those since a second.
    fn read(log: &[i64], after: Option<LogCursor>) -> Vec<(i64, LogCursor)> {
        let mut position = Position::after(after);
        let since = position.second;
        log.iter()
            .filter(|millis| at(**millis) >= at(since * 1000))
            .filter_map(|millis| Some((*millis, position.take(at(*millis))?)))
            .collect()
    }

    #[test]
    fn reading_goes_on_after_any_frame_without_loss_or_repetition() {
        // Equal times, times that run backwards, a long silence.
        let log = [
            1_000, 1_000, 1_000, 1_999, 1_998, 2_001, 1_999, 2_000, 9_000, 9_000, 8_999, 9_001,
        ];
        let whole = read(&log, None);
        assert_eq!(
            whole.iter().map(|(millis, _)| *millis).collect::<Vec<_>>(),
            log
        );
        for (index, (_, cursor)) in whole.iter().enumerate() {
            let rest: Vec<_> = read(&log, Some(*cursor));
            assert_eq!(rest, whole[index + 1..], "after frame {index}");
        }
        assert!(whole.is_sorted_by_key(|(_, cursor)| *cursor));
    }

    #[test]
    fn what_comes_after_frames_that_the_engine_has_dropped_is_not_skipped_in_their_place() {
        let mut position = Position::default();
        for millis in 1_000..3_000 {
            let _ = position.take(at(millis));
        }
        // More was printed, and only the youngest of it is left.
        let left = [2_998, 2_999, 3_000, 3_001];
        let mut again = position.again();
        let read: Vec<i64> = left
            .into_iter()
            .filter(|millis| again.take(at(*millis)).is_some())
            .collect();
        assert_eq!(read, [3_000, 3_001]);
        // After a restart only the second is known.
        let mut restarted = Position::after(Some(position.cursor()));
        let left = [2_999, 3_000, 3_001];
        let read: Vec<i64> = left
            .into_iter()
            .filter(|millis| restarted.take(at(*millis)).is_some())
            .collect();
        assert_eq!(read, [3_000, 3_001]);
        assert_eq!(restarted.cursor(), LogCursor { major: 2, minor: 3 });
    }

    #[test]
    fn what_was_read_before_comes_without_its_bytes_and_leaves_the_place_as_it_is() {
        let sent = |second: u32| LogOutput::StdOut {
            message: Bytes::from(format!("2026-11-23T10:00:0{second}.5Z line\n")),
        };
        let mut first = Position::default();
        let read = (0..4).map(|n| frame(sent(n), &mut first).unwrap());
        let read: Vec<LogFrame> = read.collect();
        let mut again = Position::after(Some(read[2].cursor));
        // The frames that Docker sends since the cursor's second.
        let skipped = frame(sent(1), &mut again).unwrap();
        assert!(skipped.bytes.is_empty());
        assert_eq!(skipped.cursor, read[2].cursor);
        assert!(frame(sent(2), &mut again).unwrap().bytes.is_empty());
        assert_eq!(frame(sent(3), &mut again).unwrap(), read[3]);
    }

    #[test]
    fn a_line_that_is_open_comes_without_its_mark_and_its_line_break() {
        let sent = |text: &[u8]| LogOutput::StdErr {
            message: [b"2026-11-23T10:00:00.5Z ", text].concat().into(),
        };
        let mut position = Position::default();
        let open = frame(sent(&[b"10%\r", OPEN].concat()), &mut position).unwrap();
        let rest = frame(sent(b"done\n"), &mut position).unwrap();
        assert_eq!(
            (&open.bytes[..], &rest.bytes[..]),
            (&b"10%\r"[..], &b"done\n"[..])
        );
        assert_eq!(rest.cursor.minor, 2);
    }

    #[test]
    fn a_frame_is_split_from_its_time_and_nothing_else() {
        let sent = Bytes::from_static(b"2026-11-23T10:00:00.123456789Z  two words \n");
        let (at, bytes) = split_time(sent).unwrap();
        assert_eq!(at.timestamp_subsec_nanos(), 123_456_789);
        assert_eq!(&bytes[..], b" two words \n");
        let empty = Bytes::from_static(b"2026-11-23T10:00:00.123456789Z \n");
        assert_eq!(&split_time(empty).unwrap().1[..], b"\n");
        assert_eq!(split_time(Bytes::from_static(b"no time")), None);
    }
}
