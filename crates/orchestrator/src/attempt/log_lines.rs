//! Turns the pieces that an executor reads into the records that are stored: lines, masked, with their
//! time and stream.
//!
//! A record is `<RFC 3339 time> <mark> <text>\n`. The mark is `O` for standard output, `E` for standard error and `S`
//! for Trainyard's own messages; in lower case, the line goes on in the next record of that stream. Text is UTF-8;
//! other bytes become U+FFFD.
//!
//! A carriage return goes back to the beginning of the line. Of the text that fits into a record, only the last one
//! written there is kept: a progress bar that was drawn ten thousand times is a few records, not a megabyte.
//!
//! Reading resumes at *clean points*: moments at which every byte read is in a record. Records may be stored with the
//! executor's cursor only up to a clean point, so that reading on from a stored cursor, also after a crash, neither
//! loses a byte nor repeats one. Bytes that may be the beginning of a secret are buffered until more bytes decide it.

use trainyard_core::Timestamp;
use trainyard_executor::{LogCursor, LogFrame, Stream};

use crate::attempt::mask::Masker;

/// A longer line is cut into several records.
pub const LINE_AT_MOST: usize = 16 * 1024;

/// Turns frames into records.
#[derive(Debug)]
pub struct LogLines {
    masker: Masker,
    stdout: Pending,
    stderr: Pending,
    /// Records up to the last clean point, then those after it.
    records: Vec<u8>,
    clean_length: usize,
    clean_cursor: Option<LogCursor>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    at: Option<Timestamp>,
    /// A record has the beginning of this line, and the rest follows it.
    goes_on: bool,
}

/// Records that may be stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub text: Vec<u8>,
    /// The cursor after them.
    pub cursor: Option<LogCursor>,
}

impl LogLines {
    /// Starts after `cursor`.
    #[must_use]
    pub fn new(masker: Masker, cursor: Option<LogCursor>) -> Self {
        Self {
            masker,
            stdout: Pending::default(),
            stderr: Pending::default(),
            records: Vec::new(),
            clean_length: 0,
            clean_cursor: cursor,
        }
    }

    pub fn push(&mut self, frame: &LogFrame) {
        let (mark, pending) = match frame.stream {
            Stream::Stdout => (b'O', &mut self.stdout),
            Stream::Stderr => (b'E', &mut self.stderr),
        };
        let mut rest: &[u8] = &frame.bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            pending.take(&rest[..end], frame.at);
            pending.cut_long(&self.masker, mark, &mut self.records);
            let masked = self.masker.mask(&pending.bytes).into_owned();
            pending.finish(&masked, mark, &mut self.records);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            pending.take(rest, frame.at);
            pending.cut_long(&self.masker, mark, &mut self.records);
        }
        self.note_clean(Some(frame.cursor));
        if self.clean_length == self.records.len() && self.is_clean() {
            self.clean_cursor = Some(frame.cursor);
        }
    }

    /// Adds a line of Trainyard's own.
    pub fn say(&mut self, at: Timestamp, text: &str) {
        for line in text.lines() {
            write_record(
                &mut self.records,
                at,
                b'S',
                &self.masker.mask(line.as_bytes()),
            );
        }
        self.note_clean(self.clean_cursor);
    }

    /// Cuts lines that are still open, so that output without a line break is shown. A possible beginning of
    /// a secret stays.
    pub fn cut_open_lines(&mut self, cursor: Option<LogCursor>) {
        self.stdout.cut(&self.masker, b'o', &mut self.records);
        self.stderr.cut(&self.masker, b'e', &mut self.records);
        self.note_clean(cursor);
    }

    /// Ends open lines: no more output follows. An incomplete secret is masked as a complete one.
    pub fn end(&mut self, cursor: Option<LogCursor>) {
        for (mark, pending) in [(b'O', &mut self.stdout), (b'E', &mut self.stderr)] {
            if !pending.bytes.is_empty() {
                let masked = self.masker.mask_last(&pending.bytes).into_owned();
                pending.finish(&masked, mark, &mut self.records);
            }
        }
        self.note_clean(cursor);
    }

    /// How many bytes of records may be stored.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.clean_length
    }

    /// How many bytes of records are buffered, whether they may be stored or not.
    #[must_use]
    pub fn held(&self) -> usize {
        self.records.len()
    }

    /// Takes all records although there is no clean point after them, so without a cursor: after a crash they are
    /// read, and stored, once more. For a log that never comes to a clean point, because one stream has an open line
    /// that may be the beginning of a secret.
    pub fn take_unclean(&mut self) -> Batch {
        self.clean_length = 0;
        Batch {
            text: std::mem::take(&mut self.records),
            cursor: None,
        }
    }

    /// Whether something waits for a clean point.
    #[must_use]
    pub fn has_open_lines(&self) -> bool {
        !self.is_clean()
    }

    /// Takes the records up to the last clean point; `None` where there are none.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.clean_length == 0 {
            return None;
        }
        let rest = self.records.split_off(self.clean_length);
        let text = std::mem::replace(&mut self.records, rest);
        self.clean_length = 0;
        Some(Batch {
            text,
            cursor: self.clean_cursor,
        })
    }

    fn is_clean(&self) -> bool {
        self.stdout.bytes.is_empty() && self.stderr.bytes.is_empty()
    }

    fn note_clean(&mut self, cursor: Option<LogCursor>) {
        if self.is_clean() {
            self.clean_length = self.records.len();
            self.clean_cursor = cursor.or(self.clean_cursor);
        }
    }
}

impl Pending {
    fn take(&mut self, bytes: &[u8], at: Timestamp) {
        self.bytes.extend_from_slice(bytes);
        self.at.get_or_insert(at);
    }

    /// Ends the line with its secrets masked.
    fn finish(&mut self, masked: &[u8], mark: u8, records: &mut Vec<u8>) {
        if let Some(at) = self.at.take() {
            let text = written_last(masked, self.goes_on);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            write_record(records, at, mark, text);
        }
        self.bytes.clear();
        self.goes_on = false;
    }

    /// Cuts pieces off a line that is too long.
    fn cut_long(&mut self, masker: &Masker, mark: u8, records: &mut Vec<u8>) {
        while self.bytes.len() > LINE_AT_MOST {
            let before = self.bytes.len();
            // A progress bar is not cut in the middle.
            let mut bytes = self.bytes[..LINE_AT_MOST].iter();
            let returned = bytes.rposition(|byte| *byte == b'\r').filter(|at| *at > 0);
            let length = returned.unwrap_or(LINE_AT_MOST);
            self.cut_at(masker, mark.to_ascii_lowercase(), length, records);
            if self.bytes.len() == before {
                break;
            }
        }
    }

    fn cut(&mut self, masker: &Masker, mark: u8, records: &mut Vec<u8>) {
        let length = self.bytes.len();
        self.cut_at(masker, mark, length, records);
    }

    /// Writes up to `length` bytes as a piece, without a possible beginning of a secret or an incomplete character
    /// at its end.
    fn cut_at(&mut self, masker: &Masker, mark: u8, length: usize, records: &mut Vec<u8>) {
        let Some(at) = self.at else { return };
        let mut end = length;
        end -= masker.open_tail(&self.bytes[..end]);
        end -= open_character(&self.bytes[..end]);
        if end == 0 {
            return;
        }
        // A secret may lie across the cut: then the cut moves to its end.
        let masked = masker.mask(&self.bytes[..end]);
        let text = written_last(&masked, self.goes_on);
        write_record(records, at, mark, text);
        self.goes_on = !text.ends_with(b"\r");
        self.bytes.drain(..end);
        if self.bytes.is_empty() {
            self.at = None;
        }
    }
}

/// The text that is left after carriage returns. If it continues an earlier piece and overwrites it, it begins with
/// one. Carriage returns are resolved in masked text; otherwise a part of a secret might be left.
fn written_last(text: &[u8], goes_on: bool) -> &[u8] {
    let returns = text.iter().rev().take_while(|byte| **byte == b'\r').count();
    let written = &text[..text.len() - returns];
    let over = written.iter().rposition(|byte| *byte == b'\r');
    let start = over.map_or(0, |over| if goes_on { over } else { over + 1 });
    &text[start..written.len() + returns.min(1)]
}

/// How many bytes at the end are an incomplete UTF-8 character.
fn open_character(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(4)..]) {
        Err(error) if error.error_len().is_none() => bytes.len().min(4) - error.valid_up_to(),
        _ => 0,
    }
}

fn write_record(records: &mut Vec<u8>, at: Timestamp, mark: u8, text: &[u8]) {
    let time = at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    records.extend_from_slice(time.as_bytes());
    records.extend_from_slice(&[b' ', mark, b' ']);
    records.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(stream: Stream, text: &str, at: i64) -> LogFrame {
        LogFrame {
            stream,
            at: Timestamp::from_timestamp(at, 0).unwrap(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            cursor: LogCursor {
                major: at,
                minor: 0,
            },
        }
    }

    fn texts(batch: &Batch) -> Vec<String> {
        String::from_utf8(batch.text.clone())
            .unwrap()
            .split_terminator('\n')
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn pieces_become_lines() {
        let mut lines = LogLines::new(Masker::default(), None);
        lines.push(&frame(Stream::Stdout, "a\nb", 1));
        lines.push(&frame(Stream::Stdout, "c\r\n", 2));
        assert_eq!(texts(&lines.take_batch().unwrap()), ["O a", "O bc"]);
    }

    #[test]
    fn the_cursor_never_passes_bytes_that_are_not_in_a_record() {
        let mut lines = LogLines::new(Masker::default(), None);
        lines.push(&frame(Stream::Stdout, "whole\n", 1));
        lines.push(&frame(Stream::Stdout, "half", 2));
        lines.push(&frame(Stream::Stderr, "other\n", 3));
        let batch = lines.take_batch().unwrap();
        assert_eq!(texts(&batch), ["O whole"]);
        assert_eq!(batch.cursor, Some(LogCursor { major: 1, minor: 0 }));
        lines.push(&frame(Stream::Stdout, " done\n", 4));
        let batch = lines.take_batch().unwrap();
        assert_eq!(texts(&batch), ["E other", "O half done"]);
        assert_eq!(batch.cursor, Some(LogCursor { major: 4, minor: 0 }));
    }

    #[test]
    fn what_is_taken_before_a_clean_point_has_no_place_to_go_on_from() {
        let mut lines = LogLines::new(Masker::new(["hunter22"]), None);
        lines.push(&frame(Stream::Stdout, "hunt", 1));
        lines.push(&frame(Stream::Stderr, "other\n", 2));
        lines.cut_open_lines(None);
        assert!(lines.take_batch().is_none(), "it may become the secret");
        assert!(lines.held() > 0);
        let batch = lines.take_unclean();
        assert_eq!(texts(&batch), ["E other"]);
        assert_eq!(batch.cursor, None);
        assert_eq!(lines.held(), 0);
        lines.push(&frame(Stream::Stdout, "er22\n", 3));
        let batch = lines.take_batch().unwrap();
        assert_eq!(texts(&batch), ["O ***"]);
        assert_eq!(batch.cursor, Some(LogCursor { major: 3, minor: 0 }));
    }

    #[test]
    fn a_secret_split_over_pieces_is_masked() {
        let secret = "correct-horse";
        for cut in 1..secret.len() {
            let mut lines = LogLines::new(Masker::new([secret]), None);
            lines.push(&frame(Stream::Stdout, &format!("x {}", &secret[..cut]), 1));
            lines.cut_open_lines(None);
            lines.push(&frame(
                Stream::Stdout,
                &format!("{} y\n", &secret[cut..]),
                2,
            ));
            lines.end(None);
            let kept = texts(&lines.take_batch().unwrap()).join("|");
            assert!(kept.contains("***"), "cut at {cut}: {kept}");
            assert!(
                !kept.contains(&secret[cut..]) || secret.len() - cut < 3,
                "cut at {cut}: {kept}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_loses_nothing() {
        let long = "0123456789".repeat(10_000);
        let mut lines = LogLines::new(Masker::new(["secret-value"]), None);
        for piece in long.as_bytes().chunks(7_001) {
            lines.push(&frame(
                Stream::Stdout,
                std::str::from_utf8(piece).unwrap(),
                1,
            ));
        }
        lines.end(Some(LogCursor { major: 9, minor: 0 }));
        let kept: String = texts(&lines.take_batch().unwrap())
            .iter()
            .map(|line| line[2..].to_owned())
            .collect();
        assert_eq!(kept, long);
    }

    fn pushed(masker: Masker, pieces: &[&str]) -> Vec<String> {
        let mut lines = LogLines::new(masker, None);
        for (second, piece) in pieces.iter().enumerate() {
            lines.push(&frame(Stream::Stderr, piece, second as i64));
            lines.cut_open_lines(None);
        }
        lines.end(None);
        texts(&lines.take_batch().unwrap())
    }

    #[test]
    fn of_what_is_written_over_the_last_is_kept() {
        assert_eq!(
            pushed(
                Masker::default(),
                &["0%\r10%\r\r", "20%\r30%\r", "100%\r\n"]
            ),
            ["e 10%\r", "e 30%\r", "E 100%"]
        );
        assert_eq!(
            pushed(
                Masker::default(),
                &["begin", "\r10%", "\r20%\r30%", " of all\r40%\n"]
            ),
            ["e begin", "e \r10%", "e \r30%", "E \r40%"]
        );
        assert_eq!(
            pushed(Masker::default(), &["10%\r20%\nnext\r\n"]),
            ["E 20%", "E next"]
        );
    }

    #[test]
    fn a_progress_bar_of_ten_thousand_rewrites_takes_little_room() {
        let mut lines = LogLines::new(Masker::default(), None);
        for number in 1..=10_000 {
            let drawn = format!("\r{:>5} of 10000 |{}|", number, "#".repeat(80));
            lines.push(&frame(Stream::Stderr, &drawn, number / 10));
            // As often as open lines are cut.
            if number % 10 == 0 {
                lines.cut_open_lines(None);
            }
        }
        lines.push(&frame(Stream::Stderr, "\n", 1001));
        let kept = lines.take_batch().unwrap();
        assert!(kept.text.len() < 200_000, "{} bytes", kept.text.len());
        let texts = texts(&kept);
        assert!(texts[998].contains(" 9990 of 10000"), "{}", texts[998]);
        assert!(texts[999].contains("10000 of 10000"), "{}", texts[999]);
    }

    #[test]
    fn a_progress_bar_is_not_cut_in_the_middle() {
        let drawn = |number: usize| format!("\r{number:>5} of 10000");
        let all: String = (1..=10_000).map(drawn).collect();
        let kept = pushed(Masker::default(), &[&all]);
        assert!(kept.len() > 5, "{kept:?}");
        for record in kept {
            assert!(record.ends_with(" of 10000"), "{record:?}");
        }
    }

    #[test]
    fn of_a_secret_that_is_written_over_no_part_is_left() {
        let secret = "correct-horse";
        for cut in 1..secret.len() {
            let (one, other) = secret.split_at(cut);
            let drawn = [
                &format!("10%\r{one}"),
                &*format!("{other}\r20% {one}"),
                other,
            ];
            let kept = pushed(Masker::new([secret]), &drawn).join("|");
            assert!(kept.ends_with("20% |e ***"), "cut at {cut}: {kept}");
            assert!(
                !kept.contains("corr") && !kept.contains("orse"),
                "cut at {cut}: {kept}"
            );
        }
    }

    #[test]
    fn class_10_a_log_that_ends_within_a_secret_shows_its_first_three_characters_at_most() {
        let secret = "correct-horse";
        for cut in 0..=secret.len() {
            let kept = pushed(Masker::new([secret]), &["key=", &secret[..cut]]);
            let kept: String = kept.iter().map(|record| &record[2..]).collect();
            let shown = if cut < 4 { &secret[..cut] } else { "***" };
            assert_eq!(kept, format!("key={shown}"));
        }
    }

    #[test]
    fn characters_are_not_cut_apart() {
        let mut lines = LogLines::new(Masker::default(), None);
        lines.push(&frame(Stream::Stdout, "grün", 1));
        let cut = LogFrame {
            bytes: Bytes::from_static(b"\xc3"),
            ..frame(Stream::Stdout, "", 2)
        };
        lines.push(&cut);
        lines.cut_open_lines(None);
        let rest = LogFrame {
            bytes: Bytes::from_static(b"\xbc\n"),
            ..frame(Stream::Stdout, "", 3)
        };
        lines.push(&rest);
        assert_eq!(texts(&lines.take_batch().unwrap()), ["o grün", "O ü"]);
    }
}
