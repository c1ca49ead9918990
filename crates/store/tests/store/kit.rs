//! A store on a database of a test's own.

use std::time::Duration;

use sqlx::PgPool;
use trainyard_api::RunDetail;
use trainyard_cluster::Database;
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

/// A new database with all migrations.
pub(crate) async fn migrated_database() -> Database {
    let migrate = async |url| {
        let store = Store::connect(&StoreOptions::new(url)).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
    };
    trainyard_cluster::migrated_database(migrate).await
}

/// The URL of a new, empty database.
pub(crate) fn empty_database() -> String {
    trainyard_cluster::empty_database().url()
}

/// A store on a database of its own, with one repo and one daemon.
pub(crate) struct Place {
    pub(crate) database: Database,
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
        let database = migrated_database().await;
        let mut options = StoreOptions::new(database.url());
        options.secret_key = Some(SecretKey::from_bytes([7; 32]));
        change(&mut options);
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        let repo = add_repo(&store, "shop").await;
        let daemon = register(&store, "here").await;
        let raw = PgPool::connect(&database.url()).await.unwrap();
        Self {
            database,
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
        let mut options = StoreOptions::new(self.database.url());
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

    /// All rows there are: two texts that are equal mean that nothing was changed.
    pub(crate) fn everything(&self) -> String {
        self.database.everything(&[])
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
