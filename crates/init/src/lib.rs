//! The first process of each container, and the record that it writes.
//!
//! It exists for two reasons:
//!
//! 1. Docker may start a container again, which runs its program again and looks like new. A file that is gone after
//!    the first start makes the second one harmless.
//! 2. Some Docker engines record exit code 0 for a container that a power cut ended. The program writes a record of
//!    the end where the stage's program ran; an end without this record is not believed.
//!
//! A [`Nonce`] keeps the stage's program from forging either. The program also forwards signals and reaps orphans.
//!
//! It sets no limits, mounts nothing, and changes no user: Docker does that. It is freestanding (`program/`): it
//! needs nothing from the image, not even a C library.

mod format;

use std::fmt;
use std::ops::Range;

/// The program, a static Linux executable; empty where this build has none for its architecture.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// The architecture that it runs on, as `uname -m` has it.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

pub use self::format::{OPEN, REFUSED};

use self::format::{
    BEGUN, CARRIAGE_RETURN, ENDED, HALF, LINE, MARK, NEVER, NO_INTERPRETER, PREFIX, UNRUN,
};

/// The beginning of lines of daemons before the nonce. Their containers still exist after an upgrade.
const OLDER_PREFIX: &[u8] = b"trainyard-init 1 ";

/// The secret of one container that its program cannot know: see `program/main.rs`.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce from random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads what [`Self::as_str`] gave.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (hex && text.len() == 2 * HALF).then(|| Self(text.to_owned()))
    }

    /// The whole nonce, as the init takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The content of the start file, without which the init runs nothing.
    #[must_use]
    pub fn start_half(&self) -> &str {
        &self.0[..HALF]
    }

    fn end_half(&self) -> &str {
        &self.0[HALF..]
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// The init's record of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It was run; nothing proves that it ended.
    Begun,
    Ended(End),
    /// It was never run: the latch could not be made, because of this error of the kernel.
    Never {
        /// The number of the error.
        errno: i32,
    },
    /// The kernel did not execute it.
    Unrun(Unfit),
}

/// Why the kernel did not execute a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such file.
    Missing,
    /// The file exists; its interpreter or loader does not.
    WithoutInterpreter,
    /// It is a script with Windows line ends.
    CarriageReturn,
    /// It is not executable.
    Permission,
    /// It is not a program, or one for another machine.
    Format,
    /// Its arguments and variables are too long.
    TooLong,
    /// For another error of the kernel.
    Other(i32),
}

impl Unfit {
    fn of(errno: i32) -> Self {
        match errno {
            2 => Self::Missing,
            NO_INTERPRETER => Self::WithoutInterpreter,
            CARRIAGE_RETURN => Self::CarriageReturn,
            13 => Self::Permission,
            8 => Self::Format,
            7 => Self::TooLong,
            other => Self::Other(other),
        }
    }
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
    /// Reads a record; `None` where it is not one, or lacks the nonce of
    /// its container. Containers of older daemons have no nonce.
    #[must_use]
    pub fn parse(line: &[u8], nonce: Option<&Nonce>) -> Option<Self> {
        let prefix = nonce.map_or(OLDER_PREFIX, |_| PREFIX);
        let text = std::str::from_utf8(line.strip_prefix(prefix)?).ok()?;
        let mut words = text.split_ascii_whitespace();
        let word = words.next()?.as_bytes();
        let mut value = |name: &str| -> Option<&str> {
            let (found, value) = words.next()?.split_once('=')?;
            (found == name).then_some(value)
        };
        let mut number = |name: &str| -> Option<i32> { value(name)?.parse().ok() };
        let code = number("code")?;
        let _signal = number("signal")?;
        let asked = number("asked")? != 0;
        let out_of_memory = number("oom")? != 0;
        let errno = number("errno")?;
        // Compared with `==`: a program cannot measure how long that takes.
        let has_nonce = match nonce {
            Some(nonce) => value("nonce")? == nonce.end_half(),
            None => true,
        };
        match word {
            // This word proves nothing that is worth forging.
            word if word == BEGUN => Some(Self::Begun),
            _ if !has_nonce || words.next().is_some() => None,
            word if word == ENDED => Some(Self::Ended(End {
                code,
                asked,
                out_of_memory,
            })),
            word if word == NEVER => Some(Self::Never { errno }),
            word if word == UNRUN => Some(Self::Unrun(Unfit::of(errno))),
            _ => None,
        }
    }

    /// Whether [`Self::find`] is worth a try: any program can print a text that looks like a record.
    #[must_use]
    pub fn may_be_in(piece: &[u8]) -> bool {
        candidates(piece).next().is_some()
    }

    /// Whether a record may begin at the end of a piece: Docker cuts logs into pieces of its own length.
    #[must_use]
    pub fn may_begin_in(piece: &[u8]) -> bool {
        let last = piece.iter().rposition(|byte| *byte == MARK);
        last.is_some_and(|start| {
            let begun = &piece[start + 1..];
            let compared = begun.len().min(PREFIX.len());
            begun.len() < LINE
                && !begun.contains(&b'\n')
                && [PREFIX, OLDER_PREFIX]
                    .iter()
                    .any(|prefix| prefix[..compared] == begun[..compared])
        })
    }

    /// Finds a marked record in a piece of a log: its place, including its mark and newline, and the record. Text
    /// that the program printed without a newline may stand in front of it.
    #[must_use]
    pub fn find(piece: &[u8], nonce: Option<&Nonce>) -> Option<(Range<usize>, Self)> {
        candidates(piece).find_map(|place| {
            let record = Self::parse(&piece[place.start + 1..place.end], nonce)?;
            Some((place, record))
        })
    }
}

/// Where in a piece of a log a record may be, the last one first.
fn candidates(piece: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let marks = piece.iter().enumerate().rev();
    let marks = marks.filter(|(_, byte)| **byte == MARK);
    marks.filter_map(|(start, _)| {
        let line = piece.get(start + 1..piece.len().min(start + 1 + LINE))?;
        let known = line.starts_with(PREFIX) || line.starts_with(OLDER_PREFIX);
        let end = line.iter().position(|byte| *byte == b'\n')?;
        known.then_some(start..start + 1 + end + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

    fn nonce() -> Nonce {
        Nonce::parse(NONCE).unwrap()
    }

    fn line(text: &str) -> Vec<u8> {
        format!("{text:<111}\n").into_bytes()
    }

    fn signed(text: &str) -> Vec<u8> {
        line(&format!("{text} nonce={}", &NONCE[HALF..]))
    }

    #[test]
    fn a_record_is_read_with_all_that_it_says() {
        let ended = signed("trainyard-init 2 ended code=137 signal=09 asked=1 oom=1 errno=000");
        let expected = Record::Ended(End {
            code: 137,
            asked: true,
            out_of_memory: true,
        });
        assert_eq!(Record::parse(&ended, Some(&nonce())), Some(expected));
        let never = signed("trainyard-init 2 never code=000 signal=00 asked=0 oom=0 errno=028");
        let expected = Record::Never { errno: 28 };
        assert_eq!(Record::parse(&never, Some(&nonce())), Some(expected));
    }

    #[test]
    fn half_a_record_or_another_version_is_none() {
        let ended = signed("trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000");
        assert_eq!(Record::parse(&ended[..40], Some(&nonce())), None);
        assert_eq!(Record::parse(&ended[..90], Some(&nonce())), None);
        let newer = signed("trainyard-init 3 ended code=000 signal=00 asked=0 oom=0 errno=000");
        assert_eq!(Record::parse(&newer, Some(&nonce())), None);
        assert_eq!(Record::parse(b"", Some(&nonce())), None);
    }

    #[test]
    fn a_record_without_the_nonce_of_its_container_proves_nothing() {
        let text = "trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000";
        let other = Nonce::new([7; HALF]);
        for forged in [
            line(text),
            line(&text.replace(" 2 ", " 1 ")),
            line(&format!("{text} nonce=")),
            line(&format!("{text} nonce={}", "0".repeat(HALF))),
            line(&format!("{text} nonce={}", &NONCE[..HALF])),
            line(&format!("{text} nonce={}", other.end_half())),
        ] {
            let said = String::from_utf8_lossy(&forged).into_owned();
            assert_eq!(Record::parse(&forged, Some(&nonce())), None, "{said}");
            let printed = [&[MARK], &forged[..]].concat();
            assert_eq!(Record::find(&printed, Some(&nonce())), None, "{said}");
        }
        // Nor does the nonce of another container help.
        assert_eq!(Record::parse(&signed(text), Some(&other)), None);
    }

    #[test]
    fn what_an_older_daemon_s_container_says_is_still_read() {
        let text = "trainyard-init 1 ended code=003 signal=00 asked=0 oom=0 errno=000";
        let older = format!("{text:<79}\n").into_bytes();
        let printed = [&[MARK], &older[..]].concat();
        let (place, record) = Record::find(&printed, None).unwrap();
        assert_eq!(place, 0..printed.len());
        assert!(matches!(record, Record::Ended(End { code: 3, .. })));
    }

    #[test]
    fn a_record_is_found_behind_what_was_printed_without_a_newline() {
        let mut piece = b"50 % \x1e done".to_vec();
        let length = piece.len();
        piece.push(MARK);
        piece.extend(signed(
            "trainyard-init 2 ended code=003 signal=00 asked=0 oom=0 errno=000",
        ));
        let (place, record) = Record::find(&piece, Some(&nonce())).unwrap();
        assert_eq!(place, length..piece.len());
        assert!(matches!(record, Record::Ended(End { code: 3, .. })));
        piece.pop();
        assert_eq!(Record::find(&piece, Some(&nonce())), None);
    }

    #[test]
    fn a_record_that_is_cut_in_two_is_known_by_its_beginning() {
        let text = "trainyard-init 2 ended code=003 signal=00 asked=0 oom=0 errno=000";
        let whole = [b"half a line ", &[MARK][..], &signed(text)].concat();
        for cut in 13..whole.len() {
            assert!(Record::may_begin_in(&whole[..cut]), "cut at {cut}");
        }
        assert!(!Record::may_begin_in(&whole));
        assert!(!Record::may_begin_in(b"half a line "));
        assert!(!Record::may_begin_in(b"50 % \x1e done"));
    }

    #[test]
    fn debug_output_does_not_show_a_nonce() {
        assert_eq!(format!("{:?}", nonce()), "Nonce(..)");
        assert_eq!(Nonce::parse("short"), None);
        assert_eq!(Nonce::parse(&"x".repeat(2 * HALF)), None);
        assert_eq!(Nonce::parse(NONCE).unwrap().as_str(), NONCE);
    }
}
