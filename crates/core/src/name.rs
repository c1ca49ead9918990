//! Names that were checked when they were made, one type per kind of thing named.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::text::{shortened, without_nul};

/// Why a text is not a name of the wanted kind. `Display` says the rule that it broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} is not a valid {kind}: {rule}", quoted(.text))]
pub struct NameError {
    /// The kind of name that was wanted, in words: `stage name`.
    pub kind: &'static str,
    pub text: String,
    pub rule: &'static str,
}

fn quoted(text: &str) -> String {
    match text {
        "" => "an empty text".to_owned(),
        _ => format!("`{}`", without_nul(shortened(text).to_string())),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $check:ident, $rule:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// Names the rule that `text` breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if $check(&text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError { kind: $kind, text, rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    )*};
}

names! {
    /// A followed repo's name, unique within one installation.
    RepoName: "repo name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A DAG's name, unique within its repo.
    DagName: "DAG name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A stage's name, unique within its DAG.
    StageName: "stage name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A pool's name, as the daemon's configuration defines it.
    PoolName: "pool name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A declared output's name; with its stage's name it names an artifact.
    OutputName: "output name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A declared input's name: the entry under `/trainyard/inputs/`.
    InputName: "input name", is_slug, "use 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit";
    /// A parameter's name; `TRAINYARD_PARAM_<NAME>` in upper case within stages.
    ParamName: "parameter name", is_identifier, "use 1 to 63 of a-z, 0-9 and `_`, starting with a letter";
    /// A secret's name; also the environment variable that carries it.
    SecretName: "secret name", is_variable, "use 1 to 63 of A-Z, 0-9 and `_`, starting with a letter or `_`";
    /// An environment variable's name.
    VariableName: "variable name", is_any_case_variable, "use 1 to 255 letters, digits and `_`, not starting with a digit";
    /// A metric's name as a stage reports it.
    MetricName: "metric name", is_metric, "use 1 to 128 letters, digits and `_ . - / @ %`, starting with a letter";
}

fn is_made_of(text: &str, longest: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && bytes.first().is_some_and(|byte| first(*byte))
        && bytes.iter().all(|byte| rest(*byte))
}

fn is_slug(text: &str) -> bool {
    is_made_of(
        text,
        63,
        |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
        |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_',
    )
}

fn is_identifier(text: &str) -> bool {
    is_made_of(
        text,
        63,
        |b| b.is_ascii_lowercase(),
        |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_',
    )
}

fn is_variable(text: &str) -> bool {
    is_made_of(
        text,
        63,
        |b| b.is_ascii_uppercase() || b == b'_',
        |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_',
    )
}

fn is_any_case_variable(text: &str) -> bool {
    is_made_of(
        text,
        255,
        |b| b.is_ascii_alphabetic() || b == b'_',
        |b| b.is_ascii_alphanumeric() || b == b'_',
    )
}

fn is_metric(text: &str) -> bool {
    is_made_of(
        text,
        128,
        |b| b.is_ascii_alphabetic(),
        |b| b.is_ascii_alphanumeric() || b"_.-/@%".contains(&b),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_lower_case_and_short() {
        assert!(StageName::new("train-2_x").is_ok());
        for wrong in ["", "-a", "Train", "a b", "ä", &"x".repeat(64)] {
            assert!(StageName::new(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn the_error_says_the_kind_and_the_rule() {
        let error = SecretName::new("dsn").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`dsn` is not a valid secret name: use 1 to 63 of A-Z, 0-9 and `_`, starting with a letter or `_`"
        );
    }

    #[test]
    fn the_error_says_that_a_name_is_empty() {
        let error = StageName::new("").unwrap_err().to_string();
        assert!(
            error.starts_with("an empty text is not a valid stage name: use"),
            "{error}"
        );
    }

    #[test]
    fn the_error_quotes_a_nul_by_its_escape() {
        let error = MetricName::new("a\0b").unwrap_err().to_string();
        assert!(error.starts_with("`a\\0b` is not"), "{error:?}");
    }
}
