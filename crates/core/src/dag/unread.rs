//! The parts of a file that its reader could not read. A fault is reported once, where it is: nothing is concluded
//! from the parts that are missing because of it.

use std::collections::BTreeSet;

use crate::stage::StageIndex;

/// The parts of a draft that are missing because their text is wrong.
#[derive(Debug, Clone, Default)]
pub struct Unread {
    /// Stages that need more than the draft says.
    pub needs: BTreeSet<StageIndex>,
    /// Stages that may have more outputs than the draft says.
    pub outputs: BTreeSet<StageIndex>,
    /// Stages that the draft has under another name, or not at all.
    pub stages: Names,
    /// Parameters whose declaration is wrong.
    pub params: Names,
}

/// Names as they are written, valid or not.
#[derive(Debug, Clone)]
pub enum Names {
    /// These and no others.
    These(BTreeSet<String>),
    /// Any: what declares them could not be read as a whole.
    Any,
}

impl Default for Names {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Names {
    /// Whether a name is among them.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.contains(name),
            Self::Any => true,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::These(names) if names.is_empty())
    }

    pub fn add(&mut self, name: &str) {
        if let Self::These(names) = self {
            names.insert(name.to_owned());
        }
    }
}
