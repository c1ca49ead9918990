//! Refusals: Postgres does not accept a value, however often the call is retried.
//!
//! Most database errors pass with time. A refusal does not: the values do not fit their columns, break a
//! constraint, or exceed a limit. All values are checked before they are stored, so a refusal is a fault in
//! Trainyard, and a retry would never succeed.

use crate::care::quarantine::Weight;
use crate::db::error::Error;

/// The classes of SQLSTATE that concern the values: data, constraints, limits of Postgres.
const ABOUT_VALUES: [&str; 3] = ["22", "23", "54"];

/// The SQLSTATE for a NUL: in text, and in JSON.
const NUL: [&str; 2] = ["22021", "22P05"];

impl Error {
    /// The SQLSTATE of a refusal; `None` for all other errors.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let Self::Database(error) = self else {
            return None;
        };
        let code = error.as_database_error()?.code()?;
        let is_about_values = ABOUT_VALUES.iter().any(|class| code.starts_with(class));
        is_about_values.then(|| code.into_owned())
    }

    /// Whether Postgres refused a NUL.
    #[must_use]
    pub fn is_about_nul(&self) -> bool {
        self.refusal()
            .is_some_and(|code| NUL.contains(&code.as_str()))
    }

    /// Why the subject that met this error should be quarantined, and how certain that is; `None` where the subject
    /// is not at fault. The reason contains no refused value.
    pub(crate) fn fault(&self) -> Option<(String, Weight)> {
        match self {
            Self::Corrupt { .. } => Some((self.to_string(), Weight::Certain)),
            // Another transaction may have caused the refusal, once.
            _ => self.refusal().map(|code| {
                tracing::error!(error = self as &dyn std::error::Error, "Postgres refused a value");
                let reason = format!(
                    "Postgres refused a value (SQLSTATE {code}), which is a fault in Trainyard; see the daemon's log"
                );
                (reason, Weight::Suspect)
            }),
        }
    }
}
