//! Rules: which fault strikes which units, when, and how often.

use std::time::Duration;

use super::wire::{Direction, Meaning, Unit, find};

/// The pattern that recognises a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// These bytes, within one unit.
    Bytes(Vec<u8>),
    /// An HTTP request by method and path; a `*` in the path stands for one part of it. The version
    /// that clients may put before the path does not count.
    Http {
        /// `POST`.
        method: &'static str,
        /// `/containers/*/start`.
        path: &'static str,
    },
    /// A `COMMIT` that is sent to Postgres.
    Commit,
    /// The end of a statement that takes effect by itself, outside of a transaction.
    Autocommit,
}

/// The units that a rule matches. Every part that is set must fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    /// Only this connection, in the order of their coming, from 1.
    pub connection: Option<u64>,
    /// What passes; `None` strikes connections as they come, before any byte.
    pub passing: Option<(Direction, Option<Pattern>)>,
    /// How many matching requests pass before the first strike.
    pub after: u32,
    /// How likely each of the others is struck, 0 to 1.
    pub probability: f64,
}

impl Matcher {
    /// Connections as they come.
    #[must_use]
    pub const fn connections() -> Self {
        Self {
            connection: None,
            passing: None,
            after: 0,
            probability: 1.0,
        }
    }

    /// Everything that goes this way.
    #[must_use]
    pub fn all(direction: Direction) -> Self {
        Self {
            passing: Some((direction, None)),
            ..Self::connections()
        }
    }

    #[must_use]
    pub fn requests(pattern: Pattern) -> Self {
        Self {
            passing: Some((Direction::Request, Some(pattern))),
            ..Self::connections()
        }
    }

    /// Answers that hold these bytes.
    #[must_use]
    pub fn answers_with(bytes: &[u8]) -> Self {
        Self {
            passing: Some((Direction::Answer, Some(Pattern::Bytes(bytes.to_vec())))),
            ..Self::connections()
        }
    }

    #[must_use]
    pub fn http(method: &'static str, path: &'static str) -> Self {
        Self::requests(Pattern::Http { method, path })
    }

    /// Only the connection with this number, from 1.
    #[must_use]
    pub fn on_connection(mut self, number: u64) -> Self {
        self.connection = Some(number);
        self
    }

    /// Lets the first `count` that fit go.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        self.after = count;
        self
    }

    /// Strikes each that fits with this probability.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    pub(super) fn fits(&self, connection: u64, passing: Option<(Direction, &Unit)>) -> bool {
        if self.connection.is_some_and(|wanted| wanted != connection) {
            return false;
        }
        match (&self.passing, passing) {
            (None, None) => true,
            (Some((wanted, pattern)), Some((direction, unit))) => {
                *wanted == direction && pattern.as_ref().is_none_or(|pattern| pattern.fits(unit))
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl Pattern {
    fn fits(&self, unit: &Unit) -> bool {
        match self {
            Self::Bytes(bytes) => find(&unit.bytes, bytes).is_some(),
            Self::Http { method, path } => matches!(
                &unit.meaning,
                Meaning::HttpRequest { method: found, path: at } if found == method && path_fits(path, at)
            ),
            Self::Commit => {
                unit.meaning == Meaning::Message(b'Q')
                    && unit.bytes.get(5..).is_some_and(|text| {
                        text.trim_ascii_end()
                            .strip_suffix(b"\0")
                            .is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"commit"))
                    })
            }
            Self::Autocommit => unit.autocommits,
        }
    }
}

fn path_fits(wanted: &str, found: &str) -> bool {
    let (mut wanted, mut found) = (wanted.split('/'), found.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The action on the units that a rule strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the unit passes, and no later rule applies. It is recorded nevertheless.
    Pass,
    /// It waits, as does what comes after it the same way.
    Delay {
        by: Duration,
        /// And up to so much longer.
        jitter: Duration,
    },
    /// The connection is cut after so many more bytes, both ways together.
    CutAfter(u64),
    /// From here on everything is read and nothing is passed on, either way. No side closes the connection.
    BlackHole,
    /// The connection is reset, and the unit is gone.
    Reset,
    /// The request is passed on and the connection is cut at once: the upstream still works on it when the client
    /// retries.
    HangUp,
    /// The request is carried out; then its answer is dropped and the connection is cut. The
    /// client cannot know.
    DropAnswer,
}

/// A fault and what it strikes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name in records.
    pub name: String,
    pub when: Matcher,
    pub action: Action,
    /// How often at most.
    pub times: u32,
}

impl Rule {
    /// A fault that strikes once.
    #[must_use]
    pub fn once(name: &str, when: Matcher, action: Action) -> Self {
        Self::times(name, when, action, 1)
    }

    /// A fault that strikes as long as the rule is there.
    #[must_use]
    pub fn always(name: &str, when: Matcher, action: Action) -> Self {
        Self::times(name, when, action, u32::MAX)
    }

    /// A fault that strikes up to `times` times.
    #[must_use]
    pub fn times(name: &str, when: Matcher, action: Action, times: u32) -> Self {
        Self {
            name: name.to_owned(),
            when,
            action,
            times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part_of_a_path() {
        assert!(path_fits("/containers/*/start", "/containers/abc/start"));
        assert!(!path_fits(
            "/containers/*/start",
            "/containers/abc/def/start"
        ));
        assert!(!path_fits("/containers/*", "/containers"));
        assert!(path_fits("/containers/create", "/containers/create"));
    }

    #[test]
    fn commits_differ_from_texts_that_mention_them() {
        let unit = |body: &[u8]| {
            let mut bytes = vec![b'Q', 0, 0, 0, 0];
            bytes.extend_from_slice(body);
            Unit {
                bytes,
                meaning: Meaning::Message(b'Q'),
                exchange: 1,
                concludes: false,
                autocommits: false,
            }
        };
        assert!(Pattern::Commit.fits(&unit(b"COMMIT\0")));
        assert!(Pattern::Commit.fits(&unit(b"commit \0")));
        assert!(!Pattern::Commit.fits(&unit(b"select 'COMMIT'\0")));
    }
}
