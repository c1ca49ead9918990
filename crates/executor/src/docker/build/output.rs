//! Reads the output of a build from its builder's answer.
//!
//! The log keeps a bounded part of it, but each line has to be read to know that. So no more is read than a person
//! could use: a build that prints faster has to wait, as a program does whose pipe is full, and one that never stops
//! printing is ended.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::time::Instant;
use trainyard_core::measure::in_units;

use super::super::errors::CallError;
use super::super::trace::Trace;

/// The longest line of an answer that is read, in bytes. BuildKit cuts what a step prints into pieces of some KiB.
const LONGEST_LINE: usize = 4 << 20;

/// How many bytes of an answer are read as they come, and how many in each second after them.
const AT_ONCE: u64 = 8 << 20;
const PER_SECOND: u64 = 1 << 20;

/// The most bytes that an answer may have.
const AT_MOST: u64 = 512 << 20;

/// Reads an answer to its end.
pub(super) async fn follow(
    answer: impl Stream<Item = Result<bytes::Bytes, bollard::errors::Error>>,
    idle: Duration,
    output: &mut Output<'_>,
) -> Result<(), CallError> {
    let mut answer = std::pin::pin!(answer);
    let mut line = Vec::new();
    let mut pace = Pace::new();
    loop {
        let piece = match tokio::time::timeout(idle, answer.next()).await {
            Ok(None) => break,
            Ok(Some(piece)) => piece?,
            Err(_) => {
                let seconds = idle.as_secs();
                return Err(CallError::InStream(format!(
                    "nothing was printed for {seconds} s"
                )));
            }
        };
        pace.keep(piece.len()).await?;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > LONGEST_LINE {
                return Err(CallError::Odd(
                    "a line of the answer is too long".to_owned(),
                ));
            }
            if part.ends_with(b"\n") {
                output.take(&line)?;
                line.clear();
            }
        }
    }
    output.take(&line)?;
    output.end();
    Ok(())
}

/// How much of an answer was read, and since when.
struct Pace {
    since: Instant,
    read: u64,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            read: 0,
        }
    }

    /// Counts the bytes read, and waits where they came too fast.
    async fn keep(&mut self, read: usize) -> Result<(), CallError> {
        self.read += read as u64;
        if self.read > AT_MOST {
            return Err(CallError::InStream(format!(
                "its steps printed more than {}; make them print less, or write it into a file",
                in_units(AT_MOST)
            )));
        }
        let waited = Duration::from_secs(self.read.saturating_sub(AT_ONCE) / PER_SECOND);
        tokio::time::sleep_until(self.since + waited).await;
        Ok(())
    }
}

/// A line of a builder's answer.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<String>,
    stream: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    progress: Option<ProgressDetail>,
    #[serde(rename = "errorDetail")]
    error: Option<ErrorDetail>,
    aux: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct ProgressDetail {
    current: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

/// The output of a build, passed on line by line.
pub(super) struct Output<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    trace: Trace,
}

impl<'a> Output<'a> {
    pub(super) fn new(progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self {
            progress,
            trace: Trace::default(),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), CallError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| CallError::Odd(format!("the answer is invalid: {error}")))?;
        if let Some(message) = line.error.and_then(|error| error.message) {
            self.end();
            return Err(CallError::InStream(message));
        }
        if line.id.as_deref() == Some("moby.buildkit.trace") {
            let trace = line.aux.as_ref().and_then(serde_json::Value::as_str);
            let trace = STANDARD.decode(trace.unwrap_or_default());
            let said = self.trace.read(&trace.unwrap_or_default());
            self.pass_on(&said);
            return Ok(());
        }
        let is_moving = line.progress.is_some_and(|detail| detail.current.is_some());
        let text = line.stream.or(line.status.filter(|_| !is_moving));
        self.pass_on(&text.unwrap_or_default());
        Ok(())
    }

    /// Passes on a line that BuildKit has begun.
    fn end(&mut self) {
        let rest = self.trace.rest();
        self.pass_on(&rest);
    }

    fn pass_on(&self, text: &str) {
        let lines = text.lines().map(str::trim_end);
        lines
            .filter(|line| !line.is_empty())
            .for_each(|line| (self.progress)(line.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn an_answer_in_pieces_is_read_line_by_line() {
        let trace = STANDARD.encode(b"\x1a\x09\x0a\x01a\x22\x04out\n");
        let answer = format!(
            "{{\"id\":\"moby.buildkit.trace\",\"aux\":\"{trace}\"}}\r\n{{\"stream\":\"Step 1\\n\"}}\n{{\"id\":\
             \"moby.image.id\",\"aux\":{{\"ID\":\"x\"}}}}\n{{\"errorDetail\":{{\"message\":\"no\"}}}}\n"
        );
        let pieces: Vec<_> = answer
            .as_bytes()
            .chunks(7)
            .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
            .collect();
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let mut output = Output::new(&say);
        let pieces = futures_util::stream::iter(pieces);
        let end = follow(pieces, Duration::from_secs(60), &mut output).await;
        assert_eq!(end, Err(CallError::InStream("no".to_owned())));
        assert_eq!(*said.lock().unwrap(), ["out", "Step 1"]);
    }
    /// Reads the answer of a build that prints this many bytes, and returns how long that took.
    async fn printed(bytes: u64) -> (Result<(), CallError>, Duration) {
        let piece = bytes::Bytes::from(format!("{}\n", " ".repeat((64 << 10) - 1)));
        let count = usize::try_from(bytes >> 16).unwrap();
        let pieces = std::iter::repeat_n(piece, count).map(Ok);
        let pieces = futures_util::stream::iter(pieces);
        let mut output = Output::new(&|_| {});
        let since = Instant::now();
        let end = follow(pieces, Duration::from_secs(60), &mut output).await;
        (end, since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn class_04_a_build_that_prints_fast_is_slowed_down() {
        let (end, took) = printed(AT_ONCE).await;
        assert_eq!((end, took.as_secs()), (Ok(()), 0));
        let (end, took) = printed(AT_ONCE + 100 * PER_SECOND).await;
        assert_eq!((end, took.as_secs()), (Ok(()), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn class_04_a_build_that_prints_for_ever_is_ended() {
        let (end, _) = printed(2 * AT_MOST).await;
        let said =
            "its steps printed more than 512 MiB; make them print less, or write it into a file";
        assert_eq!(end, Err(CallError::InStream(said.to_owned())));
    }
}
