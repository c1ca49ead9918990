//! Paths to values of the run: `params.x`, `cause.kind`, `stages.train.metrics["val/auc"]`.

use std::ops::Range;

use super::ExpressionFault;
use super::dialect;
use super::parse::{Parser, node};
use super::syntax::{CauseField, Expr, Function, Node, Variable};
use super::token::Kind;
use crate::dag::nearest;

/// The names at the top.
const ROOTS: [&str; 3] = ["params", "cause", "stages"];

/// The fields of each of `stages`.
const STAGE_FIELDS: [&str; 3] = ["outcome", "metrics", "image"];

/// A name within a path, and where it stands with its dot or brackets.
struct Part {
    name: String,
    span: Range<usize>,
}

/// Reads the rest of a path that begins with `root`.
pub(super) fn read(
    parser: &mut Parser<'_>,
    root: &str,
    span: Range<usize>,
) -> Result<Expr, ExpressionFault> {
    if !ROOTS.contains(&root) {
        return Err(unknown_root(parser, root, span));
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut end = span.end;
    loop {
        let start = parser.span().start;
        if parser.take(".") {
            let at = parser.span();
            let name = match parser.peek().clone() {
                Kind::Word(name) => name,
                _ => return Err(parser.unexpected("a name")),
            };
            parser.advance();
            if matches!(parser.peek(), Kind::Mark("(")) {
                let is_method = Function::METHODS.iter().any(|(word, _)| *word == name);
                if is_method || !parts.is_empty() {
                    let on = lower(parser, root, &parts, span.start..end)?;
                    return parser.method(on, &name, at);
                }
            }
            end = at.end;
            parts.push(Part {
                name,
                span: start..end,
            });
        } else if parser.take("[") {
            let Kind::Text(name) = parser.peek().clone() else {
                let mut fault = parser.unexpected("a name in quotes");
                fault.help = Some("as in stages[\"train-2\"]".to_owned());
                return Err(fault);
            };
            parser.advance();
            end = parser.span().end;
            if !parser.take("]") {
                return Err(parser.unexpected("`]`"));
            }
            parts.push(Part {
                name: name.into(),
                span: start..end,
            });
        } else {
            return lower(parser, root, &parts, span.start..end);
        }
    }
}

fn lower(
    parser: &Parser<'_>,
    root: &str,
    parts: &[Part],
    span: Range<usize>,
) -> Result<Expr, ExpressionFault> {
    let fault = |part: &Part, message: String, help: Option<String>| {
        let mut fault = ExpressionFault::new(part.span.clone(), message);
        fault.help = help;
        Err(fault)
    };
    let name = |at: usize| parts.get(at).map(|part| part.name.as_str());
    let short = |text: &str| super::shown(text).to_string();
    let (found, used) = match (root, name(0), name(1), name(2)) {
        (_, None, ..) => {
            let example = match root {
                "params" => "as in params.epochs",
                "cause" => "as in cause.branch",
                _ => "as in stages.train.outcome",
            };
            let mut fault = ExpressionFault::new(span, format!("`{root}` is not a value"));
            fault.help = Some(format!("name one of its values, {example}"));
            return Err(fault);
        }
        ("params", Some(name), ..) => (Node::Variable(Variable::Param(name.into())), 1),
        ("cause", Some(name), ..) => {
            let known = CauseField::ALL.iter().find(|(word, _)| *word == name);
            let Some((_, field)) = known else {
                let words = CauseField::ALL.map(|(word, _)| word);
                let message = format!("`cause` has no `{}`", short(name));
                return fault(&parts[0], message, Some(meant(name, &words)));
            };
            (Node::Variable(Variable::Cause(*field)), 1)
        }
        (_, Some(stage), None, _) => {
            if let Some(dashed) = dashed(parser, parts[0].span.start + 1) {
                let message = format!("`-` means minus here, so `{stage}` is read as a stage");
                let help = format!("write `stages[\"{dashed}\"]`");
                return fault(&parts[0], message, Some(help));
            }
            let message = format!("stage `{}` is not a value", short(stage));
            let help = "name one of its values: outcome, metrics.NAME or image".to_owned();
            return fault(&parts[0], message, Some(help));
        }
        (_, Some(stage), Some("outcome"), _) => {
            (Node::Variable(Variable::Outcome(stage.into())), 2)
        }
        (_, Some(stage), Some("image"), _) => (Node::Variable(Variable::Image(stage.into())), 2),
        (_, Some(stage), Some("metrics"), None) => (Node::Metrics(stage.into()), 2),
        (_, Some(stage), Some("metrics"), Some(metric)) => (
            Node::Variable(Variable::Metric(stage.into(), metric.into())),
            3,
        ),
        (_, Some(_), Some(field), _) => {
            let help = match field {
                "result" | "status" | "state" | "conclusion" => {
                    "did you mean `outcome`?".to_owned()
                }
                _ if nearest(field, STAGE_FIELDS).is_some() => meant(field, &STAGE_FIELDS),
                _ => format!(
                    "{}; a metric is `metrics.NAME`",
                    meant(field, &STAGE_FIELDS)
                ),
            };
            let message = format!("a stage has no `{}`", short(field));
            return fault(&parts[1], message, Some(help));
        }
    };
    if let Some(more) = parts.get(used) {
        let message = format!("this value has no field `{}`", short(&more.name));
        return fault(more, message, None);
    }
    node(span, found)
}

fn meant(written: &str, known: &[&str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there is {}", known.join(", ")),
    }
}

/// The whole name that begins at a byte, where dashes are part of it: `train-2`.
fn dashed<'a>(parser: &Parser<'a>, start: usize) -> Option<&'a str> {
    let rest = parser.source.get(start..)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .unwrap_or(rest.len());
    let name = rest[..end].trim_end_matches('-');
    name.contains('-').then_some(name)
}

fn unknown_root(parser: &Parser<'_>, root: &str, span: Range<usize>) -> ExpressionFault {
    if let Some(fault) = dialect::operator(root, span.clone()) {
        return fault;
    }
    if let Some(fault) = dialect::constant(root, span.clone()) {
        return fault;
    }
    let mut fault = ExpressionFault::new(
        span.clone(),
        format!("there is no `{}` here", super::shown(root)),
    );
    // `metrics.val/auc`: it looks like a name, but is read as a sum or a quotient.
    let before = &parser.source[..span.start];
    let joined = before.ends_with(['-', '/'])
        && before[..before.len() - 1].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    fault.help = Some(if joined {
        "a name with `-` or `/` in it goes into brackets, as in stages.train.metrics[\"val/auc\"]"
            .to_owned()
    } else if let Some(help) = dialect::root(root, &parser.source[span.end..]) {
        help
    } else {
        match nearest(root, ROOTS) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!(
                "there is params, cause and stages; a text goes into quotes, as in \"{}\"",
                super::shown(root)
            ),
        }
    });
    fault
}
