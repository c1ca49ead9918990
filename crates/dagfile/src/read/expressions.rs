//! Values that may hold `${{ … }}`, and those that may not.

use trainyard_core::expression::{Condition, ExpressionFault, Template};

use super::FileReader;
use crate::diagnostic::DiagnosticCode as Code;
use crate::tree::Node;

impl FileReader<'_> {
    /// A text with expressions.
    pub(super) fn template(&mut self, node: &Node, what: &str) -> Option<Template> {
        let text = self.text(node, what)?;
        Template::parse(text)
            .map_err(|fault| self.bad_expression(node, what, fault))
            .ok()
    }

    pub(super) fn condition(&mut self, node: &Node) -> Option<Condition> {
        let text = self.text(node, "`if`")?;
        Condition::parse(text)
            .map_err(|fault| self.bad_expression(node, "`if`", fault))
            .ok()
    }

    pub(super) fn bad_expression(&mut self, node: &Node, what: &str, fault: ExpressionFault) {
        let span = self.part(node, &fault.range);
        let message = format!("in {what}: {}", fault.message);
        self.sink
            .error(Code::InvalidValue, span, message)
            .maybe_help(fault.help);
    }

    /// A text without expressions.
    pub(super) fn plain<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = self.text(node, what)?;
        if let Some(at) = text.find("${{") {
            let end = text[at..].find("}}").map_or(at + 3, |close| at + close + 2);
            let span = self.part(node, &(at..end));
            self.sink.error(Code::InvalidValue, span, format!("{what} cannot hold `${{{{ … }}}}`")).help(
            "put the value into `env:` and use the variable: what comes from outside never becomes part of a script",
        );
            return None;
        }
        Some(text)
    }
}
