//! Words that people bring from other languages: each gets the right word, and none is taken.

use super::*;

macro_rules! shows {
    ($reported:expr) => {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!($reported);
        });
    };
}

/// The fault of each text, the part at fault between `»` and `«`, and what to do.
fn reported(texts: &[&str]) -> String {
    let mut reported = String::new();
    for text in texts {
        let fault = fault(text).unwrap_or_else(|| panic!("{text} is taken"));
        let (start, end) = (fault.range.start, fault.range.end);
        reported.push_str(&format!(
            "{}»{}«{}\n    {}",
            &text[..start],
            &text[start..end],
            &text[end..],
            fault.message
        ));
        if let Some(help) = &fault.help {
            reported.push_str(&format!("\n    {help}"));
        }
        reported.push('\n');
    }
    reported
}

#[test]
fn operators_of_other_languages_get_the_right_one() {
    shows!(reported(&[
        "params.force and params.n == 3",
        "params.force or params.n == 3",
        "not params.force",
        "params.n not in [1, 2]",
        "params.target is 'production'",
        "params.target = 'production'",
        "params.target === 'production'",
        "params.target <> 'production'",
        "params.target !== 'production'",
        "params.force & params.force",
        "params.force | params.force",
        "params.text|length > 0",
        "params.text | lower == 'x'",
        "params.text ~ 'x' == 'y'",
        "cause.branch =~ 'x'",
        "params.n ** 2 == 4",
        "params.n // 2 == 1",
        "params.n => 2",
        "params.force if params.n == 3 else false",
        "params.target matches 'x'",
        "cause.branch.matches('release/.*')",
        "params.n in (1, 2)",
        "params.target == `production`",
        "params.force == True",
        "params.text == None",
        "params.text != null",
        "${{ params.force }} && ${{ params.force }}",
        "params.force; true",
    ]));
}

#[test]
fn functions_of_other_services_get_the_right_one() {
    shows!(reported(&[
        "always()",
        "always",
        "failure && params.force",
        "failure()",
        "success() && params.force",
        "cancelled()",
        "len(params.text) > 1",
        "cause.branch.startswith('x')",
        "cause.branch.starts_with('x')",
        "[1, 2].exists(x, x == 1)",
        "[1].map(x, x)",
        "sizes(params.text) == 1",
        "has(params.n == 3)",
        "size(params.text, 1) == 1",
        "range(9999) == 1",
        "hashFiles('x') == 'y'",
    ]));
}

#[test]
fn names_that_do_not_exist_get_the_nearest() {
    shows!(reported(&[
        "params.m == 3",
        "params.forced",
        "param.n == 3",
        "github.ref == 'x'",
        "branch == 'main'",
        "main == cause.branch",
        "cause.ref == 'main'",
        "cause.kin == 'push'",
        "stages.trian.outcome == 'failed'",
        "stages.report.outcome == 'failed'",
        "stages.train.result == 'failed'",
        "stages.train.auc > 0.5",
        "stages.train-2.outcome == 'failed'",
        "stages.2nd.outcome == 'failed'",
        "stages.2.outcome == 'failed'",
        "stages.train.metrics.val/auc > 0.5",
        "stages.train.metrics.val-auc > 0.5",
        "stages['train-2'].metrics.auc > 0.5",
        "stages.train",
        "params",
        "params.n.x == 1",
        "stages.train.metrics.auc.mean > 1.0",
        "stages[params.text].outcome == 'failed'",
    ]));
}

#[test]
fn types_that_do_not_fit_are_reported_with_what_to_write() {
    shows!(reported(&[
        "params.n == '3'",
        "params.force == 'true'",
        "params.text > 3",
        "params.text",
        "params.n",
        "params.n && params.force",
        "!params.text",
        "params.n + 1.5 > 2.0",
        "stages.train.metrics.auc * 2 > 1",
        "params.text + params.n == 'x3'",
        "-params.text == 'x'",
        "params.force < true",
        "1 < params.n < 3",
        "params.force ? params.n : params.text",
        "params.n in 'abc'",
        "'a' in params.text",
        "params.n in []",
        "params.n in ['1']",
        "[1] == [1]",
        "stages.train.metrics == 1",
        "3 in stages.train.metrics",
        "params.n.startsWith('x')",
        "int(params.force) == 1",
        "params.rate % 2.0 == 1.0",
    ]));
}

#[test]
fn texts_that_are_not_among_the_choices_get_the_nearest() {
    shows!(reported(&[
        "stages.train.outcome == 'success'",
        "stages.train.outcome != 'sucess'",
        "stages.train.outcome in ['failed', 'error']",
        "'timeout' == stages.train.outcome",
        "cause.kind == 'manuall'",
        "cause.kind == 'cron'",
        "params.target == 'prod'",
        "params.target == 'Production'",
    ]));
}

#[test]
fn half_an_expression_is_reported_where_it_ends_or_breaks() {
    shows!(reported(&[
        "",
        "${{ }}",
        "params.n ==",
        "&& params.force",
        "(params.force",
        "params.force)",
        "params.n == 3 params.force",
        "'a' 'b'",
        "params.text == 'x",
        "params.text == 'x\\q'",
        "params.text == '\\0'",
        "params.text == 'a\\x00'",
        "params.n == 3x",
        "params.n == 3u",
        "params.n == 99999999999999999999",
        "params.rate == 1e999",
        "params.text == b'x'",
        "params.force @@ true",
        "params.force && ü",
        "params.force # today",
        "{'a': 1} == 1",
        "params.force ? true",
        "params..n",
        "1 + * 2 == 3",
    ]));
}

#[test]
fn faults_of_templates_say_where() {
    let fault = |text: &str| Template::parse(text).unwrap_err();
    assert_eq!(fault("a ${{ x").range, 2..7);
    assert_eq!(
        fault("a ${{ params.n }} ${{ params.n and 1 }}").range,
        31..34
    );
    assert_eq!(fault("a ${{ }}").message, "the expression is empty");
    let many = "${{ 1 }}".repeat(101);
    assert_eq!(fault(&many).message, "a text has at most 100 expressions");
    let condition = Condition::parse(" ${{  params.n and 1 }}").unwrap_err();
    assert_eq!(condition.range, 15..18);
}
