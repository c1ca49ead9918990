//! A server on a database of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::Value;
use sha2::Sha256;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use trainyard_api::TokenScope;
use trainyard_app::{App, AppSettings};
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::id::{RunId, TokenId};
use trainyard_core::name::{RepoName, SecretName};
use trainyard_core::principal::{Act, Principal};
use trainyard_forge::{Git, Mirrors, UrlRules, Worker};
use trainyard_store::{
    Blobs, ClaimCapacity, DaemonInfo, NewRepo, NewRun, Recorded, RepoCredentials, Retention,
    SecretKey, Store, StoreOptions,
};
use trainyard_web::{
    AnswerBudget, BodyBudget, Connections, Render, Strangers, WebSettings, WebState, router, serve,
};

/// Texts that no answer may contain.
pub(crate) const CANARIES: [&str; 3] = [
    "canary-of-the-webhook",
    "canary-of-the-secret",
    "canary-of-the-password",
];

pub(crate) const LIMIT: usize = 5 << 20;

const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// A server with one repo, `shop`, with one DAG, `train`, and one run of it.
pub(crate) struct Place {
    pub(crate) router: Router,
    pub(crate) raw: PgPool,
    pub(crate) admin: String,
    pub(crate) reader: String,
    pub(crate) strangers: Strangers,
    _folder: tempfile::TempDir,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        let url = database().await;
        let options = StoreOptions {
            secret_key: Some(SecretKey::from_bytes([7; 32])),
            ..StoreOptions::new(url.clone())
        };
        let store = Store::connect(&options).await.unwrap();
        store.migrate().await.unwrap();
        let ada = Act::local(Principal::token(TokenId(uuid::Uuid::nil()), "ada"));
        let new = NewRepo {
            name: RepoName::new("shop").unwrap(),
            url: "file:///nonexistent/shop".into(),
            followed_branch: None,
            poll_every: Duration::from_secs(60),
            webhook_secret: Some(CANARIES[0].into()),
            credentials: Some(RepoCredentials::Login {
                username: "git".into(),
                password: CANARIES[2].into(),
            }),
        };
        let repo = store.add_repo(&ada, &new).await.unwrap();
        let secret = SecretName::new("API_KEY".to_owned()).unwrap();
        let value = SecretString::from(CANARIES[1]);
        store
            .set_secret(&ada, repo, &secret, &value, None)
            .await
            .unwrap();
        let text = "params: {lr: {type: number, default: 0.1, minimum: 0.01}}\n\
                    triggers: {push: {branches: [main], paths: [\"src/**\"]}}\n\
                    concurrency: {limit: 1}\n\
                    stages: {a: {image: \"alpine:3\", run: \"true\", secrets: [API_KEY], metrics: m.json, \
                    gate: [{metric: auc, min: 0.5}]}}\n";
        let dag = trainyard_dagfile::parse("dags/train.yaml", text)
            .dag
            .unwrap();
        let (dag, version) = store
            .record_dag_version(repo, COMMIT, "dags/train.yaml", text, &dag)
            .await
            .unwrap();
        let run = NewRun {
            dag,
            version,
            cause: Cause {
                kind: CauseKind::Manual {
                    reference: None,
                    request: None,
                },
                actor: Some("ada".into()),
                commit: COMMIT.into(),
                summary: "first".into(),
                branch: Some("main".into()),
            },
            params: Default::default(),
            logical_time: None,
        };
        assert_eq!(
            store.start_run(&ada, &run).await.unwrap(),
            Recorded::Started(RunId(1))
        );
        let daemon = DaemonInfo {
            host: "here".into(),
            pid: 1,
            version: "0".into(),
            alone_on_host: false,
        };
        let lease = Duration::from_secs(600);
        let daemon = store.register_daemon(&daemon, lease).await.unwrap();
        let (id, admin) = store
            .create_token(&ada, "admin", TokenScope::Admin)
            .await
            .unwrap();
        store.keep_token(id, daemon).await.unwrap();
        let (_, reader) = store
            .create_token(&ada, "reader", TokenScope::Read)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("artifacts")).await.unwrap();
        let rules = UrlRules {
            allow_file_urls: true,
            ..UrlRules::default()
        };
        // These tests fetch nothing, so the git worker is never started.
        let no_worker = Worker::new("/bin/false".into(), Vec::new());
        let mirrors = Mirrors::new(folder.path().join("mirrors")).with_rules(rules);
        let git = Git::new(mirrors, no_worker);
        let strangers = Strangers::default();
        let app_settings = AppSettings {
            version: "0".to_owned(),
            public_url: "http://127.0.0.1".to_owned(),
            capacity: ClaimCapacity {
                slots_total: 1,
                ..ClaimCapacity::default()
            },
            grace: Duration::from_secs(1),
            retention: Retention::default(),
            poll_every: Duration::from_secs(60),
            // These tests run no watcher.
            refresh_at_most: Duration::ZERO,
        };
        let settings = WebSettings {
            webhook_at_most: LIMIT,
            bodies: BodyBudget::new(64 << 20),
            answers: AnswerBudget::new(8 << 20),
            strangers: strangers.clone(),
            metrics: Render::new(String::new),
            metrics_are_public: false,
        };
        let app = App::new(store, blobs, git, app_settings);
        let router = router(WebState::new(app, settings));
        let raw = PgPool::connect(&url).await.unwrap();
        Self {
            router,
            raw,
            admin: admin.secret,
            reader: reader.secret,
            strangers,
            _folder: folder,
        }
    }

    /// Calls the router directly.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        self.ask(request(method, path, Some(token), body)).await
    }

    /// A socket of this server.
    pub(crate) async fn listen(&self, in_all: usize) -> (SocketAddr, DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let connections = Connections {
            in_all,
            per_address: in_all,
        };
        tokio::spawn(serve(
            listener,
            self.router.clone(),
            connections,
            self.strangers.clone(),
            shutdown.clone(),
            Duration::from_secs(2),
        ));
        (address, shutdown.drop_guard())
    }

    /// All rows of the database, except the times of tokens' last use: equal texts mean that nothing has changed.
    pub(crate) async fn everything(&self) -> Vec<(String, String)> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_name::text from information_schema.tables
             where table_schema = 'public' and table_name <> 'token' order by 1",
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
}

pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Request<Body> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// The signature of a body, in GitHub's form.
pub(crate) fn sign(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Every route of the document: method, and path with its parameters in braces.
pub(crate) fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(trainyard_web::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"] {
            if item.get(method).is_some() {
                let path = format!("{}{path}", trainyard_api::PREFIX);
                routes.push((method.to_ascii_uppercase(), path));
            }
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

/// A path with its parameters replaced by what exists.
pub(crate) fn filled(path: &str) -> String {
    path.replace("{repo}", "shop")
        .replace("{dag}", "train")
        .replace("{run}", "1")
        .replace("{stage}", "a")
        .replace("{output}", "model")
        .replace("{name}", "API_KEY")
        .replace("{token}", "nobody")
        .replace("{id}", "1")
}

static SOCKET: OnceLock<(String, Option<ChildStdin>)> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new database: on the cluster of many test processes where there is one, else on one of this process.
async fn database() -> String {
    let (socket, _) = SOCKET.get_or_init(|| match std::env::var("TRAINYARD_TEST_POSTGRES") {
        Ok(socket) => (socket, None),
        Err(_) => start(),
    });
    let url = |name: &str| format!("postgres://trainyard@localhost/{name}?host={socket}");
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("web_{}_{number}", std::process::id());
    let mut admin = PgConnection::connect(&url("postgres")).await.unwrap();
    // `template1` may be copied by one at a time only.
    let create = format!("create database {name} template template0 strategy file_copy");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create))
        .execute(&mut admin)
        .await
        .unwrap();
    admin.close().await.unwrap();
    url(&name)
}

#[expect(clippy::zombie_processes, reason = "it lives until this process ends")]
fn start() -> (String, Option<ChildStdin>) {
    let mut child = Command::new("../store/tests/cluster.sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let socket = line.trim().to_owned();
    assert!(
        !socket.is_empty(),
        "Postgres did not start: is it installed?"
    );
    (socket, child.stdin.take())
}
