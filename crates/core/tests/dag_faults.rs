//! The rules by which a draft becomes a DAG: every fault is reported, with what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono_tz::Tz;
use trainyard_core::cron::Cron;
use trainyard_core::dag::{Dag, DagDraft, LONGEST_DURATION, STAGES_AT_MOST};
use trainyard_core::expression::Template;
use trainyard_core::gate::GateRule;
use trainyard_core::outcome::Outcome;
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::schedule::Missed;
use trainyard_core::stage::{InputSource, RelativePath, RunOn, Stage};
use trainyard_core::trigger::ScheduleTrigger;

use crate::generate::auc;
use crate::generate::draft::{after, draft_of, named};

/// The faults of a draft, one a line: place, message, help.
fn faults(draft: DagDraft) -> String {
    let mut text = String::new();
    for fault in Dag::new(draft).expect_err("this is not a DAG") {
        let _ = write!(text, "{:?}: {}", fault.place, fault.message);
        if let Some(help) = fault.help {
            let _ = write!(text, " ({help})");
        }
        text.push('\n');
    }
    text
}

fn faults_of(stages: Vec<Stage>) -> String {
    faults(draft_of(stages))
}

#[test]
fn names_must_exist_once() {
    insta::assert_snapshot!(
        faults_of(vec![
            named("train"),
            named("train"),
            after("serve", &["trian", "serve", "train", "train"]),
            after("report", &["something-else"]),
        ]),
        @r#"
    Stage(StageIndex(1)): there are two stages named `train` (give one of them another name)
    Need(StageIndex(2), 0): there is no stage named `trian` (did you mean `train`?)
    Need(StageIndex(2), 1): stage `serve` needs itself (remove it from its own needs)
    Need(StageIndex(2), 3): `train` is needed twice (remove one of them)
    Need(StageIndex(3), 0): there is no stage named `something-else`
    "#
    );
}

#[test]
fn every_circle_is_reported_with_its_stages() {
    insta::assert_snapshot!(
        faults_of(vec![
            after("a", &["c"]),
            after("b", &["a"]),
            after("c", &["b"]),
            after("x", &["y", "a"]),
            after("y", &["x"]),
            named("fine"),
        ]),
        @r#"
    Need(StageIndex(0), 0): stages need each other in a circle: a needs c needs b needs a (remove one of these needs)
    Need(StageIndex(3), 0): stages need each other in a circle: x needs y needs x (remove one of these needs)
    "#
    );
}

#[test]
fn a_huge_circle_is_reported_in_short() {
    let name = |at: usize| format!("s{}", at % 500);
    let stages = (0..500)
        .map(|at| after(&name(at), &[&name(at + 1)]))
        .collect();
    let reported = faults_of(stages);
    assert!(reported.len() < 300, "{reported}");
}

#[test]
fn inputs_come_from_outputs_of_stages_before() {
    let take = |mut stage: Stage, name: &str, from: &str, output: &str| {
        let source = InputSource {
            stage: from.parse().expect("a name"),
            output: output.parse().expect("a name"),
        };
        stage
            .program_mut()
            .inputs
            .insert(name.parse().expect("a name"), source);
        stage
    };
    let mut extract = named("extract");
    let raw = RelativePath::new("raw.parquet").expect("a path");
    extract
        .program_mut()
        .outputs
        .insert("raw".parse().expect("a name"), raw.into());
    let own = take(extract.clone(), "own", "extract", "raw");
    let good = take(after("train", &["extract"]), "data", "extract", "raw");
    let far = take(after("serve", &["train"]), "data", "extract", "raw");
    assert!(Dag::new(draft_of(vec![extract.clone(), good, far])).is_ok());
    insta::assert_snapshot!(
        faults_of(vec![
            own,
            take(named("train"), "data", "extract", "raw"),
            take(after("test", &["extract"]), "data", "extract", "row"),
            take(after("serve", &["extract"]), "data", "exract", "raw"),
        ]),
        @r#"
    Input(StageIndex(0), "own"): stage `extract` takes its own output as an input (take it from a stage that it needs)
    Input(StageIndex(1), "data"): `train` does not run after `extract`, whose output it takes (add `extract` to the needs of `train`)
    Input(StageIndex(2), "data"): stage `extract` has no output named `row` (did you mean `extract.raw`?)
    Input(StageIndex(3), "data"): there is no stage named `exract` (did you mean `extract`?)
    "#
    );
}

#[test]
fn expressions_refer_to_what_exists() {
    let mut serve = after("serve", &["train"]);
    serve.program_mut().env.insert(
        "LEVEL".parse().expect("a name"),
        Template::parse("${{ params.level }}/${{ stages.report.outcome }}").expect("a template"),
    );
    insta::assert_snapshot!(
        faults_of(vec![named("train"), after("report", &["train"]), serve]),
        @r#"
    Env(StageIndex(2), "LEVEL"): there is no parameter `level` (declare it under `params`)
    Env(StageIndex(2), "LEVEL"): stage `report` need not have ended before this one (add `report` to the needs of this stage)
    "#
    );
}

#[test]
fn numbers_must_make_sense() {
    let mut zero = named("zero");
    zero.program_mut().retry.attempts = 0;
    zero.program_mut().timeout = Some(Duration::ZERO);
    zero.program_mut().resources.cpus = Some(0.0);
    zero.program_mut()
        .pools
        .insert("gpu".parse().expect("a name"), 0);
    zero.run_on = BTreeSet::new();
    let mut odd = named("odd");
    odd.program_mut().retry.on = BTreeSet::from([Outcome::Lost]);
    odd.program_mut().timeout = Some(LONGEST_DURATION + Duration::from_secs(1));
    odd.run_on = BTreeSet::from([RunOn::Failed]);
    let mut shrinking = named("shrinking");
    shrinking.program_mut().retry.factor = f64::NAN;
    shrinking.program_mut().metrics = Some(RelativePath::new("metrics.json").expect("a path"));
    let rule = |min, max| GateRule {
        metric: auc(),
        min,
        max,
    };
    shrinking.program_mut().gate = vec![
        rule(None, None),
        rule(Some(2.0), Some(1.0)),
        rule(None, Some(f64::NAN)),
    ];
    let mut patient = named("patient");
    patient.program_mut().retry.max = Duration::MAX;
    patient.program_mut().gate = vec![rule(Some(0.0), None)];
    let mut draft = draft_of(vec![zero, odd, shrinking, patient]);
    draft.concurrency.limit = Some(0);
    draft.timeout = Some(Duration::ZERO);
    insta::assert_snapshot!(faults(draft), @r#"
    Dag: a concurrency limit of 0 lets nothing run
    Dag: the timeout is 0, so nothing can run
    Stage(StageIndex(0)): stage `zero`: `run_on` is empty, so it never runs
    Stage(StageIndex(0)): stage `zero`: its timeout is 0, so nothing can run
    Stage(StageIndex(0)): stage `zero`: `attempts` must be 1 to 1000, not 0
    Stage(StageIndex(0)): stage `zero`: `cpus` must be above 0, not 0
    Stage(StageIndex(0)): stage `zero`: it takes 0 slots of pool `gpu`
    Stage(StageIndex(1)): stage `odd`: it runs only after a failure, but needs nothing that could fail
    Stage(StageIndex(1)): stage `odd`: its timeout is longer than 366d
    Stage(StageIndex(1)): stage `odd`: `lost` is not tried again
    Stage(StageIndex(2)): stage `shrinking`: `factor` must be at least 1, not NaN
    Gate(StageIndex(2), 0): the gate on `auc` needs `min` or `max`
    Gate(StageIndex(2), 1): the gate on `auc` can never hold: min 2 is above max 1
    Gate(StageIndex(2), 2): the gate on `auc` has a bound that is not a number
    Stage(StageIndex(3)): stage `patient`: the wait between attempts is longer than 366d
    Gate(StageIndex(3), 0): stage `patient` has a gate but reports no metrics (add `metrics: metrics.json`)
    "#);
}

#[test]
fn parameters_must_be_possible() {
    let spec = |kind, default| ParamSpec {
        kind,
        default,
        description: None,
    };
    let integer = |minimum, maximum| ParamKind::Integer {
        minimum: Some(minimum),
        maximum: Some(maximum),
    };
    let mut draft = draft_of(vec![named("train")]);
    draft.params = BTreeMap::from([
        (
            "epochs".parse().expect("a name"),
            spec(integer(1, 9), Some(ParamValue::Integer(10))),
        ),
        ("none".parse().expect("a name"), spec(integer(9, 1), None)),
    ]);
    insta::assert_snapshot!(faults(draft), @r#"
    Dag: parameter `epochs`: its default must be at most 9, not 10
    Dag: parameter `none`: no value is within its bounds
    "#);
}

#[test]
fn schedules_give_every_parameter_and_differ() {
    let mut draft = draft_of(vec![named("train")]);
    let kind = ParamKind::String { choices: vec![] };
    let target = ParamSpec {
        kind,
        default: None,
        description: None,
    };
    draft
        .params
        .insert("target".parse().expect("a name"), target);
    let given = BTreeMap::from([(
        "target".parse().expect("a name"),
        ParamValue::String("dev".to_owned()),
    )]);
    let schedule = |timezone, params| ScheduleTrigger {
        cron: Cron::parse("0 3 * * *").expect("a cron expression"),
        timezone,
        missed: Missed::Last,
        params,
    };
    draft.triggers.schedule = vec![
        schedule(Tz::UTC, given.clone()),
        schedule(Tz::Europe__Berlin, BTreeMap::new()),
        schedule(Tz::UTC, given),
    ];
    insta::assert_snapshot!(faults(draft), @r#"
    Schedule(2): there are two schedules `0 3 * * *` in UTC (remove one of them; a tick starts one run)
    Schedule(1): this schedule gives no value to parameter `target`, which has no default (add a `default` to parameter `target`, or `params: {target: …}` to the schedule)
    "#);
}

#[test]
fn there_are_neither_too_few_stages_nor_too_many() {
    let many = |count: usize| (0..count).map(|at| named(&format!("s{at}"))).collect();
    assert!(Dag::new(draft_of(many(STAGES_AT_MOST))).is_ok());
    insta::assert_snapshot!(
        faults_of(Vec::new()) + &faults_of(many(STAGES_AT_MOST + 1)),
        @r#"
    Dag: a DAG needs at least one stage
    Dag: a DAG may have at most 2000 stages, this one has 2001
    "#
    );
}

#[test]
fn the_widest_dag_is_checked_in_good_time() {
    let name = |at: usize| format!("s{at}");
    let names: Vec<String> = (0..STAGES_AT_MOST).map(name).collect();
    // Every stage needs the hundred before it and reads the first of all.
    let stages: Vec<Stage> = (0..STAGES_AT_MOST)
        .map(|at| {
            let needs: Vec<&str> = names[at.saturating_sub(100)..at]
                .iter()
                .map(String::as_str)
                .collect();
            let mut stage = after(&names[at], &needs);
            if at > 0 {
                let template = Template::parse("${{ stages.s0.outcome }}").expect("a template");
                stage
                    .program_mut()
                    .env
                    .insert("A".parse().expect("a name"), template);
            }
            stage
        })
        .collect();
    let begun = Instant::now();
    assert!(Dag::new(draft_of(stages)).is_ok());
    // Unknown names cost a search for the name that was meant, for the first few of them.
    let unknown: Vec<String> = (0..100)
        .map(|at| "x".repeat(40) + &at.to_string())
        .collect();
    let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
    let stages = names.iter().map(|name| after(name, &unknown)).collect();
    assert!(Dag::new(draft_of(stages)).is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}
