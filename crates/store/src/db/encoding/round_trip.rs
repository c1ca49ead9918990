//! Property: a DAG written and read back is the same DAG, whatever it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use trainyard_core::cron::Cron;
use trainyard_core::dag::{Dag, DagDraft};
use trainyard_core::expression::{Condition, Template};
use trainyard_core::gate::GateRule;
use trainyard_core::name::{DagName, OutputName, ParamName, StageName, VariableName};
use trainyard_core::outcome::Outcome;
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::retry::Retry;
use trainyard_core::schedule::Missed;
use trainyard_core::stage::{
    BuildSource, Checkout, Command, DeclaredOutput, ImageSource, InputSource, Keep, PullPolicy,
    RelativePath, Resources, RunOn, Stage, StageKind, StageProgram,
};
use trainyard_core::trigger::{Pattern, PushTrigger, ScheduleTrigger, Triggers};

use super::dag::DagDoc;

fn text() -> impl Strategy<Value = String> {
    // Any text, including line breaks, quotes and control characters, but without NUL.
    "[^\\x00]{0,20}"
}

fn template() -> impl Strategy<Value = Template> {
    prop_oneof![
        text().prop_map(Template::literal),
        Just(Template::literal("${{ not read }}")),
        Just(Template::parse("lr=${{ params.rate }}").unwrap()),
        Just(Template::parse("${{ cause.branch }}").unwrap()),
    ]
}

fn path() -> impl Strategy<Value = RelativePath> {
    "[a-z.]{0,5}[a-z]/[a-z0-9 ]{1,8}".prop_map(|text| RelativePath::new(&text).unwrap())
}

fn duration() -> impl Strategy<Value = Duration> {
    (1..10_000_000u64, 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        -1e6..1e6f64,
        Just(0.1 + 0.2),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(5e-324),
        Just(1.0),
    ]
}

fn image() -> impl Strategy<Value = ImageSource> {
    let build = (
        path(),
        path(),
        btree_map("[A-Z]{1,5}", template(), 0..3),
        option::of(text()),
    );
    prop_oneof![
        (template(), select(PullPolicy::ALL.to_vec()))
            .prop_map(|(image, pull)| ImageSource::Reference { image, pull }),
        build.prop_map(|(context, dockerfile, args, target)| {
            ImageSource::Build(BuildSource {
                context,
                dockerfile,
                args: named(args),
                target,
            })
        }),
    ]
}

fn named(texts: BTreeMap<String, Template>) -> BTreeMap<VariableName, Template> {
    texts
        .into_iter()
        .map(|(name, text)| (VariableName::new(name).unwrap(), text))
        .collect()
}

fn retry() -> impl Strategy<Value = Retry> {
    let on = btree_set(select(Retry::CHOICES.to_vec()), 0..3);
    (1..100u32, on, 0..10u32, duration(), 1.0..9.0f64, duration()).prop_map(
        |(attempts, on, lost, backoff, factor, max)| Retry {
            attempts,
            on,
            lost,
            backoff,
            factor,
            max,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    let cpus = option::of(0.01..64.0f64);
    (
        cpus,
        option::of(any::<u64>()),
        option::of(any::<u64>()),
        option::of(any::<u32>()),
    )
        .prop_map(|(cpus, memory, shm, pids)| Resources {
            cpus,
            memory,
            shm,
            pids,
        })
}

fn gate() -> impl Strategy<Value = Vec<GateRule>> {
    let rule = (float(), float(), any::<bool>()).prop_map(|(one, other, both)| GateRule {
        metric: "auc".parse().unwrap(),
        min: Some(one.min(other)),
        max: both.then_some(one.max(other)),
    });
    vec(rule, 0..3)
}

/// The parts of a stage that refer to no other stage, and the earlier stages that it picks.
fn stage() -> impl Strategy<Value = (Stage, Vec<Index>, bool)> {
    let command = option::of(prop_oneof![
        text().prop_map(Command::Script),
        vec(template(), 1..4).prop_map(Command::Exec),
    ]);
    let what = (
        image(),
        command,
        any::<(bool, bool, bool)>(),
        btree_map("[a-zA-Z_]{1,8}", template(), 0..3),
    );
    let limits = (retry(), option::of(duration()), resources(), gate());
    let run_on = btree_set(select(RunOn::ALL.to_vec()), 1..3);
    let names = (
        btree_set("[A-Z]{1,8}", 0..3),
        btree_map("[a-z]{1,8}", 1..9u32, 0..3),
    );
    let references = (vec(any::<Index>(), 0..3), any::<bool>());
    (what, limits, run_on, names, references, option::of(path())).prop_map(
        |(what, limits, run_on, (secrets, pools), (picks, takes_input), metrics)| {
            let (image, command, (tree, lfs, submodules), env) = what;
            let checkout = Checkout {
                tree,
                lfs: tree && lfs,
                submodules: tree && submodules,
            };
            let (retry, timeout, resources, gate) = limits;
            let program = StageProgram {
                image,
                command,
                checkout,
                env: named(env),
                secrets: secrets
                    .into_iter()
                    .map(|name| name.parse().unwrap())
                    .collect(),
                inputs: BTreeMap::new(),
                outputs: BTreeMap::from([(
                    "out".parse().unwrap(),
                    DeclaredOutput {
                        path: RelativePath::new("o").unwrap(),
                        keep: if takes_input {
                            Keep::Always
                        } else {
                            Keep::Success
                        },
                    },
                )]),
                gate: if metrics.is_some() { gate } else { Vec::new() },
                metrics,
                retry,
                timeout,
                resources,
                pools: pools
                    .into_iter()
                    .map(|(name, slots)| (name.parse().unwrap(), slots))
                    .collect(),
            };
            let stage = Stage {
                name: StageName::new("unnamed").unwrap(),
                needs: Vec::new(),
                run_on,
                condition: takes_input.then(|| Condition::parse("params.rate > 0.5").unwrap()),
                kind: StageKind::Program(program),
            };
            (stage, picks, takes_input)
        },
    )
}

fn triggers() -> impl Strategy<Value = Triggers> {
    let crons = select(vec![
        "0 3 * * *",
        "*/5 * 1,15 * MON",
        "@monthly",
        "0 0 L * *",
    ]);
    let zones = select(vec![
        chrono_tz::Tz::UTC,
        chrono_tz::Europe::Berlin,
        chrono_tz::Australia::Lord_Howe,
    ]);
    let schedule = (
        crons,
        zones,
        select(Missed::ALL.to_vec()),
        option::of(float()),
    )
        .prop_map(|(cron, timezone, missed, rate)| ScheduleTrigger {
            cron: Cron::parse(cron).unwrap(),
            timezone,
            missed,
            params: rate
                .map(|rate| (ParamName::new("rate").unwrap(), ParamValue::Number(rate)))
                .into_iter()
                .collect(),
        });
    let patterns = || vec(select(vec!["main", "release/*", "src/**", "{a,b}"]), 0..3);
    let patterns = || {
        patterns().prop_map(|texts| {
            texts
                .into_iter()
                .map(|text| Pattern::new(text).unwrap())
                .collect::<Vec<_>>()
        })
    };
    let push =
        (patterns(), patterns()).prop_map(|(branches, paths)| PushTrigger { branches, paths });
    (vec(schedule, 0..3), option::of(push)).prop_map(|(mut schedule, push)| {
        // The same schedule twice is refused; comparing neighbours is enough here.
        schedule.dedup_by(|one, other| one.cron == other.cron && one.timezone == other.timezone);
        schedule.truncate(2);
        Triggers { schedule, push }
    })
}

fn params() -> impl Strategy<Value = BTreeMap<ParamName, ParamSpec>> {
    let integer = (any::<i64>(), option::of(text())).prop_map(|(number, description)| ParamSpec {
        kind: ParamKind::Integer {
            minimum: Some(number),
            maximum: None,
        },
        default: Some(ParamValue::Integer(number)),
        description,
    });
    let string = vec(text(), 1..4).prop_map(|choices| ParamSpec {
        default: choices.first().cloned().map(ParamValue::String),
        kind: ParamKind::String { choices },
        description: None,
    });
    let boolean = any::<bool>().prop_map(|truth| ParamSpec {
        kind: ParamKind::Boolean,
        default: Some(ParamValue::Boolean(truth)),
        description: None,
    });
    let rate = float().prop_map(|rate| ParamSpec {
        kind: ParamKind::Number {
            minimum: None,
            maximum: Some(f64::MAX),
        },
        default: Some(ParamValue::Number(rate)),
        description: None,
    });
    (
        btree_map("p[a-z]{1,5}", prop_oneof![integer, string, boolean], 0..4),
        rate,
    )
        .prop_map(|(others, rate)| {
            let named = others
                .into_iter()
                .map(|(name, spec)| (ParamName::new(name).unwrap(), spec));
            named
                .chain([(ParamName::new("rate").unwrap(), rate)])
                .collect()
        })
}

fn draft() -> impl Strategy<Value = DagDraft> {
    let group =
        select(vec!["${{ cause.branch }}", "${{ params.rate }}/x"]).prop_map(Template::stored);
    let concurrency = (
        option::of(1..9u32),
        select(Overlap::ALL.to_vec()),
        option::of(group),
    )
        .prop_map(|(limit, overlap, group)| Concurrency {
            limit,
            overlap,
            group,
        });
    let head = (
        option::of(text()),
        triggers(),
        params(),
        concurrency,
        option::of(duration()),
    );
    (head, vec(stage(), 1..7)).prop_map(
        |((description, triggers, params, concurrency, timeout), parts)| {
            let mut stages: Vec<Stage> = Vec::new();
            for (at, (mut stage, picks, takes_input)) in parts.into_iter().enumerate() {
                stage.name = StageName::new(format!("s{at}")).unwrap();
                if at > 0 {
                    for pick in picks {
                        let need = stages[pick.index(at)].name.clone();
                        if !stage.needs.contains(&need) {
                            stage.needs.push(need);
                        }
                    }
                }
                if let (true, Some(from)) = (takes_input, stage.needs.first().cloned()) {
                    let output = OutputName::new("out").unwrap();
                    stage.program_mut().inputs.insert(
                        "in".parse().unwrap(),
                        InputSource {
                            stage: from,
                            output,
                        },
                    );
                }
                if stage.needs.is_empty() {
                    // No stage before it could fail.
                    stage.run_on.insert(RunOn::Success);
                }
                stages.push(stage);
            }
            DagDraft {
                name: DagName::new("any").unwrap(),
                description,
                triggers,
                params,
                concurrency,
                timeout,
                stages,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_dag_written_and_read_back_is_the_same(draft in draft()) {
        let dag = Dag::new(draft).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        let text = serde_json::to_string(&DagDoc::from(&dag)).unwrap();
        let doc: DagDoc = serde_json::from_str(&text).unwrap();
        let back = Dag::try_from(doc).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&back, &dag);
        prop_assert_eq!(serde_json::to_string(&DagDoc::from(&back)).unwrap(), text);
    }

    #[test]
    fn parameters_written_and_read_back_are_the_same(
        number in float(), whole in any::<i64>(), truth in any::<bool>(), words in text()
    ) {
        let values = BTreeMap::from([
            (ParamName::new("a").unwrap(), ParamValue::Number(number)),
            (ParamName::new("b").unwrap(), ParamValue::Integer(whole)),
            (ParamName::new("c").unwrap(), ParamValue::Boolean(truth)),
            (ParamName::new("d").unwrap(), ParamValue::String(words)),
        ]);
        let json = super::write(&super::param::values_doc(&values));
        let doc = super::read(json, String::new).unwrap();
        prop_assert_eq!(super::param::values(doc).unwrap(), values);
    }
}

#[test]
fn a_form_of_a_later_format_is_refused_by_its_number() {
    let draft = serde_json::json!({"format": 2, "name": "a", "overlap": "queue", "stages": []});
    let doc: DagDoc = serde_json::from_value(draft).unwrap();
    assert_eq!(Dag::try_from(doc).unwrap_err(), "format 2 is not known");
}

#[test]
fn every_outcome_that_a_retry_rule_may_name_reads_back() {
    for outcome in Retry::CHOICES {
        assert_eq!(
            super::outcome(outcome.as_str(), String::new).unwrap(),
            outcome
        );
    }
    assert!(
        super::outcome("exploded", || "attempt 1".into())
            .unwrap_err()
            .to_string()
            .contains("attempt 1")
    );
    assert_eq!(Outcome::from_word("exploded"), None);
}

#[test]
fn a_recorded_dag_stays_readable_where_an_expression_of_it_is_none_any_more() {
    let form = |condition: &str, value: &str| {
        serde_json::json!({
            "format": 1, "name": "a", "overlap": "queue",
            "stages": [{
                "name": "deploy", "run_on": ["success"], "if": condition, "checkout": true,
                "image": {"reference": {"image": {"literal": "alpine:3"}, "pull": "if_missing"}},
                "env": {"A": {"template": value}},
                "retry": {"attempts": 1, "on": [], "lost": 0, "backoff_ns": 0, "factor": "1", "max_ns": 0},
                "resources": {},
            }],
        })
    };
    for (condition, value) in [
        (
            "cause.branch == 'main' and cause.kind == 'push'",
            "${{ cause.branch|upper }}",
        ),
        (
            "[[[1]*9999]*9999]*9999 == [[[1]*9999]*9999]*9999",
            "${{ [[1]*9999]*9999 }}",
        ),
        ("params.gone == 3", "${{ stages.gone.outcome }}"),
        ("cause.kind == 'manuall'", "${{"),
    ] {
        let doc: DagDoc = serde_json::from_value(form(condition, value)).unwrap();
        let dag = Dag::try_from(doc).unwrap();
        let stage = &dag.stages()[0];
        assert_eq!(stage.condition.as_ref().unwrap().source(), condition);
        let facts = trainyard_core::expression::Facts::default();
        let rendered = stage.program().env.values().next().unwrap().render(&facts);
        assert!(rendered.is_err(), "{value} is rendered");
        // And it is written back as it was.
        let again = serde_json::to_value(DagDoc::from(&dag)).unwrap();
        assert_eq!(again["stages"][0]["if"], condition);
        assert_eq!(again["stages"][0]["env"]["A"]["template"], value);
    }
}
