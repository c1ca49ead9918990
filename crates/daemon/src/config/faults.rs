//! Collects the problems of a configuration, so that all are reported at once.

use std::fmt::Display;

/// Problems with values, one sentence each.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<String>);

impl Faults {
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        self.0.push(sentence.into());
    }

    pub(super) fn require(&mut self, holds: bool, sentence: impl Into<String>) {
        if !holds {
            self.add(sentence);
        }
    }

    pub(super) fn at_least<T: PartialOrd + Display>(&mut self, key: &str, value: T, least: T) {
        self.require(value >= least, format!("{key} must be at least {least}"));
    }

    /// Parses the text of a key. If it is invalid, the default replaces it, so that the rest can be checked.
    pub(super) fn read<T, V: Default>(
        &mut self,
        key: &str,
        given: Option<T>,
        parse: impl FnOnce(T) -> Result<V, String>,
    ) -> V {
        given.map_or_else(V::default, |given| {
            parse(given).unwrap_or_else(|problem| {
                self.add(format!("{key}: {problem}"));
                V::default()
            })
        })
    }
}
