//! Maps of a DAG file with their keys, and the macro that makes them of the table in [`super`].

/// A map of a DAG file, and its keys.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its name in the schema.
    pub(crate) name: &'static str,
    /// The title of its section in the documentation; empty if it has none.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test writes the documentation")
    )]
    pub(crate) title: &'static str,
    pub(crate) keys: &'static [FormKey],
}

/// A key of a map.
#[derive(Debug)]
pub(crate) struct FormKey {
    pub(crate) name: &'static str,
    /// Words of other systems for it.
    pub(crate) also: &'static [&'static str],
    /// Its row in the documentation. `None` for a key that this version does not support yet.
    pub(crate) documented: Option<Documented>,
}

/// The documentation of a key.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "a test writes the documentation")
)]
pub(crate) struct Documented {
    /// The value that holds without the key; empty for nothing.
    pub(crate) default: &'static str,
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
}

impl Form {
    /// The names of the keys that this version supports.
    pub(crate) fn supported(&self) -> impl Iterator<Item = &'static str> {
        let supported = self.keys.iter().filter(|key| key.is_supported());
        supported.map(|key| key.name)
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'static FormKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl FormKey {
    pub(crate) const fn is_supported(&self) -> bool {
        self.documented.is_some()
    }
}

macro_rules! plain_name {
    ($key:ident) => {{
        // `r#if` is the key `if`.
        const NAME: &str = stringify!($key);
        match NAME.as_bytes() {
            [b'r', b'#', ..] => NAME.split_at(2).1,
            _ => NAME,
        }
    }};
}

macro_rules! documented {
    () => {
        None
    };
    ($default:literal, $right:literal, $wrong:literal) => {
        Some(Documented {
            default: $default,
            right: $right,
            wrong: $wrong,
        })
    };
}

macro_rules! forms {
    ($(
        $(#[$about:meta])*
        $name:ident $title:literal {$(
            $(#[$description:meta])*
            $key:ident: $type:ty $(= $default:literal, right $right:literal, wrong $wrong:literal
                $(, also [$($also:literal),*])?)?;
        )*}
    )*) => {
        $(
            $(#[$about])*
            #[derive(JsonSchema)]
            #[schemars(deny_unknown_fields)]
            pub struct $name {
                $($(#[$description])* pub $key: $type,)*
            }

            impl $name {
                pub(crate) const FORM: &'static Form = &Form {
                    name: stringify!($name),
                    title: $title,
                    keys: &[$(FormKey {
                        name: plain_name!($key),
                        also: &[$($($($also),*)?)?],
                        documented: documented!($($default, $right, $wrong)?),
                    },)*],
                };
            }
        )*

        /// All maps of a DAG file.
        pub(crate) const FORMS: &[&Form] = &[$($name::FORM),*];
    };
}

pub(super) use {documented, forms, plain_name};
