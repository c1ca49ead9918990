//! Passes on the program's output, so that a line is seen while it is still open.
//!
//! Docker passes on whole lines, and pieces of 16 KiB. A progress bar ends no line, and would not be seen until the
//! end. So the program prints into pipes of this process. When a line has been open for a while, this process writes
//! the mark [`OPEN`], which ends in a line break, behind it. The reader of the log removes the mark again.
//!
//! A write never blocks: signals are passed on even while Docker reads nothing.

use crate::format::OPEN;
use crate::system::{self, EAGAIN, EINTR, Millis, POLLIN, POLLOUT, Poll};

/// How much is read and written at a time. A pipe that can be written to has room for so much.
const CHUNK: usize = 4096;

/// The length of a line without an end that Docker passes on, in bytes.
const PIECE: usize = 16 * 1024;

/// How long a line may be open before it is shown.
const PATIENCE: Millis = 500;

/// One of the two streams.
pub struct Relay {
    from: i32,
    to: i32,
    has_ended: bool,
    buffer: [u8; CHUNK],
    /// The part of the buffer that is still to be written.
    start: usize,
    end: usize,
    /// How much was written since the last line break.
    line: usize,
    /// How many bytes the last character still lacks.
    lacking: u8,
    /// When the oldest byte came that Docker has not passed on yet.
    hidden_since: Option<Millis>,
}

impl Relay {
    /// Passes on what can be read at `from` to `to`.
    pub const fn new(from: i32, to: i32) -> Self {
        Self {
            from,
            to,
            has_ended: false,
            buffer: [0; CHUNK],
            start: 0,
            end: 0,
            line: 0,
            lacking: 0,
            hidden_since: None,
        }
    }

    /// What this waits for: to read or to write.
    pub fn poll(&self) -> Poll {
        if self.is_writing() {
            Poll::of(self.to, POLLOUT)
        } else if self.has_ended {
            Poll::NOTHING
        } else {
            Poll::of(self.from, POLLIN)
        }
    }

    /// When the open line is to be shown.
    pub fn due(&self) -> Option<Millis> {
        self.hidden_since
            .filter(|_| !self.is_writing())
            .map(|since| since + PATIENCE)
    }

    /// Shows the open line where it is time.
    pub fn show_open_line(&mut self, now: Millis) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.hidden_since = None;
        let kept_back = self.line % PIECE;
        // Half a character and half a mark would not be put together again. The next byte is another chance.
        if kept_back == 0 || self.lacking > 0 || kept_back + OPEN.len() > PIECE {
            return;
        }
        self.buffer[..OPEN.len()].copy_from_slice(OPEN);
        (self.start, self.end) = (0, OPEN.len());
        self.line = 0;
    }

    /// Reads or writes, as [`Self::poll`] has asked for.
    pub fn go_on(&mut self, now: Millis) {
        if self.is_writing() {
            match system::write_some(self.to, &self.buffer[self.start..self.end]) {
                Ok(count) => self.start += count,
                Err(EAGAIN | EINTR) => {}
                // The reader is gone.
                Err(_) => self.start = self.end,
            }
            return;
        }
        match system::read(self.from, &mut self.buffer) {
            Ok(0) | Err(_) => {
                system::close(self.from);
                self.has_ended = true;
            }
            Ok(count) => {
                (self.start, self.end) = (0, count);
                self.note(count, now);
            }
        }
    }

    /// Whether something was read and not yet written.
    pub fn is_writing(&self) -> bool {
        self.start < self.end
    }

    fn note(&mut self, count: usize, now: Millis) {
        let bytes = &self.buffer[..count];
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                self.line = count - at - 1;
                self.hidden_since = (self.line > 0).then_some(now);
            }
            None => {
                self.line += count;
                self.hidden_since.get_or_insert(now);
            }
        }
        // No character has more bytes.
        for byte in &bytes[count.saturating_sub(4)..] {
            self.lacking = match byte {
                0x80..=0xbf => self.lacking.saturating_sub(1),
                0xc0..=0xdf => 1,
                0xe0..=0xef => 2,
                0xf0..=0xf7 => 3,
                _ => 0,
            };
        }
    }
}
