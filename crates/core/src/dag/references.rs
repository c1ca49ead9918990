//! The references of stages: outputs of stages before them, names within expressions, parameters.

use std::collections::BTreeSet;

use crate::dag::order::{IndexByName, unknown_stage};
use crate::dag::{DagDraft, DagFault, Faults, Place, Unread};
use crate::expression::{ExpressionScope, NameInScope, StageScope, Stages, Template, Work};
use crate::name::{OutputName, ParamName};
use crate::outcome::Outcome;
use crate::stage::{Command, ImageSource, RunOn, Stage, StageIndex};

/// For each stage, the stages that come before it, directly or not: a bit each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Upstream {
    words: usize,
    bits: Vec<u64>,
}

impl Upstream {
    pub(super) fn new(needs: &[Vec<StageIndex>], order: &[StageIndex]) -> Self {
        let words = needs.len().div_ceil(64);
        let mut bits = vec![0_u64; words * needs.len()];
        for stage in order {
            for need in &needs[stage.0] {
                bits[stage.0 * words + need.0 / 64] |= 1 << (need.0 % 64);
                for word in 0..words {
                    bits[stage.0 * words + word] |= bits[need.0 * words + word];
                }
            }
        }
        Self { words, bits }
    }

    pub(super) fn contains(&self, stage: StageIndex, other: StageIndex) -> bool {
        self.bits[stage.0 * self.words + other.0 / 64] & (1 << (other.0 % 64)) != 0
    }
}

/// A draft, with the order of its stages.
pub(super) struct Graph<'a> {
    pub(super) draft: &'a DagDraft,
    pub(super) index: &'a IndexByName,
    pub(super) needs: &'a [Vec<StageIndex>],
    pub(super) upstream: Option<&'a Upstream>,
    pub(super) unread: &'a Unread,
    /// For each stage, whether it or one before it may need more than is known.
    pub(super) is_doubtful: Vec<bool>,
}

/// Which stages may need more than is known, because their needs, or the needs of stages before them, are wrong.
pub(super) fn doubtful(
    draft: &DagDraft,
    needs: &[Vec<StageIndex>],
    order: Option<&[StageIndex]>,
    unread: &Unread,
) -> Vec<bool> {
    let mut is_doubtful: Vec<bool> = needs
        .iter()
        .zip(&draft.stages)
        .enumerate()
        .map(|(at, (known, stage))| {
            known.len() != stage.needs.len() || unread.needs.contains(&StageIndex(at))
        })
        .collect();
    for stage in order.unwrap_or_default() {
        is_doubtful[stage.0] |= needs[stage.0].iter().any(|need| is_doubtful[need.0]);
    }
    is_doubtful
}

impl Graph<'_> {
    /// Where stages need each other in a circle, they have no order, and may refer to anything that exists: the order
    /// shows once the circle is fixed. The same holds where a stage, or one before it, needs something that is wrong.
    fn comes_before(&self, stage: StageIndex, other: StageIndex) -> bool {
        stage != other
            && (self.is_doubtful[stage.0]
                || self
                    .upstream
                    .is_none_or(|upstream| upstream.contains(stage, other)))
    }

    /// How `other` may have ended when it is the turn of `stage`, whose `run_on` says on which ends it runs.
    fn outcomes(&self, stage: StageIndex, other: StageIndex) -> Vec<Outcome> {
        let run_on = &self.draft.stages[stage.0].run_on;
        let needs = &self.needs[stage.0];
        let all = |test: fn(Outcome) -> bool| Outcome::ALL.into_iter().filter(move |o| test(*o));
        // A need that is wrong could be any stage: then nothing is known of the others.
        if self.is_doubtful[stage.0] || !needs.contains(&other) || run_on.contains(&RunOn::Always) {
            return Outcome::ALL.to_vec();
        }
        let (success, failed) = (
            run_on.contains(&RunOn::Success),
            run_on.contains(&RunOn::Failed),
        );
        match (success, failed) {
            (true, false) => vec![Outcome::Succeeded],
            // It runs where one of them failed; with a second one, that may be the other.
            (false, true) if needs.len() == 1 => all(Outcome::is_failure).collect(),
            (true, true) if needs.len() == 1 => all(|o| o != Outcome::Skipped).collect(),
            _ => Outcome::ALL.to_vec(),
        }
    }
}

/// Checks inputs and gates.
pub(super) fn check_references(graph: &Graph<'_>, faults: &mut Faults) {
    for (at, stage) in graph.draft.stages.iter().enumerate() {
        let at = StageIndex(at);
        check_inputs(graph, at, stage, faults);
        if !stage.program().gate.is_empty() && stage.program().metrics.is_none() {
            faults.push(DagFault {
                part: None,
                place: Place::Gate(at, 0),
                message: format!("stage `{}` has a gate but reports no metrics", stage.name),
                help: Some("add `metrics: metrics.json`".to_owned()),
            });
        }
    }
}

/// The stages of a DAG, as the expressions of one of them see them.
struct Seen<'a> {
    graph: &'a Graph<'a>,
    from: StageIndex,
}

impl Stages for Seen<'_> {
    fn known(&self, name: &str) -> NameInScope {
        let Some(other) = self.graph.index.get(name) else {
            return if self.graph.unread.stages.contain(name) {
                NameInScope::Before(StageScope {
                    has_metrics: true,
                    outcomes: Outcome::ALL.to_vec(),
                })
            } else {
                NameInScope::Nowhere
            };
        };
        if *other == self.from {
            return NameInScope::Itself;
        }
        if !self.graph.comes_before(self.from, *other) {
            return NameInScope::NotBefore;
        }
        NameInScope::Before(StageScope {
            has_metrics: self.graph.draft.stages[other.0].program().metrics.is_some(),
            outcomes: self.graph.outcomes(self.from, *other),
        })
    }

    fn before(&self) -> Vec<&str> {
        (0..self.graph.draft.stages.len())
            .map(StageIndex)
            .filter(|other| self.graph.comes_before(self.from, *other))
            .map(|other| self.graph.draft.stages[other.0].name.as_str())
            .collect()
    }
}

/// Checks expressions: what they refer to, their types, and that conditions can hold.
pub(super) fn check_expressions(graph: &Graph<'_>, faults: &mut Faults) {
    let work = Work::default();
    check_group(graph, &work, faults);
    for (at, stage) in graph.draft.stages.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        let at = StageIndex(at);
        let seen = Seen { graph, from: at };
        let mut found = Vec::new();
        {
            let scope = ExpressionScope {
                params: &graph.draft.params,
                unread_params: &graph.unread.params,
                stages: &seen,
                guesses: &faults.guesses,
                work: &work,
            };
            for (place, template) in templates(at, stage) {
                found.extend(
                    template
                        .faults(&scope)
                        .into_iter()
                        .map(|f| (place.clone(), f)),
                );
            }
            if let Some(condition) = &stage.condition {
                let place = Place::Condition(at);
                found.extend(
                    condition
                        .faults(&scope)
                        .into_iter()
                        .map(|f| (place.clone(), f)),
                );
            }
        }
        faults.extend(found.into_iter().map(|(place, fault)| DagFault {
            part: Some(fault.range),
            place,
            message: fault.message,
            help: fault.help,
        }));
    }
}

/// The stages that a run's group may refer to: none, since none has run by then.
struct NoStages;

impl Stages for NoStages {
    fn known(&self, _: &str) -> NameInScope {
        NameInScope::Nowhere
    }

    fn before(&self) -> Vec<&str> {
        Vec::new()
    }
}

fn check_group(graph: &Graph<'_>, work: &Work, faults: &mut Faults) {
    let Some(group) = &graph.draft.concurrency.group else {
        return;
    };
    let scope = ExpressionScope {
        params: &graph.draft.params,
        unread_params: &graph.unread.params,
        stages: &NoStages,
        guesses: &faults.guesses,
        work,
    };
    let found = group.faults(&scope);
    faults.extend(found.into_iter().map(|fault| DagFault {
        part: Some(fault.range),
        place: Place::Group,
        message: fault.message,
        help: fault.help,
    }));
}

/// A stage's templates, each with its place.
fn templates(at: StageIndex, stage: &Stage) -> Vec<(Place, &Template)> {
    let mut templates: Vec<(Place, &Template)> = stage
        .program()
        .env
        .iter()
        .map(|(name, template)| (Place::Env(at, name.clone()), template))
        .collect();
    match &stage.program().image {
        ImageSource::Reference { image, .. } => templates.push((Place::Image(at), image)),
        ImageSource::Build(build) => templates.extend(
            build
                .args
                .iter()
                .map(|(name, template)| (Place::BuildArg(at, name.clone()), template)),
        ),
    }
    if let Some(Command::Exec(items)) = &stage.program().command {
        templates.extend(
            items
                .iter()
                .enumerate()
                .map(|(item, template)| (Place::CommandItem(at, item), template)),
        );
    }
    templates
}

fn check_inputs(graph: &Graph<'_>, at: StageIndex, stage: &Stage, faults: &mut Faults) {
    let draft = graph.draft;
    for (name, source) in &stage.program().inputs {
        let place = Place::Input(at, name.clone());
        let Some(from) = graph.index.get(&source.stage) else {
            if graph.unread.stages.contain(source.stage.as_str()) {
                continue;
            }
            let fault = unknown_stage(place, &source.stage, &draft.stages, faults);
            faults.push(fault);
            continue;
        };
        let outputs = &draft.stages[from.0].program().outputs;
        let is_known = outputs.contains_key(&source.output) || graph.unread.outputs.contains(from);
        if !is_known {
            let known = outputs.keys().map(OutputName::as_str);
            faults.push(DagFault {
                part: None,
                place,
                message: format!(
                    "stage `{}` has no output named `{}`",
                    source.stage, source.output
                ),
                help: faults
                    .guesses
                    .nearest(source.output.as_str(), known)
                    .map(|name| format!("did you mean `{}.{name}`?", source.stage)),
            });
        } else if *from == at {
            faults.push(DagFault {
                part: None,
                place,
                message: format!("stage `{}` takes its own output as an input", stage.name),
                help: Some("take it from a stage that it needs".to_owned()),
            });
        } else if !graph.comes_before(at, *from) {
            faults.push(DagFault {
                part: None,
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

pub(super) fn check_schedules(draft: &DagDraft, unread: &Unread, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (item, schedule) in draft.triggers.schedule.iter().enumerate() {
        // These two identify a tick; a second run for the same tick would never start.
        if !seen.insert((schedule.cron.as_str(), schedule.timezone.name())) {
            faults.push(DagFault {
                part: None,
                place: Place::Schedule(item),
                message: format!(
                    "there are two schedules `{}` in {}",
                    schedule.cron, schedule.timezone
                ),
                help: Some("remove one of them; a tick starts one run".to_owned()),
            });
        }
        for (name, value) in &schedule.params {
            let problem = match draft.params.get(name) {
                Some(spec) => spec.kind.check(value.clone()).err(),
                None if unread.params.contain(name.as_str()) => None,
                None => Some("is not declared".to_owned()),
            };
            faults.extend(problem.map(|problem| DagFault {
                part: None,
                place: Place::Schedule(item),
                message: format!("parameter `{name}` {problem}"),
                help: None,
            }));
        }
    }
}

/// A parameter that no trigger can leave out: one fault for it, however many triggers there are.
pub(super) fn check_missing_params(
    draft: &DagDraft,
    unread: &Unread,
    is_new: bool,
    faults: &mut Faults,
) {
    // A DAG that was recorded before pushes were checked against parameters stays readable.
    let has_push = draft.triggers.push.is_some() && is_new;
    let is_missing = |name: &ParamName| !unread.params.contain(name.as_str());
    let without_default = draft
        .params
        .iter()
        .filter(|(_, spec)| spec.default.is_none());
    for (name, _) in without_default.filter(|(name, _)| is_missing(name)) {
        let schedules = draft.triggers.schedule.iter().enumerate();
        let lacking: Vec<usize> = schedules
            .filter(|(_, schedule)| !schedule.params.contains_key(name))
            .map(|(item, _)| item)
            .collect();
        let (place, by) = match (lacking.as_slice(), has_push) {
            ([], false) => continue,
            ([], true) => (Place::Push, "a push"),
            ([first], false) => (Place::Schedule(*first), "this schedule"),
            ([first, ..], false) => (Place::Schedule(*first), "a schedule"),
            ([first, ..], true) => (Place::Schedule(*first), "a schedule or a push"),
        };
        faults.push(DagFault {
            part: None,
            place,
            message: format!("{by} gives no value to parameter `{name}`, which has no default"),
            help: Some(match lacking.is_empty() {
                true => format!("add a `default` to parameter `{name}`, or start the DAG by hand only"),
                false => format!("add a `default` to parameter `{name}`, or `params: {{{name}: …}}` to the schedule"),
            }),
        });
    }
}
