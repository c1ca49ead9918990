//! Guesses at the name that was meant by a name that does not exist.

use std::cell::Cell;

/// The longest name that a guess is made for, in characters.
const LONGEST: usize = 128;

/// The work that the guesses for one file may take, in characters compared with each other: some milliseconds.
const WORK_AT_MOST: usize = 2_000_000;

/// Guesses at the name that was meant, with a bound on the work for all of them together: each written name is
/// compared with every known one, and a hostile file has many of both. Once the work is spent, there are no
/// more guesses.
#[derive(Debug)]
pub struct Guesses {
    left: Cell<usize>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            left: Cell::new(WORK_AT_MOST),
        }
    }
}

impl Guesses {
    /// The candidate nearest to what was written, if one is near enough to be meant. Capital letters do not count.
    #[must_use]
    pub fn nearest<'a>(
        &self,
        written: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let length = written.chars().take(LONGEST + 1).count();
        if length > LONGEST {
            return None;
        }
        let written = written.to_ascii_lowercase();
        candidates
            .into_iter()
            .map_while(|candidate| self.spend(1 + candidate.len() / 8).then_some(candidate))
            .filter_map(|candidate| {
                let other = candidate.chars().take(LONGEST + 1).count();
                let tolerated = 1.max(other.min(length) / 3);
                // Cheap, and sorts out most of them: no fewer edits than the lengths differ by.
                if other > LONGEST
                    || other.abs_diff(length) > tolerated
                    || !self.spend((other + 1) * (length + 1))
                {
                    return None;
                }
                let distance = strsim::osa_distance(&written, &candidate.to_ascii_lowercase());
                (distance <= tolerated).then_some((distance, candidate))
            })
            .min()
            .map(|(_, candidate)| candidate)
    }

    /// Whether the work is spent, so that no names need be collected for a guess.
    #[must_use]
    pub fn are_spent(&self) -> bool {
        self.left.get() == 0
    }

    fn spend(&self, work: usize) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(work));
        left >= work
    }
}

/// One guess among a few names.
#[must_use]
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    Guesses::default().nearest(written, candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let names = ["train", "extract", "evaluate"];
        assert_eq!(nearest("trian", names), Some("train"));
        assert_eq!(nearest("evalaute", names), Some("evaluate"));
        assert_eq!(nearest("report", names), None);
        assert_eq!(nearest("x", ["y"]), Some("y"));
        assert_eq!(nearest("x", ["yes"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["x"]), None);
        assert_eq!(nearest("TRIAN", names), Some("train"));
    }

    #[test]
    fn guesses_end_once_their_work_is_spent() {
        let guesses = Guesses::default();
        let names: Vec<String> = (0..2_000)
            .map(|n| format!("a-rather-long-stage-{n}"))
            .collect();
        let names = || names.iter().map(String::as_str);
        let wrong = "a-rather-long-stage-x";
        assert!(guesses.nearest(wrong, names()).is_some());
        let mut made = 0;
        while guesses.nearest(wrong, names()).is_some() {
            made += 1;
            assert!(made < 10_000, "they go on without end");
        }
    }
}
