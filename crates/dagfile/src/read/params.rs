//! `params`: declared parameters.

use std::collections::BTreeMap;

use trainyard_core::dag::Names;
use trainyard_core::name::ParamName;
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::text::shortened;

use super::FileReader;
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
use crate::tree::{Node, Value};

impl FileReader<'_> {
    /// Reads `params`.
    /// Those that are declared in a wrong way are `unread`.
    pub(super) fn params(
        &mut self,
        node: &Node,
        unread: &mut Names,
    ) -> BTreeMap<ParamName, ParamSpec> {
        let mut params = BTreeMap::new();
        if !matches!(&node.value, Value::Map(_)) {
            *unread = Names::Any;
        }
        for (key, value) in self.map(node, "params").unwrap_or_default() {
            let name = self.checked_name::<ParamName>(&key.text, &key.span);
            let spec = self.param(&key.text, value);
            match (name, spec) {
                (Some(name), Some(spec)) => {
                    params.insert(name, spec);
                }
                _ => unread.add(&key.text),
            }
        }
        params
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    String,
    Integer,
    Number,
    Boolean,
}

impl FileReader<'_> {
    fn param(&mut self, name: &str, node: &Node) -> Option<ParamSpec> {
        let what = format!("parameter `{}`", shortened(name));
        let fields = self.fields(node, &what, document::Param::FORM)?;
        let description = fields
            .get("description")
            .and_then(|node| self.text(node, "the description"))
            .map(ToOwned::to_owned);
        let Some(kind) = fields.get("type") else {
            if fields.lacks("type") {
                self.sink
                    .error(
                        Code::Missing,
                        node.span.clone(),
                        format!("{what} needs a `type`"),
                    )
                    .help("string, integer, number or boolean");
            }
            return None;
        };
        let choices = [
            ("string", Kind::String),
            ("integer", Kind::Integer),
            ("number", Kind::Number),
            ("boolean", Kind::Boolean),
        ];
        let kind = self.one_of(kind, "a parameter's type", &choices)?;
        for (key, fits) in [
            ("minimum", matches!(kind, Kind::Integer | Kind::Number)),
            ("maximum", matches!(kind, Kind::Integer | Kind::Number)),
            ("choices", kind == Kind::String),
        ] {
            if let Some(found) = fields.key(key).filter(|_| !fits) {
                let message = format!("`{key}` does not fit the type of {what}");
                self.sink.error(Code::Conflict, found.span.clone(), message);
            }
        }
        let kind = match kind {
            Kind::Boolean => ParamKind::Boolean,
            Kind::String => ParamKind::String {
                choices: fields
                    .get("choices")
                    .map(|node| self.list_or_one(node, "choices"))
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|node| self.text(node, "a choice").map(ToOwned::to_owned))
                    .collect(),
            },
            Kind::Integer => {
                let mut bound = |key| {
                    let node = fields.get(key)?;
                    self.integer(node, &format!("`{key}`"), i64::MIN..=i64::MAX)
                };
                let (minimum, maximum) = (bound("minimum"), bound("maximum"));
                ParamKind::Integer { minimum, maximum }
            }
            Kind::Number => {
                let mut bound = |key| self.number(fields.get(key)?, &format!("`{key}`"));
                let (minimum, maximum) = (bound("minimum"), bound("maximum"));
                ParamKind::Number { minimum, maximum }
            }
        };
        let is_empty = match &kind {
            ParamKind::Integer {
                minimum: Some(minimum),
                maximum: Some(maximum),
            } => minimum > maximum,
            ParamKind::Number {
                minimum: Some(minimum),
                maximum: Some(maximum),
            } => minimum > maximum,
            _ => false,
        };
        if let Some(key) = fields.key("minimum").filter(|_| is_empty) {
            let message = format!("no value fits {what}: its minimum is above its maximum");
            self.sink.error(Code::Conflict, key.span.clone(), message);
            return None;
        }
        let default = fields.get("default").map(|node| {
            self.param_value(&what, &kind, node)
                .unwrap_or_else(|| any(&kind))
        });
        Some(ParamSpec {
            kind,
            default,
            description,
        })
    }
}

/// A placeholder for a wrong value of a parameter, so that it does not seem to be missing.
pub(super) fn any(kind: &ParamKind) -> ParamValue {
    match kind {
        ParamKind::Boolean => ParamValue::Boolean(false),
        ParamKind::Integer { minimum, maximum } => {
            ParamValue::Integer(minimum.or(*maximum).unwrap_or(0))
        }
        ParamKind::Number { minimum, maximum } => {
            ParamValue::Number(minimum.or(*maximum).unwrap_or(0.0))
        }
        ParamKind::String { choices } => {
            ParamValue::String(choices.first().cloned().unwrap_or_default())
        }
    }
}

impl FileReader<'_> {
    /// Reads a value of a parameter, as a default or as a schedule gives it.
    pub(super) fn param_value(
        &mut self,
        what: &str,
        kind: &ParamKind,
        node: &Node,
    ) -> Option<ParamValue> {
        let problem = match (&node.value, kind) {
            (Value::Null | Value::List(_) | Value::Map(_), _) => {
                Err(format!("must be of type {}", kind.word()))
            }
            // A quoted number is a text.
            (
                Value::Scalar { text, plain: false },
                ParamKind::Integer { .. } | ParamKind::Number { .. } | ParamKind::Boolean,
            ) => Err(format!(
                "must be of type {}, without quotes: `{}`",
                kind.word(),
                shortened(text)
            )),
            (Value::Scalar { text, .. }, _) => kind.read(text),
        };
        match problem {
            Ok(value) => Some(value),
            Err(problem) => {
                self.invalid(&node.span, format!("{what} {problem}"));
                None
            }
        }
    }
}
