//! `params`: declared parameters.

use std::collections::BTreeMap;

use trainyard_core::dag::Names;
use trainyard_core::name::ParamName;
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::text::shortened;

use super::fields::{self, Fields};
use super::keys;
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Node, Value};

/// Reads `params`.
/// Those that are declared in a wrong way are `unread`.
pub(super) fn read(
    node: &Node,
    unread: &mut Names,
    sink: &mut Sink<'_>,
) -> BTreeMap<ParamName, ParamSpec> {
    let mut params = BTreeMap::new();
    if !matches!(&node.value, Value::Map(_)) {
        *unread = Names::Any;
    }
    for (key, value) in fields::map(node, "params", sink).unwrap_or_default() {
        let name = fields::checked_name::<ParamName>(&key.text, &key.span, sink);
        let spec = spec(&key.text, value, sink);
        match (name, spec) {
            (Some(name), Some(spec)) => {
                params.insert(name, spec);
            }
            _ => unread.add(&key.text),
        }
    }
    params
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    String,
    Integer,
    Number,
    Boolean,
}

fn spec(name: &str, node: &Node, sink: &mut Sink<'_>) -> Option<ParamSpec> {
    let what = format!("parameter `{}`", shortened(name));
    let fields = Fields::of(node, &what, keys::PARAM, sink)?;
    let description = fields
        .get("description")
        .and_then(|node| fields::text(node, "the description", sink))
        .map(ToOwned::to_owned);
    let Some(kind) = fields.get("type") else {
        if fields.lacks("type") {
            sink.error(
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
    let kind = fields::one_of(kind, "a parameter's type", &choices, sink)?;
    for (key, fits) in [
        ("minimum", matches!(kind, Kind::Integer | Kind::Number)),
        ("maximum", matches!(kind, Kind::Integer | Kind::Number)),
        ("choices", kind == Kind::String),
    ] {
        if let Some(found) = fields.key(key).filter(|_| !fits) {
            let message = format!("`{key}` does not fit the type of {what}");
            sink.error(Code::Conflict, found.span.clone(), message);
        }
    }
    let kind = match kind {
        Kind::Boolean => ParamKind::Boolean,
        Kind::String => ParamKind::String {
            choices: fields
                .get("choices")
                .map(|node| fields::list_or_one(node, "choices", sink))
                .unwrap_or_default()
                .into_iter()
                .filter_map(|node| fields::text(node, "a choice", sink).map(ToOwned::to_owned))
                .collect(),
        },
        Kind::Integer => {
            let mut bound = |key| {
                let node = fields.get(key)?;
                fields::integer(node, &format!("`{key}`"), i64::MIN..=i64::MAX, sink)
            };
            let (minimum, maximum) = (bound("minimum"), bound("maximum"));
            ParamKind::Integer { minimum, maximum }
        }
        Kind::Number => {
            let mut bound = |key| fields::number(fields.get(key)?, &format!("`{key}`"), sink);
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
        sink.error(Code::Conflict, key.span.clone(), message);
        return None;
    }
    let default = fields
        .get("default")
        .map(|node| value(&what, &kind, node, sink).unwrap_or_else(|| any(&kind)));
    Some(ParamSpec {
        kind,
        default,
        description,
    })
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

/// Reads a value of a parameter, as a default or as a schedule gives it.
pub(super) fn value(
    what: &str,
    kind: &ParamKind,
    node: &Node,
    sink: &mut Sink<'_>,
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
            fields::invalid(&node.span, format!("{what} {problem}"), sink);
            None
        }
    }
}
