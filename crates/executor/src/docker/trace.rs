//! Reads BuildKit's progress of a build: messages in the format of protocol buffers, of which a few fields are
//! used here.
//!
//! 1. A report names the steps of the build (`Vertex`) whenever one of them changes.
//! 2. It holds the output of the steps (`VertexLog`), in pieces that may end within a line.
//! 3. The progress of downloads and the like (`VertexStatus`) is ignored.

use std::collections::HashMap;

/// The longest line that is joined from pieces, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// The steps of a build that BuildKit has reported.
#[derive(Debug, Default)]
pub(super) struct Trace {
    steps: HashMap<Vec<u8>, Step>,
}

#[derive(Debug, Default)]
struct Step {
    is_named: bool,
    /// The line that it is printing.
    line: Vec<u8>,
}

impl Trace {
    /// The text that a report adds to the log, in whole lines.
    pub(super) fn read(&mut self, report: &[u8]) -> String {
        let mut said = String::new();
        for (field, value) in Fields(report) {
            match (field, value) {
                (1, Value::Bytes(vertex)) => self.vertex(vertex, &mut said),
                (3, Value::Bytes(log)) => self.log(log, &mut said),
                _ => {}
            }
        }
        said
    }

    /// The output of steps that has no end of the line yet.
    pub(super) fn rest(&mut self) -> String {
        let lines = self.steps.values_mut().map(|step| &mut step.line);
        let mut said = String::new();
        lines.for_each(|line| end(line, &mut said));
        said
    }

    fn vertex(&mut self, vertex: &[u8], said: &mut String) {
        let (mut digest, mut name) = (&[][..], &[][..]);
        let (mut has_begun, mut is_cached) = (false, false);
        for (field, value) in Fields(vertex) {
            match (field, value) {
                (1, Value::Bytes(text)) => digest = text,
                (3, Value::Bytes(text)) => name = text,
                (4, Value::Number(number)) => is_cached = number != 0,
                (5, Value::Bytes(_)) => has_begun = true,
                _ => {}
            }
        }
        let name = String::from_utf8_lossy(name);
        // These steps bring in the context.
        if name.starts_with("[internal]") || name == "copy /context /" {
            return;
        }
        let step = self.steps.entry(digest.to_owned()).or_default();
        if !step.is_named && (has_begun || is_cached) {
            step.is_named = true;
            let cached = if is_cached { "CACHED " } else { "" };
            said.push_str(&format!("{cached}{name}\n"));
        }
    }

    fn log(&mut self, log: &[u8], said: &mut String) {
        let (mut digest, mut text) = (&[][..], &[][..]);
        for (field, value) in Fields(log) {
            match (field, value) {
                (1, Value::Bytes(bytes)) => digest = bytes,
                (4, Value::Bytes(bytes)) => text = bytes,
                _ => {}
            }
        }
        let line = &mut self.steps.entry(digest.to_owned()).or_default().line;
        for part in text.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() > LONGEST_LINE {
                end(line, said);
            }
        }
    }
}

fn end(line: &mut Vec<u8>, said: &mut String) {
    if !line.is_empty() {
        said.push_str(&String::from_utf8_lossy(line));
        if !line.ends_with(b"\n") {
            said.push('\n');
        }
        line.clear();
    }
}

/// The fields of a message, up to the first that is invalid.
struct Fields<'m>(&'m [u8]);

enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

impl<'m> Fields<'m> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: u64) -> Option<&'m [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = (u64, Value<'m>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(self.bytes(8)?),
            2 => {
                let length = self.number()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn vertex(digest: &str, name: &str, more: &[u8]) -> Vec<u8> {
        let names = [field(1, digest.as_bytes()), field(3, name.as_bytes())].concat();
        field(1, &[&names, more].concat())
    }

    fn log(digest: &str, text: &str) -> Vec<u8> {
        let text = [field(1, digest.as_bytes()), field(4, text.as_bytes())];
        field(3, &text.concat())
    }

    /// A time at which it began.
    const BEGUN: &[u8] = &[0x2a, 0];

    /// Its result was cached.
    const CACHED: &[u8] = &[0x20, 1];

    #[test]
    fn steps_are_named_once_when_they_begin_and_cached_ones_as_such() {
        let mut trace = Trace::default();
        assert_eq!(trace.read(&vertex("a", "[1/2] FROM x", &[])), "");
        assert_eq!(
            trace.read(&vertex("a", "[1/2] FROM x", BEGUN)),
            "[1/2] FROM x\n"
        );
        assert_eq!(trace.read(&vertex("a", "[1/2] FROM x", BEGUN)), "");
        assert_eq!(
            trace.read(&vertex("b", "[2/2] RUN y", &[BEGUN, CACHED].concat())),
            "CACHED [2/2] RUN y\n"
        );
        assert_eq!(trace.read(&vertex("c", "[internal] load", BEGUN)), "");
    }

    #[test]
    fn lines_of_steps_are_put_together_of_their_pieces() {
        let mut trace = Trace::default();
        let both = [log("a", "on"), log("b", "two\nthr")].concat();
        assert_eq!(trace.read(&both), "two\n");
        assert_eq!(trace.read(&log("a", "e\n")), "one\n");
        assert_eq!(trace.rest(), "thr\n");
        assert_eq!(trace.rest(), "");
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_in_memory() {
        let mut trace = Trace::default();
        let piece = log("a", &"x".repeat(100));
        let said: usize = (0..2000).map(|_| trace.read(&piece).len()).sum();
        assert!(said > 2000 * 100 - 2 * LONGEST_LINE, "{said}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut trace = Trace::default();
            trace.read(&bytes);
            trace.rest();
        }
    }
}
