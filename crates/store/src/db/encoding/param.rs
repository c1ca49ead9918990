//! Parameters: declarations and values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trainyard_core::name::ParamName;
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};

use super::{float, float_text};

/// A value with its type: `{"integer": 10}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ValueDoc {
    String(String),
    Integer(i64),
    Number(String),
    Boolean(bool),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindDoc {
    String {
        choices: Vec<String>,
    },
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    Number {
        minimum: Option<String>,
        maximum: Option<String>,
    },
    Boolean,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpecDoc {
    kind: KindDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<ValueDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

pub(crate) type ValuesDoc = BTreeMap<String, ValueDoc>;

/// The parameters of a run or a schedule as stored.
pub(crate) fn values_doc(values: &BTreeMap<ParamName, ParamValue>) -> ValuesDoc {
    values
        .iter()
        .map(|(name, value)| (name.to_string(), ValueDoc::from(value)))
        .collect()
}

pub(crate) fn values(doc: ValuesDoc) -> Result<BTreeMap<ParamName, ParamValue>, String> {
    doc.into_iter()
        .map(|(name, value)| {
            Ok((
                ParamName::new(name).map_err(|fault| fault.to_string())?,
                value.try_into()?,
            ))
        })
        .collect()
}

impl From<&ParamValue> for ValueDoc {
    fn from(value: &ParamValue) -> Self {
        match value {
            ParamValue::String(text) => Self::String(text.clone()),
            ParamValue::Integer(number) => Self::Integer(*number),
            ParamValue::Number(number) => Self::Number(float_text(*number)),
            ParamValue::Boolean(truth) => Self::Boolean(*truth),
        }
    }
}

impl TryFrom<ValueDoc> for ParamValue {
    type Error = String;

    fn try_from(doc: ValueDoc) -> Result<Self, String> {
        Ok(match doc {
            ValueDoc::String(text) => Self::String(text),
            ValueDoc::Integer(number) => Self::Integer(number),
            ValueDoc::Number(text) => Self::Number(float(&text)?),
            ValueDoc::Boolean(truth) => Self::Boolean(truth),
        })
    }
}

impl From<&ParamSpec> for SpecDoc {
    fn from(spec: &ParamSpec) -> Self {
        let kind = match &spec.kind {
            ParamKind::String { choices } => KindDoc::String {
                choices: choices.clone(),
            },
            ParamKind::Integer { minimum, maximum } => KindDoc::Integer {
                minimum: *minimum,
                maximum: *maximum,
            },
            ParamKind::Number { minimum, maximum } => KindDoc::Number {
                minimum: minimum.map(float_text),
                maximum: maximum.map(float_text),
            },
            ParamKind::Boolean => KindDoc::Boolean,
        };
        Self {
            kind,
            default: spec.default.as_ref().map(ValueDoc::from),
            description: spec.description.clone(),
        }
    }
}

impl TryFrom<SpecDoc> for ParamSpec {
    type Error = String;

    fn try_from(doc: SpecDoc) -> Result<Self, String> {
        let bound = |text: Option<String>| text.map(|text| float(&text)).transpose();
        let kind = match doc.kind {
            KindDoc::String { choices } => ParamKind::String { choices },
            KindDoc::Integer { minimum, maximum } => ParamKind::Integer { minimum, maximum },
            KindDoc::Number { minimum, maximum } => ParamKind::Number {
                minimum: bound(minimum)?,
                maximum: bound(maximum)?,
            },
            KindDoc::Boolean => ParamKind::Boolean,
        };
        Ok(Self {
            kind,
            default: doc.default.map(ParamValue::try_from).transpose()?,
            description: doc.description,
        })
    }
}
