//! Numbers and sets that must be valid, however the draft was made.
//!
//! Readers of files check the same with a better position. The rest of the crate relies on these bounds, so
//! this module proves them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::dag::{
    ATTEMPTS_AT_MOST, DagDraft, DagFault, Faults, LONGEST_DURATION, Place, STAGES_AT_MOST, Unread,
};
use crate::measure::in_words;
use crate::param::{ParamKind, ParamSpec};
use crate::retry::Retry;
use crate::stage::{RunOn, Stage, StageIndex};

pub(super) fn check_size(draft: &DagDraft) -> Option<DagFault> {
    let count = draft.stages.len();
    let message = if count == 0 {
        "a DAG needs at least one stage".to_owned()
    } else if count > STAGES_AT_MOST {
        format!("a DAG may have at most {STAGES_AT_MOST} stages, this one has {count}")
    } else {
        return None;
    };
    Some(DagFault {
        part: None,
        place: Place::Dag,
        message,
        help: None,
    })
}

pub(super) fn check_bounds(draft: &DagDraft, unread: &Unread, faults: &mut Faults) {
    let mut fault = |place: &Place, message: String| {
        faults.push(DagFault {
            part: None,
            place: place.clone(),
            message,
            help: None,
        });
    };
    if draft.concurrency.limit == Some(0) {
        fault(
            &Place::Dag,
            "a concurrency limit of 0 lets nothing run".to_owned(),
        );
    }
    if let Some(problem) = draft.timeout.and_then(timeout_problem) {
        fault(&Place::Dag, format!("the timeout {problem}"));
    }
    for (name, spec) in &draft.params {
        if let Some(problem) = param_problem(spec) {
            fault(&Place::Dag, format!("parameter `{name}`: {problem}"));
        }
    }
    for (at, stage) in draft.stages.iter().enumerate() {
        let place = Place::Stage(StageIndex(at));
        let needs_nothing = stage.needs.is_empty() && !unread.needs.contains(&StageIndex(at));
        for problem in stage_problems(stage, needs_nothing) {
            fault(&place, format!("stage `{}`: {problem}", stage.name));
        }
        for (item, rule) in stage.program().gate.iter().enumerate() {
            let bounds = [rule.min, rule.max];
            let problem = if bounds.iter().all(Option::is_none) {
                "needs `min` or `max`".to_owned()
            } else if bounds.into_iter().flatten().any(f64::is_nan) {
                "has a bound that is not a number".to_owned()
            } else if let (Some(min), Some(max)) = (rule.min, rule.max)
                && min > max
            {
                format!("can never hold: min {min} is above max {max}")
            } else {
                continue;
            };
            fault(
                &Place::Gate(StageIndex(at), item),
                format!("the gate on `{}` {problem}", rule.metric),
            );
        }
    }
}

fn stage_problems(stage: &Stage, needs_nothing: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if stage.run_on.is_empty() {
        problems.push("`run_on` is empty, so it never runs".to_owned());
    }
    if needs_nothing && stage.run_on == BTreeSet::from([RunOn::Failed]) {
        problems.push("it runs only after a failure, but needs nothing that could fail".to_owned());
    }
    if let Some(problem) = stage.program().timeout.and_then(timeout_problem) {
        problems.push(format!("its timeout {problem}"));
    }
    problems.extend(retry_problem(&stage.program().retry));
    if let Some(cpus) = stage.program().resources.cpus
        && !(cpus.is_finite() && cpus > 0.0)
    {
        problems.push(format!("`cpus` must be above 0, not {cpus}"));
    }
    for (pool, slots) in &stage.program().pools {
        if *slots == 0 {
            problems.push(format!("it takes 0 slots of pool `{pool}`"));
        }
    }
    problems
}

fn retry_problem(retry: &Retry) -> Option<String> {
    if retry.attempts == 0 || retry.attempts > ATTEMPTS_AT_MOST {
        return Some(format!(
            "`attempts` must be 1 to {ATTEMPTS_AT_MOST}, not {}",
            retry.attempts
        ));
    }
    if retry.lost > ATTEMPTS_AT_MOST {
        return Some(format!(
            "at most {ATTEMPTS_AT_MOST} lost attempts can be replaced, not {}",
            retry.lost
        ));
    }
    if let Some(outcome) = retry
        .on
        .iter()
        .find(|outcome| !Retry::CHOICES.contains(outcome))
    {
        return Some(format!("`{outcome}` is not tried again"));
    }
    if !(retry.factor.is_finite() && retry.factor >= 1.0) {
        return Some(format!("`factor` must be at least 1, not {}", retry.factor));
    }
    (retry.backoff.max(retry.max) > LONGEST_DURATION).then(|| {
        format!(
            "the wait between attempts is longer than {}",
            in_words(LONGEST_DURATION)
        )
    })
}

fn timeout_problem(timeout: Duration) -> Option<String> {
    if timeout.is_zero() {
        Some("is 0, so nothing can run".to_owned())
    } else if timeout > LONGEST_DURATION {
        Some(format!("is longer than {}", in_words(LONGEST_DURATION)))
    } else {
        None
    }
}

fn param_problem(spec: &ParamSpec) -> Option<String> {
    let nothing_between = match &spec.kind {
        ParamKind::Integer {
            minimum: Some(minimum),
            maximum: Some(maximum),
        } => minimum > maximum,
        ParamKind::Number { minimum, maximum } => {
            let undefined = |bound: &Option<f64>| bound.is_some_and(f64::is_nan);
            let crossed = matches!((minimum, maximum), (Some(low), Some(high)) if low > high);
            undefined(minimum) || undefined(maximum) || crossed
        }
        ParamKind::Integer { .. } | ParamKind::String { .. } | ParamKind::Boolean => false,
    };
    if nothing_between {
        return Some("no value is within its bounds".to_owned());
    }
    let problem = spec.kind.check(spec.default.clone()?).err()?;
    Some(format!("its default {problem}"))
}
