//! The actions at each point, as the environment says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::point::{Point, Side};
use crate::{PLAN, REACHED};

/// How many times a place is recorded as reached: no test asks for a later time.
const RECORDED: u64 = 9;

/// The action at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The process ends at once, as by a crash.
    Abort,
    /// It waits.
    Sleep(Duration),
    /// The call fails.
    Fail,
    /// The caller panics.
    Panic,
}

/// The actions by place; [`PLAN`] says how they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FailPlan {
    steps: BTreeMap<(Point, Side), Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    action: Action,
    /// The only time at which it happens; `None` for each.
    nth: Option<u64>,
}

/// A plan that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadPlan {
    step: String,
    problem: &'static str,
}

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, problem } = self;
        write!(
            f,
            "{PLAN}: `{step}` {problem}; write POINT.before=ACTION or POINT.after=ACTION, where ACTION is \
             `abort`, `err`, `panic` or `sleep:MILLISECONDS`, with `@N` for the Nth time only, and `;` between two. \
             `trainyard fail-points` lists the points"
        )
    }
}

impl std::error::Error for BadPlan {}

impl FromStr for FailPlan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        let steps = text
            .split(';')
            .map(str::trim)
            .filter(|step| !step.is_empty())
            .map(|step| {
                parse(step).map_err(|problem| BadPlan {
                    step: step.to_owned(),
                    problem,
                })
            });
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
        })
    }
}

fn parse(step: &str) -> Result<((Point, Side), Step), &'static str> {
    let (place, what) = step.split_once('=').ok_or("has no `=`")?;
    let (point, side) = place.rsplit_once('.').ok_or("has no side")?;
    let known = |name: &str| Point::ALL.iter().find(|point| point.name() == name);
    let point = *known(point).ok_or("names no point")?;
    let side = Side::ALL
        .into_iter()
        .find(|known| known.as_str() == side)
        .ok_or("has a side that is neither `before` nor `after`")?;
    let (what, nth) = match what.split_once('@') {
        Some((what, nth)) => (
            what,
            Some(nth.parse().map_err(|_| "has no number after `@`")?),
        ),
        None => (what, None),
    };
    let action = match (what, what.strip_prefix("sleep:")) {
        ("abort", _) => Action::Abort,
        ("err", _) => Action::Fail,
        ("panic", _) => Action::Panic,
        (_, Some(millis)) => Action::Sleep(Duration::from_millis(
            millis.parse().map_err(|_| "has no milliseconds")?,
        )),
        (_, None) => return Err("has an unknown action"),
    };
    Ok(((point, side), Step { action, nth }))
}

/// Reads the plan of this process.
///
/// # Errors
/// The fault of the plan; a process should not start with half of it.
pub(crate) fn check() -> Result<(), BadPlan> {
    PROCESS.plan.as_ref().map(drop).map_err(Clone::clone)
}

struct Process {
    plan: Result<FailPlan, BadPlan>,
    reached: Mutex<BTreeMap<(Point, Side), u64>>,
    record: Option<Mutex<std::fs::File>>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(|| Process {
    plan: std::env::var(PLAN).unwrap_or_default().parse(),
    reached: Mutex::default(),
    record: std::env::var_os(REACHED).and_then(|path| {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        Some(Mutex::new(file.ok()?))
    }),
});

/// Carries out the plan for this place.
pub(crate) async fn reach(point: Point, side: Side) -> io::Result<()> {
    let process = &*PROCESS;
    let times = {
        let mut reached = process
            .reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let times = reached.entry((point, side)).or_default();
        *times += 1;
        *times
    };
    if let (1..=RECORDED, Some(record)) = (times, &process.record) {
        // One write, so that several processes may share the file.
        let line = format!("{point}.{side}@{times}\n");
        let mut file = record.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())?;
    }
    let Ok(plan) = &process.plan else {
        return Ok(());
    };
    let Some(step) = plan.steps.get(&(point, side)) else {
        return Ok(());
    };
    if step.nth.is_some_and(|nth| nth != times) {
        return Ok(());
    }
    match step.action {
        Action::Abort => std::process::abort(),
        Action::Sleep(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Action::Panic => panic!("injected at {point}.{side}"),
        Action::Fail => Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            format!("injected at {point}.{side}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        text.parse::<FailPlan>()
            .expect_err("a bad plan")
            .to_string()
    }

    #[test]
    fn a_plan_is_read() {
        let plan: FailPlan =
            "store.finish.after=abort@3; docker.logs.before=sleep:500;docker.info.after=err;docker.info.before=panic"
                .parse()
                .expect("a plan");
        let steps: Vec<_> = plan.steps.into_iter().collect();
        let step = |action, nth| Step { action, nth };
        assert_eq!(
            steps,
            [
                ((Point::Finish, Side::After), step(Action::Abort, Some(3))),
                ((Point::Info, Side::Before), step(Action::Panic, None)),
                ((Point::Info, Side::After), step(Action::Fail, None)),
                (
                    (Point::Logs, Side::Before),
                    step(Action::Sleep(Duration::from_millis(500)), None)
                ),
            ]
        );
        assert_eq!("".parse::<FailPlan>(), Ok(FailPlan::default()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, named) in [
            ("store.finish.after", "has no `=`"),
            ("store.finnish.after=abort", "names no point"),
            ("store.finish.during=abort", "neither `before` nor `after`"),
            ("store.finish.after=explode", "an unknown action"),
            ("store.finish.after=abort@often", "no number after `@`"),
            ("store.finish.after=sleep:long", "no milliseconds"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(named), "{text}: {problem}");
            assert!(problem.contains(text), "{problem}");
        }
    }
}
