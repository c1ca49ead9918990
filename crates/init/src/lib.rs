//! The first process of each container, and what it says.
//!
//! An engine keeps two promises badly: a container that is started again runs its program again and
//! looks like new, and an exit code of 0 is what some engines record of a container that a power cut
//! ended. The program that this crate carries stands between engine and stage: a latch in the
//! container's own layer makes the second start harmless, and a record of the end, without which none
//! is believed, is written where the program ran. It forwards signals and reaps orphans, too.
//!
//! What it does not do: it holds no limits, mounts nothing, changes no user. Those are the engine's.
//! The program is freestanding (`program/`): an image needs nothing for it, not even a C library.

mod format;

use std::ops::Range;

/// The program, a static Linux executable; empty where this build has none for its architecture.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// What it runs on, as `uname -m` has it.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

pub use self::format::REFUSED;

use self::format::{BEGUN, ENDED, LINE, MARK, NEVER, PREFIX};

/// What the init wrote of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It was run; nothing says that it ended.
    Begun,
    /// It ended.
    Ended(End),
    /// It was never run: the latch could not be made, for this error of the kernel.
    Never {
        /// The number of the error.
        errno: i32,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code; 128 + n after signal n.
    pub code: i32,
    /// Whether it was sent SIGTERM, SIGINT or SIGQUIT before.
    pub asked: bool,
    /// Whether the kernel killed a process of the container for its use of memory.
    pub out_of_memory: bool,
}

impl Record {
    /// Reads a record; `None` where it is none.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_prefix(PREFIX)?).ok()?;
        let mut words = text.split_ascii_whitespace();
        let word = words.next()?.as_bytes();
        let mut number = |name: &str| -> Option<i32> {
            let (found, value) = words.next()?.split_once('=')?;
            (found == name).then(|| value.parse().ok()).flatten()
        };
        let code = number("code")?;
        let _signal = number("signal")?;
        let asked = number("asked")? != 0;
        let out_of_memory = number("oom")? != 0;
        let errno = number("errno")?;
        match word {
            word if word == BEGUN => Some(Self::Begun),
            word if word == ENDED => Some(Self::Ended(End {
                code,
                asked,
                out_of_memory,
            })),
            word if word == NEVER => Some(Self::Never { errno }),
            _ => None,
        }
    }

    /// Finds a marked record in a piece of a log: where it is, its mark and newline included, and
    /// what it says. What the program printed without a newline may stand in front of it.
    #[must_use]
    pub fn find(piece: &[u8]) -> Option<(Range<usize>, Self)> {
        let starts = piece.iter().enumerate().rev();
        starts
            .filter(|(_, byte)| **byte == MARK)
            .find_map(|(start, _)| {
                let line = piece.get(start + 1..=start + LINE)?;
                (line.last() == Some(&b'\n')).then_some(())?;
                Some((start..start + 1 + LINE, Self::parse(line)?))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<u8> {
        format!("{text:<79}\n").into_bytes()
    }

    #[test]
    fn a_record_is_read_with_all_that_it_says() {
        let ended = line("trainyard-init 1 ended code=137 signal=09 asked=1 oom=1 errno=000");
        let expected = Record::Ended(End {
            code: 137,
            asked: true,
            out_of_memory: true,
        });
        assert_eq!(Record::parse(&ended), Some(expected));
        let never = line("trainyard-init 1 never code=000 signal=00 asked=0 oom=0 errno=028");
        assert_eq!(Record::parse(&never), Some(Record::Never { errno: 28 }));
    }

    #[test]
    fn half_a_record_or_another_version_is_none() {
        let ended = line("trainyard-init 1 ended code=000 signal=00 asked=0 oom=0 errno=000");
        assert_eq!(Record::parse(&ended[..40]), None);
        let newer = line("trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000");
        assert_eq!(Record::parse(&newer), None);
        assert_eq!(Record::parse(b""), None);
    }

    #[test]
    fn a_record_is_found_behind_what_was_printed_without_a_newline() {
        let mut piece = b"50 % \x1e done".to_vec();
        let length = piece.len();
        piece.push(MARK);
        piece.extend(line(
            "trainyard-init 1 ended code=003 signal=00 asked=0 oom=0 errno=000",
        ));
        let (place, record) = Record::find(&piece).unwrap();
        assert_eq!(place, length..piece.len());
        assert!(matches!(record, Record::Ended(End { code: 3, .. })));
        piece.pop();
        assert_eq!(Record::find(&piece), None);
    }
}
