//! The handle to the database: connecting, migrating, and the parts that all modules share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use trainyard_core::id::{DagVersionId, InstanceId, RunId};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::seal::SecretKey;
use crate::attempts::claim::ClaimRequest;
use crate::attempts::finish::{Finished, FinishedAttempt};
use crate::attempts::progress::{CreatedNote, RemovedNote, StartedNote};
use crate::db::batch::Batcher;
use crate::db::error::{Error, Result};
use crate::db::options::{StoreOptions, address_of};
use crate::db::pool::{self, Pool};
use crate::db::recent::Recent;
use crate::db::wakes::Wakes;
use crate::fleet::health::DaemonHealth;
use crate::runs::room::{Room, UnfinishedLimits};
use crate::runs::state::CachedRun;
use crate::triggers::dags::PinnedDag;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// The text that is sealed to check the secret key.
const KEY_CHECK: &str = "trainyard key check";

/// Connections for progress and heartbeats; each of these waits for one at a time.
const RELAXED_CONNECTIONS: u32 = 4;

/// Connections for reads by people and their programs. Neither side waits for the other: a page does not wait until
/// the loops have done their work, and many viewers do not keep a claim waiting.
const READING_CONNECTIONS: u32 = 4;

/// A connection that was used more recently than this is assumed to be alive: testing it costs as much
/// as a statement. No Postgres restarts in less time, so only calls that were waiting for an answer
/// during a restart meet a closed connection.
const TEST_AFTER: Duration = Duration::from_millis(50);

/// How many decoded DAG versions are kept in memory.
const DAGS_IN_MEMORY: usize = 128;

/// How many unfinished runs are kept in memory.
const RUNS_IN_MEMORY: usize = 256;

/// How many bytes of each of the two are kept: a DAG of 2,000 stages takes some megabytes.
const BYTES_IN_MEMORY: usize = 48 << 20;

/// The handle to one Trainyard database. Cloning it is cheap; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) core: Arc<Core>,
    pub(crate) batchers: Arc<Batchers>,
}

/// The parts that every module of the store needs.
#[derive(Debug)]
pub(crate) struct Core {
    /// For writes that must be durable when the call returns.
    pub(crate) pool: Pool,
    /// Commits without waiting for the disk. For writes that a crash of Postgres may lose because they can be found
    /// out again: progress of attempts (from Docker), heartbeats. Never out of order: the next durable commit makes
    /// all earlier ones durable as well.
    pub(crate) relaxed: Pool,
    /// For views, and to check the token of the caller that asks for them.
    pub(crate) reading: Pool,
    pub(crate) wakes: Wakes,
    pub(crate) dags: Recent<DagVersionId, Arc<PinnedDag>>,
    pub(crate) runs: Recent<RunId, CachedRun>,
    pub(crate) log_limit: i64,
    pub(crate) run_log_limit: i64,
    pub(crate) unfinished: UnfinishedLimits,
    /// Distinguishes this process' notifications from those of others.
    pub(crate) process: Uuid,
    /// The health of this process' daemon.
    pub(crate) health: DaemonHealth,
    /// Whether other daemons live that need notifications; each heartbeat checks this.
    pub(crate) others_live: AtomicBool,
    secret_key: Option<SecretKey>,
}

/// Writes that share transactions; see [`crate::db::batch`].
#[derive(Debug)]
pub(crate) struct Batchers {
    pub(crate) created: Batcher<CreatedNote, ()>,
    pub(crate) started: Batcher<StartedNote, ()>,
    pub(crate) removed: Batcher<RemovedNote, ()>,
    pub(crate) finished: Batcher<(FinishedAttempt, Option<ClaimRequest>), Finished>,
}

impl Store {
    /// Connects. Reads and changes nothing yet: call [`Store::migrate`] next.
    ///
    /// # Errors
    /// `InvalidUrl`, `Unreachable`, `AuthenticationFailed`, `DatabaseMissing`.
    pub async fn connect(options: &StoreOptions) -> Result<Self> {
        let postgres = options.to_postgres()?;
        // A pool would retry until its timeout, and then not report the error that it met.
        let probe = connect_once(&postgres, options.acquire_timeout).await?;
        probe.close().await?;
        let pool = pool_options(options.max_connections.max(2), options.acquire_timeout)
            .connect_lazy_with(postgres.clone());
        let reading = pool_options(READING_CONNECTIONS, options.acquire_timeout)
            // A kept plan was made for the tables as they were then: a plan for a new database reads whole tables for
            // each row, until Postgres has analyzed them.
            .connect_lazy_with(
                PgConnectOptions::clone(&postgres)
                    .options([("plan_cache_mode", "force_custom_plan")]),
            );
        let relaxed = pool_options(RELAXED_CONNECTIONS, options.acquire_timeout)
            .connect_lazy_with(postgres.options([("synchronous_commit", "off")]));
        let core = Arc::new(Core {
            pool: pool.into(),
            relaxed: relaxed.into(),
            reading: reading.into(),
            wakes: Wakes::default(),
            dags: Recent::new(DAGS_IN_MEMORY, BYTES_IN_MEMORY),
            runs: Recent::new(RUNS_IN_MEMORY, BYTES_IN_MEMORY),
            log_limit: i64::try_from(options.log_limit).unwrap_or(i64::MAX),
            run_log_limit: i64::try_from(options.run_log_limit).unwrap_or(i64::MAX),
            unfinished: options.unfinished,
            process: Uuid::now_v7(),
            health: DaemonHealth::default(),
            others_live: AtomicBool::new(false),
            secret_key: options.secret_key.clone(),
        });
        let batchers = Arc::new(Batchers::start(&core));
        Ok(Self { core, batchers })
    }

    /// Brings the schema to this program's version, and checks the secret key against the database. Safe to call from
    /// several processes at once, and safe to repeat.
    ///
    /// # Errors
    /// `SchemaNewer`, `Migration`, `WrongSecretKey`.
    pub async fn migrate(&self) -> Result<()> {
        let known = MIGRATOR
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0);
        // A migration may take long, and may have to wait for those of other processes.
        let unhurried = PgConnectOptions::clone(&self.core.pool.connect_options())
            .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(unhurried);
        let migrated = MIGRATOR.run(&pool).await;
        pool.close().await;
        migrated.map_err(|error| match error {
            MigrateError::VersionMissing(found) if found > known => {
                Error::SchemaNewer { found, known }
            }
            MigrateError::VersionMissing(found) | MigrateError::VersionMismatch(found) => {
                Error::SchemaUnknown { found }
            }
            MigrateError::Execute(error) => error.into(),
            other => Error::Migration(Box::new(other)),
        })?;
        self.check_secret_key().await
    }

    /// Whether the database has secrets of another key than that of `options`, or of any key if these have none. Reads
    /// only, also from a database that no daemon has used yet.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn has_another_key(options: &StoreOptions) -> Result<bool> {
        let postgres = options.to_postgres()?;
        let mut connection = connect_once(&postgres, options.acquire_timeout).await?;
        let found = sqlx::query_scalar!("select key_check from instance")
            .fetch_optional(&mut connection)
            .await;
        connection.close().await?;
        let check = match found {
            Ok(check) => check.flatten(),
            Err(error) if is_undefined_table(&error) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(match (check, &options.secret_key) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(check), Some(key)) => key.open(KEY_CHECK, &check).is_err(),
        })
    }

    /// The id of this installation.
    pub async fn instance(&self) -> Result<InstanceId> {
        let row = sqlx::query!("select id from instance")
            .fetch_one(&self.core.pool)
            .await?;
        Ok(InstanceId(row.id))
    }

    /// How many connections are in use.
    #[must_use]
    pub fn connections_in_use(&self) -> usize {
        let in_use = |pool: &PgPool| (pool.size() as usize).saturating_sub(pool.num_idle());
        let core = &self.core;
        in_use(&core.pool) + in_use(&core.relaxed) + in_use(&core.reading)
    }

    /// Wakes: hints that loops may have something to do.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.core.wakes
    }

    /// Closes all connections once pending writes are done.
    pub async fn close(&self) {
        self.core.reading.close().await;
        self.core.relaxed.close().await;
        self.core.pool.close().await;
    }

    async fn check_secret_key(&self) -> Result<()> {
        let Some(key) = &self.core.secret_key else {
            return Ok(());
        };
        let check = key.seal(KEY_CHECK, KEY_CHECK.as_bytes())?;
        let row = sqlx::query!(
            "update instance set key_check = coalesce(key_check, $1) returning key_check as \"key_check!\"",
            check
        )
        .fetch_one(&self.core.pool).at(Point::CheckSecretKey)
        .await?;
        key.open(KEY_CHECK, &row.key_check).map(drop)
    }
}

impl Core {
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        Ok(self.pool.begin().await?)
    }

    /// For the runs that one transaction starts.
    pub(crate) fn room(&self) -> Room {
        Room::new(self.unfinished)
    }

    pub(crate) fn secret_key(&self) -> Result<&SecretKey> {
        self.secret_key.as_ref().ok_or(Error::NoSecretKey)
    }
}

impl Batchers {
    fn start(core: &Arc<Core>) -> Self {
        let with_core = || Arc::clone(core);
        let (created, started, removed, finished) =
            (with_core(), with_core(), with_core(), with_core());
        Self {
            created: Batcher::start(move |notes| {
                crate::attempts::progress::write_created(Arc::clone(&created), notes)
            }),
            started: Batcher::start(move |notes| {
                crate::attempts::progress::write_started(Arc::clone(&started), notes)
            }),
            removed: Batcher::start(move |notes| {
                crate::attempts::progress::write_removed(Arc::clone(&removed), notes)
            }),
            finished: Batcher::start(move |ends| {
                crate::attempts::finish::write_finished(Arc::clone(&finished), ends)
            }),
        }
    }
}

async fn connect_once(postgres: &PgConnectOptions, at_most: Duration) -> Result<PgConnection> {
    let connecting = PgConnection::connect_with(postgres);
    match tokio::time::timeout(at_most, connecting).await {
        Ok(connected) => connected.map_err(|error| connect_error(error, postgres)),
        Err(_) => Err(connect_error(sqlx::Error::PoolTimedOut, postgres)),
    }
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("42P01")
}

fn pool_options(connections: u32, acquire_timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                // Not alive: the pool closes it and takes another.
                Ok(usage.idle_for < TEST_AFTER || connection.ping().await.is_ok())
            })
        })
        .after_release(|connection, _| Box::pin(pool::is_well(connection)))
}

fn connect_error(error: sqlx::Error, options: &PgConnectOptions) -> Error {
    let address = address_of(options);
    let code = error
        .as_database_error()
        .and_then(|error| error.code().map(|code| code.to_string()));
    let source = Box::new(error);
    match code.as_deref() {
        Some("28000" | "28P01") => Error::AuthenticationFailed {
            address,
            user: options.get_username().to_owned(),
            source,
        },
        Some("3D000") => Error::DatabaseMissing {
            address,
            database: options
                .get_database()
                .unwrap_or(options.get_username())
                .to_owned(),
            source,
        },
        _ => Error::Unreachable { address, source },
    }
}
