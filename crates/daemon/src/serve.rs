//! A whole daemon: creates and wires all parts, runs until it is asked to stop, and stops the parts in order.
//!
//! A stop never kills containers: they keep running, and the next start adopts them. Parts are stopped in the reverse
//! order of their start: the server, the loops, the database's connections, and with `dev` the database itself.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use trainyard_app::{App, AppSettings};
use trainyard_core::measure::in_words;
use trainyard_forge::RemoteUrl;
use trainyard_orchestrator::loops::LoopEnded;
use trainyard_store::{Blobs, Retention, SecretKey, Store, StoreOptions, UnfinishedLimits};
use trainyard_web::{
    AnswerBudget, BodyBudget, Connections, Render, Strangers, WebSettings, WebState,
};

use crate::admin_token::admin_token;
use crate::config::{Config, ConfigError, DaemonArgs, Database, DevArgs};
use crate::data_dir::{DataDir, DataDirError, Said};
use crate::known_folders::KnownFolders;
use crate::loops::{capacity, engine, register};
use crate::postgres::{ClusterError, OwnPostgres, OwnPostgresOptions};
use crate::remotes::{follow, git, named, starter, url_rules};
use crate::secret_key::{self, KeyError};
use crate::telemetry::TelemetryError;
use crate::{crypto, descriptors, endpoint, shutdown, telemetry};

/// The time between two attempts to reach a database that does not answer yet.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How long requests in progress may take once the daemon is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// How long a run by hand waits for a sync of its remote.
const LOOK_AT_MOST: Duration = Duration::from_secs(20);

/// The reason why a daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The key that encrypts secrets cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The private Postgres does not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] trainyard_store::Error),
    /// The executor cannot be used.
    #[error(transparent)]
    Executor(#[from] trainyard_executor::Error),
    /// A repo cannot be followed.
    #[error("{repo} cannot be followed: {problem}")]
    Repo { repo: String, problem: String },
    /// The daemon cannot listen on the address.
    #[error("cannot listen on {address}: {source}; give another address with --listen")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// A part of the daemon did not end in time.
    #[error("stopped, but a part of the daemon did not end in time; the next start cleans up")]
    Overdue,
    /// A part of the daemon ended by itself.
    #[error(transparent)]
    Loop(#[from] LoopEnded),
    /// The system fails.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl ServeError {
    /// Whether the command line or the configuration is invalid, rather than something that the daemon needs.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Repo { .. })
    }
}

/// Runs `trainyard daemon` until it is asked to stop.
///
/// # Errors
/// See [`ServeError`].
pub async fn daemon(args: &DaemonArgs) -> Result<(), ServeError> {
    serve(Config::for_daemon(args)?, &[]).await
}

/// Runs `trainyard dev` until it is asked to stop.
///
/// # Errors
/// See [`ServeError`].
pub async fn dev(args: &DevArgs) -> Result<(), ServeError> {
    serve(Config::for_dev(args)?, &args.repos).await
}

async fn serve(config: Config, repos: &[String]) -> Result<(), ServeError> {
    crypto::install_provider();
    telemetry::install(&config.log)?;
    // Before any descriptor is in use.
    let _ = descriptors::raise();
    let metrics = telemetry::record_metrics()?;
    let repos = &named(repos, &url_rules(&config))?;
    let stopping = shutdown::on_signals()?;
    let known = KnownFolders::of_this_user();
    let said = if config.data_dir_is_from_here {
        Said::ByNobody(&known)
    } else {
        Said::ByItsPath
    };
    let data = DataDir::open(&config.data_dir, said)?;
    if config.data_dir_is_from_here || matches!(config.database, Database::Private { .. }) {
        data.hide_from_git()?;
    }
    // Before the folder has content, so that a start that ends early leaves a known folder.
    if let Err(error) = known.note(data.path()) {
        warn!(%error, "could not add the data folder to the user's list: commands need --url and --token, or its whole path with --data-dir");
    }
    debug!("configuration:\n{}", config.redacted().trim_end());
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: config.listen,
            source,
        })?;
    let (binaries, image) = match &config.database {
        Database::Url(url) => {
            let served = on_database(
                &config,
                repos,
                &data,
                url.clone(),
                listener,
                metrics,
                stopping.asked,
            );
            return within(served, &stopping.overdue).await;
        }
        Database::Private { binaries, image } => (binaries.clone(), image.clone()),
    };
    let options = OwnPostgresOptions {
        binaries,
        image,
        docker_host: config.docker.host.clone(),
    };
    let postgres = OwnPostgres::start(&data, &options).await?;
    let url = postgres.url();
    if let Some(url) = postgres.shown_url() {
        info!("the database is at {url}");
    }
    stopping.at_the_last(postgres.halt());
    let asked = stopping.asked.clone();
    let served = on_database(&config, repos, &data, url, listener, metrics, asked);
    let served = within(served, &stopping.overdue).await;
    let stopped = postgres.stop().await;
    if stopping.now.is_cancelled() {
        return std::future::pending().await;
    }
    stopped?;
    served
}

/// Stops waiting for `served` when the grace period of a stop is over.
async fn within(
    served: impl Future<Output = Result<(), ServeError>>,
    overdue: &CancellationToken,
) -> Result<(), ServeError> {
    tokio::select! {
        served = served => served,
        () = overdue.cancelled() => Err(ServeError::Overdue),
    }
}

async fn on_database(
    config: &Config,
    repos: &[RemoteUrl],
    data: &DataDir,
    url: SecretString,
    listener: TcpListener,
    metrics: Render,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let key_file = &config.secret_key_file;
    if !key_file.exists() {
        // A new key would not fit, and would be in the way of the right one.
        let options = StoreOptions::new(url.expose_secret());
        let asking = patiently(config.database_wait.0, || Store::has_another_key(&options));
        let has_a_key = tokio::select! {
            answer = asking => answer?,
            () = shutdown.cancelled() => return Ok(()),
        };
        if has_a_key {
            return Err(KeyError::Gone {
                path: key_file.clone(),
            }
            .into());
        }
    }
    let key = secret_key::read_or_create(key_file)?;
    if key.is_new {
        info!(path = %key_file.display(), "made the key that encrypts secrets; keep a copy of it");
    }
    let options = StoreOptions {
        secret_key: Some(SecretKey::from_bytes(*key.key.expose_secret())),
        max_connections: config.database_connections,
        log_limit: config.limits.log.0,
        run_log_limit: config.limits.logs_of_a_run.0,
        unfinished: UnfinishedLimits {
            runs: config.limits.unfinished_runs_of_a_repo,
            stages: config.limits.unfinished_stages_of_a_repo,
        },
        ..StoreOptions::new(url.expose_secret())
    };
    let connected = patiently(config.database_wait.0, || Store::connect(&options));
    let store = tokio::select! {
        connected = connected => connected?,
        () = shutdown.cancelled() => return Ok(()),
    };
    store.migrate().await?;
    let address = listener.local_addr()?;
    let listens_at = format!("http://{address}");
    if config.artifacts_dir == config.data_dir.join("artifacts") {
        data.folder("artifacts")?;
    }
    let blobs = Blobs::open(&config.artifacts_dir).await?;
    let rules = url_rules(config);
    let git = git(config, data, &rules)?;
    let followed = follow(&store, &starter(), repos, config.poll_every.0).await?;
    let daemon = register(config, data, &store).await?;
    let engine = engine(config, data, &store, &blobs, &git, &daemon).await?;
    let app = App::new(store.clone(), blobs, git, app_settings(config, &listens_at));
    let settings = web_settings(config, metrics);
    let strangers = settings.strangers.clone();
    let router = trainyard_web::router(WebState::new(app, settings));

    let token = admin_token(&store, data, &daemon).await?;
    let published = endpoint::publish(
        data,
        &format!("http://{}", from_this_machine(address)),
        &token,
        &endpoint::Places::of_this_process(),
    )?;
    say_where(&listens_at, &published.token, &followed)?;
    let loops = tokio::spawn(engine.run(shutdown.clone()));
    let server = trainyard_web::serve(
        listener,
        router,
        allowed_connections(config),
        strangers,
        shutdown.clone(),
        LAST_REQUESTS,
    );
    let (ended, served) = tokio::join!(loops, server);
    published.retract()?;
    // Waits for statements in progress, but not for ones that hang.
    if tokio::time::timeout(LAST_REQUESTS, store.close())
        .await
        .is_err()
    {
        warn!("could not close all connections to the database in time");
    }
    served?;
    match ended {
        Ok(ended) => Ok(ended?),
        Err(panic) => Err(ServeError::System(std::io::Error::other(panic))),
    }
}

/// Connects to a database, and waits up to `wait` if it does not answer yet: the machine may start it at the same
/// time as the daemon.
async fn patiently<T>(
    wait: Duration,
    connect: impl AsyncFn() -> Result<T, trainyard_store::Error>,
) -> Result<T, trainyard_store::Error> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        let error = match connect().await {
            Err(error @ trainyard_store::Error::Unreachable { .. }) => error,
            answer => return answer,
        };
        if begun.elapsed() >= wait {
            return Err(error);
        }
        if !said {
            warn!(%error, "could not connect to the database; will retry for up to {}", in_words(wait));
            said = true;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// The address at which commands on this machine reach the daemon.
fn from_this_machine(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

pub(crate) fn retention(config: &Config) -> Retention {
    Retention {
        runs_for: config.retention.runs_for.0,
        runs_of_each_dag: config.retention.runs_of_each_dag,
        logs_for: config.retention.logs_for.0,
        deliveries_for: config.retention.deliveries_for.0,
        images_for: config.retention.images_for.0,
        audit_for: config.retention.audit_for.0,
    }
}

/// This program's version. It is read at run time from static memory: the fault tests make another version by
/// changing these bytes in the binary.
pub(crate) fn version() -> &'static str {
    std::hint::black_box(env!("CARGO_PKG_VERSION"))
}

fn app_settings(config: &Config, listens_at: &str) -> AppSettings {
    let public_url = config.public_url.as_deref().unwrap_or(listens_at);
    AppSettings {
        version: version().to_owned(),
        public_url: public_url.to_owned(),
        capacity: capacity(config),
        grace: config.stage.grace.0,
        retention: retention(config),
        poll_every: config.poll_every.0,
        refresh_at_most: LOOK_AT_MOST,
    }
}

fn web_settings(config: &Config, metrics: Render) -> WebSettings {
    WebSettings {
        webhook_at_most: usize::try_from(config.limits.webhook.0).unwrap_or(usize::MAX),
        bodies: BodyBudget::new(usize::try_from(config.http.bodies.0).unwrap_or(usize::MAX)),
        answers: AnswerBudget::new(usize::try_from(config.http.answers.0).unwrap_or(usize::MAX)),
        strangers: Strangers::default(),
        metrics,
        metrics_are_public: config.metrics.public,
    }
}

/// The limits on connections, from the configuration and the number of file descriptors.
fn allowed_connections(config: &Config) -> Connections {
    let descriptors = descriptors::raise();
    if descriptors < descriptors::FEW {
        warn!(
            "this process may have only {descriptors} file descriptors, which is few for a daemon; raise the hard \
             limit (`ulimit -Hn`, LimitNOFILE= of systemd) to {} or more",
            descriptors::FEW
        );
    }
    let allowed = descriptors::connections(&config.http, descriptors);
    info!(
        "{descriptors} file descriptors; connections: {} at the most, {} from one address",
        allowed.in_all, allowed.per_address
    );
    allowed
}

/// Prints the daemon's address, and the repos that it follows.
fn say_where(url: &str, token: &std::path::Path, followed: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Trainyard {} is at {url}", version())?;
    writeln!(
        out,
        "The token for the command line is in {}",
        token.display()
    )?;
    for line in followed {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Connects to a database that answers at the `answers`th try, waiting for so many seconds; returns the number of
    /// tries.
    async fn tried(answers: u32, wait: u64) -> (bool, u32) {
        let unreachable = StoreOptions::new("postgres://nobody@127.0.0.1:1/none");
        let tries = Cell::new(0);
        let answer = patiently(Duration::from_secs(wait), async || {
            tries.set(tries.get() + 1);
            match tries.get() {
                now if now == answers => Ok(()),
                _ => Store::connect(&unreachable).await.map(drop),
            }
        });
        (answer.await.is_ok(), tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_yet_is_waited_for_and_not_for_ever() {
        assert_eq!(tried(3, 60).await, (true, 3));
        assert_eq!(tried(1, 0).await, (true, 1));
        assert_eq!(tried(2, 0).await, (false, 1));
        let (answered, tries) = tried(100, 5).await;
        assert!(!answered && tries > 1, "{tries}");
    }
}
