//! The private Postgres of `trainyard dev`, with real programs: created, stopped, killed, used again.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection, PgConnection, Row};
use tempfile::TempDir;
use trainyard_daemon::data_dir::Said;
use trainyard_daemon::{DataDir, PrivateCluster};

/// A folder in which root can have a private Postgres.
fn place() -> TempDir {
    let place = tempfile::Builder::new()
        .prefix("ty-")
        .tempdir_in("/tmp")
        .unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    place
}

/// Stops the Postgres that a failing test leaves behind.
struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pid) = postmaster(&self.0) {
            signal("-KILL", &pid);
        }
    }
}

struct Scene {
    data: DataDir,
    _guard: Guard,
    _place: TempDir,
}

impl Scene {
    fn new() -> Self {
        let place = place();
        let path = place.path().join("data");
        Self {
            data: DataDir::open(&path, Said::ByItsPath).unwrap(),
            _guard: Guard(path),
            _place: place,
        }
    }

    async fn start(&self) -> PrivateCluster {
        PrivateCluster::start(&self.data, None).await.unwrap()
    }

    fn postmaster(&self) -> Option<String> {
        postmaster(self.data.path())
    }
}

fn postmaster(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("postgres/cluster/postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

fn signal(name: &str, pid: &str) {
    assert!(
        Command::new("kill")
            .args([name, pid])
            .status()
            .unwrap()
            .success()
    );
}

async fn connect(cluster: &PrivateCluster) -> PgConnection {
    PgConnection::connect(cluster.url()).await.unwrap()
}

async fn ask(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::query(sql).execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_made_used_stopped_and_used_again() {
    let scene = Scene::new();
    let cluster = scene.start().await;
    assert!(!cluster.was_running());
    let mut connection = connect(&cluster).await;
    run(&mut connection, "create table note (text text)").await;
    run(&mut connection, "insert into note values ('kept')").await;
    for (sql, value) in [
        ("show listen_addresses", ""),
        ("show fsync", "on"),
        ("show data_checksums", "on"),
        ("show server_encoding", "UTF8"),
    ] {
        assert_eq!(ask(&mut connection, sql).await, value, "{sql}");
    }
    connection.close().await.unwrap();
    cluster.stop().await.unwrap();
    assert_eq!(scene.postmaster(), None);

    let cluster = scene.start().await;
    assert!(!cluster.was_running());
    assert_eq!(
        ask(&mut connect(&cluster).await, "select text from note").await,
        "kept"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_halted_says_so_and_has_lost_nothing() {
    let scene = Scene::new();
    let cluster = scene.start().await;
    let mut connection = connect(&cluster).await;
    run(&mut connection, "create table note (text text)").await;
    run(&mut connection, "insert into note values ('kept')").await;
    assert_eq!(cluster.halt()(), "its Postgres was stopped, too");
    assert_eq!(scene.postmaster(), None);

    let cluster = scene.start().await;
    assert!(!cluster.was_running());
    assert_eq!(
        ask(&mut connect(&cluster).await, "select text from note").await,
        "kept"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn other_users_cannot_reach_the_data_or_the_socket() {
    let scene = Scene::new();
    let cluster = scene.start().await;
    let home = scene.data.path().join("postgres");
    for folder in [home.clone(), home.join("cluster"), home.join("socket")] {
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{folder:?}"
        );
    }
    let pid = scene.postmaster().unwrap();
    let owner = Path::new("/proc").join(pid).metadata().unwrap().uid();
    assert_ne!(owner, 0, "Postgres runs as root");
    assert_eq!(owner, home.metadata().unwrap().uid());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn postgres_that_was_killed_recovers_with_all_that_was_committed() {
    let scene = Scene::new();
    let cluster = scene.start().await;
    let mut connection = connect(&cluster).await;
    run(&mut connection, "create table note (text text)").await;
    run(&mut connection, "insert into note values ('kept')").await;
    signal("-KILL", &scene.postmaster().unwrap());
    drop((connection, cluster));

    let cluster = scene.start().await;
    assert!(!cluster.was_running());
    assert_eq!(
        ask(&mut connect(&cluster).await, "select text from note").await,
        "kept"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn postgres_that_outlived_a_killed_daemon_is_gone_on_with() {
    let scene = Scene::new();
    // A killed daemon does exactly this: nothing.
    let left = scene.start().await;
    let pid = scene.postmaster();
    let cluster = scene.start().await;
    assert!(cluster.was_running());
    assert_eq!(scene.postmaster(), pid);
    assert_eq!(cluster.url(), left.url());
    connect(&cluster).await.close().await.unwrap();
    cluster.stop().await.unwrap();
    assert_eq!(scene.postmaster(), None);
}

#[tokio::test]
async fn postgres_whose_socket_was_deleted_is_restarted() {
    let scene = Scene::new();
    let left = scene.start().await;
    std::fs::remove_file(scene.data.path().join("postgres/socket/.s.PGSQL.5432")).unwrap();
    drop(left);
    let cluster = scene.start().await;
    connect(&cluster).await.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_of_a_process_that_is_another_by_now_does_not_stop_a_start() {
    let scene = Scene::new();
    scene.start().await.stop().await.unwrap();
    let file = scene.data.path().join("postgres/cluster/postmaster.pid");
    let text = format!(
        "{}\n/x\n1\n5432\n/x\n\n  1 1\nready   \n",
        std::process::id()
    );
    std::fs::write(file, text).unwrap();
    let cluster = scene.start().await;
    assert!(!cluster.was_running());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_was_killed_half_way_is_repeated() {
    let scene = Scene::new();
    scene.start().await.stop().await.unwrap();
    let home = scene.data.path().join("postgres");
    std::fs::rename(home.join("cluster"), home.join("cluster.unfinished")).unwrap();
    let cluster = scene.start().await;
    connect(&cluster).await.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_another_version_is_left_alone() {
    let scene = Scene::new();
    scene.start().await.stop().await.unwrap();
    let version = scene.data.path().join("postgres/cluster/PG_VERSION");
    std::fs::write(&version, "11\n").unwrap();
    let error = PrivateCluster::start(&scene.data, None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("made by Postgres 11") && error.contains("--pg-bin"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(version).unwrap(), "11\n");
}

#[tokio::test]
async fn a_data_folder_with_a_long_and_odd_name_works() {
    let place = place();
    let path = place
        .path()
        .join(format!("a 'b' \"$c\" {}/data", "x".repeat(100)));
    let _guard = Guard(path.clone());
    let data = DataDir::open(&path, Said::ByItsPath).unwrap();
    // The folder in between is made with the umask of the test's user.
    std::fs::set_permissions(
        path.parent().unwrap(),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let cluster = PrivateCluster::start(&data, None).await.unwrap();
    connect(&cluster).await.close().await.unwrap();
    let log = std::fs::read_to_string(cluster.log()).unwrap();
    assert!(!log.contains("FATAL"), "{log}");
    let elsewhere = data.path().join("postgres/cluster/postmaster.pid");
    let sockets = std::fs::read_to_string(elsewhere)
        .unwrap()
        .lines()
        .nth(4)
        .unwrap()
        .to_owned();
    assert!(Path::new(&sockets).exists());
    cluster.stop().await.unwrap();
    assert!(!Path::new(&sockets).exists(), "{sockets} was left behind");
}

#[tokio::test]
async fn a_data_folder_that_postgres_cannot_reach_has_its_cluster_in_an_open_place() {
    if !nix::unistd::geteuid().is_root() {
        // Only root's Postgres runs as another user; others' folders are always their own.
        return;
    }
    let place = place();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = place.path().join("data");
    let _guard = Guard(path.clone());
    let data = DataDir::open(&path, Said::ByItsPath).unwrap();
    let cluster = PrivateCluster::start(&data, None).await.unwrap();
    connect(&cluster).await.close().await.unwrap();
    cluster.stop().await.unwrap();
    let home = path.join("postgres").canonicalize().unwrap();
    assert!(!home.starts_with(place.path()), "{home:?}");

    let again = PrivateCluster::start(&data, None).await.unwrap();
    again.stop().await.unwrap();
    assert_eq!(path.join("postgres").canonicalize().unwrap(), home);
    std::fs::remove_dir_all(home).unwrap();
}

#[tokio::test]
async fn a_folder_that_was_not_given_away_yet_is_taken_over() {
    let scene = Scene::new();
    std::fs::create_dir(scene.data.path().join("postgres")).unwrap();
    scene.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn without_programs_the_message_says_what_to_install() {
    let scene = Scene::new();
    let error = PrivateCluster::start(&scene.data, Some(Path::new("/nonexistent")))
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in ["/nonexistent", "apt install postgresql", "--database-url"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn ctrl_c_at_the_terminal_does_not_reach_postgres() {
    let scene = Scene::new();
    let cluster = scene.start().await;
    let session = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        // State, parent, process group, session.
        rest.split(' ')
            .skip(2)
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let own = session(&std::process::id().to_string());
    let its = session(&scene.postmaster().unwrap());
    assert!(
        its.iter().zip(&own).all(|(its, own)| its != own),
        "{its:?} {own:?}"
    );
    cluster.stop().await.unwrap();
}
