//! What is wrong with a configuration: collected, so that all of it is said at once.

/// Sentences about values that do not fit.
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

    /// A key whose text means something. Where that is not valid, the default stands in for it, so that the rest can
    /// be checked.
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
