//! The DAG: a named graph of stages that was checked when it was made.
//!
//! [`Dag::new`] is the only way to one. It reports every fault at once, each with its [`Place`], so
//! that whoever reads files can point at the text. After it, all code relies on what it proved:
//! names are unique, edges lead to known stages, there is no cycle, inputs come from stages that
//! ended before, expressions refer to what exists, and sizes are bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use crate::expression::{Scope, Template};
use crate::name::{DagName, InputName, OutputName, ParamName, StageName, VariableName};
use crate::overlap::Concurrency;
use crate::param::{GivenValue, ParamSpec};
use crate::stage::{Command, ImageSource, Stage, StageIndex};
use crate::trigger::Triggers;

/// The most stages in one DAG.
pub const STAGES_AT_MOST: usize = 2_000;

/// A DAG as declared, before it was checked. `env` and `defaults` are already merged into stages.
#[derive(Debug, Clone, PartialEq)]
pub struct DagDraft {
    /// Its name.
    pub name: DagName,
    /// For people.
    pub description: Option<String>,
    /// What may start a run.
    pub triggers: Triggers,
    /// Declared parameters.
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
    /// An input of a stage.
    Input(StageIndex, InputName),
    /// A rule of a stage's gate.
    Gate(StageIndex, usize),
}

/// One fault of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagFault {
    /// Where it is.
    pub place: Place,
    /// What is wrong, as a sentence without a final stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for DagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A checked DAG.
#[derive(Debug, Clone, PartialEq)]
pub struct Dag {
    draft: DagDraft,
    needs: Vec<Vec<StageIndex>>,
    dependents: Vec<Vec<StageIndex>>,
    order: Vec<StageIndex>,
}

impl Dag {
    /// Checks a draft.
    ///
    /// # Errors
    /// Every fault at once, in the order of the file.
    pub fn new(draft: DagDraft) -> Result<Self, Vec<DagFault>> {
        let mut faults = Vec::new();
        check_size(&draft, &mut faults);
        let index = index_by_name(&draft.stages, &mut faults);
        let needs = resolve_needs(&draft.stages, &index, &mut faults);
        let order = match topological_order(&needs) {
            Ok(order) => order,
            Err(cycle) => {
                faults.push(cycle_fault(&draft.stages, &cycle));
                Vec::new()
            }
        };
        check_references(&draft, &index, &needs, &mut faults);
        check_schedules(&draft, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
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
        })
    }

    /// What was declared.
    #[must_use]
    pub fn declared(&self) -> &DagDraft {
        &self.draft
    }

    /// Its name.
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

    /// The stage at an index of this DAG.
    #[must_use]
    pub fn stage(&self, index: StageIndex) -> &Stage {
        &self.draft.stages[index.0]
    }

    /// The index of a stage by its name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<StageIndex> {
        self.draft
            .stages
            .iter()
            .position(|stage| stage.name.as_str() == name)
            .map(StageIndex)
    }

    /// What a stage needs, directly.
    #[must_use]
    pub fn needs(&self, index: StageIndex) -> &[StageIndex] {
        &self.needs[index.0]
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

fn check_size(draft: &DagDraft, faults: &mut Vec<DagFault>) {
    let count = draft.stages.len();
    if count == 0 || count > STAGES_AT_MOST {
        faults.push(DagFault {
            place: Place::Dag,
            message: if count == 0 {
                "a DAG needs at least one stage".to_owned()
            } else {
                format!("a DAG may have at most {STAGES_AT_MOST} stages, this one has {count}")
            },
            help: None,
        });
    }
}

fn index_by_name(stages: &[Stage], faults: &mut Vec<DagFault>) -> HashMap<StageName, StageIndex> {
    let mut index = HashMap::with_capacity(stages.len());
    for (at, stage) in stages.iter().enumerate() {
        if index.insert(stage.name.clone(), StageIndex(at)).is_some() {
            faults.push(DagFault {
                place: Place::Stage(StageIndex(at)),
                message: format!("there are two stages named `{}`", stage.name),
                help: Some("give one of them another name".to_owned()),
            });
        }
    }
    index
}

fn resolve_needs(
    stages: &[Stage],
    index: &HashMap<StageName, StageIndex>,
    faults: &mut Vec<DagFault>,
) -> Vec<Vec<StageIndex>> {
    let resolve = |(at, stage): (usize, &Stage)| {
        let mut resolved = Vec::with_capacity(stage.needs.len());
        for (item, name) in stage.needs.iter().enumerate() {
            let place = Place::Need(StageIndex(at), item);
            match index.get(name) {
                None => faults.push(DagFault {
                    place,
                    message: format!("there is no stage named `{name}`"),
                    help: nearest(
                        name.as_str(),
                        stages.iter().map(|stage| stage.name.as_str()),
                    )
                    .map(|name| format!("did you mean `{name}`?")),
                }),
                Some(need) if need.0 == at => faults.push(DagFault {
                    place,
                    message: format!("stage `{name}` needs itself"),
                    help: Some("remove it from its own needs".to_owned()),
                }),
                Some(need) if resolved.contains(need) => faults.push(DagFault {
                    place,
                    message: format!("`{name}` is needed twice"),
                    help: Some("remove one of them".to_owned()),
                }),
                Some(need) => resolved.push(*need),
            }
        }
        resolved
    };
    stages.iter().enumerate().map(resolve).collect()
}

/// Kahn's algorithm, lowest index first, so that the order is the file's where `needs` permits.
///
/// # Errors
/// One cycle, each stage needing the next, the last needing the first.
fn topological_order(needs: &[Vec<StageIndex>]) -> Result<Vec<StageIndex>, Vec<StageIndex>> {
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut dependents = vec![Vec::new(); needs.len()];
    for (stage, needed) in needs.iter().enumerate() {
        for need in needed {
            dependents[need.0].push(stage);
        }
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|stage| open[*stage] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(stage) = ready.pop_first() {
        order.push(StageIndex(stage));
        for dependent in &dependents[stage] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    if order.len() == needs.len() {
        return Ok(order);
    }
    // Every stage left over needs another one left over: walk until one comes up again.
    let left_over = |stage: usize| open[stage] > 0;
    let mut path: Vec<usize> = Vec::new();
    let mut at = (0..needs.len())
        .find(|stage| left_over(*stage))
        .unwrap_or(0);
    loop {
        if let Some(start) = path.iter().position(|seen| *seen == at) {
            return Err(path[start..].iter().copied().map(StageIndex).collect());
        }
        path.push(at);
        match needs[at].iter().find(|need| left_over(need.0)) {
            Some(next) => at = next.0,
            None => return Err(path.into_iter().map(StageIndex).collect()),
        }
    }
}

fn cycle_fault(stages: &[Stage], cycle: &[StageIndex]) -> DagFault {
    let mut names: Vec<&str> = cycle
        .iter()
        .map(|index| stages[index.0].name.as_str())
        .collect();
    names.push(names[0]);
    let next = cycle.get(1).unwrap_or(&cycle[0]);
    let first = &stages[cycle[0].0];
    let item = first
        .needs
        .iter()
        .position(|need| *need == stages[next.0].name)
        .unwrap_or(0);
    DagFault {
        place: Place::Need(cycle[0], item),
        message: format!(
            "stages need each other in a circle: {}",
            names.join(" needs ")
        ),
        help: Some("remove one of these needs".to_owned()),
    }
}

fn check_references(
    draft: &DagDraft,
    index: &HashMap<StageName, StageIndex>,
    needs: &[Vec<StageIndex>],
    faults: &mut Vec<DagFault>,
) {
    for (at, stage) in draft.stages.iter().enumerate() {
        let at = StageIndex(at);
        let mut upstream = closure(at, needs);
        upstream.remove(&at);
        let scope = Scope {
            params: draft.params.keys().cloned().collect(),
            stages: upstream
                .iter()
                .map(|index| draft.stages[index.0].name.clone())
                .collect(),
        };
        let mut check =
            |template: &Template, place: Place| {
                faults.extend(template.faults(&scope).into_iter().map(|(message, help)| {
                    DagFault {
                        place: place.clone(),
                        message,
                        help,
                    }
                }));
            };
        for (name, template) in &stage.env {
            check(template, Place::Env(at, name.clone()));
        }
        match &stage.image {
            ImageSource::Reference { image, .. } => check(image, Place::Image(at)),
            ImageSource::Build(build) => {
                for (name, template) in &build.args {
                    check(template, Place::BuildArg(at, name.clone()));
                }
            }
        }
        if let Some(Command::Exec(items)) = &stage.command {
            for (item, template) in items.iter().enumerate() {
                check(template, Place::CommandItem(at, item));
            }
        }
        if let Some(condition) = &stage.condition {
            faults.extend(
                condition
                    .faults(&scope)
                    .into_iter()
                    .map(|(message, help)| DagFault {
                        place: Place::Condition(at),
                        message,
                        help,
                    }),
            );
        }
        check_inputs(draft, at, stage, index, &upstream, faults);
        check_gate(at, stage, faults);
    }
}

fn check_inputs(
    draft: &DagDraft,
    at: StageIndex,
    stage: &Stage,
    index: &HashMap<StageName, StageIndex>,
    upstream: &BTreeSet<StageIndex>,
    faults: &mut Vec<DagFault>,
) {
    for (name, source) in &stage.inputs {
        let place = Place::Input(at, name.clone());
        let Some(from) = index.get(&source.stage) else {
            faults.push(DagFault {
                place,
                message: format!("there is no stage named `{}`", source.stage),
                help: nearest(
                    source.stage.as_str(),
                    draft.stages.iter().map(|stage| stage.name.as_str()),
                )
                .map(|name| format!("did you mean `{name}`?")),
            });
            continue;
        };
        let outputs = &draft.stages[from.0].outputs;
        if !outputs.contains_key(&source.output) {
            let known = outputs.keys().map(OutputName::as_str);
            faults.push(DagFault {
                place,
                message: format!(
                    "stage `{}` has no output named `{}`",
                    source.stage, source.output
                ),
                help: nearest(source.output.as_str(), known)
                    .map(|name| format!("did you mean `{}.{name}`?", source.stage)),
            });
        } else if !upstream.contains(from) {
            faults.push(DagFault {
                place,
                message: format!(
                    "`{}` does not run after `{}`, whose output it takes",
                    stage.name, source.stage
                ),
                help: Some(format!(
                    "add `{}` to the needs of `{}`",
                    source.stage, stage.name
                )),
            });
        }
    }
}

fn check_gate(at: StageIndex, stage: &Stage, faults: &mut Vec<DagFault>) {
    if !stage.gate.is_empty() && stage.metrics.is_none() {
        faults.push(DagFault {
            place: Place::Gate(at, 0),
            message: format!("stage `{}` has a gate but reports no metrics", stage.name),
            help: Some("add `metrics: metrics.json`".to_owned()),
        });
    }
    for (item, rule) in stage.gate.iter().enumerate() {
        let problem = match (rule.min, rule.max) {
            (None, None) => Some("needs `min` or `max`".to_owned()),
            (Some(min), Some(max)) if min > max => {
                Some(format!("can never hold: min {min} is above max {max}"))
            }
            _ => None,
        };
        if let Some(problem) = problem {
            faults.push(DagFault {
                place: Place::Gate(at, item),
                message: format!("the gate on `{}` {problem}", rule.metric),
                help: None,
            });
        }
    }
}

fn check_schedules(draft: &DagDraft, faults: &mut Vec<DagFault>) {
    for (item, schedule) in draft.triggers.schedule.iter().enumerate() {
        let given = schedule
            .params
            .iter()
            .map(|(name, value)| (name.to_string(), GivenValue::Typed(value.clone())))
            .collect();
        if let Err(problems) = crate::param::resolve(&draft.params, &given) {
            faults.extend(problems.into_iter().map(|problem| DagFault {
                place: Place::Schedule(item),
                message: problem.to_string(),
                help: None,
            }));
        }
    }
}

/// The candidate nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1.max(candidate.chars().count().min(written.chars().count()) / 3)
        })
        .min()
        .map(|(_, candidate)| candidate)
}
