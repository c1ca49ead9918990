//! The DAG: a named graph of stages that was checked when it was made.
//!
//! [`Dag::new`] is the only way to make one. It reports every fault at once, each with its
//! [`Place`], so that the reader of a file can point at the text. All other code relies on what
//! it proved: names are unique, edges lead to known stages, there is no cycle, inputs come from
//! stages that ended before, expressions refer to values that exist, and sizes are bounded.

mod bounds;
mod nearest;
mod order;
mod references;
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::name::{DagName, InputName, ParamName, VariableName};
use crate::overlap::Concurrency;
use crate::param::ParamSpec;
use crate::stage::{Stage, StageIndex};
use crate::trigger::Triggers;

pub use self::nearest::{Guesses, nearest};
pub use self::unread::{Names, Unread};

/// The most stages in one DAG.
pub const STAGES_AT_MOST: usize = 2_000;

/// The most attempts that a retry rule may allow, and the most lost ones it may replace.
pub const ATTEMPTS_AT_MOST: u32 = 1_000;

/// The longest timeout and the longest wait between attempts.
pub const LONGEST_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A DAG as declared, before it was checked. `env` and `defaults` are already merged into stages.
#[derive(Debug, Clone, PartialEq)]
pub struct DagDraft {
    pub name: DagName,
    pub description: Option<String>,
    /// The triggers that may start a run.
    pub triggers: Triggers,
    pub params: BTreeMap<ParamName, ParamSpec>,
    /// How many runs may be active and what happens to one too many.
    pub concurrency: Concurrency,
    /// How long a run may take, from its start.
    pub timeout: Option<Duration>,
    /// The stages in the order of the file.
    pub stages: Vec<Stage>,
}

/// Where in a draft a fault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The whole DAG.
    Dag,
    /// A schedule, by its place in the list.
    Schedule(usize),
    /// The push trigger.
    Push,
    /// The expression that makes groups of runs.
    Group,
    /// A whole stage.
    Stage(StageIndex),
    /// An item of a stage's `needs`.
    Need(StageIndex, usize),
    /// A stage's `if`.
    Condition(StageIndex),
    /// A stage's `image`, or an argument of its `build`.
    Image(StageIndex),
    /// A build argument.
    BuildArg(StageIndex, VariableName),
    /// An item of a stage's `command`.
    CommandItem(StageIndex, usize),
    /// An environment variable of a stage.
    Env(StageIndex, VariableName),
    Input(StageIndex, InputName),
    /// A rule of a stage's gate.
    Gate(StageIndex, usize),
}

impl Place {
    #[must_use]
    pub fn stage(&self) -> Option<StageIndex> {
        match self {
            Self::Dag | Self::Schedule(_) | Self::Push | Self::Group => None,
            Self::Stage(stage)
            | Self::Need(stage, _)
            | Self::Condition(stage)
            | Self::Image(stage)
            | Self::BuildArg(stage, _)
            | Self::CommandItem(stage, _)
            | Self::Env(stage, _)
            | Self::Input(stage, _)
            | Self::Gate(stage, _) => Some(*stage),
        }
    }
}

/// One fault of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagFault {
    pub place: Place,
    /// The part at fault of the expression or text there, in bytes of its source; `None` for all of it.
    pub part: Option<Range<usize>>,
    /// The fault, as a sentence without a final stop.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

impl fmt::Display for DagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The most faults that are reported of one draft; a hostile one has millions.
const FAULTS_AT_MOST: usize = 1_000;

/// The faults that were found, and the work that is left for finding more.
#[derive(Debug, Default)]
struct Faults {
    found: Vec<DagFault>,
    guesses: Guesses,
}

impl Faults {
    fn push(&mut self, fault: DagFault) {
        if self.found.len() < FAULTS_AT_MOST {
            self.found.push(fault);
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= FAULTS_AT_MOST
    }
}

impl Extend<DagFault> for Faults {
    fn extend<T: IntoIterator<Item = DagFault>>(&mut self, faults: T) {
        for fault in faults {
            self.push(fault);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dag {
    draft: DagDraft,
    needs: Vec<Vec<StageIndex>>,
    dependents: Vec<Vec<StageIndex>>,
    order: Vec<StageIndex>,
    index: order::IndexByName,
    upstream: references::Upstream,
}

impl Dag {
    /// Checks a draft.
    ///
    /// # Errors
    /// Every fault at once, up to a bound: first those of the whole and of the order of stages, then those within
    /// each stage. Only a DAG with far too many stages is not checked any further.
    pub fn new(draft: DagDraft) -> Result<Self, Vec<DagFault>> {
        Self::checked(draft, &Unread::default(), true)
    }

    /// As [`Dag::new`], for a draft that could be read only in part: a fault that merely follows from a
    /// missing part is not reported.
    ///
    /// # Errors
    /// As [`Dag::new`].
    pub fn read(draft: DagDraft, unread: &Unread) -> Result<Self, Vec<DagFault>> {
        Self::checked(draft, unread, true)
    }

    /// Takes a draft that was checked when it was recorded, maybe by another version. Its expressions are not checked
    /// against its declarations again, since the rules may have become stricter: an expression without a value ends
    /// its own stage as errored, and nothing else.
    ///
    /// # Errors
    /// As [`Dag::new`].
    pub fn stored(draft: DagDraft) -> Result<Self, Vec<DagFault>> {
        Self::checked(draft, &Unread::default(), false)
    }

    fn checked(draft: DagDraft, unread: &Unread, is_new: bool) -> Result<Self, Vec<DagFault>> {
        if let Some(fault) = bounds::check_size(&draft) {
            return Err(vec![fault]);
        }
        let mut faults = Faults::default();
        let index = order::index_by_name(&draft.stages, &mut faults);
        let needs = order::resolve_needs(&draft.stages, &index, unread, &mut faults);
        let order = order::topological_order(&draft.stages, &needs, &mut faults);
        bounds::check_bounds(&draft, unread, &mut faults);
        let upstream = order
            .as_deref()
            .map(|order| references::Upstream::new(&needs, order));
        let graph = references::Graph {
            draft: &draft,
            index: &index,
            needs: &needs,
            upstream: upstream.as_ref(),
            unread,
            is_doubtful: references::doubtful(&draft, &needs, order.as_deref(), unread),
        };
        references::check_references(&graph, &mut faults);
        if is_new {
            references::check_expressions(&graph, &mut faults);
        }
        references::check_schedules(&draft, unread, &mut faults);
        references::check_missing_params(&draft, unread, is_new, &mut faults);
        // Where there is no order, a cycle is among the faults.
        let Some((order, upstream)) = order.zip(upstream).filter(|_| faults.found.is_empty())
        else {
            return Err(faults.found);
        };
        let mut dependents = vec![Vec::new(); needs.len()];
        for (stage, needed) in needs.iter().enumerate() {
            for need in needed {
                dependents[need.0].push(StageIndex(stage));
            }
        }
        Ok(Self {
            draft,
            needs,
            dependents,
            order,
            index,
            upstream,
        })
    }

    #[must_use]
    pub fn declared(&self) -> &DagDraft {
        &self.draft
    }

    #[must_use]
    pub fn name(&self) -> &DagName {
        &self.draft.name
    }

    /// Its stages in the order of the file.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.draft.stages
    }

    /// All stage indices in the order of the file.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = StageIndex> + use<> {
        (0..self.draft.stages.len()).map(StageIndex)
    }

    /// All stage indices, each after everything that it needs.
    #[must_use]
    pub fn topological(&self) -> &[StageIndex] {
        &self.order
    }

    #[must_use]
    pub fn stage(&self, index: StageIndex) -> &Stage {
        &self.draft.stages[index.0]
    }

    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<StageIndex> {
        self.index.get(name).copied()
    }

    /// The stages that a stage needs, directly.
    #[must_use]
    pub fn needs(&self, index: StageIndex) -> &[StageIndex] {
        &self.needs[index.0]
    }

    /// Whether a stage has ended before another one starts, because that one needs it, directly or not.
    #[must_use]
    pub fn comes_before(&self, earlier: StageIndex, later: StageIndex) -> bool {
        self.upstream.contains(later, earlier)
    }

    /// The stages that need this one, directly.
    #[must_use]
    pub fn dependents(&self, index: StageIndex) -> &[StageIndex] {
        &self.dependents[index.0]
    }

    /// A stage and all that come after it, directly or not.
    #[must_use]
    pub fn with_descendants(&self, from: StageIndex) -> BTreeSet<StageIndex> {
        closure(from, &self.dependents)
    }
}

fn closure(from: StageIndex, edges: &[Vec<StageIndex>]) -> BTreeSet<StageIndex> {
    let mut reached = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        open.extend(
            edges[at.0]
                .iter()
                .copied()
                .filter(|next| reached.insert(*next)),
        );
    }
    reached
}
