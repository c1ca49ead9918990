//! Words and marks of Python, Jinja, SQL, shells and other CI services, and the right one for each. None of them is
//! taken in place of the right one.

use std::ops::Range;

use super::{ExpressionFault, shown};

/// Marks of other languages at the beginning of `rest`: mark, and what to write.
const MARKS: [(&str, &str); 18] = [
    ("===", "write `==`"),
    ("!==", "write `!=`"),
    (
        "=~",
        "write `startsWith`, `endsWith` or `contains`, as in cause.branch.startsWith(\"release/\")",
    ),
    ("=>", "write `>=`"),
    ("=<", "write `<=`"),
    ("<>", "write `!=`"),
    ("**", "write the product out"),
    (
        "//",
        "write `/` to divide; comments belong into the YAML, after `#`",
    ),
    ("??", "write `has(…) ? … : …`"),
    (
        "${{",
        "one `${{ … }}` around the whole is enough, and `if` needs none",
    ),
    ("}}", "remove it, or open it with `${{`"),
    (
        "$",
        "values of the run are `params.NAME`, `cause.NAME` and `stages.NAME.outcome`",
    ),
    ("~", "write `+` to join texts"),
    ("`", "write texts in single or double quotes"),
    ("{", "maps are not supported; a list is written `[a, b]`"),
    ("#", "comments belong into the YAML, outside the quotes"),
    (";", "one expression is all; join two with `&&`"),
    ("^", "write `!=` for one of two, and not both"),
];

/// The fault of a mark that another language has.
pub(super) fn mark(rest: &str, at: usize) -> Option<ExpressionFault> {
    let fault = |mark: &str, help: &str| {
        let range = at..at + mark.len();
        let mut fault = ExpressionFault::new(range, format!("`{mark}` is not an operator here"));
        fault.help = Some(help.to_owned());
        Some(fault)
    };
    if let Some((found, help)) = MARKS.iter().find(|(mark, _)| rest.starts_with(mark)) {
        return fault(found, help);
    }
    if rest.starts_with('=') && !rest.starts_with("==") {
        return fault("=", "write `==` to compare");
    }
    if rest.starts_with('&') && !rest.starts_with("&&") {
        return fault("&", "write `&&`");
    }
    let piped = rest
        .strip_prefix('|')
        .filter(|after| !after.starts_with('|'))?;
    let filter = piped.trim_start();
    let end = filter
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(filter.len());
    let known = FILTERS.iter().find(|(name, _)| *name == &filter[..end]);
    match known {
        Some((name, instead)) => {
            let mut fault = fault("|", instead)?;
            fault.message = format!("there are no filters here, so not `|{name}` either");
            Some(fault)
        }
        None => fault("|", "write `||`"),
    }
}

/// Jinja's filters that have an equivalent here.
const FILTERS: [(&str, &str); 12] = [
    ("length", "write `size(…)`"),
    ("count", "write `size(…)`"),
    ("string", "write `string(…)`"),
    ("int", "write `int(…)`"),
    ("float", "write `double(…)`"),
    ("default", "write `has(…) ? … : …`"),
    ("d", "write `has(…) ? … : …`"),
    (
        "lower",
        "compare with each of the texts that you mean: `x in [\"a\", \"A\"]`",
    ),
    (
        "upper",
        "compare with each of the texts that you mean: `x in [\"a\", \"A\"]`",
    ),
    ("trim", "leave it out; values are compared as they are"),
    ("abs", "write `x < 0 ? -x : x`"),
    ("join", "write `+` to join texts"),
];

/// Words in the place of an operator or a value: the word, and what to write.
const WORDS: [(&str, &str); 22] = [
    ("and", "write `&&`"),
    ("AND", "write `&&`"),
    ("or", "write `||`"),
    ("OR", "write `||`"),
    (
        "not",
        "write `!`, as in `!params.verbose` or `!(x in [\"a\", \"b\"])`",
    ),
    ("NOT", "write `!`, as in `!params.verbose`"),
    ("is", "write `==`; whether a value is there says `has(…)`"),
    ("eq", "write `==`"),
    ("ne", "write `!=`"),
    ("lt", "write `<`"),
    ("gt", "write `>`"),
    ("le", "write `<=`"),
    ("ge", "write `>=`"),
    ("mod", "write `%`"),
    (
        "matches",
        "write `startsWith`, `endsWith` or `contains`, as in cause.branch.startsWith(\"release/\")",
    ),
    (
        "like",
        "write `startsWith`, `endsWith` or `contains`, as in cause.branch.startsWith(\"release/\")",
    ),
    ("if", "write `condition ? one : other`"),
    ("else", "write `condition ? one : other`"),
    ("then", "write `condition ? one : other`"),
    ("when", "write `condition ? one : other`"),
    (
        "for",
        "loops are not supported; write the cases out with `||` or `in`",
    ),
    ("xor", "write `!=` for one of two, and not both"),
];

/// Constants of other languages.
const CONSTANTS: [(&str, &str); 13] = [
    ("True", "write `true`"),
    ("TRUE", "write `true`"),
    ("yes", "write `true`"),
    ("on", "write `true`"),
    ("False", "write `false`"),
    ("FALSE", "write `false`"),
    ("no", "write `false`"),
    ("off", "write `false`"),
    (
        "null",
        "whether a value is there says `has(…)`, as in has(stages.train.metrics.auc)",
    ),
    (
        "None",
        "whether a value is there says `has(…)`, as in has(stages.train.metrics.auc)",
    ),
    (
        "none",
        "whether a value is there says `has(…)`, as in has(stages.train.metrics.auc)",
    ),
    (
        "nil",
        "whether a value is there says `has(…)`, as in has(stages.train.metrics.auc)",
    ),
    (
        "undefined",
        "whether a value is there says `has(…)`, as in has(stages.train.metrics.auc)",
    ),
];

/// The fault of a word that is an operator elsewhere.
pub(super) fn operator(word: &str, range: Range<usize>) -> Option<ExpressionFault> {
    let (_, help) = WORDS.iter().find(|(known, _)| *known == word)?;
    let mut fault = ExpressionFault::new(range, format!("`{word}` is not an operator here"));
    fault.help = Some((*help).to_owned());
    Some(fault)
}

/// The fault of a word that is a value elsewhere.
pub(super) fn constant(word: &str, range: Range<usize>) -> Option<ExpressionFault> {
    let (_, help) = CONSTANTS.iter().find(|(known, _)| *known == word)?;
    let mut fault = ExpressionFault::new(range, format!("there is no `{word}` here"));
    fault.help = Some((*help).to_owned());
    Some(fault)
}

/// Names at the top that other services have; `rest` is what follows it.
pub(super) fn root(word: &str, rest: &str) -> Option<String> {
    let field = rest.strip_prefix('.').map_or("", |rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        &rest[..end]
    });
    let help = match (word, field) {
        ("secrets", "") => {
            "`secrets: [NAME]` in the stage makes a secret an environment variable of it".to_owned()
        }
        ("secrets", name) => {
            let name = shown(name);
            format!(
                "remove it, and write `secrets: [{name}]` in the stage: `${name}` is then an environment variable"
            )
        }
        ("env", "") => "environment variables are the shell's: write `$NAME` in `run`".to_owned(),
        ("env", name) => {
            let name = shown(name);
            format!("environment variables are the shell's: write `${name}` in `run`")
        }
        ("github" | "gitlab" | "git" | "event" | "trigger", field) => {
            match CONTEXT.iter().find(|(known, ..)| known.contains(&field)) {
                Some((_, "", variable)) => format!("`{variable}` in `run` has it"),
                Some((_, value, variable)) => {
                    format!("write `{value}`, or `{variable}` in `run`")
                }
                None => "what started the run is in `cause`: kind, branch, commit, logical_time"
                    .to_owned(),
            }
        }
        ("matrix", _) => "a stage runs once; write one stage for each value".to_owned(),
        ("needs" | "steps" | "jobs" | "tasks" | "stage", _) => {
            "earlier stages are in `stages`, as in stages.train.outcome".to_owned()
        }
        ("inputs" | "vars" | "parameters" | "param", _) => "parameters are in `params`".to_owned(),
        ("branch" | "commit" | "kind" | "logical_time", _) => {
            format!("it is in `cause`: write `cause.{word}`")
        }
        ("outcome" | "metrics" | "image", _) => {
            "it belongs to a stage, as in stages.train.outcome".to_owned()
        }
        // Functions of other services, without their parentheses.
        ("always" | "cancelled" | "failure" | "failed" | "success" | "succeeded", "") => {
            return function(word).map(str::to_owned);
        }
        _ => return None,
    };
    Some(help)
}

/// Facts of a run in other services: their names, our value in expressions, and our variable in scripts.
const CONTEXT: [(&[&str], &str, &str); 6] = [
    (
        &["sha", "commit", "commit_sha", "after", "head_sha"],
        "cause.commit",
        "$TRAINYARD_COMMIT",
    ),
    (
        &["ref", "ref_name", "head_ref", "branch", "commit_branch"],
        "cause.branch",
        "$TRAINYARD_BRANCH",
    ),
    (&["event_name", "event"], "cause.kind", "$TRAINYARD_CAUSE"),
    (&["run_id", "run_number"], "", "$TRAINYARD_RUN_ID"),
    (&["run_attempt"], "", "$TRAINYARD_ATTEMPT"),
    (&["workspace"], "", "$PWD"),
];

/// Functions that people expect.
pub(super) fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "always" | "cancelled" => {
            "write `run_on: [always]` in the stage: it then runs however the others ended"
        }
        "failure" | "failed" => {
            "write `run_on: [failed]` in the stage: it then runs after a failure"
        }
        "success" | "succeeded" => {
            "leave it out: a stage runs only after success unless `run_on` says otherwise"
        }
        "len" | "length" | "count" => "write `size(…)`",
        "str" => "write `string(…)`",
        "float" => "write `double(…)`",
        "defined" | "isset" => "write `has(…)`",
        "startswith" | "starts_with" | "hasPrefix" => "write `x.startsWith(y)`",
        "endswith" | "ends_with" | "hasSuffix" => "write `x.endsWith(y)`",
        "includes" => "write `x.contains(y)`",
        "matches" => "patterns are not supported; write startsWith, endsWith or contains",
        "all" | "exists" | "exists_one" | "map" | "filter" | "format" | "range" => {
            "loops over lists are not supported; write the cases out with `&&`, `||` or `in`"
        }
        "hashFiles" => "an expression reads no files; let `run` decide by them",
        _ => return None,
    })
}
