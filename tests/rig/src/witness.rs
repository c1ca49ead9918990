//! The witness: what stages themselves say of when they ran.
//!
//! A stage says `start` before its work and `end` after it, over the bridge of its Docker engine, and this
//! process appends each saying to a file before it answers. Neither Trainyard nor Docker has a part
//! in it, so it is the truth about what ran twice or not at all. An attempt is called
//! `RUN.STAGE.NUMBER`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use trainyard_tests::place::Place;

/// Hears stages and writes down what they say.
#[derive(Debug)]
pub struct Witness {
    heard: trainyard_tests::witness::Witness,
    journal: PathBuf,
}

/// The reports of one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    pub starts: usize,
    /// How often it ended by itself.
    pub ends: usize,
}

impl Witness {
    /// A witness that containers reach at `host`, with its journal below `place`.
    ///
    /// # Panics
    /// When it cannot listen, or write.
    #[must_use]
    pub fn new(place: &Place, host: Ipv4Addr) -> Self {
        let journal = place.join("witness");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&journal)
            .unwrap();
        Self {
            heard: trainyard_tests::witness::Witness::at(&host.to_string(), Some(file)),
            journal,
        }
    }

    /// A stage's script around `work`: says `start`, does it, says `end`.
    #[must_use]
    pub fn script(&self, work: &str) -> String {
        let attempt = "$TRAINYARD_RUN_ID.$TRAINYARD_STAGE.$TRAINYARD_ATTEMPT";
        let address = self.heard.address();
        format!(
            "wget -q -O- \"{address}/{attempt}/start\" >/dev/null; {work}; wget -q -O- \"{address}/{attempt}/end\" >/dev/null"
        )
    }

    /// Work that lasts until [`Witness::open`] is called with the run it is in: each run, and so each trial,
    /// finds its gate closed.
    #[must_use]
    pub fn gate(&self) -> String {
        format!(
            "wget -q -O- \"{}/gate/$TRAINYARD_RUN_ID\" >/dev/null",
            self.heard.address()
        )
    }

    /// Lets stages of a run that wait at its gate go on, now and later.
    pub fn open(&self, run: i64) {
        self.heard.open(&run.to_string());
    }

    /// The reports of each attempt.
    ///
    /// # Panics
    /// When the journal cannot be read.
    #[must_use]
    pub fn accounts(&self) -> BTreeMap<String, Account> {
        accounts(&std::fs::read_to_string(&self.journal).unwrap())
    }

    /// How many attempts have started.
    #[must_use]
    pub fn started(&self) -> usize {
        self.accounts()
            .values()
            .filter(|account| account.starts > 0)
            .count()
    }

    /// How many attempts have ended by themselves.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.accounts()
            .values()
            .filter(|account| account.ends > 0)
            .count()
    }

    /// Attempts that started more than once.
    #[must_use]
    pub fn duplicates(&self) -> Vec<String> {
        let accounts = self.accounts().into_iter();
        accounts
            .filter(|(_, account)| account.starts > 1 || account.ends > 1)
            .map(|(attempt, _)| attempt)
            .collect()
    }

    /// Of these attempts, those that did not both start and end.
    #[must_use]
    pub fn missing<'a>(&self, expected: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let accounts = self.accounts();
        expected
            .into_iter()
            .filter(|attempt| {
                accounts
                    .get(*attempt)
                    .is_none_or(|account| account.starts == 0 || account.ends == 0)
            })
            .map(ToOwned::to_owned)
            .collect()
    }

    /// Asserts that each of these attempts started once and ended once, and that nothing ran twice.
    ///
    /// # Panics
    /// Otherwise, with the names of those that did not.
    #[track_caller]
    pub fn assert_each_ran_once<'a>(&self, expected: impl IntoIterator<Item = &'a str>) {
        let (duplicates, missing) = (self.duplicates(), self.missing(expected));
        assert!(
            duplicates.is_empty() && missing.is_empty(),
            "ran more than once: {duplicates:?}; did not run to the end: {missing:?}"
        );
    }

    /// The file that it writes.
    #[must_use]
    pub fn journal(&self) -> &Path {
        &self.journal
    }
}

fn accounts(journal: &str) -> BTreeMap<String, Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for line in journal.lines() {
        let Some((attempt, said)) = line.split_once('/') else {
            continue;
        };
        match said {
            "start" => accounts.entry(attempt.to_owned()).or_default().starts += 1,
            "end" => accounts.entry(attempt.to_owned()).or_default().ends += 1,
            // A gate, which is not a report of an attempt.
            _ => {}
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_starts_twice_differs_from_one_that_ran_once() {
        let accounts = accounts("1.a.1/start\n1.b.1/start\ngate/1\n1.a.1/end\n1.b.1/start\n");
        assert_eq!(accounts["1.a.1"], Account { starts: 1, ends: 1 });
        assert_eq!(accounts["1.b.1"], Account { starts: 2, ends: 0 });
        assert_eq!(accounts.len(), 2);
    }
}
