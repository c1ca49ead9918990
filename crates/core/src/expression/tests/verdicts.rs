//! A condition that can never hold is refused, and one that can hold is not.

use proptest::prelude::*;

use super::generate::{Dice, boolean};
use super::*;

#[track_caller]
fn never(declared: &Declared, text: &str) {
    let condition = Condition::parse(text).unwrap();
    let faults = declared.check(|scope| condition.faults(scope));
    assert_eq!(faults.len(), 1, "{text}: {faults:?}");
    let message = &faults[0].message;
    assert!(message.contains("can never hold"), "{text}: {message}");
}

#[test]
fn what_can_never_hold_is_a_fault() {
    for text in [
        "false",
        "1 > 2",
        "'a' == 'b'",
        "1 / 0 == 1",
        "params.n > 3",
        "params.n > 100",
        "params.n == 0 || params.n > 7",
        "params.n < 0.5",
        "params.n + 1 > 4",
        "params.n * 2 == 7",
        "10 - params.n < 7",
        "params.n in [7, 8]",
        "params.rate > 1",
        "params.rate < 0 || params.rate >= 1.5",
        "cause.kind == 'push' && cause.kind == 'manual'",
        "cause.kind in ['push', 'retry'] && cause.kind == 'manual'",
        "!(cause.kind == 'push') && cause.kind == 'push'",
        "cause.branch == 'main' && cause.branch != 'main'",
        "cause.branch == 'main' && cause.branch == 'dev'",
        "params.force && !params.force",
        "params.force && params.force == false",
        "params.n < 2 && params.n > 2",
        "params.count > 5 && params.count < 6",
        "stages.train.metrics.auc > 0.9 && stages.train.metrics.auc <= 0.9",
        "params.target != 'staging' && params.target != 'production'",
        "params.target.startsWith('x')",
        "params.force && (params.n > 3 || false)",
        "params.force ? params.n == 9 : params.n == 8",
        "!has(params.n)",
        "params.text.size() < 0",
        "cause.branch == 'refs/heads/main'",
        "'refs/tags/v1' == cause.branch",
        "cause.branch.startsWith('refs/heads/')",
        "cause.branch in ['refs/heads/main', 'refs/heads/dev']",
        "cause.commit == 'abc1234'",
        "cause.commit.startsWith('HEAD')",
        "params.n / 2 == 1.5",
        "params.n / 2 > 1",
        "params.n % 2 == 3",
        "params.n / 0 == 1",
        "string(params.force) == 'True'",
        "(params.force ? 1 : 2) == 3",
        "params.target + 'x' == 'foo'",
        "params.text < ''",
        "!(params.n in [1, 2]) && params.n == 1",
        "params.count != 5 && params.count == 5",
        "params.force in [true] && params.force in [false]",
    ] {
        never(&declared(), text);
    }
}

#[test]
fn the_part_that_never_holds_is_underlined_with_what_would() {
    let fault = fault("params.force && params.n > 100").unwrap();
    assert_eq!(fault.range, 16..30);
    assert_eq!(fault.help.unwrap(), "`params.n` is from 1 to 3");
}

#[test]
fn a_part_of_a_text_that_has_no_value_is_a_fault() {
    let template = Template::parse("group-${{ 1 / 0 }}").unwrap();
    let faults = declared().check(|scope| template.faults(scope));
    let message = &faults[0].message;
    assert!(
        message.starts_with("this has no value in any run"),
        "{message}"
    );
}

#[test]
fn a_metric_whose_name_no_metric_can_have_is_a_fault() {
    let fault = fault("'area under curve' in stages.train.metrics").unwrap();
    let message = &fault.message;
    assert!(
        message.starts_with("no stage can have this metric"),
        "{message}"
    );
    assert_eq!(fault.range, 0..18);
}

#[test]
fn an_outcome_that_run_on_rules_out_never_holds() {
    let after_success = Declared {
        outcomes: vec![Outcome::Succeeded],
        ..declared()
    };
    never(&after_success, "stages.train.outcome == 'failed'");
    never(
        &after_success,
        "stages.train.outcome in ['failed', 'errored']",
    );
    never(&after_success, "stages.train.outcome != 'succeeded'");
    let condition = Condition::parse("stages.train.outcome == 'failed'").unwrap();
    let faults = after_success.check(|scope| condition.faults(scope));
    assert_eq!(
        faults[0].help.as_deref().unwrap(),
        "by `run_on`, this stage runs only where `train` ended as succeeded; say `run_on: [always]` to run after any outcome"
    );
    assert_eq!(declared().check(|scope| condition.faults(scope)), []);
}

#[test]
fn what_can_hold_is_taken() {
    for text in [
        "true",
        "params.n >= 3",
        "params.n > 2 && params.n < 4",
        "params.n == 1 || params.n == 9",
        "params.count == -9223372036854775808",
        "params.count + 1 > 9223372036854775806",
        "params.rate == 1",
        "stages.train.metrics.auc > 1000",
        "cause.kind == 'push' || cause.kind == 'manual'",
        "cause.branch == 'main' && cause.commit == ''",
        "cause.commit == '0123456789abcdef0123456789abcdef01234567'",
        "cause.commit.startsWith('abc1234')",
        "cause.branch != 'refs/heads/main'",
        "params.n / 2 == 1",
        "params.n % 2 == 1 && params.n % 2 != 0",
        "-params.n % 2 == -1",
        "params.target + 'x' == 'stagingx'",
        "string(params.force) == 'true'",
        "params.text == params.target",
        "(params.n == 1) == (params.rate > 0.5)",
        "params.force == !params.force || params.force",
        "params.text < 'b' && params.text > 'a'",
        "stages.train.metrics.f1 > 0.5 || params.n == 1",
    ] {
        assert_eq!(fault(text), None, "{text}");
    }
}

/// More or less all runs that the generated expressions can distinguish.
fn runs() -> Vec<Facts> {
    let mut runs = vec![facts()];
    let mut vary = |change: &dyn Fn(&mut Facts, usize), count: usize| {
        runs = runs
            .iter()
            .flat_map(|run| {
                (0..count).map(move |choice| {
                    let mut run = run.clone();
                    change(&mut run, choice);
                    run
                })
            })
            .collect();
    };
    let set = |run: &mut Facts, name: &str, value: ParamValue| {
        run.params.insert(ParamName::new(name).unwrap(), value);
    };
    vary(
        &|run, at| set(run, "n", ParamValue::Integer(at as i64 + 1)),
        3,
    );
    vary(
        &|run, at| set(run, "count", ParamValue::Integer([-1, 2, i64::MAX][at])),
        3,
    );
    vary(
        &|run, at| set(run, "rate", ParamValue::Number([0.0, 0.5, 1.0][at])),
        3,
    );
    vary(
        &|run, at| set(run, "force", ParamValue::Boolean(at == 0)),
        2,
    );
    let target = |at: usize| ParamValue::String(["staging", "production"][at].to_owned());
    vary(&|run, at| set(run, "target", target(at)), 2);
    vary(
        &|run, at| run.cause = ["push", "manual", "schedule"][at].to_owned(),
        3,
    );
    vary(&|run, at| run.branch = ["main", "a"][at].to_owned(), 2);
    let outcomes = [Outcome::Succeeded, Outcome::Failed];
    vary(
        &|run, at| {
            let train = run.stages.values_mut().next().unwrap();
            train.outcome = outcomes[at % 2];
            if at >= 2 {
                train.metrics.clear();
            }
        },
        3,
    );
    runs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_condition_that_holds_in_some_run_is_never_said_to_never_hold(seed in any::<u64>()) {
        thread_local! { static RUNS: Vec<Facts> = runs(); }
        let text = boolean(&mut Dice::new(seed), 3);
        let Ok(condition) = Condition::parse(&text) else { return Ok(()) };
        let faults = declared().check(|scope| condition.faults(scope));
        if faults.iter().any(|fault| fault.message.contains("can never hold")) {
            RUNS.with(|runs| {
                for run in runs {
                    assert_ne!(condition.holds(run), Ok(true), "{text} holds for {run:?}");
                }
            });
        }
    }

    #[test]
    fn a_condition_without_faults_has_no_faults_of_types_when_evaluated(seed in any::<u64>()) {
        let text = boolean(&mut Dice::new(seed), 4);
        let Ok(condition) = Condition::parse(&text) else { return Ok(()) };
        if declared().check(|scope| condition.faults(scope)).is_empty()
            && let Err(fault) = condition.holds(&facts())
        {
            let is_of_values = ["did not report", "divides by zero", "too large", "not a number",
                "not a whole number", "does not fit", "has no image", "bytes of text"]
                .iter().any(|known| fault.problem.contains(known));
            prop_assert!(is_of_values, "{text}: {fault}");
        }
    }
}

#[test]
fn the_generator_of_conditions_finds_both_verdicts() {
    let (mut never, mut taken) = (0, 0);
    for seed in 0..2_000 {
        let text = boolean(&mut Dice::new(seed), 3);
        match fault(&text) {
            Some(fault) if fault.message.contains("can never hold") => never += 1,
            Some(_) => {}
            None => taken += 1,
        }
    }
    assert!(
        never > 50 && taken > 500,
        "{never} never hold, {taken} are taken"
    );
}
