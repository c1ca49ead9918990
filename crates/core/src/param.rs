//! Typed parameters of a DAG: what may be given, with which bounds, and the check of what is given.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::name::ParamName;
use crate::text::{listed, shortened};

/// The longest text that a parameter may hold, in bytes: stages get it in their environment, which
/// the kernel bounds.
pub const LONGEST_TEXT: usize = 32 * 1024;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
}

impl fmt::Display for ParamValue {
    /// As stages see it in `TRAINYARD_PARAM_<NAME>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
        }
    }
}

/// A parameter's type with its bounds. All bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamKind {
    /// Text; if `choices` is not empty, one of them.
    String {
        /// The permitted values; empty permits all.
        choices: Vec<String>,
    },
    /// A whole number.
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    /// A finite number.
    Number {
        minimum: Option<f64>,
        maximum: Option<f64>,
    },
    /// `true` or `false`.
    Boolean,
}

impl ParamKind {
    /// The type's word in DAG files: `integer`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Boolean => "boolean",
        }
    }

    /// Reads a value given as text, as on a command line, and checks it.
    ///
    /// # Errors
    /// The fault, as a sentence part: `must be at least 1`.
    pub fn read(&self, text: &str) -> Result<ParamValue, String> {
        let value = match self {
            Self::String { .. } => ParamValue::String(text.to_owned()),
            Self::Integer { .. } => ParamValue::Integer(
                text.parse()
                    .map_err(|_| format!("must be an integer, not `{}`", shortened(text)))?,
            ),
            Self::Number { .. } => ParamValue::Number(
                text.parse()
                    .map_err(|_| format!("must be a number, not `{}`", shortened(text)))?,
            ),
            Self::Boolean => match text {
                "true" => ParamValue::Boolean(true),
                "false" => ParamValue::Boolean(false),
                _ => return Err(format!("must be true or false, not `{}`", shortened(text))),
            },
        };
        self.check(value)
    }

    /// Checks a typed value; a whole number passes as a `number`.
    ///
    /// # Errors
    /// The fault, as a sentence part.
    pub fn check(&self, value: ParamValue) -> Result<ParamValue, String> {
        match (self, value) {
            (Self::String { choices }, ParamValue::String(text)) => {
                if text.len() > LONGEST_TEXT {
                    Err(format!(
                        "must have at most {LONGEST_TEXT} bytes, not {}",
                        text.len()
                    ))
                } else if text.contains('\0') {
                    Err("must not hold a NUL character".to_owned())
                } else if choices.is_empty() || choices.contains(&text) {
                    Ok(ParamValue::String(text))
                } else {
                    Err(format!(
                        "must be one of {}, not `{}`",
                        listed(choices.iter().map(String::as_str)),
                        shortened(&text)
                    ))
                }
            }
            (Self::Integer { minimum, maximum }, ParamValue::Integer(number)) => {
                within(number, *minimum, *maximum).map(ParamValue::Integer)
            }
            (Self::Number { minimum, maximum }, ParamValue::Number(number)) => {
                if number.is_finite() {
                    within(number, *minimum, *maximum).map(ParamValue::Number)
                } else {
                    Err("must be a finite number".to_owned())
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "a number parameter is a double")]
            (Self::Number { minimum, maximum }, ParamValue::Integer(number)) => {
                within(number as f64, *minimum, *maximum).map(ParamValue::Number)
            }
            (Self::Boolean, ParamValue::Boolean(truth)) => Ok(ParamValue::Boolean(truth)),
            (kind, other) => Err(format!(
                "must be of type {}, not `{}`",
                kind.word(),
                shortened(&other.to_string())
            )),
        }
    }
}

fn within<T: PartialOrd + fmt::Display>(
    number: T,
    minimum: Option<T>,
    maximum: Option<T>,
) -> Result<T, String> {
    if let Some(minimum) = minimum
        && number < minimum
    {
        return Err(format!("must be at least {minimum}, not {number}"));
    }
    if let Some(maximum) = maximum
        && number > maximum
    {
        return Err(format!("must be at most {maximum}, not {number}"));
    }
    Ok(number)
}

/// One declared parameter. A parameter without a default must be given.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    pub kind: ParamKind,
    /// The value where none is given; satisfies `kind`.
    pub default: Option<ParamValue>,
    pub description: Option<String>,
}

/// A value as the caller gave it.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenValue {
    /// Text to be read by the parameter's type (command line).
    Text(String),
    /// Already typed (API, DAG file).
    Typed(ParamValue),
}

/// The fault of one given parameter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("parameter `{name}` {problem}")]
pub struct ParamFault {
    pub name: String,
    /// The fault, as a sentence part.
    pub problem: String,
}

/// The parameters of a run: what was given, checked, over the defaults.
///
/// # Errors
/// Every fault at once: unknown names, wrong types, values out of bounds, missing values.
pub fn resolve(
    declared: &BTreeMap<ParamName, ParamSpec>,
    given: &BTreeMap<String, GivenValue>,
) -> Result<BTreeMap<ParamName, ParamValue>, Vec<ParamFault>> {
    let mut faults = Vec::new();
    for name in given
        .keys()
        .filter(|name| !declared.contains_key(name.as_str()))
    {
        let problem = if declared.is_empty() {
            "is not declared; the DAG has no parameters".to_owned()
        } else {
            let known = listed(declared.keys().map(ParamName::as_str));
            format!("is not declared; the DAG has {known}")
        };
        faults.push(ParamFault {
            name: shortened(name).to_string(),
            problem,
        });
    }
    let mut values = BTreeMap::new();
    for (name, spec) in declared {
        let value = match (given.get(name.as_str()), &spec.default) {
            (Some(GivenValue::Text(text)), _) => spec.kind.read(text),
            (Some(GivenValue::Typed(value)), _) => spec.kind.check(value.clone()),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err("has no default and was not given".to_owned()),
        };
        match value {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(problem) => faults.push(ParamFault {
                name: name.to_string(),
                problem,
            }),
        }
    }
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> BTreeMap<ParamName, ParamSpec> {
        let kind = ParamKind::Integer {
            minimum: Some(1),
            maximum: Some(100),
        };
        let epochs = ParamSpec {
            kind,
            default: Some(ParamValue::Integer(10)),
            description: None,
        };
        let kind = ParamKind::String {
            choices: vec!["dev".into(), "prod".into()],
        };
        let target = ParamSpec {
            kind,
            default: None,
            description: None,
        };
        BTreeMap::from([
            (ParamName::new("epochs").unwrap(), epochs),
            (ParamName::new("target").unwrap(), target),
        ])
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, GivenValue> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), GivenValue::Text((*text).to_owned())))
            .collect()
    }

    #[test]
    fn defaults_fill_what_was_not_given() {
        let values = resolve(&declared(), &given(&[("target", "dev")])).unwrap();
        assert_eq!(
            values[&ParamName::new("epochs").unwrap()],
            ParamValue::Integer(10)
        );
    }

    #[test]
    fn text_that_no_environment_can_hold_is_refused() {
        let any = ParamKind::String { choices: vec![] };
        assert_eq!(
            any.read("a\0b").unwrap_err(),
            "must not hold a NUL character"
        );
        assert!(any.read(&"x".repeat(LONGEST_TEXT)).is_ok());
        assert_eq!(
            any.read(&"x".repeat(LONGEST_TEXT + 1)).unwrap_err(),
            "must have at most 32768 bytes, not 32769"
        );
    }

    #[test]
    fn numbers_are_finite_and_within_their_bounds() {
        let number = ParamKind::Number {
            minimum: Some(0.5),
            maximum: None,
        };
        assert_eq!(number.read("1e3").unwrap(), ParamValue::Number(1000.0));
        for wrong in ["nan", "inf", "-inf", "0.4", "", "1,5"] {
            assert!(number.read(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults =
            resolve(&declared(), &given(&[("epochs", "0"), ("colour", "red")])).unwrap_err();
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "parameter `colour` is not declared; the DAG has epochs, target",
                "parameter `epochs` must be at least 1, not 0",
                "parameter `target` has no default and was not given",
            ]
        );
    }
}
