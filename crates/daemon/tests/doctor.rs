//! `trainyard doctor` on this machine, with its real Docker and its real Postgres.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use clap::Parser;
use secrecy::ExposeSecret;
use trainyard_daemon::data_dir::Said;
use trainyard_daemon::doctor::{Check, CheckStatus, examine, worst};
use trainyard_daemon::{Config, DataDir, DevArgs, PrivateCluster, crypto, secret_key};
use trainyard_store::{SecretKey, Store, StoreOptions};

#[derive(Parser)]
struct Dev {
    #[command(flatten)]
    args: DevArgs,
}

async fn checks(arguments: &[&str]) -> Vec<Check> {
    crypto::install_provider();
    let all = ["dev"].iter().chain(arguments);
    let config = Config::for_dev(&Dev::try_parse_from(all).unwrap().args).unwrap();
    examine(&config).await
}

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[tokio::test]
async fn a_machine_that_has_everything_passes() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data").display().to_string();
    let checks = checks(&["--data-dir", &data, "--listen", "127.0.0.1:0"]).await;
    let shown: Vec<String> = checks
        .iter()
        .filter(|check| !check.name.to_lowercase().contains("disk") && check.name != "Docker fixes")
        .map(|check| format!("{:?} {}: {}", check.status, check.name, check.detail))
        .collect();
    insta::with_settings!({filters => vec![
        (place.path().to_str().unwrap(), "[place]"),
        (r"Docker [\d.+a-z~-]+ \(API [\d.]+\) at \S+, \d+ CPUs, [\d.]+ .iB of memory, cgroup v\d, \w+", "[engine]"),
        (r"Postgres \d+ in [^,]+", "Postgres [major] in [folder]"),
        (r"\d+, of which connections take \d+", "[count], of which connections take [part]"),
    ]}, {
        insta::assert_snapshot!(shown.join("\n"), @r"
        Ok Docker engine: [engine]
        Ok Postgres: Postgres [major] in [folder], for a database of its own
        Ok Data folder: [place]/data will be made at the first start
        Ok Key for secrets: [place]/data/secret.key will be made at the first start
        Ok Address: 127.0.0.1:0 is free
        Ok File descriptors: [count], of which connections take [part] at the most
        ");
    });
    for disk in ["Docker disk", "Disk"] {
        assert!(find(&checks, disk).detail.contains("free at"), "{checks:?}");
    }
}

#[tokio::test]
async fn each_thing_that_is_missing_says_what_to_do() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let checks = checks(&[
        "--data-dir",
        "/proc/nonexistent",
        "--docker-host",
        "unix:///nonexistent/docker.sock",
        "--database-url",
        "postgres://ty:canary@127.0.0.1:1/none",
        "--listen",
        &address,
    ])
    .await;
    for (name, status) in [
        ("Docker engine", CheckStatus::Failed),
        ("Postgres", CheckStatus::Failed),
        ("Address", CheckStatus::Warning),
    ] {
        let check = find(&checks, name);
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.what_to_do.is_some(), "{check:?}");
    }
    assert_eq!(worst(&checks), CheckStatus::Failed);
    let json = serde_json::to_string(&checks).unwrap();
    assert!(
        json.contains("\"failed\"") && json.contains("127.0.0.1:1"),
        "{json}"
    );
    assert!(!json.contains("canary"), "{json}");
}

#[tokio::test]
async fn a_daemon_that_runs_no_stages_gets_a_warning() {
    let checks = checks(&["--executor", "fake"]).await;
    assert_eq!(find(&checks, "Executor").status, CheckStatus::Warning);
}

/// Stops the Postgres that a failing test leaves behind.
struct Guard(std::path::PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(self.0.join("postgres/cluster/postmaster.pid"));
        if let Some(pid) = text.unwrap_or_default().lines().next() {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_databases_or_is_missing_fails_the_check() {
    // A folder in which root can have a private Postgres.
    let place = tempfile::Builder::new()
        .prefix("ty-")
        .tempdir_in("/tmp")
        .unwrap();
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let data = DataDir::open(&place.path().join("data"), Said::ByItsPath).unwrap();
    let _guard = Guard(data.path().to_owned());
    let cluster = PrivateCluster::start(&data, None).await.unwrap();
    let key_file = place.path().join("secret.key");
    let check = async || {
        let key_file = key_file.display().to_string();
        let url = cluster.url();
        let arguments = ["--database-url", url, "--secret-key-file", &key_file];
        find(&checks(&arguments).await, "Key for secrets").clone()
    };
    assert_eq!(check().await.status, CheckStatus::Ok, "no key was used yet");

    let made = secret_key::read_or_create(&key_file).unwrap();
    let mut options = StoreOptions::new(cluster.url());
    options.secret_key = Some(SecretKey::from_bytes(*made.key.expose_secret()));
    let store = Store::connect(&options).await.unwrap();
    store.migrate().await.unwrap();
    store.close().await;
    assert_eq!(check().await.status, CheckStatus::Ok);

    std::fs::remove_file(&key_file).unwrap();
    let missing = check().await;
    assert_eq!(missing.status, CheckStatus::Failed);
    assert!(missing.detail.contains("is missing"), "{missing:?}");
    assert!(!key_file.exists(), "the check made a key");

    secret_key::read_or_create(&key_file).unwrap();
    let wrong = check().await;
    assert_eq!(wrong.status, CheckStatus::Failed);
    assert!(wrong.detail.contains("another key"), "{wrong:?}");
    cluster.stop().await.unwrap();
}
