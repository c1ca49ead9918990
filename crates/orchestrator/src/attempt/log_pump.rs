//! The log pump: reads an attempt's log from its executor and stores it in batches.
//!
//! A batch is stored when it is large enough or old enough, and only up to a clean point (see
//! [`crate::attempt::log_lines`]). A viewer never slows a stage: it reads the stored log.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};
use trainyard_core::Timestamp;
use trainyard_executor::{Containers, Error, ErrorKind, Handle, LogCursor, LogFrame};

use crate::attempt::hints::Refusals;
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_lines::LogLines;
use crate::attempt::mask::Masker;
use crate::clock;
use crate::health::retry_log::RetryLog;

/// A batch this large is written at once, in bytes of records.
pub(crate) const LARGE: usize = 256 * 1024;

/// At this size, records are stored even while lines are open: memory is bounded, however a program prints. While the
/// database is down, reading stops: Docker's own log, from which the daemon reads on after its last stored record,
/// holds the rest.
const HELD_AT_MOST: usize = 2 * LARGE;

/// A batch this old is stored.
pub(crate) const OLD: Duration = Duration::from_millis(200);

/// A line that stays open this long is cut, so that prompts and progress are shown.
const OPEN: Duration = Duration::from_secs(1);

/// How long after its start a log is opened, unless its container has ended before: following a log costs Docker more
/// than reading it, and batches are not stored any sooner.
const SETTLE: Duration = Duration::from_millis(300);

/// The wait before a broken log is reopened.
const REOPEN: Duration = Duration::from_millis(250);

/// How long the log of an ended container may be silent before it is reopened: the connection may have died without
/// notice. It doubles each time: a Docker engine that is busy and searches a large log is silent for a while, and
/// starts over when the log is reopened.
const SILENCE: Duration = Duration::from_secs(5);

/// The longest such silence.
const SILENCE_AT_MOST: Duration = Duration::from_secs(60);

/// How far a log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    Whole,
    /// Docker did not return the rest.
    CutShort,
}

/// Reads and stores the log of one attempt.
#[derive(Debug)]
pub struct LogPump {
    lines: LogLines,
    /// The cursor of the next read, ahead of the stored one.
    read: Option<LogCursor>,
    changed: Option<Instant>,
    opened: Option<Instant>,
    refusals: Refusals,
}

impl LogPump {
    /// Starts after `cursor`.
    #[must_use]
    pub fn new(masker: Masker, cursor: Option<LogCursor>) -> Self {
        let lines = LogLines::new(masker, cursor);
        Self {
            lines,
            read: cursor,
            changed: None,
            opened: None,
            refusals: Refusals::default(),
        }
    }

    /// Whether the program's last output shows an operation that the kernel refused.
    pub(crate) fn ends_with_refusal(&self) -> bool {
        self.refusals.are_last()
    }

    /// Adds a line of Trainyard's own; written with the next batch.
    pub fn say(&mut self, at: Timestamp, text: &str) {
        self.lines.say(at, text);
        self.changed.get_or_insert_with(Instant::now);
    }

    /// Adds a line of Trainyard's own, and stores the batch if it is large.
    ///
    /// # Errors
    /// Another owner acts on the attempt.
    pub async fn say_now<L: Ledger>(
        &mut self,
        at: Timestamp,
        text: &str,
        ledger: &L,
    ) -> Result<(), FencedOff> {
        self.say(at, text);
        if self.lines.ready() >= LARGE {
            self.write(ledger).await?;
        }
        Ok(())
    }

    /// Reads until the log ends: after `gone` turns true, until nothing new has come for `drain`. Time in which the
    /// ledger accepts nothing does not count.
    ///
    /// # Errors
    /// Another owner acts on the attempt.
    pub async fn follow<E: Containers, L: Ledger>(
        &mut self,
        executor: &E,
        handle: &Handle,
        ledger: &L,
        mut gone: watch::Receiver<bool>,
        drain: Duration,
    ) -> Result<LogEnd, FencedOff> {
        let mut give_up: Option<Instant> = None;
        let mut silence = SILENCE;
        let mut trouble = RetryLog::new(
            "the log of a container cannot be followed; will retry",
            "the log of a container is followed again",
        );
        tokio::select! {
            biased;
            () = turns_true(&mut gone) => {}
            () = tokio::time::sleep(SETTLE) => {}
        }
        let end = 'reopen: loop {
            let asked = Instant::now();
            let mut stream = match executor.logs(handle, self.read).await {
                Ok(stream) => stream,
                Err(error) if error.kind == ErrorKind::Gone => break LogEnd::CutShort,
                Err(error) => {
                    trouble.met(asked, &error);
                    if !self.pause(&mut gone, &mut give_up, drain).await {
                        break LogEnd::CutShort;
                    }
                    continue;
                }
            };
            let mut silent_at = give_up.map(|_| Instant::now() + silence);
            loop {
                // Rare events come first, so that a program that never stops printing does not delay them.
                let heard = tokio::select! {
                    biased;
                    () = clock::at(give_up) => Heard::TooLate,
                    () = turns_true(&mut gone), if give_up.is_none() => Heard::Gone,
                    () = clock::at(self.due()) => Heard::Due,
                    () = clock::at(silent_at) => Heard::Nothing,
                    frame = stream.next() => frame.map_or(Heard::End, Heard::Frame),
                };
                match heard {
                    Heard::Frame(Ok(frame)) => {
                        self.take(&frame, ledger).await?;
                        trouble.went_well();
                        // An empty frame is not progress: it only shows that the connection is alive.
                        if !frame.bytes.is_empty() {
                            give_up = give_up.map(|_| Instant::now() + drain);
                        }
                        silence = SILENCE;
                        silent_at = give_up.map(|_| Instant::now() + silence);
                    }
                    Heard::Frame(Err(error)) if error.kind == ErrorKind::Gone => {
                        break 'reopen LogEnd::CutShort;
                    }
                    Heard::Frame(Err(error)) => {
                        trouble.met(Instant::now(), &error);
                        if !self.pause(&mut gone, &mut give_up, drain).await {
                            break 'reopen LogEnd::CutShort;
                        }
                        continue 'reopen;
                    }
                    Heard::End if *gone.borrow() => break 'reopen LogEnd::Whole,
                    Heard::End => {
                        // Only the log of an ended container is complete. This one may have ended before its
                        // container was even started, or been cut off: it is reopened, and an open line, with the
                        // beginning of a secret perhaps, continues there.
                        self.lines.cut_open_lines(self.read);
                        self.write(ledger).await?;
                        trouble.met(Instant::now(), &"it ended before its container did");
                        tokio::select! {
                            biased;
                            () = turns_true(&mut gone) => {}
                            () = tokio::time::sleep(REOPEN) => {}
                        }
                        continue 'reopen;
                    }
                    Heard::Due => {
                        self.write_due(ledger).await?;
                        give_up = give_up.map(|_| Instant::now() + drain);
                    }
                    Heard::Gone => {
                        give_up = Some(Instant::now() + drain);
                        silent_at = Some(Instant::now() + silence);
                    }
                    Heard::Nothing => {
                        debug!("the log of an ended container is silent; will reopen it");
                        silence = (silence * 2).min(SILENCE_AT_MOST);
                        continue 'reopen;
                    }
                    Heard::TooLate => break 'reopen LogEnd::CutShort,
                }
            }
        };
        match end {
            LogEnd::Whole => trouble.over(),
            LogEnd::CutShort => warn!("the rest of a log could not be read and is left out"),
        }
        self.flush(ledger).await?;
        Ok(end)
    }

    /// Stores everything that was read, open lines too.
    ///
    /// # Errors
    /// Another owner acts on the attempt.
    pub async fn flush<L: Ledger>(&mut self, ledger: &L) -> Result<(), FencedOff> {
        self.lines.end(self.read);
        self.write(ledger).await
    }

    async fn take<L: Ledger>(&mut self, frame: &LogFrame, ledger: &L) -> Result<(), FencedOff> {
        self.lines.push(frame);
        self.refusals.push(&frame.bytes);
        self.read = Some(frame.cursor);
        let now = Instant::now();
        if self.lines.ready() > 0 {
            self.changed.get_or_insert(now);
        }
        if self.lines.has_open_lines() {
            self.opened.get_or_insert(now);
        } else {
            self.opened = None;
        }
        if self.lines.ready() >= LARGE {
            self.write(ledger).await?;
        }
        if self.lines.held() >= HELD_AT_MOST {
            self.lines.cut_open_lines(self.read);
            self.write(ledger).await?;
            if self.lines.held() >= HELD_AT_MOST {
                ledger.append_log(self.lines.take_unclean()).await?;
            }
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        let old = self.changed.map(|changed| changed + OLD);
        let open = self.opened.map(|opened| opened + OPEN);
        match (old, open) {
            (Some(old), Some(open)) => Some(old.min(open)),
            (old, open) => old.or(open),
        }
    }

    async fn write_due<L: Ledger>(&mut self, ledger: &L) -> Result<(), FencedOff> {
        if self.opened.is_some_and(|opened| opened.elapsed() >= OPEN) {
            self.lines.cut_open_lines(self.read);
            // The possible beginning of a secret waits for the next piece, or for the end.
            self.opened = None;
        }
        self.write(ledger).await
    }

    async fn write<L: Ledger>(&mut self, ledger: &L) -> Result<(), FencedOff> {
        self.changed = None;
        match self.lines.take_batch() {
            Some(batch) => ledger.append_log(batch).await,
            None => Ok(()),
        }
    }

    /// Waits before the log is reopened; false once there is no point in that.
    async fn pause(
        &self,
        gone: &mut watch::Receiver<bool>,
        give_up: &mut Option<Instant>,
        drain: Duration,
    ) -> bool {
        tokio::time::sleep(REOPEN).await;
        if *gone.borrow_and_update() {
            let limit = *give_up.get_or_insert_with(|| Instant::now() + drain);
            return Instant::now() < limit;
        }
        true
    }
}

/// The result of a wait for more of a log.
enum Heard {
    Frame(Result<LogFrame, Error>),
    /// The stream ended.
    End,
    /// Records are due to be stored.
    Due,
    /// Silence for too long.
    Nothing,
    /// The container has ended.
    Gone,
    /// The rest took too long.
    TooLate,
}

async fn turns_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}
