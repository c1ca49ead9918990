//! Options of the connection to the database.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use crate::access::seal::SecretKey;
use crate::db::error::{Error, Result};
use crate::runs::room::UnfinishedLimits;

/// How to connect, and the limits.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `postgres://user:password@host:5432/database`; `?host=/path` for a unix socket.
    pub url: SecretString,
    /// The key that secrets are sealed with; it is never written to the database. Without
    /// it everything works except sealed values.
    pub secret_key: Option<SecretKey>,
    /// The most connections for work; nine more are used for views, listening, heartbeats and progress.
    pub max_connections: u32,
    /// How long to wait for a connection, including the first.
    pub acquire_timeout: Duration,
    /// After how long Postgres cancels a statement.
    pub statement_timeout: Duration,
    /// After how long Postgres stops waiting for a lock.
    pub lock_timeout: Duration,
    /// After how long Postgres ends a connection that is idle within a transaction.
    pub idle_in_transaction_timeout: Duration,
    /// The most bytes of log kept for one attempt, before compression: the first and the last half.
    pub log_limit: u64,
    /// How much log is kept of all attempts of a run, in bytes.
    pub run_log_limit: u64,
    /// How much of a repo may be unfinished; above that, no run of it is started.
    pub unfinished: UnfinishedLimits,
}

impl StoreOptions {
    /// The defaults, with this database URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            secret_key: None,
            max_connections: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(30),
            log_limit: 16 << 20,
            run_log_limit: 1 << 30,
            unfinished: UnfinishedLimits::default(),
        }
    }

    pub(crate) fn to_postgres(&self) -> Result<PgConnectOptions> {
        let options: PgConnectOptions = self
            .url
            .expose_secret()
            .parse()
            .map_err(|error| Error::InvalidUrl(Box::new(error)))?;
        let millis = |limit: Duration| limit.as_millis().to_string();
        Ok(options
            .application_name("trainyard")
            // More than there are statements, so that each is prepared only once per connection.
            .statement_cache_capacity(256)
            .options([
                ("statement_timeout", millis(self.statement_timeout)),
                ("lock_timeout", millis(self.lock_timeout)),
                (
                    "idle_in_transaction_session_timeout",
                    millis(self.idle_in_transaction_timeout),
                ),
                ("tcp_keepalives_idle", "30".to_owned()),
                ("tcp_keepalives_interval", "10".to_owned()),
                ("tcp_keepalives_count", "3".to_owned()),
                ("timezone", "UTC".to_owned()),
                // Suppresses notices that a table exists already.
                ("client_min_messages", "warning".to_owned()),
                // Statements here are short and run often: compiling them never pays.
                ("jit", "off".to_owned()),
                // A connection plans a statement once and keeps the plan. A plan that was made while the
                // tables were new and small must not read them whole once they are large; every
                // statement that runs often has its index.
                ("enable_seqscan", "off".to_owned()),
                // By default Postgres plans a statement over a list again for each call, because it estimates lists
                // to be longer than they are here; planning costs more than the statement.
                ("plan_cache_mode", "force_generic_plan".to_owned()),
            ]))
    }
}

/// The address of a connection, without the password, for messages.
pub(crate) fn address_of(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
