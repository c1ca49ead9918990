//! `gate`.

use trainyard_core::gate::GateRule;
use trainyard_core::name::MetricName;

use super::FileReader;
use super::fields::Fields;
use super::places::StagePlaces;
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
use crate::tree::{Node, Value};

impl FileReader<'_> {
    pub(super) fn gate(&mut self, fields: &Fields<'_>, places: &mut StagePlaces) -> Vec<GateRule> {
        let mut rules = Vec::new();
        let Some(node) = fields.get("gate") else {
            return rules;
        };
        let items: Vec<&Node> = match &node.value {
            Value::Map(_) => vec![node],
            _ => self
                .list(node, "`gate`")
                .unwrap_or_default()
                .iter()
                .collect(),
        };
        for item in items {
            let Some(inner) = self.fields(item, "a gate", document::Gate::FORM) else {
                continue;
            };
            let metric = match inner.get("metric") {
                Some(node) => self.name::<MetricName>(node, "a metric's name"),
                None => {
                    if inner.lacks("metric") {
                        self.sink.error(
                            Code::Missing,
                            item.span.clone(),
                            "a gate needs a `metric`",
                        );
                    }
                    None
                }
            };
            let mut is_unread = inner.is_meant("min") || inner.is_meant("max");
            let mut bound = |key, what| {
                let bound = self.number(inner.get(key)?, what);
                is_unread |= bound.is_none();
                bound
            };
            let (min, max) = (bound("min", "`min`"), bound("max", "`max`"));
            // The report of the wrong bound is enough: the rule without it would be reported as well.
            if inner.is_refused || is_unread {
                continue;
            }
            if let Some(metric) = metric {
                rules.push(GateRule { metric, min, max });
                places.gate.push(item.span.clone());
            }
        }
        rules
    }
}
