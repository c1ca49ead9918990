//! Types of values in a DAG file.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{Build, Checkout, Input, Output};

/// One item or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

/// A text, number or truth.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Truth(bool),
}

/// A duration with its units, the larger ones first: 90s, 30m, 1h30m, 2d. The units are ms, s, m, h and d.
#[derive(JsonSchema)]
pub struct Duration(pub String);

/// A size with its unit: 512MiB, 1.5GiB. The units are B, KiB, MiB, GiB, TiB, and kB, MB, GB, TB of 1000.
#[derive(JsonSchema)]
pub struct Size(pub String);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        pub enum $name {
            $(#[schemars(rename = $word)] $variant,)*
        }
    )*};
}

words! {
    /// A parameter's type.
    ParamType { String = "string", Integer = "integer", Number = "number", Boolean = "boolean", }
    /// What to do about missed ticks.
    Missed { None = "none", Last = "last", All = "all", }
    /// What happens to a run too many.
    Overlap { Queue = "queue", Skip = "skip", CancelRunning = "cancel_running", }
    /// When an image is pulled.
    Pull { IfMissing = "if_missing", Always = "always", Never = "never", }
    /// On which outcomes a stage runs.
    RunOn { Success = "success", Failed = "failed", Always = "always", }
    /// Of which attempts an output is kept.
    Keep { Success = "success", Always = "always", }
    /// On which outcomes a stage is tried again.
    RetryOn { Failed = "failed", Errored = "errored", TimedOut = "timed_out", }
}

macro_rules! either {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident($type:ty),)* })*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        #[schemars(untagged)]
        pub enum $name {
            $($variant($type),)*
        }
    )*};
}

either! {
    /// An expression in CEL, without `${{ … }}`.
    Expression { Text(String), Truth(bool), }
    /// Whether the tree is laid out, or what it is laid out with.
    CheckoutOrNot { Not(bool), Checkout(Checkout), }
    /// An image to build, or its context.
    BuildOrContext { Context(String), Build(Build), }
    /// An input, or STAGE.OUTPUT.
    InputOrName { Name(String), Input(Input), }
    /// An output, or its path.
    OutputOrPath { Path(String), Output(Output), }
    /// Pools with the slots that are taken of each, or their names for one slot each.
    PoolsOrNames { Slots(BTreeMap<String, u32>), Names(OneOrMany<String>), }
}
