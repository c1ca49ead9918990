//! What is said while an image is made ready, on its way into the log.
//!
//! A build prints up to some MiB a second and does not wait for the log, which takes what it can, nothing for
//! as long as the database is away. So there is a bound on what is held in between: beyond it the beginning
//! and the end are kept, as of a long log, and what lies between is left out and counted.

use std::collections::VecDeque;
use std::mem;

use tokio::sync::watch;
use trainyard_core::Timestamp;
use trainyard_core::measure::{counted, in_units};

use crate::attempt::log_pump::{LARGE, OLD};

/// How much of the beginning is held at most, and how much of the end, in bytes. Twice both is the most that
/// one attempt costs, since as much may be on its way into the log already.
const HALF: usize = 1024 * 1024;

/// What a line costs beside its text: its time, and what the allocator adds.
const LINE: usize = 64;

/// Lines between whoever says them and the log.
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
    /// When the last of it was said.
    at: Timestamp,
}

impl Said {
    /// Adds a line. It waits for nothing.
    pub(super) fn push(&self, at: Timestamp, text: String) {
        self.0.send_modify(|held| held.push(at, text));
    }

    /// Nothing more will be said.
    pub(super) fn end(&self) {
        self.0.send_modify(|held| held.has_ended = true);
    }

    /// Waits until there is a batch to write, by its size or its age; false once nothing more will be said.
    pub(super) async fn gather(&self) -> bool {
        let mut held = self.0.subscribe();
        let some = |held: &Held| held.has_ended || held.bytes() > 0;
        // The sender is there as long as this borrow of it.
        let _ = held.wait_for(some).await;
        let much = |held: &Held| held.has_ended || held.bytes() >= LARGE;
        let _ = tokio::time::timeout(OLD, held.wait_for(much)).await;
        !self.0.borrow().has_ended
    }

    /// Takes all that is held, in order, with a line of what was left out in its place.
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
