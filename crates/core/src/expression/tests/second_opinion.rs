//! The crate `cel` has the whole language: it takes every expression that we take, and gives it the same value.

use std::collections::HashMap;

use cel::{Context, Program, Value};
use proptest::prelude::*;

use super::generate::{Dice, boolean};
use super::*;

fn context() -> Context<'static, 'static> {
    let facts = facts();
    let text = |text: &str| Value::from(text);
    let mut params: HashMap<String, Value> = HashMap::new();
    for (name, value) in &facts.params {
        let value = match value {
            ParamValue::String(value) => text(value),
            ParamValue::Integer(number) => Value::Int(*number),
            ParamValue::Number(number) => Value::Float(*number),
            ParamValue::Boolean(truth) => Value::Bool(*truth),
        };
        params.insert(name.to_string(), value);
    }
    let cause = HashMap::from([
        ("kind".to_owned(), text(&facts.cause)),
        ("branch".to_owned(), text(&facts.branch)),
        ("commit".to_owned(), text(&facts.commit)),
        ("logical_time".to_owned(), text(&facts.logical_time)),
    ]);
    let mut stages: HashMap<String, Value> = HashMap::new();
    for (name, stage) in &facts.stages {
        let metrics: HashMap<String, Value> = stage
            .metrics
            .iter()
            .map(|(name, number)| (name.to_string(), Value::Float(*number)))
            .collect();
        let mut fields = HashMap::from([
            ("outcome".to_owned(), text(stage.outcome.as_str())),
            ("metrics".to_owned(), Value::from(metrics)),
        ]);
        if let Some(image) = &stage.image {
            fields.insert("image".to_owned(), text(image));
        }
        stages.insert(name.to_string(), Value::from(fields));
    }
    let mut context = Context::default();
    context.add_variable_from_value("params", params);
    context.add_variable_from_value("cause", cause);
    context.add_variable_from_value("stages", stages);
    context
}

fn compare(text: &str) {
    let Ok(condition) = Condition::parse(text) else {
        return;
    };
    let has_type_faults = declared().check(|scope| {
        let faults = condition.faults(scope);
        faults
            .iter()
            .any(|fault| !fault.message.contains("can never hold"))
    });
    if has_type_faults {
        return;
    }
    let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let theirs = program.execute(&context());
    match (condition.holds(&facts()), theirs) {
        (Ok(ours), Ok(Value::Bool(theirs))) => assert_eq!(ours, theirs, "{text}"),
        (Err(_), Err(_)) => {}
        // "Not a number" compares as false here, as the language says; `cel` refuses to compare it.
        (Ok(_), Err(error)) if format!("{error:?}").contains(r#"["double", "double"]"#) => {}
        (ours, theirs) => panic!("{text}: {ours:?}, and they say {theirs:?}"),
    }
}

#[test]
fn both_take_the_same_texts_and_numbers() {
    for text in [
        "stages['train-2'].outcome == \"skipped\" && 'val/auc' in stages.train.metrics",
        "r'\\d' == '\\\\d' && '''a'b''' == \"a'b\" && '\\u00e4\\x41\\101\\n' == 'äAA\\n'",
        "0x10 == 16 && 1e3 == 1000.0 && .5 < 1 && -9223372036854775808 < 0",
        "params.n == 3.0 && 2.5 < params.n && params.rate < 1",
        "params.text.contains('a') && params.text.size() == 3 && 'ä'.size() == 1",
        "1 in [1.0, 2.0] && !(params.n in [1, 2,])",
        "-7 / 2 == -3 && -7 % 2 == -1 && 10 - 2 - 3 == 5",
        "string(params.n) + 'x' == '3x' && int('7') == 7 && double('0.5') == 0.5 && int(2.9) == 2",
        "params.force ? params.n == 1 ? false : true : false",
        "stages.train.metrics.f1 > 0.5 || true",
        "stages.train.metrics.f1 > 0.5 && false",
        "has(stages.train.metrics.auc) && !has(stages.train.metrics.f1)",
        "'b' > 'a' && 'ä' > 'z' && '' < 'a'",
    ] {
        compare(text);
    }
}

/// A stack on which the other parser, which is compiled without optimisation here, recurses as deep as it needs to.
const STACK: usize = 256 << 20;

#[test]
fn both_come_to_the_same_answer() {
    let compares = || {
        let cases = ProptestConfig {
            cases: 2_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(cases, |(seed in any::<u64>())| compare(&boolean(&mut Dice::new(seed), 3)));
    };
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(compares)
        .unwrap();
    thread.join().unwrap();
}
