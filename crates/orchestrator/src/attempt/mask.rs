//! Masking: keeps the values of secrets out of logs and messages.
//!
//! It is a safety net, not a boundary: a stage that wants to leak a secret can. It catches the value itself and the
//! forms in which tools print it ([`forms`] and [`views`]; docs/security.md lists them). Secrets of several lines are
//! caught line by line, so no pattern holds a line break and each line can be masked by itself.
//!
//! Secrets may have many bytes, and their forms many more. An automaton of all forms takes half a second and 150 MB
//! to build. So it has only the beginnings of whole texts, and the pieces of runs are in a hash table.

mod forms;
mod views;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use secrecy::{ExposeSecret, SecretString};

use self::forms::{Forms, Run};

/// Replaces a secret in a log.
pub const MASK: &str = "***";

/// A run that reaches the end of a text is buffered from at least this many bytes on: the next text may continue it.
const HELD_OF_A_RUN: usize = 64;

/// The longest piece of a run; a part of a run that is long enough is sure to contain a piece.
const LONGEST_PIECE: usize = 24;
const SURE_TO_BE_KNOWN: usize = 2 * LONGEST_PIECE;

/// The beginning of a secret at the end of a log is masked from this many bytes on. A shorter one reveals no more
/// than a value that is too short to be a secret, and many an ordinary text ends with the first letters of one.
const UNFINISHED: usize = 4;

/// How many bytes of each whole text are in the automaton.
const HEAD: usize = 64;

/// The first bytes of a piece of a run, by which it is found. No piece is shorter.
const KEY: usize = 8;

/// Secrets of at most this many bytes are prepared on the caller's thread: it takes a few milliseconds.
const SMALL: usize = 8 * 1024;

/// Replaces the secrets of one attempt. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    patterns: Arc<Patterns>,
}

#[derive(Default)]
struct Patterns {
    /// Everything is redacted: not all secrets are known.
    everything: bool,
    /// The beginnings of whole texts, and the texts that begin so.
    heads: Option<AhoCorasick>,
    by_head: Vec<Vec<Vec<u8>>>,
    /// Pieces of runs by their first bytes, each with its run and its place there.
    pieces: HashMap<[u8; KEY], Vec<(usize, usize)>>,
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
        let mut pieces: HashMap<[u8; KEY], Vec<(usize, usize)>> = HashMap::new();
        let mut seen = HashSet::new();
        for (number, run) in runs.iter().enumerate() {
            for (at, piece) in run.pieces() {
                if let Some(key) = piece.first_chunk()
                    && seen.insert(piece)
                {
                    pieces.entry(*key).or_default().push((number, at));
                }
            }
        }
        let mut texts: Vec<Vec<u8>> = whole.iter().cloned().collect();
        texts.extend(runs.iter().map(|run| run.text.clone()));
        let mut by_head: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for text in whole {
            let head = text[..text.len().min(HEAD)].to_vec();
            by_head.entry(head).or_default().push(text);
        }
        let heads = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(by_head.keys());
        // A masker without an automaton would let every secret pass.
        let Ok(heads) = heads else {
            return Self::of_everything();
        };
        texts.sort();
        texts.dedup();
        Self {
            patterns: Arc::new(Patterns {
                everything: false,
                heads: Some(heads),
                by_head: by_head.into_values().collect(),
                pieces,
                runs,
                longest: texts.iter().map(Vec::len).max().unwrap_or_default(),
                texts,
            }),
        }
    }

    /// A masker of these secret values, built off the runtime's threads where that takes long.
    pub async fn of(secrets: Vec<SecretString>) -> Self {
        let size: usize = secrets
            .iter()
            .map(|secret| secret.expose_secret().len())
            .sum();
        let build = move || Self::new(secrets.iter().map(ExposeSecret::expose_secret));
        if size <= SMALL {
            return build();
        }
        let built = tokio::task::spawn_blocking(build).await;
        built.unwrap_or_else(|_| Self::of_everything())
    }

    /// A masker for secrets that are no longer known: it redacts everything.
    #[must_use]
    pub fn of_everything() -> Self {
        Self {
            patterns: Arc::new(Patterns {
                everything: true,
                ..Patterns::default()
            }),
        }
    }

    /// The bytes with every secret replaced. Bytes without one are not copied.
    #[must_use]
    pub fn mask<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.patterns.everything && !bytes.is_empty() {
            return Cow::Borrowed(MASK.as_bytes());
        }
        replaced(bytes, self.patterns.find(bytes))
    }

    /// The last bytes of a log with every secret replaced, also one that they cut off.
    #[must_use]
    pub fn mask_last<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.patterns.everything || self.patterns.texts.is_empty() {
            return self.mask(bytes);
        }
        let mut found = self.patterns.find(bytes);
        let mut unfinished = |text: &[u8], place: &dyn Fn(usize) -> usize| {
            let open = self.patterns.open_from(text);
            if text.len() - open >= UNFINISHED {
                found.push(place(open)..bytes.len());
            }
        };
        unfinished(bytes, &|open| open);
        unfinished(&forms::as_standard(bytes), &|open| open);
        for view in views::of(bytes) {
            unfinished(&view.bytes, &|open| view.place_of(open, open).0);
        }
        replaced(bytes, merged(found))
    }

    /// The text with every secret replaced.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// How many bytes at the end may be the beginning of a secret that continues later.
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
        from = from.min(self.patterns.open_from(&forms::as_standard(bytes)));
        // A run that is cut here continues, perhaps by too little to be recognized.
        let mut runs = Vec::new();
        self.patterns.find_runs(bytes, &mut runs);
        let runs = merged(runs);
        if let Some(last) = runs.iter().find(|run| run.end == bytes.len()) {
            let held = last.len().min(HELD_OF_A_RUN);
            from = from.min(bytes.len() - held);
        }
        // A whole text is not cut in two, nor is a run if one part would be too short to be recognized.
        let mut whole = Vec::new();
        self.patterns.find_whole(bytes, &mut whole);
        let whole = merged(whole);
        loop {
            let is_cut = |found: &&Range<usize>| found.start < from && from < found.end;
            let is_short =
                |run: &&Range<usize>| run.end < bytes.len() || from - run.start < SURE_TO_BE_KNOWN;
            let cut_runs = runs.iter().filter(is_cut).filter(is_short);
            let Some(cut) = whole.iter().filter(is_cut).chain(cut_runs).next() else {
                break;
            };
            from = cut.start;
        }
        // A text that repeats itself has no end: then a part of it has to be released.
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

    /// Where whole texts are, as they are or escaped.
    fn find_whole(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        let Some(heads) = &self.heads else {
            return;
        };
        let mut look = |text: &[u8], place: &dyn Fn(usize, usize) -> (usize, usize)| {
            for hit in heads.find_overlapping_iter(text) {
                let rest = &text[hit.start()..];
                let whole = self.by_head[hit.pattern().as_usize()].iter();
                for whole in whole.filter(|whole| rest.starts_with(whole)) {
                    let (from, to) = place(hit.start(), hit.start() + whole.len());
                    found.push(from..to);
                }
            }
        };
        look(bytes, &|from, to| (from, to));
        for view in views::of(bytes) {
            look(&view.bytes, &|from, to| view.place_of(from, to));
        }
    }

    /// Where runs are: a piece, extended as far as the text agrees before and after it.
    fn find_runs(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        if self.pieces.is_empty() {
            return;
        }
        let bytes = &forms::as_standard(bytes);
        let mut at = 0;
        while let Some(key) = bytes[at..].first_chunk() {
            let pieces = self.pieces.get(key).into_iter().flatten();
            let hit = pieces.copied().find(|(number, place)| {
                let run = &self.runs[*number];
                bytes[at..].starts_with(run.piece_at(*place))
            });
            let Some((number, place)) = hit else {
                at += 1;
                continue;
            };
            let text = &self.runs[number].text;
            let before = agree(bytes[..at].iter().rev(), text[..place].iter().rev());
            let after = agree(bytes[at..].iter(), text[place..].iter());
            found.push(at - before..at + after);
            // Another text may begin inside this one, with a piece that both share.
            at = (at + after).saturating_sub(LONGEST_PIECE).max(at + 1);
        }
    }

    /// Where the longest end of a text begins that is the beginning of a pattern.
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

/// The bytes with [`MASK`] in place of these ranges, which are in order and do not overlap.
fn replaced(bytes: &[u8], ranges: Vec<Range<usize>>) -> Cow<'_, [u8]> {
    if ranges.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut masked = Vec::new();
    let mut copied = 0;
    for range in ranges {
        masked.extend_from_slice(&bytes[copied..range.start]);
        masked.extend_from_slice(MASK.as_bytes());
        copied = range.end;
    }
    masked.extend_from_slice(&bytes[copied..]);
    Cow::Owned(masked)
}

/// The ranges in order, with overlapping ones merged.
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
