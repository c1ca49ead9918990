//! The witness: programs themselves report when they began and ended. It decides what ran twice or not at all,
//! whatever the records say.

use std::collections::BTreeMap;

use trainyard_core::id::{AttemptId, Fence};

/// The reports of programs, by attempt.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    programs: BTreeMap<AttemptId, Program>,
}

/// The reports of one attempt's program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub(crate) starts: u32,
    pub(crate) running: bool,
    /// Whether the claim that started it held the attempt, and still waited for the answer. A start of a claim that
    /// was lost meanwhile may overlap with the decisions of the next one.
    pub(crate) proper: bool,
    /// Its own exit code; none where something killed it from outside.
    pub(crate) exit: Option<i32>,
    /// Whether it exited because it was asked to, and by which claim.
    pub(crate) stopped_by: Option<Fence>,
    pub(crate) printed: Vec<u8>,
    /// The fence of the claim that holds the attempt; none before the first claim.
    pub(crate) fence: Option<Fence>,
    /// Whether the attempt's end is recorded.
    pub(crate) ended: bool,
}

impl Witness {
    pub(crate) fn of(&mut self, attempt: AttemptId) -> &mut Program {
        self.programs.entry(attempt).or_default()
    }

    pub(crate) fn get(&self, attempt: AttemptId) -> Option<&Program> {
        self.programs.get(&attempt)
    }

    pub(crate) fn starts(&self) -> u64 {
        let starts = |program: &Program| u64::from(program.starts);
        self.programs.values().map(starts).sum()
    }
}
