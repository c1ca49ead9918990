//! Every expression costs little, whatever its text, and no part of its text is ignored.

use proptest::prelude::*;

use super::super::evaluate::{TEXT_AT_MOST, measured};
use super::super::parse;
use super::generate::{Dice, boolean, hostile};
use super::*;

/// Runs on a stack half as large as those of the daemon's threads.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

/// Facts with the longest texts that parameters can hold.
fn large_facts() -> Facts {
    let mut facts = facts();
    let long = ParamValue::String("x".repeat(crate::param::LONGEST_TEXT));
    facts.params.insert(ParamName::new("text").unwrap(), long);
    facts
}

/// Evaluates, checks and renders a text if it is an expression, and compares the cost with the text's size.
fn check(text: &str, facts: &Facts) {
    let Ok(expr) = parse::parse(text) else { return };
    let (_, cost) = measured(&expr, facts);
    // A node takes a byte at least, and is visited once at most.
    assert!(cost.steps <= text.len(), "{cost:?}: {text}");
    assert!(cost.text <= TEXT_AT_MOST, "{cost:?}: {text}");
    if let Ok(condition) = Condition::parse(text) {
        let _ = condition.holds(facts);
        let _ = declared().check(|scope| condition.faults(scope));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_takes_no_more_steps_than_it_has_bytes(seed in any::<u64>()) {
        thread_local! { static FACTS: Facts = large_facts(); }
        let mut dice = Dice::new(seed);
        let text = if seed % 2 == 0 { hostile(&mut dice, LONGEST) } else { boolean(&mut dice, 6) };
        FACTS.with(|facts| check(&text, facts));
    }

    #[test]
    fn text_after_a_whole_expression_is_always_a_fault(seed in any::<u64>(), more in "[a-z'\"0-9@#$&|~`;{}()\\[\\]\\\\ä🚂=]{1,6}") {
        let text = boolean(&mut Dice::new(seed), 2);
        prop_assert!(Condition::parse(&text).is_ok(), "{text}");
        // Either it is a fault, or the expression goes on: then its tree reaches to the last byte.
        let longer = format!("({text}) {more}");
        if let Ok(expr) = parse::parse(&longer) {
            prop_assert_eq!(expr.span, 0..longer.len());
            let begins = ["&&", "||", "==", "!=", "<", ">", "?", "in", "+", "-", "*", "/", "%"];
            prop_assert!(begins.iter().any(|operator| more.starts_with(operator)), "{longer}");
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        for text in [text.to_string(), format!("${{{{{text}}}}}"), format!("params.text == '{text}'")] {
            if let Err(fault) = Condition::parse(&text) {
                prop_assert!(text.get(fault.range.clone()).is_some(), "{fault:?}");
            }
            if let Err(fault) = Template::parse(&text) {
                prop_assert!(text.get(fault.range.clone()).is_some(), "{fault:?}");
            }
        }
    }
}

#[test]
fn what_was_costly_before_is_not_an_expression() {
    for text in [
        "[[[1]*9999]*9999]*9999 == [[[1]*9999]*9999]*9999",
        "range(9999)|map('string')|join|length > 0",
        "('x' * 90000000)|length > 0",
        "('x' * 90000000 ~ 'y')|length > 0",
        "'x' * 90000000 == 'y'",
        "'x'|indent(900000000)|length > 0",
        "'%900000000d'|format(1)|length > 0",
        "(9 ** 9 ** 9 ** 9) > 0",
        "[1, 2].map(x, [x, x]).size() > 0",
        "[1] * 9999 == [1]",
        "[1] + [1] == [1, 1]",
    ] {
        assert!(fault(text).is_some(), "{text} is taken");
    }
}

#[test]
fn nothing_after_a_quoted_text_is_dropped() {
    let deploys = "params.target == 'production' && cause.branch == 'main' && params.force";
    let condition = Condition::parse(deploys).unwrap();
    assert!(condition.holds(&facts()).unwrap());
    let mut feature = facts();
    feature.branch = "feature".to_owned();
    assert!(!condition.holds(&feature).unwrap());
    for rest in [
        "& x", "@@ x", "# x", "; x", "| x", "~ x", "$ x", "\\ x", "x", "'x'", ")", "]", "}",
    ] {
        let text = format!("params.target == 'production' {rest}");
        assert!(Condition::parse(&text).is_err(), "{text} is taken");
    }
}

#[test]
fn the_deepest_and_longest_expressions_do_no_harm_on_a_small_stack() {
    on_a_small_stack(|| {
        let facts = large_facts();
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("!", "true", ""),
            ("-", "1", ""),
            ("- ", "params.n", ""),
            ("true?true:", "true", ""),
            ("size(", "'x'", ")"),
            ("string(", "1", ")"),
            ("1+", "1", ""),
            ("1 in [", "1", "]"),
            ("'a'+", "'b'", ""),
            ("params.text+", "'b'", ""),
            ("true||", "true", ""),
            ("true&&", "true", ""),
            ("1==", "1", ""),
            ("(true)==", "true", ""),
            ("", "params", ".a"),
            ("", "stages", "['a']"),
            ("", "'a'", ".size()"),
            ("{", "1", "}"),
            ("(1+", "1", ")"),
            ("has(", "params.n", ")"),
            ("'", "", "'"),
            ("\"", "\\", "\""),
            ("true?(true?", "true", ":true):true"),
            ("params.force==(", "true", ")"),
            ("!(true&&", "true", ")"),
        ] {
            for times in [1, 8, 16, 22, 23, 24, 25, 64, 400, 20_000] {
                let text = open.repeat(times) + middle + &close.repeat(times);
                check(&text, &facts);
                if text.len() > LONGEST {
                    assert!(Condition::parse(&text).is_err());
                }
            }
        }
    });
}

#[test]
fn finding_out_what_never_holds_ends_for_conditions_that_branch_at_every_turn() {
    // Each `==` of truths reads both sides twice, and so does each `?` within a condition.
    let mut text = "params.force".to_owned();
    while text.len() < 900 {
        text = format!("(params.force=={text})");
        if text.matches('(').count() > 20 {
            break;
        }
    }
    let nested = (0..20).fold("params.force".to_owned(), |inner, _| {
        format!("({inner}?params.force:params.n>2)")
    });
    for text in [text, nested] {
        let condition = Condition::parse(&text).unwrap();
        let declared = declared();
        let spent = declared.check(|scope| {
            assert_eq!(condition.faults(scope), [], "{text}");
            // Once the budget is spent, conditions are not searched any more, but still taken.
            let begun = std::time::Instant::now();
            for _ in 0..1_000 {
                assert_eq!(condition.faults(scope), []);
            }
            begun.elapsed()
        });
        // The bound is on work; this only checks that there is one, on a busy machine and unoptimised.
        assert!(spent < std::time::Duration::from_secs(20), "{spent:?}");
    }
}
