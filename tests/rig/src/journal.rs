//! The results of a fault's trials, in a file: a heading, and a line for each trial that ended.
//!
//! An interrupted programme continues from it, and the table is made of it. It belongs to one build: the trials of
//! another build start over, and the results of the former are moved aside.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How files of this kind end.
const EXTENSION: &str = "tsv";

/// The fault, and the number of trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) fault: String,
    pub(crate) target: String,
    pub(crate) planned: u32,
    /// `None` in journals from before it was noted.
    pub(crate) origin: Option<Origin>,
}

/// The build of the trials: a journal continues as long as the build is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Version and hash of what is tried.
    pub(crate) build: String,
    /// Each trial's own comes from it.
    pub(crate) seed: u64,
}

impl Heading {
    fn write(&self) -> String {
        let origin = self.origin.as_ref().map_or_else(String::new, |origin| {
            format!("\t{}\t{}", origin.build, origin.seed)
        });
        format!(
            "# {}\t{}\t{}{origin}\n",
            self.fault, self.target, self.planned
        )
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("# ")?.split('\t');
        Some(Self {
            fault: words.next()?.to_owned(),
            target: words.next()?.to_owned(),
            planned: words.next()?.parse().ok()?,
            origin: words
                .next()
                .zip(words.next().and_then(|seed| seed.parse().ok()))
                .map(|(build, seed)| Origin {
                    build: build.to_owned(),
                    seed,
                }),
        })
    }

    pub(crate) fn build(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| origin.build.as_str())
    }

    /// The journal in a folder.
    fn path(&self, folder: &Path) -> PathBuf {
        path_of(folder, &self.fault)
    }

    /// Where a red trial leaves what it left.
    pub(crate) fn evidence(&self, folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("{}-{number}", slug(&self.fault)))
    }
}

/// The fault's name as a file may be called.
fn slug(fault: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric().then_some(letter);
    fault
        .chars()
        .map(|letter| plain(letter).unwrap_or('-'))
        .collect()
}

fn path_of(folder: &Path, fault: &str) -> PathBuf {
    folder.join(slug(fault)).with_extension(EXTENSION)
}

/// The build that the journal of a fault in a folder names, if there is one.
pub(crate) fn origin_of(folder: &Path, fault: &str) -> Option<Origin> {
    let (heading, _) = read(&path_of(folder, fault))?;
    heading.origin
}

/// The first seed, if anything but the time of day says it. What goes on keeps the seed that it began with,
/// or its trials would be of two; a trial that is tried alone is usually one of a build before.
pub(crate) fn first_seed(
    asked: Option<u64>,
    kept: Option<&Origin>,
    build: &str,
    is_only: bool,
) -> Option<u64> {
    let kept = |fits: bool| {
        kept.filter(|kept| fits || kept.build == build)
            .map(|kept| kept.seed)
    };
    if is_only {
        asked.or_else(|| kept(true))
    } else {
        kept(false).or(asked)
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

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// Its present contents.
    pub(crate) lines: Vec<Line>,
    /// Where another build's journal went that was there before.
    pub(crate) former: Option<PathBuf>,
}

impl Journal {
    /// Opens the journal of a fault in a folder, which is made where it is missing. What an
    /// interruption left of a line is removed. Another build's is moved aside, with what its red trials left.
    ///
    /// # Panics
    /// When it cannot be written.
    pub(crate) fn open(folder: &Path, heading: &Heading) -> Opened {
        fs::create_dir_all(folder).unwrap();
        let path = heading.path(folder);
        let (lines, former) = match read(&path) {
            Some((known, lines)) if known.build() == heading.build() => (lines, None),
            Some((_, lines)) => (Vec::new(), Some(move_aside(folder, heading, &lines))),
            None => (Vec::new(), None),
        };
        let mut text = heading.write();
        text.extend(lines.iter().map(Line::write));
        // Whole or not at all: an interruption here would cost all that there is.
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &path).unwrap();
        Opened {
            journal: Self { path },
            lines,
            former,
        }
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

/// Makes room for the trials of `heading`. Returns where the journal went that was there.
fn move_aside(folder: &Path, heading: &Heading, lines: &[Line]) -> PathBuf {
    let build = heading.build().unwrap_or("none");
    for line in lines.iter().filter(|line| line.violations > 0) {
        let evidence = heading.evidence(folder, line.number);
        if evidence.exists() {
            fs::rename(&evidence, place_aside(&evidence, build)).unwrap();
        }
    }
    let path = heading.path(folder);
    let aside = place_aside(&path, build);
    fs::rename(&path, &aside).unwrap();
    aside
}

/// A free name next to `path`: builds may alternate.
fn place_aside(path: &Path, build: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-{build}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let aside = PathBuf::from(name);
        if !aside.exists() {
            return aside;
        }
        number += 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    fn heading(build: &str) -> Heading {
        Heading {
            fault: "F0 nothing".to_owned(),
            target: "none".to_owned(),
            planned: 3,
            origin: Some(Origin {
                build: build.to_owned(),
                seed: 5,
            }),
        }
    }

    fn line(number: u32, violations: usize) -> Line {
        Line {
            number,
            seed: 9,
            violations,
            recovery: None,
        }
    }

    #[test]
    fn the_same_build_goes_on() {
        let place = Place::new();
        Journal::open(place.path(), &heading("1+a"))
            .journal
            .append(&line(1, 0));
        let opened = Journal::open(place.path(), &heading("1+a"));
        assert_eq!(opened.lines, [line(1, 0)]);
        assert_eq!(opened.former, None);
        let origin = origin_of(place.path(), "F0 nothing");
        assert_eq!(origin, heading("1+a").origin);
        assert_eq!(origin_of(place.path(), "F0 another"), None);
    }

    #[test]
    fn another_build_starts_over_and_keeps_the_former_files() {
        let place = Place::new();
        let opened = Journal::open(place.path(), &heading("1+a"));
        opened.journal.append(&line(2, 1));
        place.write("F0-nothing-2/verdict", "seen");
        let opened = Journal::open(place.path(), &heading("1+b"));
        assert_eq!(opened.lines, []);
        let former = opened.former.unwrap();
        assert_eq!(former, place.join("F0-nothing.tsv.before-1+b"));
        let (known, lines) = read(&former).unwrap();
        assert_eq!(known, heading("1+a"));
        assert_eq!(lines, [line(2, 1)]);
        assert!(place.join("F0-nothing-2.before-1+b/verdict").exists());
        // And back, and forth again.
        Journal::open(place.path(), &heading("1+a"));
        let opened = Journal::open(place.path(), &heading("1+b"));
        let former = opened.former.unwrap();
        assert_eq!(former, place.join("F0-nothing.tsv.before-1+b-2"));
        assert_eq!(Journal::all(place.path()).len(), 1, "the one that holds");
    }

    #[test]
    fn a_journal_that_names_no_build_is_another_builds() {
        let place = Place::new();
        place.write("F0-nothing.tsv", "# F0 nothing\tnone\t3\n1\t9\t0\t-\n");
        let (known, _) = read(&place.join("F0-nothing.tsv")).unwrap();
        assert_eq!(known.origin, None);
        let opened = Journal::open(place.path(), &heading("1+a"));
        assert_eq!(opened.lines, []);
        assert!(opened.former.is_some());
    }

    #[test]
    fn a_continued_programme_keeps_its_first_seed() {
        let kept = Origin {
            build: "1+a".to_owned(),
            seed: 7,
        };
        let first = |asked, build, only| first_seed(asked, Some(&kept), build, only);
        assert_eq!(first(Some(3), "1+a", false), Some(7));
        assert_eq!(first(Some(3), "1+b", false), Some(3), "it starts over");
        assert_eq!(first(None, "1+b", false), None);
        assert_eq!(first(Some(3), "1+a", true), Some(3));
        assert_eq!(first(None, "1+b", true), Some(7));
        assert_eq!(first_seed(Some(3), None, "1+a", false), Some(3));
    }
}
