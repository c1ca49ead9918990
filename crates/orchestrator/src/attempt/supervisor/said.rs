//! Buffers the output of an image's preparation on its way into the log.
//!
//! A build prints up to some MiB per second and does not wait for the log. The log is slower, and takes nothing while
//! the database is down. So this buffer is bounded: beyond the bound it keeps the beginning and the end, as for a
//! long log, and drops and counts the lines in between.

use std::collections::VecDeque;
use std::mem;

use tokio::sync::watch;
use trainyard_core::Timestamp;
use trainyard_core::measure::{counted, in_units};

use crate::attempt::log_pump::{LARGE, OLD};

/// The most bytes that are buffered of the beginning, and of the end. One attempt costs at most twice the sum, since
/// as much may be on its way into the log already.
const HALF: usize = 1024 * 1024;

/// The cost of a line besides its text: its time, and the allocator's overhead.
const LINE: usize = 64;

/// The buffer between the preparation of an image and the log.
#[derive(Debug, Default)]
pub(super) struct Said(watch::Sender<Held>);

#[derive(Debug, Default)]
struct Held {
    first: Part,
    last: Part,
    left_out: Option<LeftOut>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Part {
    lines: VecDeque<(Timestamp, String)>,
    bytes: usize,
}

#[derive(Debug)]
struct LeftOut {
    lines: u64,
    bytes: u64,
    /// When the last line was added.
    at: Timestamp,
}

impl Said {
    /// Adds a line, without waiting.
    pub(super) fn push(&self, at: Timestamp, text: String) {
        self.0.send_modify(|held| held.push(at, text));
    }

    /// Closes the buffer: no more lines follow.
    pub(super) fn end(&self) {
        self.0.send_modify(|held| held.has_ended = true);
    }

    /// Waits until a batch is due, by its size or its age; false once the buffer is closed.
    pub(super) async fn gather(&self) -> bool {
        let mut held = self.0.subscribe();
        let some = |held: &Held| held.has_ended || held.bytes() > 0;
        // The sender lives as long as this borrow of it.
        let _ = held.wait_for(some).await;
        let much = |held: &Held| held.has_ended || held.bytes() >= LARGE;
        let _ = tokio::time::timeout(OLD, held.wait_for(much)).await;
        !self.0.borrow().has_ended
    }

    /// Takes all lines in order, with one line in place of those that were dropped.
    pub(super) fn take(&self) -> impl Iterator<Item = (Timestamp, String)> + use<> {
        let mut taken = Held::default();
        self.0.send_modify(|held| {
            let has_ended = held.has_ended;
            taken = mem::take(held);
            held.has_ended = has_ended;
        });
        let left_out = taken
            .left_out
            .map(|left_out| (left_out.at, left_out.mark()));
        let first = taken.first.lines.into_iter();
        first.chain(left_out).chain(taken.last.lines)
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.first.bytes + self.last.bytes
    }

    fn push(&mut self, at: Timestamp, text: String) {
        let is_beginning = self.last.lines.is_empty() && self.left_out.is_none();
        if is_beginning && self.first.bytes + LINE + text.len() <= HALF {
            self.first.push(at, text);
            return;
        }
        self.last.push(at, text);
        while self.last.bytes > HALF
            && let Some((at, text)) = self.last.pop()
        {
            let left_out = self.left_out.get_or_insert(LeftOut {
                lines: 0,
                bytes: 0,
                at,
            });
            left_out.lines += 1;
            left_out.bytes += text.len() as u64;
            left_out.at = at;
        }
    }
}

impl Part {
    fn push(&mut self, at: Timestamp, text: String) {
        self.bytes += LINE + text.len();
        self.lines.push_back((at, text));
    }

    fn pop(&mut self) -> Option<(Timestamp, String)> {
        let line = self.lines.pop_front()?;
        self.bytes -= LINE + line.1.len();
        Some(line)
    }
}

impl LeftOut {
    fn mark(&self) -> String {
        let (lines, bytes) = (counted(self.lines, "line"), in_units(self.bytes));
        format!("… {lines} ({bytes}) not kept: they came faster than the log could be written …")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(said: &Said) -> Vec<String> {
        said.take().map(|(_, text)| text).collect()
    }

    fn say(said: &Said, text: &str) {
        said.push(Timestamp::UNIX_EPOCH, text.to_owned());
    }

    #[test]
    fn what_fits_comes_out_in_order_and_once() {
        let said = Said::default();
        say(&said, "a");
        say(&said, "b");
        assert_eq!(texts(&said), ["a", "b"]);
        assert_eq!(texts(&said), [""; 0]);
    }

    #[test]
    fn of_more_than_is_held_the_middle_is_left_out_and_counted() {
        let said = Said::default();
        let count = 3 * HALF / (LINE + 8);
        for number in 0..count {
            say(&said, &format!("{number:08}"));
        }
        let kept = texts(&said);
        assert_eq!(kept[0], "00000000");
        assert_eq!(kept.last(), Some(&format!("{:08}", count - 1)));
        let each = HALF / (LINE + 8);
        assert_eq!(kept.len(), 2 * each + 1);
        let gone = count - 2 * each;
        let mark = format!("… {gone} lines ({}) not kept", in_units(8 * gone as u64));
        assert!(kept[each].starts_with(&mark), "{}", kept[each]);
    }

    #[test]
    fn a_line_larger_than_what_is_held_is_left_out() {
        let said = Said::default();
        say(&said, &"x".repeat(2 * HALF));
        say(&said, "after");
        let kept = texts(&said);
        assert!(
            kept[0].starts_with("… 1 line (2 MiB) not kept"),
            "{}",
            kept[0]
        );
        assert_eq!(kept[1..], ["after"]);
    }
}
