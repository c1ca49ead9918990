//! The order of stages: names resolved to places, and cycles found.

use std::collections::{BTreeSet, HashMap};

use crate::dag::{DagFault, Faults, Place, Unread};
use crate::name::StageName;
use crate::stage::{Stage, StageIndex};

/// The most cycles that are reported at once.
const CYCLES_AT_MOST: usize = 10;

/// The most stages of a cycle that its message names.
const NAMED_AT_MOST: usize = 12;

pub(super) type IndexByName = HashMap<StageName, StageIndex>;

pub(super) fn index_by_name(stages: &[Stage], faults: &mut Faults) -> IndexByName {
    let mut index = HashMap::with_capacity(stages.len());
    for (at, stage) in stages.iter().enumerate() {
        if index.contains_key(&stage.name) {
            faults.push(DagFault {
                part: None,
                place: Place::Stage(StageIndex(at)),
                message: format!("there are two stages named `{}`", stage.name),
                help: Some("give one of them another name".to_owned()),
            });
        } else {
            index.insert(stage.name.clone(), StageIndex(at));
        }
    }
    index
}

/// The fault of a name that no stage has.
pub(super) fn unknown_stage(
    place: Place,
    name: &StageName,
    stages: &[Stage],
    faults: &Faults,
) -> DagFault {
    let names = stages.iter().map(|stage| stage.name.as_str());
    let meant = faults.guesses.nearest(name.as_str(), names);
    DagFault {
        part: None,
        place,
        message: format!("there is no stage named `{name}`"),
        help: meant.map(|name| format!("did you mean `{name}`?")),
    }
}

pub(super) fn resolve_needs(
    stages: &[Stage],
    index: &IndexByName,
    unread: &Unread,
    faults: &mut Faults,
) -> Vec<Vec<StageIndex>> {
    let resolve = |(at, stage): (usize, &Stage)| {
        let mut resolved = Vec::with_capacity(stage.needs.len());
        let mut seen = BTreeSet::new();
        for (item, name) in stage.needs.iter().enumerate() {
            let place = Place::Need(StageIndex(at), item);
            match index.get(name) {
                None if unread.stages.contain(name.as_str()) => {}
                None => {
                    let fault = unknown_stage(place, name, stages, faults);
                    faults.push(fault);
                }
                Some(need) if need.0 == at => faults.push(DagFault {
                    part: None,
                    place,
                    message: format!("stage `{name}` needs itself"),
                    help: Some("remove it from its own needs".to_owned()),
                }),
                Some(need) if !seen.insert(*need) => faults.push(DagFault {
                    part: None,
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

/// Every stage after all that it needs; `None` where a cycle prevents that: then the cycles are among the faults.
pub(super) fn topological_order(
    stages: &[Stage],
    needs: &[Vec<StageIndex>],
    faults: &mut Faults,
) -> Option<Vec<StageIndex>> {
    let mut cycle = match sort(needs) {
        Ok(order) => return Some(order),
        Err(cycle) => cycle,
    };
    // The other cycles show once one need of each cycle found is cut.
    let mut needs = needs.to_vec();
    for _ in 0..CYCLES_AT_MOST {
        faults.push(cycle_fault(stages, &cycle));
        let (first, next) = (cycle[0], *cycle.get(1).unwrap_or(&cycle[0]));
        needs[first.0].retain(|need| *need != next);
        match sort(&needs) {
            Ok(_) => break,
            Err(another) => cycle = another,
        }
    }
    None
}

/// Kahn's algorithm, lowest index first, so that the order is the file's where `needs` permits.
///
/// # Errors
/// One cycle, each stage needing the next, the last needing the first.
fn sort(needs: &[Vec<StageIndex>]) -> Result<Vec<StageIndex>, Vec<StageIndex>> {
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
    // Every stage left over needs another one left over: walk until one comes up again.
    let Some(start) = (0..needs.len()).find(|stage| open[*stage] > 0) else {
        return Ok(order);
    };
    let mut place_of = HashMap::new();
    let mut path = Vec::new();
    let mut at = StageIndex(start);
    loop {
        if let Some(place) = place_of.insert(at, path.len()) {
            return Err(path.split_off(place));
        }
        path.push(at);
        match needs[at.0].iter().find(|need| open[need.0] > 0) {
            Some(next) => at = *next,
            None => return Err(path),
        }
    }
}

fn cycle_fault(stages: &[Stage], cycle: &[StageIndex]) -> DagFault {
    let name = |index: &StageIndex| stages[index.0].name.as_str();
    let mut names: Vec<&str> = cycle.iter().map(name).collect();
    if names.len() > NAMED_AT_MOST {
        names.truncate(NAMED_AT_MOST);
        names.push("…");
    }
    names.push(name(&cycle[0]));
    let next = cycle.get(1).unwrap_or(&cycle[0]);
    let item = stages[cycle[0].0]
        .needs
        .iter()
        .position(|need| need.as_str() == name(next))
        .unwrap_or(0);
    DagFault {
        part: None,
        place: Place::Need(cycle[0], item),
        message: format!(
            "stages need each other in a circle: {}",
            names.join(" needs ")
        ),
        help: Some("remove one of these needs".to_owned()),
    }
}
