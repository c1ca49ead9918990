//! Types of values that only the configuration has.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

/// The executor of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// Containers of a Docker engine.
    Docker,
    /// A fake that follows a script; for tests.
    Fake,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(*self, f)
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(*self, f)
    }
}

/// Writes a value by its word on the command line.
fn word(value: impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let shown = value.to_possible_value();
    f.pad(shown.as_ref().map_or("", |shown| shown.get_name()))
}

/// NameList, as a TOML list or as `NAME,NAME`. The part of the daemon that uses them checks them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct NameList(pub Vec<String>);

impl FromStr for NameList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty());
        Ok(Self(names.map(ToOwned::to_owned).collect()))
    }
}

/// A text that is shown nowhere.
#[derive(Debug, Clone)]
pub struct HiddenText(pub SecretString);

impl From<String> for HiddenText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl<'de> Deserialize<'de> for HiddenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
