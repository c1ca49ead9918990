//! Random DAGs: small, so that many fit into a second, and with every rule that a stage can have.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_core::dag::{Dag, DagDraft};
use trainyard_core::expression::{Condition, Template};
use trainyard_core::gate::GateRule;
use trainyard_core::name::{InputName, MetricName, OutputName, PoolName};
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::retry::Retry;
use trainyard_core::stage::{
    Command, ImageSource, PullPolicy, RelativePath, RunOn, Stage, StageKind, StageProgram,
};
use trainyard_core::trigger::Triggers;

use crate::behaviour::MAY_BE_ENDLESS;
use crate::random::Random;

/// The metrics file of stages that have one.
pub(crate) const METRICS: &str = "metrics.json";

/// The pool, and how many slots it has.
pub(crate) fn pools() -> BTreeMap<PoolName, u32> {
    BTreeMap::from([(gpu(), 2)])
}

fn gpu() -> PoolName {
    name("gpu", PoolName::new)
}

/// Makes a name; those here are literals, so a fault is this file's.
fn name<N, E: std::fmt::Debug>(text: &str, new: fn(String) -> Result<N, E>) -> N {
    new(text.to_owned()).expect("a name")
}

pub(crate) fn dag(random: &mut Random, place: usize) -> Dag {
    let count = random.pick(&[1, 2, 3, 3, 4, 6]);
    let mut stages: Vec<Stage> = Vec::new();
    for at in 0..count {
        let stage = stage(random, at, &stages);
        stages.push(stage);
    }
    let limit = random.pick(&[None, Some(1), Some(2)]);
    let draft = DagDraft {
        name: name(&format!("dag{place}"), trainyard_core::name::DagName::new),
        description: None,
        triggers: Triggers::default(),
        params: BTreeMap::new(),
        concurrency: Concurrency {
            group: None,
            limit,
            overlap: random.pick(&Overlap::ALL),
        },
        timeout: random
            .chance(150)
            .then(|| Duration::from_secs(random.between(5, 60))),
        stages,
    };
    // A DAG with faults is a fault of this file.
    Dag::new(draft).unwrap_or_else(|faults| panic!("not a DAG: {faults:?}"))
}

fn stage(random: &mut Random, at: u64, before: &[Stage]) -> Stage {
    let timeout = random.chance(300).then(|| random.millis(500, 15_000));
    let letter = if timeout.is_some() {
        MAY_BE_ENDLESS
    } else {
        's'
    };
    let needs: Vec<_> = before
        .iter()
        .filter(|_| random.chance(400))
        .map(|stage| stage.name.clone())
        .collect();
    let mut run_on = random.pick(&[
        &[RunOn::Success][..],
        &[RunOn::Success],
        &[RunOn::Success],
        &[RunOn::Failed],
        &[RunOn::Success, RunOn::Failed],
        &[RunOn::Always],
    ]);
    if needs.is_empty() && !run_on.contains(&RunOn::Always) {
        run_on = &[RunOn::Success];
    }
    let metrics = random.chance(150);
    let outputs = if random.chance(250) {
        let path = path("model.bin").into();
        BTreeMap::from([(name("model", OutputName::new), path)])
    } else {
        BTreeMap::new()
    };
    let condition = needs
        .first()
        .filter(|_| random.chance(60))
        .and_then(|need| {
            // One that can never hold is refused: what runs on failures only does not see a success.
            let outcome = if run_on == [RunOn::Failed] {
                "!= 'failed'"
            } else {
                "== 'succeeded'"
            };
            Condition::parse(&format!("stages[\"{need}\"].outcome {outcome}")).ok()
        });
    let pools = if random.chance(250) {
        let slots = u32::try_from(random.between(1, 2)).unwrap_or(1);
        BTreeMap::from([(gpu(), slots)])
    } else {
        BTreeMap::new()
    };
    let image = ImageSource::Reference {
        image: Template::literal("image"),
        pull: PullPolicy::IfMissing,
    };
    let program = StageProgram {
        inputs: inputs(random, &needs, before),
        command: Some(Command::Script("work".to_owned())),
        outputs,
        gate: gate(random, metrics),
        metrics: metrics.then(|| path(METRICS)),
        retry: retry(random),
        timeout,
        pools,
        ..StageProgram::new(image)
    };
    Stage {
        name: name(
            &format!("{letter}{at}"),
            trainyard_core::name::StageName::new,
        ),
        needs,
        run_on: run_on.iter().copied().collect(),
        condition,
        kind: StageKind::Program(program),
    }
}

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).expect("a path")
}

fn inputs(
    random: &mut Random,
    needs: &[trainyard_core::name::StageName],
    before: &[Stage],
) -> BTreeMap<InputName, trainyard_core::stage::InputSource> {
    let source = before
        .iter()
        .filter(|stage| needs.contains(&stage.name))
        .find_map(|stage| {
            let output = stage.program().outputs.keys().next()?.clone();
            let stage = stage.name.clone();
            Some(trainyard_core::stage::InputSource { stage, output })
        });
    source
        .filter(|_| random.chance(500))
        .map(|source| (name("model", InputName::new), source))
        .into_iter()
        .collect()
}

fn gate(random: &mut Random, metrics: bool) -> Vec<GateRule> {
    if metrics && random.chance(500) {
        let metric = name("auc", MetricName::new);
        vec![GateRule {
            metric,
            min: Some(0.3),
            max: None,
        }]
    } else {
        Vec::new()
    }
}

fn retry(random: &mut Random) -> Retry {
    let on = Retry::CHOICES.into_iter();
    Retry {
        attempts: random.pick(&[1, 1, 2, 3]),
        on: on.filter(|_| random.chance(600)).collect(),
        lost: random.pick(&[0, 1, 2]),
        backoff: random.pick(&[
            Duration::ZERO,
            Duration::from_secs(1),
            Duration::from_secs(10),
        ]),
        factor: random.pick(&[1.0, 2.0]),
        max: Duration::from_secs(15),
    }
}
