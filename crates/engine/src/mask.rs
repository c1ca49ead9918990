//! Masking: keeps the values of secrets out of logs and messages.
//!
//! A net, not a boundary: a stage that wants to leak a secret can. It catches the value itself and the forms in which
//! tools print it ([`forms`] and [`views`]; docs/security.md lists them). Secrets of several lines are caught line by
//! line, so no pattern holds a line break and a line can be masked by itself.

mod forms;
mod views;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use self::forms::{Forms, Run};

/// What stands in a log in place of a secret.
pub const MASK: &str = "***";

/// Of a run that goes on to the end of a text, so much is held back at least: what follows may go on with it.
const HELD_OF_A_RUN: usize = 64;

/// Replaces the secrets of one attempt. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    patterns: Arc<Patterns>,
}

#[derive(Default)]
struct Patterns {
    /// Nothing is shown: not all secrets are known.
    everything: bool,
    whole: Option<AhoCorasick>,
    /// Pieces of the runs, and of which each is, and where.
    pieces: Option<AhoCorasick>,
    places: Vec<(usize, usize)>,
    runs: Vec<Run>,
    /// All texts in order, for the tail check, and the length of the longest.
    texts: Vec<Vec<u8>>,
    longest: usize,
}

impl Masker {
    /// A masker of these secret values.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let Forms { whole, runs, .. } = Forms::of(secrets);
        let runs: Vec<Run> = runs.into_iter().collect();
        if whole.is_empty() {
            return Self::default();
        }
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut places = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            for (at, piece) in run.pieces() {
                pieces.push(piece);
                places.push((number, at));
            }
        }
        // One that cannot be built would let everything pass.
        let (Ok(whole_automaton), Ok(pieces)) = (
            AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .build(&whole),
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostFirst)
                .build(pieces),
        ) else {
            return Self::of_everything();
        };
        let mut texts: Vec<Vec<u8>> = whole.into_iter().collect();
        texts.extend(runs.iter().map(|run| run.text.clone()));
        texts.sort();
        texts.dedup();
        Self {
            patterns: Arc::new(Patterns {
                everything: false,
                whole: Some(whole_automaton),
                pieces: Some(pieces),
                places,
                runs,
                longest: texts.iter().map(Vec::len).max().unwrap_or_default(),
                texts,
            }),
        }
    }

    /// A masker for secrets that are not known any more: nothing passes it.
    #[must_use]
    pub fn of_everything() -> Self {
        Self {
            patterns: Arc::new(Patterns {
                everything: true,
                ..Patterns::default()
            }),
        }
    }

    /// The bytes with every secret replaced. What holds none is not copied.
    #[must_use]
    pub fn mask<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.patterns.everything && !bytes.is_empty() {
            return Cow::Borrowed(MASK.as_bytes());
        }
        let found = self.patterns.find(bytes);
        if found.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut masked = Vec::new();
        let mut copied = 0;
        for range in found {
            masked.extend_from_slice(&bytes[copied..range.start]);
            masked.extend_from_slice(MASK.as_bytes());
            copied = range.end;
        }
        masked.extend_from_slice(&bytes[copied..]);
        Cow::Owned(masked)
    }

    /// The text with every secret replaced.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// How many bytes at the end may be the beginning of a secret that goes on later.
    #[must_use]
    pub fn open_tail(&self, bytes: &[u8]) -> usize {
        if self.patterns.texts.is_empty() {
            return 0;
        }
        let mut from = self.patterns.open_from(bytes);
        for view in views::of(bytes) {
            let open = self.patterns.open_from(&view.bytes);
            let begins = view.place_of(open, open).0;
            from = from.min(begins).min(view.open_from);
        }
        // A run that is cut here goes on, maybe by too little to be known as one.
        let mut runs = Vec::new();
        self.patterns.find_runs(bytes, &mut runs);
        if let Some(last) = runs.iter().find(|run| run.end == bytes.len()) {
            let held = last.len().min(HELD_OF_A_RUN);
            from = from.min(bytes.len() - held);
        }
        // What would be masked as a whole is not cut in two.
        let mut whole = Vec::new();
        self.patterns.find_whole(bytes, &mut whole);
        let whole = merged(whole);
        if let Some(cut) = whole
            .iter()
            .find(|found| found.start < from && from < found.end)
        {
            from = cut.start;
        }
        // One that repeats itself has no end: then some of it has to go.
        let most = 2 * self.patterns.longest + HELD_OF_A_RUN;
        (bytes.len() - from).min(most)
    }
}

impl Patterns {
    /// Where secrets are, in order, not overlapping.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        self.find_whole(bytes, &mut found);
        self.find_runs(bytes, &mut found);
        merged(found)
    }

    /// Where texts are as a whole, as they are or escaped.
    fn find_whole(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        let Some(whole) = &self.whole else {
            return;
        };
        let mut look = |text: &[u8], place: &dyn Fn(usize, usize) -> (usize, usize)| {
            for hit in whole.find_overlapping_iter(text) {
                let (from, to) = place(hit.start(), hit.end());
                found.push(from..to);
            }
        };
        look(bytes, &|from, to| (from, to));
        for view in views::of(bytes) {
            look(&view.bytes, &|from, to| view.place_of(from, to));
        }
    }

    /// Where runs of texts are: a piece, as far as the text agrees before and after it.
    fn find_runs(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        let Some(pieces) = &self.pieces else {
            return;
        };
        let mut at = 0;
        while let Some(hit) = pieces.find(Input::new(bytes).span(at..bytes.len())) {
            let (number, place) = self.places[hit.pattern().as_usize()];
            let text = &self.runs[number].text;
            let before = agree(
                bytes[..hit.start()].iter().rev(),
                text[..place].iter().rev(),
            );
            let after = agree(bytes[hit.end()..].iter(), text[place + hit.len()..].iter());
            found.push(hit.start() - before..hit.end() + after);
            at = hit.end() + after;
        }
    }

    /// Where the longest end of a text begins that a pattern begins with.
    fn open_from(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (first..bytes.len())
            .find(|from| {
                let tail = &bytes[*from..];
                let next = self.texts.partition_point(|text| text.as_slice() <= tail);
                self.texts
                    .get(next)
                    .is_some_and(|text| text.starts_with(tail))
            })
            .unwrap_or(bytes.len())
    }
}

/// The ranges in order, those that overlap as one.
fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_by_key(|range| (range.start, range.end));
    found.dedup_by(|next, last| {
        let overlaps = next.start < last.end;
        if overlaps {
            last.end = last.end.max(next.end);
        }
        overlaps
    });
    found
}

/// How many bytes are the same, from the beginning on.
fn agree<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    one.zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} patterns)", self.patterns.texts.len())
    }
}

#[cfg(test)]
mod tests;
