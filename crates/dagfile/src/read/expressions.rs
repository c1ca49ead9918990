//! Values that may hold `${{ … }}`, and those that may not.

use trainyard_core::expression::{Condition, Template};

use super::fields;
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::Node;

/// A text with expressions.
pub(super) fn template(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<Template> {
    let text = fields::text(node, what, sink)?;
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(fault) => {
            let span = fields::part(node, &fault.range);
            sink.error(
                Code::InvalidValue,
                span,
                format!("in {what}: {}", fault.message),
            );
            None
        }
    }
}

/// A condition.
pub(super) fn condition(node: &Node, sink: &mut Sink<'_>) -> Option<Condition> {
    let text = fields::text(node, "`if`", sink)?;
    match Condition::parse(text) {
        Ok(condition) => Some(condition),
        Err(fault) => {
            let span = fields::part(node, &fault.range);
            sink.error(
                Code::InvalidValue,
                span,
                format!("in `if`: {}", fault.message),
            );
            None
        }
    }
}

/// A text without expressions.
pub(super) fn plain<'n>(node: &'n Node, what: &str, sink: &mut Sink<'_>) -> Option<&'n str> {
    let text = fields::text(node, what, sink)?;
    if let Some(at) = text.find("${{") {
        let end = text[at..].find("}}").map_or(at + 3, |close| at + close + 2);
        let span = fields::part(node, &(at..end));
        sink.error(Code::InvalidValue, span, format!("{what} cannot hold `${{{{ … }}}}`")).help(
            "put the value into `env:` and use the variable: what comes from outside never becomes part of a script",
        );
        return None;
    }
    Some(text)
}
