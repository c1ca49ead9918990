//! A whole daemon: everything made, wired, run until it is asked to stop, and put away in order.
//!
//! Stopping lets go of containers and never kills them. What is put away last was made first: the
//! server, the loops, the database's connections, and with `dev` the database itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use trainyard_core::id::DaemonId;
use trainyard_core::name::RepoName;
use trainyard_engine::space::{Place, PlaceRole};
use trainyard_engine::supervisor::Surroundings;
use trainyard_engine::{Engine, EngineOptions, LoopEnded};
use trainyard_executor::Limits;
use trainyard_forge::{Git, Mirrors, RemoteUrl, UrlRules};
use trainyard_store::{
    Blobs, ClaimCapacity, DaemonInfo, NewRepo, Retention, Scope, SecretKey, Store, StoreOptions,
    TokenInfo,
};
use trainyard_web::{BodyBudget, Connections, Render, Strangers, WebSettings, WebState};

use crate::config::{Config, ConfigError, DaemonArgs, Database, DevArgs};
use crate::data_dir::{DataDir, DataDirError};
use crate::endpoint;
use crate::postgres::{ClusterError, OwnPostgres, OwnPostgresOptions};
use crate::secret_key::{self, KeyError};
use crate::telemetry::TelemetryError;
use crate::{crypto, descriptors, executor, shutdown, telemetry};

/// The name of the token that every start leaves for the command line.
const ADMIN_TOKEN: &str = "admin";

/// How long requests that are under way may take once the daemon is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Why a daemon did not start, or ended.
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
    /// The key of the secrets cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The Postgres of its own does not start.
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
    Repo {
        /// As given.
        repo: String,
        /// Why.
        problem: String,
    },
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {source}; give another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A part of the daemon ended by itself.
    #[error(transparent)]
    Loop(#[from] LoopEnded),
    /// The system fails.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl ServeError {
    /// Whether the command was given wrongly, rather than something it needs being amiss.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_))
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
    // Before anything holds one.
    let _ = descriptors::raise();
    let figures = telemetry::record_figures()?;
    let shutdown = shutdown::on_signals()?;
    let data = DataDir::open(&config.data_dir)?;
    info!("configuration:\n{}", config.redacted().trim_end());
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: config.listen,
            source,
        })?;
    let (binaries, image) = match &config.database {
        Database::Url(url) => {
            return on_database(
                &config,
                repos,
                &data,
                url.clone(),
                listener,
                figures,
                shutdown,
            )
            .await;
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
    let served = on_database(&config, repos, &data, url, listener, figures, shutdown).await;
    postgres.stop().await?;
    served
}

async fn on_database(
    config: &Config,
    repos: &[String],
    data: &DataDir,
    url: SecretString,
    listener: TcpListener,
    figures: Render,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let key = secret_key::read_or_create(&config.secret_key_file)?;
    if key.is_new {
        info!(path = %config.secret_key_file.display(), "made the key that seals secrets; keep a copy of it");
    }
    let store = Store::connect(&StoreOptions {
        secret_key: Some(SecretKey::from_bytes(*key.key.expose_secret())),
        max_connections: config.database_connections,
        log_limit: config.limits.log.0,
        ..StoreOptions::new(url.expose_secret())
    })
    .await?;
    store.migrate().await?;
    let address = listener.local_addr()?;
    let public_url = format!("http://{address}");
    let blobs = Blobs::open(&config.artifacts_dir).await?;
    let rules = UrlRules {
        allow_file_urls: config.allow_file_urls,
    };
    let git = Git::new(Mirrors::new(data.folder("mirrors")?).with_rules(rules));
    follow(&store, repos, &rules, config.poll_every.0).await?;
    let daemon = register(config, data, &store).await?;
    let engine = engine(config, data, &store, &blobs, &git, &daemon).await?;
    let settings = web_settings(config, &public_url, figures);
    let strangers = settings.strangers.clone();
    let router = trainyard_web::router(WebState::new(store.clone(), blobs, git, settings));

    let token = admin_token(&store, data, daemon.id).await?;
    let published = endpoint::publish(
        data,
        &public_url,
        &token,
        &endpoint::Places::of_this_process(),
    )?;
    say_where(&public_url, &published.token)?;
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
    // What is still being written is waited for; what hangs is not.
    if tokio::time::timeout(LAST_REQUESTS, store.close())
        .await
        .is_err()
    {
        warn!("connections to the database were left open");
    }
    served?;
    match ended {
        Ok(ended) => Ok(ended?),
        Err(panic) => Err(ServeError::System(std::io::Error::other(panic))),
    }
}

/// This daemon among those on the database.
struct Registered {
    id: DaemonId,
    leased_at: Instant,
}

async fn register(
    config: &Config,
    data: &DataDir,
    store: &Store,
) -> Result<Registered, ServeError> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let info = DaemonInfo {
        // Whoever holds the lock of a data folder is the only daemon on it: the ones before it are
        // gone, and what they held can be taken over at once.
        host: format!("{}:{}", host.to_string_lossy(), data.path().display()),
        pid: std::process::id(),
        version: version().to_owned(),
        alone_on_host: true,
    };
    // Counted from before it is asked for: the lease may have begun any time since.
    let leased_at = Instant::now();
    let id = store.register_daemon(&info, config.lease.0).await?;
    Ok(Registered { id, leased_at })
}

/// Everything that makes things happen.
async fn engine(
    config: &Config,
    data: &DataDir,
    store: &Store,
    blobs: &Blobs,
    git: &Git,
    daemon: &Registered,
) -> Result<Engine, ServeError> {
    let instance = store.instance().await?;
    let executor = executor::configured(config, instance, data.folder("processes")?).await?;
    let engine_id = executor.engine_id().await?;
    let root = executor::local_root(&executor, config.docker.host.as_deref()).await?;
    let stage = &config.stage;
    let options = EngineOptions {
        instance,
        daemon: daemon.id,
        surroundings: Surroundings {
            executor,
            limits: Limits {
                cpus: stage.cpus,
                memory: Some(stage.memory.0),
                shm: stage.shm.map(|size| size.0),
                pids: Some(stage.pids),
            },
            grace: stage.grace.0,
            output_limit: config.limits.artifact.0,
            scratch: blobs.incoming(),
        },
        capacity: ClaimCapacity {
            slots_total: config.parallelism,
            pools_total: config.pools.0.clone(),
        },
        lease: config.lease.0,
        leased_at: daemon.leased_at,
        engine_id,
        sources: data.folder("sources")?,
        retention: retention(config),
        places: places(config, data, root),
        floor: config.floor(),
    };
    Ok(Engine::new(
        store.clone(),
        blobs.clone(),
        git.clone(),
        options,
    ))
}

/// The folders whose disks are guarded.
fn places(config: &Config, data: &DataDir, engine: Option<PathBuf>) -> Vec<Place> {
    let place = |role, path| Place { role, path };
    let own = [
        place(PlaceRole::Data, data.path().to_owned()),
        place(PlaceRole::Artifacts, config.artifacts_dir.clone()),
    ];
    let engine = engine.map(|root| place(PlaceRole::Engine, root));
    own.into_iter().chain(engine).collect()
}

fn retention(config: &Config) -> Retention {
    Retention {
        runs_for: config.retention.runs_for.0,
        runs_of_each_dag: config.retention.runs_of_each_dag,
        logs_for: config.retention.logs_for.0,
        deliveries_for: config.retention.deliveries_for.0,
        images_for: config.retention.images_for.0,
    }
}

/// This program's version. It is read from where the compiler put it, not built into instructions: the fault
/// programme makes another version by changing those bytes.
fn version() -> &'static str {
    std::hint::black_box(env!("CARGO_PKG_VERSION"))
}

fn web_settings(config: &Config, public_url: &str, figures: Render) -> WebSettings {
    WebSettings {
        version: version().to_owned(),
        public_url: public_url.to_owned(),
        slots: config.parallelism,
        grace: config.stage.grace.0,
        pools: config.pools.0.clone(),
        retention: retention(config),
        poll_every: config.poll_every.0,
        webhook_at_most: usize::try_from(config.limits.webhook.0).unwrap_or(usize::MAX),
        bodies: BodyBudget::new(usize::try_from(config.http.bodies.0).unwrap_or(usize::MAX)),
        strangers: Strangers::default(),
        figures,
        figures_are_public: config.metrics.public,
    }
}

/// The token for the command line: the one that an earlier start left, if it still is good. As long as this daemon
/// lives, nobody revokes it.
async fn admin_token(
    store: &Store,
    data: &DataDir,
    daemon: DaemonId,
) -> Result<SecretString, ServeError> {
    if let Some(token) = endpoint::read_token(data)?
        && let Some(info) = store.authenticate(&token).await?
        && info.scope == Scope::Admin
    {
        store.keep_token(info.id, daemon).await?;
        return Ok(token);
    }
    // Another daemon on this database may have its own, and a data folder that is gone had one.
    let host = nix::unistd::gethostname().unwrap_or_default();
    let own = format!(
        "{ADMIN_TOKEN}@{}:{}",
        host.to_string_lossy(),
        data.path().display()
    );
    let (info, token) = make_token(store, &own).await?;
    store.keep_token(info.id, daemon).await?;
    Ok(token)
}

async fn make_token(
    store: &Store,
    own: &str,
) -> Result<(TokenInfo, SecretString), trainyard_store::Error> {
    for name in [ADMIN_TOKEN, own] {
        match store.create_token(name, Scope::Admin).await {
            Err(trainyard_store::Error::Conflict { .. }) => {}
            made => return made,
        }
    }
    // Its text is lost, so nobody can use it any more.
    store.revoke_token(own).await?;
    store.create_token(own, Scope::Admin).await
}

/// Follows the repos that were named at the start, unless they are followed already.
async fn follow(
    store: &Store,
    repos: &[String],
    rules: &UrlRules,
    poll_every: Duration,
) -> Result<(), ServeError> {
    if repos.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = store
        .list_repos()
        .await?
        .into_iter()
        .map(|repo| repo.url)
        .collect();
    for repo in repos {
        let fault = |problem: String| ServeError::Repo {
            repo: repo.clone(),
            problem,
        };
        let text = match std::path::Path::new(repo).canonicalize() {
            Ok(path) => path.display().to_string(),
            Err(_) => repo.clone(),
        };
        let url = RemoteUrl::parse(&text, rules).map_err(|error| fault(error.to_string()))?;
        if known.iter().any(|known| known == url.as_str()) {
            continue;
        }
        let name =
            RepoName::new(name_of(url.as_str())).map_err(|error| fault(error.to_string()))?;
        let new = NewRepo {
            name,
            url: url.as_str().to_owned(),
            followed_branch: None,
            poll_every,
            webhook_secret: None,
            credentials: None,
        };
        store.add_repo(&new).await?;
    }
    Ok(())
}

/// The last part of a URL, as a name.
fn name_of(url: &str) -> String {
    let last = url
        .trim_end_matches('/')
        .rsplit('/')
        .find(|part| *part != ".git")
        .unwrap_or(url);
    last.trim_end_matches(".git")
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || "-_".contains(letter) {
                letter
            } else {
                '-'
            }
        })
        .collect()
}

/// How many connections there may be, of the descriptors that this process may have.
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

/// Tells people where it is.
fn say_where(url: &str, token: &std::path::Path) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Trainyard {} is at {url}", version())?;
    writeln!(
        out,
        "The token for the command line is in {}",
        token.display()
    )?;
    out.flush()
}
