//! The macros behind [`super::keys`]. One row of a table,
//!
//! ```text
//! /// Memory of a stage; a stage that needs more is killed
//! memory: ByteSize = ByteSize::mebibytes(4096), "SIZE";
//! ```
//!
//! makes a key of files, a flag, a variable, their help, and the method that gives the value or the default. With
//! `=> Section` at the head of a table, it also makes the field of the section in [`super::Config`]. A key without a
//! default is an `Option` there.

use std::fmt::Display;

/// The help of a key: its description, and its default.
pub(super) fn help(description: &str, default: &[&dyn Display]) -> String {
    let description = description.trim();
    match default {
        [default] => format!("{description}. Default: {default}"),
        _ => description.to_owned(),
    }
}

/// A key with another sign for `.` and `_`, and in capitals for a variable. It is made when the program is compiled,
/// since clap keeps names for as long as the program runs.
pub(super) const fn respelled<const N: usize>(key: &str, sign: u8, is_upper: bool) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = match key.as_bytes()[at] {
            b'.' | b'_' => sign,
            byte if is_upper => byte.to_ascii_uppercase(),
            byte => byte,
        };
        at += 1;
    }
    bytes
}

macro_rules! spelled {
    ($key:expr, $sign:literal, $is_upper:literal) => {{
        const KEY: &str = $key;
        const BYTES: [u8; KEY.len()] = $crate::config::table::respelled(KEY, $sign, $is_upper);
        std::str::from_utf8(&BYTES).unwrap_or_default()
    }};
}

/// A flag may stand without a value, and is then true.
macro_rules! may_stand_alone {
    (bool) => {
        true
    };
    ($type:ident) => {
        false
    };
}

macro_rules! least_values {
    (bool) => {
        0
    };
    ($type:ident) => {
        1
    };
}

macro_rules! parser {
    (bool) => {
        clap::builder::BoolishValueParser::new()
    };
    ($type:ident) => {
        clap::value_parser!($type)
    };
}

macro_rules! is_secret {
    (HiddenText) => {
        true
    };
    ($type:ident) => {
        false
    };
}

/// The type of a key in effect.
macro_rules! in_effect {
    ($type:ident, $default:expr) => {
        $type
    };
    ($type:ident) => {
        Option<$type>
    };
}

/// The keys of one section as a layer: of a file, or of the variables and flags together.
macro_rules! layer {
    (
        $(#[$about:meta])*
        $layer:ident, $prefix:literal {
            $($(#[doc = $doc:literal])* $key:ident: $type:ident $(= $default:expr)?, $value:literal;)*
        }
        $(sections { $($section:ident: $inner:ident,)* })?
    ) => {
        #[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $(#[$about])*
        pub struct $layer {
            $(
                #[arg(
                    id = concat!($prefix, stringify!($key)),
                    long = spelled!(concat!($prefix, stringify!($key)), b'-', false),
                    env = spelled!(concat!("TRAINYARD_", $prefix, stringify!($key)), b'_', true),
                    help = $crate::config::table::help(concat!($($doc),*), &[$(&$default)?]),
                    value_name = $value,
                    value_parser = parser!($type),
                    num_args = least_values!($type)..=1,
                    require_equals = may_stand_alone!($type),
                    default_missing_value = "true",
                    hide_env_values = is_secret!($type),
                )]
                pub $key: Option<$type>,
            )*
            $($(
                #[command(flatten)]
                pub $section: $inner,
            )*)?
        }

        impl $layer {
            /// Merges this layer over another: values of this one win.
            #[must_use]
            pub(super) fn over(self, below: Self) -> Self {
                Self {
                    $($key: self.$key.or(below.$key),)*
                    $($($section: self.$section.over(below.$section),)*)?
                }
            }

            /// The keys that this layer and another one set, with the variable and the flag of each.
            pub(super) fn shared(&self, below: &Self) -> Vec<[&'static str; 3]> {
                let mut shared = Vec::new();
                $(
                    if self.$key.is_some() && below.$key.is_some() {
                        shared.push([
                            concat!($prefix, stringify!($key)),
                            spelled!(concat!("TRAINYARD_", $prefix, stringify!($key)), b'_', true),
                            spelled!(concat!($prefix, stringify!($key)), b'-', false),
                        ]);
                    }
                )*
                $($(shared.extend(self.$section.shared(&below.$section));)*)?
                shared
            }

            $(
                pub(super) fn $key(&self) -> in_effect!($type $(, $default)?) {
                    self.$key.clone()$(.unwrap_or_else(|| $default))?
                }
            )*
        }
    };
}

/// A layer, and the section of the configuration with the values in effect.
macro_rules! section {
    (
        $(#[$about:meta])*
        $layer:ident => $section:ident, $prefix:literal {
            $($(#[doc = $doc:literal])* $key:ident: $type:ident $(= $default:expr)?, $value:literal;)*
        }
    ) => {
        layer! {
            $(#[$about])*
            $layer, $prefix {
                $($(#[doc = $doc])* $key: $type $(= $default)?, $value;)*
            }
        }

        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        $(#[$about])*
        pub struct $section {
            $($(#[doc = $doc])* pub $key: in_effect!($type $(, $default)?),)*
        }

        impl From<$layer> for $section {
            fn from(given: $layer) -> Self {
                Self {
                    $($key: given.$key(),)*
                }
            }
        }

        impl Default for $section {
            fn default() -> Self {
                $layer::default().into()
            }
        }
    };
}

pub(super) use {
    in_effect, is_secret, layer, least_values, may_stand_alone, parser, section, spelled,
};
