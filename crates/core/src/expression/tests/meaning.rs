//! The meaning of expressions.

use super::*;

#[track_caller]
fn holds(text: &str) -> bool {
    if let Some(fault) = fault(text) {
        panic!("{text}: {fault:?}");
    }
    Condition::parse(text).unwrap().holds(&facts()).unwrap()
}

#[track_caller]
fn problem(text: &str) -> String {
    let condition = Condition::parse(text).unwrap();
    condition.holds(&facts()).unwrap_err().problem
}

#[test]
fn conditions_see_params_cause_and_stages() {
    for text in [
        "stages.train.metrics.auc > 0.95",
        "params.n == 3 && cause.branch == 'main'",
        "${{ stages.train.outcome == \"succeeded\" }}",
        "  params.force  ",
        "stages[\"train-2\"].outcome == 'skipped'",
        "stages['train'].metrics['val/auc'] < stages.train.metrics.auc",
        "params['n'] + 1 == 4",
        "params.n > 2.5 && params.rate <= 1 && 3 == 3.0",
        "params.count < 0 && -params.count == 7 && params.count / 2 == -3 && params.count % 2 == -1",
        "params.target in ['production', 'staging'] && !(params.n in [1, 2])",
        "cause.branch.startsWith('ma') && cause.branch.endsWith('in') && params.text.contains(' ')",
        "size(params.text) == 3 && 'äöü'.size() == 3",
        "string(params.n) + '/' + params.target == '3/production'",
        "int('12') == 12 && double(params.n) / 2.0 == 1.5 && int(2.9) == 2",
        "params.force ? params.n == 3 : params.n == 1",
        "has(stages.train.metrics.auc) && !has(stages.train.metrics.f1)",
        "'val/auc' in stages.train.metrics && !('f1' in stages.train.metrics)",
        "has(stages.train.image) && !has(stages['train-2'].image)",
        "r'\\d' == '\\\\d' && '''a'b''' == \"a'b\" && '\\u00e4' == 'ä' && 0x10 == 16 && 1e3 == 1000",
        "params.n == 1 || params.n == 2 || params.n == 3",
        "has(stages.train.metrics['val/auc'])",
        "params.rate>.2 && .2<params.rate",
        "!params.force || true",
    ] {
        assert!(holds(text), "{text}");
    }
    assert!(!holds("params.n < 3 || cause.kind == 'manual'"));
}

#[test]
fn and_binds_tighter_than_or_and_comparisons_tighter_than_both() {
    assert!(holds(
        "params.force || params.n == 1 && params.n == 2 || false"
    ));
    assert!(holds(
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 10 - 2 - 3 == 5"
    ));
}

#[test]
fn a_value_that_is_not_there_is_a_fault_and_not_false() {
    let missing = "stage `train` did not report the metric `f1`";
    assert_eq!(problem("stages.train.metrics.f1 > 0.5"), missing);
    assert_eq!(
        problem("params.force && stages.train.metrics.f1 > 0.5"),
        missing
    );
    assert_eq!(
        problem("stages['train-2'].image == 'x'"),
        "stage `train-2` has no image, since it did not run"
    );
}

#[test]
fn what_decides_by_itself_decides_despite_a_missing_value() {
    assert!(holds("stages.train.metrics.f1 > 0.5 || params.force"));
    assert!(!holds("stages.train.metrics.f1 > 0.5 && params.n == 1"));
    assert!(holds(
        "has(stages.train.metrics.f1) ? stages.train.metrics.f1 > 0.5 : true"
    ));
}

#[test]
fn what_cannot_be_calculated_is_a_fault() {
    assert_eq!(problem("1 / (params.n - 3) == 0"), "it divides by zero");
    assert_eq!(problem("params.n % 0 == 0"), "it divides by zero");
    for text in [
        "9223372036854775807 + params.n > 0",
        "-9223372036854775808 - params.n < 0",
        "9223372036854775807 * params.n > 0",
        "(-9223372036854775807 - 1) / -1 > params.n",
    ] {
        assert_eq!(problem(text), "a whole number becomes too large", "{text}");
    }
    assert_eq!(
        problem("int(params.text) == 1"),
        "`a b` is not a whole number"
    );
}

#[test]
fn large_numbers_are_compared_exactly() {
    assert!(holds("9007199254740993 > 9007199254740992.0"));
    assert!(holds("9223372036854775807 < 9223372036854775808.0"));
    assert!(holds("-9223372036854775808 >= -9223372036854775808.0"));
}

#[test]
fn templates_mix_text_and_values() {
    let render = |text: &str| Template::parse(text).unwrap().render(&facts()).unwrap();
    assert_eq!(
        render("n=${{ params.n }}, on ${{cause.branch}}, ${{ params.rate }} ${{ params.force }}"),
        "n=3, on main, 0.25 true"
    );
    assert_eq!(render("$VAR ${X} }} {{"), "$VAR ${X} }} {{");
    assert_eq!(render(""), "");
    assert_eq!(render("${{ params.n + 1 }}${{ 'a' + 'b' }}"), "4ab");
}

#[test]
fn a_text_with_values_that_are_too_long_is_refused_while_it_is_made() {
    let mut facts = facts();
    let long = ParamValue::String("x".repeat(30_000));
    facts.params.insert(ParamName::new("text").unwrap(), long);
    let twice = Template::parse("${{ params.text }}${{ params.text }}").unwrap();
    assert_eq!(twice.render(&facts).unwrap().len(), 60_000);
    for text in [
        "${{ params.text }}${{ params.text }}${{ params.text }}",
        "${{ params.text + params.text + params.text }}",
    ] {
        let fault = Template::parse(text).unwrap().render(&facts).unwrap_err();
        assert_eq!(fault.problem, "it makes more than 65536 bytes of text");
    }
}

#[test]
fn a_stored_text_that_is_not_an_expression_any_more_has_no_value_and_says_what_to_do() {
    for text in [
        "params.force and params.n == 3",
        "[[[1]*9999]*9999]*9999 == [[[1]*9999]*9999]*9999",
        "params.text|length > 0",
        "cause.kind",
        "",
    ] {
        let fault = Condition::stored(text).holds(&facts()).unwrap_err();
        assert_eq!(fault.expression, text);
    }
    let fault = Condition::stored("params.force and true").holds(&facts());
    assert_eq!(
        fault.unwrap_err().to_string(),
        "`params.force and true` cannot be evaluated: `and` is not an operator here (write `&&`); fix it in the DAG file and push it again"
    );
    let template = Template::stored("x ${{ params.text ~ 'x' }}");
    assert!(template.render(&facts()).is_err());
}

#[test]
fn copies_of_a_template_share_its_text() {
    let template = Template::parse(&"x".repeat(1_000)).unwrap();
    assert!(std::ptr::eq(template.source(), template.clone().source()));
}
