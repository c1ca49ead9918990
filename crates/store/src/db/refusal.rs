//! Refusals: what Postgres was given it does not take, whoever asks again.
//!
//! Most trouble of the database passes and is waited for. A refusal does not: the values are unfit for
//! their columns, break a constraint, or exceed a limit. All of what is stored is checked before, so it
//! is a fault in Trainyard, and whoever waited for its end would wait for ever.

use crate::care::quarantine::Weight;
use crate::db::error::Error;

/// The classes of SQLSTATE that are about the values: data, constraints, limits of Postgres.
const ABOUT_VALUES: [&str; 3] = ["22", "23", "54"];

/// What Postgres says of a NUL: in text, and in JSON.
const NUL: [&str; 2] = ["22021", "22P05"];

impl Error {
    /// The SQLSTATE of a refusal; `None` for all other trouble.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let Self::Database(error) = self else {
            return None;
        };
        let code = error.as_database_error()?.code()?;
        let is_about_values = ABOUT_VALUES.iter().any(|class| code.starts_with(class));
        is_about_values.then(|| code.into_owned())
    }

    /// Whether a NUL in what Postgres was given was refused.
    #[must_use]
    pub fn is_about_nul(&self) -> bool {
        self.refusal()
            .is_some_and(|code| NUL.contains(&code.as_str()))
    }

    /// Why what met this error is to be held back, and how surely; `None` where it is not at fault. Says
    /// nothing that was refused itself.
    pub(crate) fn fault(&self) -> Option<(String, Weight)> {
        match self {
            Self::Corrupt { .. } => Some((self.to_string(), Weight::Certain)),
            // What another transaction did may have been in its way, once.
            _ => self.refusal().map(|code| {
                tracing::error!(error = self as &dyn std::error::Error, "Postgres refuses a value");
                let reason = format!(
                    "Postgres refuses what is to be recorded (SQLSTATE {code}), which is a fault in Trainyard; the daemon's log says more"
                );
                (reason, Weight::Suspect)
            }),
        }
    }
}
