//! Errors, by what the caller can do about them.

use std::time::Duration;

use thiserror::Error as ThisError;
use trainyard_core::backoff::Backoff;
use uuid::Uuid;

use crate::db::pool;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store. `Display` says what failed, where, and what to do; the cause is the source.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Postgres does not answer, or closed the connection. Transient.
    #[error(
        "Postgres at {address} does not answer; check that it runs and that the address is right"
    )]
    Unreachable {
        /// The address that was tried, without the password.
        address: String,
        /// The error of the attempt to connect.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// Postgres refused the user or the password.
    #[error(
        "Postgres at {address} refused user `{user}`; check the user and the password in the database URL"
    )]
    AuthenticationFailed {
        address: String,
        user: String,
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The database does not exist.
    #[error(
        "Postgres at {address} has no database `{database}`; create it with `createdb {database}`, or correct the database URL"
    )]
    DatabaseMissing {
        address: String,
        database: String,
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The database URL is not valid.
    #[error(
        "the database URL is not valid; it has the form postgres://user:password@host:5432/database"
    )]
    InvalidUrl(#[source] Box<sqlx::Error>),
    /// A newer Trainyard has migrated the database.
    #[error(
        "the database has schema version {found}, this Trainyard knows up to {known}; start the newer version that migrated it, or restore a backup from before"
    )]
    SchemaNewer {
        /// The newest migration in the database.
        found: i64,
        /// The newest that this program has.
        known: i64,
    },
    /// A migration was applied that this program does not have.
    #[error(
        "the database has the migration {found}, which no released Trainyard has: a build before the first release made \
         it; give another database, or `trainyard dev` another data folder"
    )]
    SchemaUnknown { found: i64 },
    /// The schema was changed by something other than this program's migrations, or a migration failed.
    #[error("the database could not be migrated")]
    Migration(#[source] Box<sqlx::migrate::MigrateError>),
    /// Another claim owns the attempt now. Stop touching it.
    #[error("another claim owns the attempt")]
    Fenced,
    /// The requested thing does not exist.
    #[error("there is no {what}")]
    NotFound {
        /// Its kind and name: `run 42`.
        what: String,
    },
    /// The request conflicts with the stored state.
    #[error("{message}")]
    Conflict {
        /// What conflicts, why, and what to do.
        message: String,
    },
    /// A row that cannot be read. Only work on this row fails.
    #[error("{what} cannot be read from the database: {problem}")]
    Corrupt {
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer Trainyard wrote it, in a format that this daemon does not read. Nothing is at fault: the daemon leaves
    /// it alone, and a newer one works on it.
    #[error(
        "a newer Trainyard wrote {what}, in format {format}; this daemon reads formats up to {known} and leaves it to \
         newer daemons: upgrade this one, or use a newer one (`trainyard daemon list` shows the versions)"
    )]
    LaterFormat {
        what: String,
        format: i32,
        /// The latest format that this daemon reads.
        known: i32,
    },
    /// The database's secrets are sealed with another secret key.
    #[error(
        "the secret key does not fit this database: its secrets were sealed with another one; start with the key file that belongs to this database"
    )]
    WrongSecretKey,
    /// No secret key was given.
    #[error("this needs the secret key, and none is configured")]
    NoSecretKey,
    /// The disk of the artifact store is full.
    #[error(
        "the artifact store at {path} is full; free space on its disk, or delete old runs with `trainyard gc`"
    )]
    StorageFull {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The artifact store failed.
    #[error("the artifact store failed at {path}")]
    Storage {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// Two transactions blocked each other until Postgres stopped one. Transient.
    #[error("the database was too busy with the same rows; try again")]
    Contention(#[source] Option<Box<sqlx::Error>>),
    /// The disk of Postgres is full. Transient.
    #[error("Postgres has no room on its disk; free space there")]
    DatabaseFull(#[source] Box<sqlx::Error>),
    /// Postgres refused a statement: a fault in Trainyard, or in the database.
    #[error("Postgres refused a statement")]
    Database(#[source] Box<sqlx::Error>),
    /// A write was cut short by a fault in Trainyard; its result is not known.
    #[error("a write was cut short by a fault in Trainyard; see the daemon's log")]
    Interrupted,
    /// The store's background tasks have ended: the daemon is stopping.
    #[error("the store has stopped")]
    Stopped,
}

impl Error {
    /// Whether the same call may succeed later although nothing was changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Contention(_)
            | Self::StorageFull { .. }
            | Self::DatabaseFull(_) => true,
            // Out of memory or time: the request itself is not at fault.
            Self::Database(error) => {
                let code = error.as_database_error().and_then(|error| error.code());
                code.is_some_and(|code| code.starts_with("53") || code == "57014")
            }
            Self::AuthenticationFailed { .. }
            | Self::DatabaseMissing { .. }
            | Self::InvalidUrl(_)
            | Self::SchemaNewer { .. }
            | Self::SchemaUnknown { .. }
            | Self::Migration(_)
            | Self::Fenced
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Corrupt { .. }
            | Self::LaterFormat { .. }
            | Self::WrongSecretKey
            | Self::NoSecretKey
            | Self::Storage { .. }
            | Self::Interrupted
            | Self::Stopped => false,
        }
    }

    /// Postgres has not answered for `waited`. A connection whose other end fell silent never fails by itself, so the
    /// caller that stops waiting for it reports this error.
    #[must_use]
    pub fn silent(waited: Duration) -> Self {
        pool::given_up(waited).into()
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, problem: impl ToString) -> Self {
        Self::Corrupt {
            what: what.into(),
            problem: problem.to_string(),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let address = || "its configured address".to_owned();
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unreachable {
                address: address(),
                source: Box::new(error),
            },
            sqlx::Error::Database(database) => {
                match database.code().as_deref() {
                    // Deadlock, serialization failure, lock timeout.
                    Some("40P01" | "40001" | "55P03") => Self::Contention(Some(Box::new(error))),
                    // Shutting down, crashed, starting up, disconnected, too many connections.
                    Some(
                        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "08000" | "08003"
                        | "08006" | "25P03",
                    ) => Self::Unreachable {
                        address: address(),
                        source: Box::new(error),
                    },
                    Some("53100") => Self::DatabaseFull(Box::new(error)),
                    _ => Self::Database(Box::new(error)),
                }
            }
            _ => Self::Database(Box::new(error)),
        }
    }
}

/// How long a transaction may take to answer: longer than Postgres lets a statement run, and longer than the wait for
/// a connection. Without a limit, a call on a connection that was cut silently would wait for ever.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// The database's answer, unless the database falls silent.
pub(crate) async fn answered<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    answered_within(ANSWER_WITHIN, asked).await
}

/// The database's answer, unless the database is silent for `bound`.
///
/// # Errors
/// The error of the answer, or [`Error::silent`].
pub async fn answered_within<T>(
    bound: Duration,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    // On the heap: nested calls would otherwise all be part of one another's future on the stack.
    let mut asked = Box::pin(asked);
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        () = tokio::time::sleep(bound) => {
            // This must come before the connection goes back to its pool.
            pool::note_silence();
            Err(Error::silent(bound))
        }
    }
}

/// How often a transaction that lost against another one is repeated.
const REPEATS: u32 = 5;

/// Repeats a transaction's work while it loses against others. Each repeat waits a little longer.
pub(crate) async fn repeated<T, F>(mut work: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut backoff = Backoff::new(
        Duration::from_millis(4),
        Duration::from_millis(64),
        Uuid::new_v4(),
    );
    let mut repeat = 0;
    loop {
        match answered(work()).await {
            Err(Error::Contention(_)) if repeat < REPEATS => {
                repeat += 1;
                tokio::time::sleep(backoff.next_wait()).await;
            }
            result => return result,
        }
    }
}
