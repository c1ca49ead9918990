//! Values that may hold `${{ … }}`, and those that may not.

use trainyard_core::expression::{Condition, ExpressionFault, Template};

use super::fields;
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::Node;

/// A text with expressions.
pub(super) fn template(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<Template> {
    let text = fields::text(node, what, sink)?;
    Template::parse(text)
        .map_err(|fault| say(node, what, fault, sink))
        .ok()
}

pub(super) fn condition(node: &Node, sink: &mut Sink<'_>) -> Option<Condition> {
    let text = fields::text(node, "`if`", sink)?;
    Condition::parse(text)
        .map_err(|fault| say(node, "`if`", fault, sink))
        .ok()
}

pub(super) fn say(node: &Node, what: &str, fault: ExpressionFault, sink: &mut Sink<'_>) {
    let span = fields::part(node, &fault.range, sink);
    let message = format!("in {what}: {}", fault.message);
    sink.error(Code::InvalidValue, span, message)
        .maybe_help(fault.help);
}

/// A text without expressions.
pub(super) fn plain<'n>(node: &'n Node, what: &str, sink: &mut Sink<'_>) -> Option<&'n str> {
    let text = fields::text(node, what, sink)?;
    if let Some(at) = text.find("${{") {
        let end = text[at..].find("}}").map_or(at + 3, |close| at + close + 2);
        let span = fields::part(node, &(at..end), sink);
        sink.error(Code::InvalidValue, span, format!("{what} cannot hold `${{{{ … }}}}`")).help(
            "put the value into `env:` and use the variable: what comes from outside never becomes part of a script",
        );
        return None;
    }
    Some(text)
}
