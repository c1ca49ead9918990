//! What the trials of a fault came to, in a file: a heading, and a line for each trial that ended.
//!
//! It is what an interrupted programme goes on from, and what the table is made of.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How files of this kind end.
const EXTENSION: &str = "tsv";

/// What is tried, how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) fault: String,
    pub(crate) target: String,
    pub(crate) planned: u32,
}

impl Heading {
    fn write(&self) -> String {
        format!("# {}\t{}\t{}\n", self.fault, self.target, self.planned)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("# ")?.split('\t');
        Some(Self {
            fault: words.next()?.to_owned(),
            target: words.next()?.to_owned(),
            planned: words.next()?.parse().ok()?,
        })
    }

    /// The fault's name as a file may be called.
    pub(crate) fn slug(&self) -> String {
        let plain = |letter: char| letter.is_ascii_alphanumeric().then_some(letter);
        self.fault
            .chars()
            .map(|letter| plain(letter).unwrap_or('-'))
            .collect()
    }
}

/// A trial that ended, as a line: number, seed, violations, recovery in microseconds or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) seed: u64,
    pub(crate) violations: usize,
    pub(crate) recovery: Option<Duration>,
}

impl Line {
    fn write(&self) -> String {
        let recovery = self
            .recovery
            .map_or_else(|| "-".to_owned(), |time| time.as_micros().to_string());
        format!(
            "{}\t{}\t{}\t{recovery}\n",
            self.number, self.seed, self.violations
        )
    }

    /// Reads a line back; `None` for one that an interruption cut short.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let line = Self {
            number: words.next()?.parse().ok()?,
            seed: words.next()?.parse().ok()?,
            violations: words.next()?.parse().ok()?,
            recovery: match words.next()? {
                "-" => None,
                micros => Some(Duration::from_micros(micros.parse().ok()?)),
            },
        };
        words.next().is_none().then_some(line)
    }
}

/// The file of one fault.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    /// Opens the journal of a fault in a folder, which is made where it is missing. What an
    /// interruption left of a line is removed. Returns what is in it already.
    ///
    /// # Panics
    /// When it cannot be written.
    pub(crate) fn open(folder: &Path, heading: &Heading) -> (Self, Vec<Line>) {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(heading.slug()).with_extension(EXTENSION);
        let lines = read(&path).map_or_else(Vec::new, |(_, lines)| lines);
        let mut text = heading.write();
        text.extend(lines.iter().map(Line::write));
        fs::write(&path, text).unwrap();
        (Self { path }, lines)
    }

    /// Every journal of a folder that can be read.
    pub(crate) fn all(folder: &Path) -> Vec<(Heading, Vec<Line>)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == EXTENSION))
            .filter_map(|path| read(&path))
            .collect()
    }

    /// Adds a trial that ended.
    ///
    /// # Panics
    /// When it cannot be written.
    pub(crate) fn append(&self, line: &Line) {
        let mut file = fs::File::options().append(true).open(&self.path).unwrap();
        file.write_all(line.write().as_bytes()).unwrap();
    }
}

fn read(path: &Path) -> Option<(Heading, Vec<Line>)> {
    let text = fs::read_to_string(path).ok()?;
    // Only what ends with a line's end was written whole.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let heading = Heading::read(lines.next()?)?;
    Some((heading, lines.filter_map(Line::read).collect()))
}
