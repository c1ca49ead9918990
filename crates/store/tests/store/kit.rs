//! A throwaway Postgres, and a database of its own for each test.
//!
//! Unless a cluster for many test processes was started already, the first test of a process starts one
//! (`tests/cluster.sh`). It ends and is deleted however the process ends.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use trainyard_api::RunDetail;
use trainyard_core::Timestamp;
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::dag::{Dag, DagDraft};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::id::{DaemonId, DagId, DagVersionId, RepoId, RunId, TokenId};
use trainyard_core::name::{DagName, RepoName, StageName};
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::principal::{Act, Principal};
use trainyard_core::stage::{
    Command as StageCommand, ImageSource, PullPolicy, RunOn, Stage, StageKind, StageProgram,
};
use trainyard_core::trigger::Triggers;
use trainyard_store::{
    AddressNumber, Claim, ClaimCapacity, ClaimRequest, DaemonInfo, Error, Finished,
    FinishedAttempt, NewRepo, NewRun, Recorded, SecretKey, Store, StoreOptions,
};

/// Names the socket folder of a cluster that was started for many test processes.
const SHARED: &str = "TRAINYARD_TEST_POSTGRES";

/// Held while databases are made: Postgres refuses to copy a template that is being copied.
const MAKING: i64 = 0x6d61_6b69_6e67;

/// A cluster with a template database to which all migrations were applied.
struct Cluster {
    socket: String,
    _alive: Option<ChildStdin>,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async {
            let cluster = match std::env::var(SHARED) {
                Ok(socket) => Cluster {
                    socket,
                    _alive: None,
                },
                Err(_) => start(),
            };
            make_template(&cluster).await;
            cluster
        })
        .await
}

#[expect(
    clippy::zombie_processes,
    reason = "it ends when this process does, and not before"
)]
fn start() -> Cluster {
    let mut child = Command::new("tests/cluster.sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut line)
        .expect("the script prints a line");
    let socket = line.trim().to_owned();
    assert!(
        !socket.is_empty(),
        "Postgres did not start: is it installed?"
    );
    Cluster {
        socket,
        _alive: child.stdin.take(),
    }
}

/// Makes the template, unless another process has.
async fn make_template(cluster: &Cluster) {
    let mut admin = making(cluster).await;
    let made: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = 'migrated')")
            .fetch_one(&mut admin)
            .await
            .expect("Postgres answers");
    if !made {
        create_database(&mut admin, "migrating", "template1").await;
        let options = StoreOptions::new(cluster.url("migrating"));
        let store = Store::connect(&options)
            .await
            .expect("the new database answers");
        store.migrate().await.expect("the migrations apply");
        store.close().await;
        sqlx::raw_sql("alter database migrating rename to migrated")
            .execute(&mut admin)
            .await
            .expect("it is not in use");
    }
    admin.close().await.expect("the connection is closed");
}

/// A connection that alone makes databases, until it is closed.
async fn making(cluster: &Cluster) -> PgConnection {
    let mut admin = PgConnection::connect(&cluster.url("postgres"))
        .await
        .expect("Postgres answers");
    sqlx::query("select pg_advisory_lock($1)")
        .bind(MAKING)
        .execute(&mut admin)
        .await
        .expect("the lock is waited for");
    admin
}

impl Cluster {
    fn url(&self, database: &str) -> String {
        format!(
            "postgres://trainyard@localhost/{database}?host={}",
            self.socket
        )
    }
}

async fn create_database(admin: &mut PgConnection, name: &str, template: &str) {
    let create = format!("create database {name} template {template} strategy file_copy");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create))
        .execute(admin)
        .await
        .expect("the database is created");
}

/// The URL of a new database with all migrations.
pub(crate) async fn migrated_database() -> String {
    new_database("migrated").await
}

/// The URL of a new, empty database.
pub(crate) async fn empty_database() -> String {
    new_database("template1").await
}

async fn new_database(template: &str) -> String {
    let cluster = cluster().await;
    let mut admin = making(cluster).await;
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    create_database(&mut admin, &name, template).await;
    admin.close().await.expect("the connection is closed");
    cluster.url(&name)
}

/// A store on a database of its own, with one repo and one daemon.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) store: Store,
    /// For reading and changing rows behind the store's back.
    pub(crate) raw: PgPool,
    pub(crate) repo: RepoId,
    pub(crate) daemon: DaemonId,
}

pub(crate) const FIRST_ADDRESS: AddressNumber = AddressNumber::FIRST;
pub(crate) const LEASE: Duration = Duration::from_secs(600);
pub(crate) const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut StoreOptions)) -> Self {
        let url = migrated_database().await;
        let mut options = StoreOptions::new(url.clone());
        options.secret_key = Some(SecretKey::from_bytes([7; 32]));
        change(&mut options);
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        let repo = add_repo(&store, "shop").await;
        let daemon = register(&store, "here").await;
        let raw = PgPool::connect(&url).await.unwrap();
        Self {
            url,
            store,
            raw,
            repo,
            daemon,
        }
    }

    /// A run in full, where nothing is known of capacity.
    pub(crate) async fn detail(&self, run: RunId) -> RunDetail {
        let capacity = ClaimCapacity::default();
        self.store.run_detail(run, &capacity).await.unwrap()
    }

    /// Another store on the same database, as another process would have.
    pub(crate) async fn another(&self) -> Store {
        let mut options = StoreOptions::new(self.url.clone());
        options.secret_key = Some(SecretKey::from_bytes([7; 32]));
        Store::connect(&options).await.unwrap()
    }

    pub(crate) async fn dag(&self, dag: &Dag) -> (DagId, DagVersionId) {
        self.dag_of(self.repo, dag).await
    }

    pub(crate) async fn dag_of(&self, repo: RepoId, dag: &Dag) -> (DagId, DagVersionId) {
        let path = format!("dags/{}.yaml", dag.name());
        self.store
            .record_dag_version(repo, COMMIT, &path, "stages: {}", dag)
            .await
            .unwrap()
    }

    pub(crate) async fn start(&self, (dag, version): (DagId, DagVersionId)) -> RunId {
        match self
            .store
            .start_run(&ada(), &manual(dag, version, None))
            .await
            .unwrap()
        {
            Recorded::Started(run) => run,
            other => panic!("no run was started: {other:?}"),
        }
    }

    pub(crate) fn request(&self, slots: u32) -> ClaimRequest {
        request(self.daemon, slots)
    }

    pub(crate) async fn claim(&self, slots: u32) -> Vec<Claim> {
        self.store.claim(&self.request(slots)).await.unwrap()
    }

    pub(crate) async fn claim_one(&self) -> Claim {
        self.claim(1).await.pop().expect("an attempt waits")
    }

    pub(crate) async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.raw).await.unwrap();
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.raw)
            .await
            .unwrap()
    }

    /// All rows there are: two that are equal mean that nothing was changed.
    pub(crate) async fn everything(&self) -> Vec<(String, String)> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_name::text from information_schema.tables where table_schema = 'public' order by 1",
        )
        .fetch_all(&self.raw)
        .await
        .unwrap();
        let mut all = Vec::new();
        for table in tables {
            let rows = format!(
                "select coalesce(string_agg(t::text, e'\\n' order by t::text), '') from \"{table}\" t"
            );
            let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
                .fetch_one(&self.raw)
                .await
                .unwrap();
            all.push((table, rows));
        }
        all
    }

    /// Waits until so many statements wait for locks.
    pub(crate) async fn until_waiting(&self, statements: i64) {
        let blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
            and datname = current_database()";
        let waits = async { while self.count(blocked).await < statements {} };
        tokio::time::timeout(Duration::from_secs(300), waits)
            .await
            .expect("the statements wait for locks");
    }

    pub(crate) async fn text(&self, query: &'static str) -> String {
        sqlx::query_scalar(query)
            .fetch_one(&self.raw)
            .await
            .unwrap()
    }
}

pub(crate) fn request(daemon: DaemonId, slots: u32) -> ClaimRequest {
    ClaimRequest {
        daemon,
        executor: "fake".into(),
        engine: None,
        capacity: ClaimCapacity {
            slots_total: slots,
            ..ClaimCapacity::default()
        },
    }
}

/// The holder of the token `ada`, who makes the changes of these tests.
pub(crate) fn ada() -> Act {
    Act {
        by: Principal::token(TokenId(uuid::Uuid::nil()), "ada"),
        peer: Some([192, 0, 2, 1].into()),
    }
}

pub(crate) async fn add_repo(store: &Store, name: &str) -> RepoId {
    let new = NewRepo {
        name: RepoName::new(name).unwrap(),
        url: format!("https://example.org/{name}.git"),
        followed_branch: None,
        poll_every: Duration::from_secs(60),
        webhook_secret: Some("hook-secret".into()),
        credentials: None,
    };
    store.add_repo(&ada(), &new).await.unwrap()
}

pub(crate) async fn register(store: &Store, host: &str) -> DaemonId {
    let info = DaemonInfo {
        host: host.into(),
        pid: 1,
        version: "0".into(),
        alone_on_host: false,
    };
    store.register_daemon(&info, LEASE).await.unwrap()
}

pub(crate) fn manual(dag: DagId, version: DagVersionId, request: Option<&str>) -> NewRun {
    NewRun {
        dag,
        version,
        cause: Cause {
            kind: CauseKind::Manual {
                reference: None,
                request: request.map(ToOwned::to_owned),
            },
            actor: Some("ada".into()),
            commit: COMMIT.into(),
            summary: "first".into(),
            branch: Some("main".into()),
        },
        params: Default::default(),
        logical_time: None,
    }
}

pub(crate) fn name(text: &str) -> StageName {
    StageName::new(text).unwrap()
}

pub(crate) fn stage(text: &str, needs: &[&str]) -> Stage {
    let image = ImageSource::Reference {
        image: trainyard_core::expression::Template::literal("alpine:3"),
        pull: PullPolicy::IfMissing,
    };
    Stage {
        name: name(text),
        needs: needs.iter().map(|need| name(need)).collect(),
        run_on: [RunOn::Success].into(),
        condition: None,
        kind: StageKind::Program(StageProgram {
            command: Some(StageCommand::Script("true".into())),
            ..StageProgram::new(image)
        }),
    }
}

pub(crate) fn draft(text: &str, stages: Vec<Stage>) -> DagDraft {
    DagDraft {
        name: DagName::new(text).unwrap(),
        description: None,
        triggers: Triggers::default(),
        params: Default::default(),
        concurrency: Concurrency::default(),
        timeout: None,
        stages,
    }
}

pub(crate) fn dag(text: &str, stages: Vec<Stage>) -> Dag {
    Dag::new(draft(text, stages)).unwrap()
}

/// `s0`, `s1` after it, and so on.
pub(crate) fn chain(text: &str, length: usize) -> Dag {
    let stages = (0..length).map(|at| {
        let before = at.checked_sub(1).map(|before| format!("s{before}"));
        stage(
            &format!("s{at}"),
            &before.as_deref().into_iter().collect::<Vec<_>>(),
        )
    });
    dag(text, stages.collect())
}

/// Stages that need nothing.
pub(crate) fn wide(text: &str, count: usize) -> Dag {
    dag(
        text,
        (0..count).map(|at| stage(&format!("s{at}"), &[])).collect(),
    )
}

pub(crate) fn limited(text: &str, overlap: Overlap) -> Dag {
    let concurrency = Concurrency {
        limit: Some(1),
        overlap,
        group: None,
    };
    Dag::new(DagDraft {
        concurrency,
        ..draft(text, vec![stage("only", &[])])
    })
    .unwrap()
}

pub(crate) fn end(ending: Ending) -> AttemptEnd {
    AttemptEnd {
        ending,
        ended_at: Timestamp::MAX_UTC,
        ran_for: None,
        metrics: Default::default(),
    }
}

pub(crate) fn good() -> AttemptEnd {
    end(Ending::Exited {
        code: 0,
        out_of_memory: false,
    })
}

pub(crate) fn bad() -> AttemptEnd {
    end(Ending::Exited {
        code: 1,
        out_of_memory: false,
    })
}

pub(crate) fn finished(claim: &Claim, end: AttemptEnd) -> FinishedAttempt {
    FinishedAttempt {
        run: claim.run.facts.id,
        attempt: claim.attempt,
        fence: claim.fence,
        end,
        artifacts: Vec::new(),
    }
}

pub(crate) async fn finish(
    store: &Store,
    claim: &Claim,
    end: AttemptEnd,
) -> Result<Finished, Error> {
    store.finish_attempt(finished(claim, end), None).await
}
