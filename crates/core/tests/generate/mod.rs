//! DAGs for tests: by hand ([`draft`]) and at random ([`dags`]).

pub(crate) mod draft;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use trainyard_core::dag::Dag;
use trainyard_core::expression::Condition;
use trainyard_core::gate::GateRule;
use trainyard_core::name::{MetricName, PoolName};
use trainyard_core::outcome::Outcome;
use trainyard_core::retry::Retry;
use trainyard_core::stage::{RelativePath, RunOn, Stage};

use self::draft::{dag_of, named};

/// The most stages of a random DAG.
const STAGES_AT_MOST: usize = 12;

/// A random DAG of up to twelve stages, in a random order within its file.
pub(crate) fn dags() -> impl Strategy<Value = Dag> {
    (1..=STAGES_AT_MOST)
        .prop_flat_map(|count| {
            (
                prop::collection::vec(traits(), count),
                Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
                prop::option::weighted(0.3, (60_u64..600).prop_map(Duration::from_secs)),
            )
        })
        .prop_map(|(traits, order, timeout)| {
            let mut stages: Vec<Option<Stage>> = traits
                .iter()
                .enumerate()
                .map(|(at, traits)| Some(traits.stage(at)))
                .collect();
            let in_file_order = order
                .into_iter()
                .filter_map(|at| stages[at].take())
                .collect();
            dag_of(in_file_order, |draft| draft.timeout = timeout)
        })
}

/// The random part of a stage.
#[derive(Debug, Clone)]
struct Traits {
    /// A bit for each stage made before that it needs.
    needs: u16,
    run_on: BTreeSet<RunOn>,
    retry: Retry,
    timeout: Option<Duration>,
    gate: bool,
    condition: Option<Test>,
    gpus: u32,
}

/// The value that a random condition reads.
#[derive(Debug, Clone, Copy)]
enum Test {
    /// Always the same.
    Constant(bool),
    /// How the first stage that it needs ended.
    Outcome,
    /// The metric that the first stage that it needs reported, which may be missing.
    Metric,
}

fn traits() -> impl Strategy<Value = Traits> {
    let needs = prop_oneof![Just(0), any::<u16>(), (0_u16..12).prop_map(|bit| 1 << bit)];
    let run_on = prop_oneof![
        6 => Just(BTreeSet::from([RunOn::Success])),
        1 => Just(BTreeSet::from([RunOn::Failed])),
        1 => Just(BTreeSet::from([RunOn::Success, RunOn::Failed])),
        2 => Just(BTreeSet::from([RunOn::Always])),
    ];
    let timeout = prop::option::weighted(0.4, (10_u64..200).prop_map(Duration::from_secs));
    let condition = prop_oneof![
        6 => Just(None),
        1 => any::<bool>().prop_map(|truth| Some(Test::Constant(truth))),
        1 => Just(Some(Test::Outcome)),
        1 => Just(Some(Test::Metric)),
    ];
    (
        needs,
        run_on,
        retries(),
        timeout,
        prop::bool::weighted(0.2),
        condition,
        prop_oneof![3 => Just(0_u32), 1 => 1_u32..=2],
    )
        .prop_map(
            |(needs, run_on, retry, timeout, gate, condition, gpus)| Traits {
                needs,
                run_on,
                retry,
                timeout,
                gate,
                condition,
                gpus,
            },
        )
}

fn retries() -> impl Strategy<Value = Retry> {
    (
        1_u32..=3,
        prop::sample::subsequence(Retry::CHOICES.to_vec(), 0..=3),
        0_u32..=2,
        prop_oneof![Just(0_u64), 1_u64..100],
        prop_oneof![Just(1.0), Just(2.0)],
        prop_oneof![Just(15_u64), Just(600)],
    )
        .prop_map(|(attempts, on, lost, backoff, factor, max)| Retry {
            attempts,
            on: on.into_iter().collect::<BTreeSet<Outcome>>(),
            lost,
            backoff: Duration::from_secs(backoff),
            factor,
            max: Duration::from_secs(max),
        })
}

impl Traits {
    fn stage(&self, at: usize) -> Stage {
        let name = |at: usize| format!("s{at}");
        let needed: Vec<usize> = (0..at).filter(|bit| self.needs & (1 << bit) != 0).collect();
        let mut stage = named(&name(at));
        stage.needs = needed
            .iter()
            .map(|at| name(*at).parse().expect("a name"))
            .collect();
        stage.run_on.clone_from(&self.run_on);
        if needed.is_empty() && !stage.run_on.contains(&RunOn::Always) {
            stage.run_on.insert(RunOn::Success);
        }
        stage.program_mut().retry = self.retry.clone();
        stage.program_mut().timeout = self.timeout;
        stage.program_mut().metrics = Some(RelativePath::new("metrics.json").expect("a path"));
        if self.gate {
            stage.program_mut().gate = vec![GateRule {
                metric: auc(),
                min: Some(0.5),
                max: None,
            }];
        }
        stage.condition = self.condition.map(|test| {
            let text = match (test, needed.first()) {
                (Test::Constant(true), _) => "true".to_owned(),
                // A condition that can never hold is refused; this one just never holds in these tests.
                (Test::Constant(false), _) => "cause.branch == 'no such branch'".to_owned(),
                (Test::Outcome, Some(at)) if stage.run_on == BTreeSet::from([RunOn::Failed]) => {
                    format!("stages.s{at}.outcome != 'failed'")
                }
                (Test::Outcome, Some(at)) => format!("stages.s{at}.outcome == 'succeeded'"),
                (Test::Metric, Some(at)) => format!("stages.s{at}.metrics.auc > 0.5"),
                (Test::Outcome | Test::Metric, None) => "cause.branch == 'main'".to_owned(),
            };
            Condition::parse(&text).expect("a condition")
        });
        if self.gpus > 0 {
            stage.program_mut().pools = BTreeMap::from([(gpu(), self.gpus)]);
        }
        stage
    }
}

/// The metric that random gates and conditions are about.
pub(crate) fn auc() -> MetricName {
    MetricName::new("auc").expect("a name")
}

/// The pool that random stages take slots from.
pub(crate) fn gpu() -> PoolName {
    PoolName::new("gpu").expect("a name")
}
