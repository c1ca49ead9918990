//! The Postgres of `trainyard dev` in a container, for machines without Postgres programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::process::Command;

use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use trainyard_daemon::DataDir;
use trainyard_daemon::data_dir::Said;
use trainyard_daemon::postgres::{ClusterError, OwnPostgres, OwnPostgresOptions};

const IMAGE: &str = "trainyard-test/postgres:1";

/// Removes what the test left in Docker.
struct Guard(String);

impl Drop for Guard {
    fn drop(&mut self) {
        let format = ["--format", "{{.Names}}"];
        for name in docker(&["ps", "-a", "--filter", &self.0, format[0], format[1]]).lines() {
            docker(&["rm", "--force", name]);
            // It is named like its container.
            docker(&["volume", "rm", name]);
        }
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn call(postgres: &OwnPostgres, sql: &'static str) -> Vec<i32> {
    let mut connection = PgConnection::connect(postgres.url().expose_secret())
        .await
        .unwrap();
    let rows = sqlx::query_scalar(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    rows
}

#[tokio::test]
async fn its_data_outlives_a_stop_and_a_kill_of_its_container() {
    let made = Command::new("tests/postgres_image.sh").arg(IMAGE).status();
    assert!(made.unwrap().success());
    let place = tempfile::tempdir().unwrap();
    let data = DataDir::open(&place.path().join("data"), Said::ByItsPath).unwrap();
    let label = format!(
        "label=io.trainyard.companion=Postgres of {}",
        data.path().display()
    );
    let _guard = Guard(label.clone());
    let asked = OwnPostgresOptions {
        image: Some(IMAGE.to_owned()),
        ..OwnPostgresOptions::default()
    };

    let postgres = OwnPostgres::start(&data, &asked).await.unwrap();
    call(&postgres, "create table kept as select 42 as n").await;
    postgres.stop().await.unwrap();
    let running = ["ps", "-q", "--filter", &label];
    assert_eq!(docker(&running), "", "stopped with the daemon");

    // A data folder that began with a container keeps using it, whatever programs are installed.
    let unasked = OwnPostgresOptions::default();
    let postgres = OwnPostgres::start(&data, &unasked).await.unwrap();
    assert_eq!(call(&postgres, "select n from kept").await, [42]);
    docker(&["kill", &docker(&running)]);
    drop(postgres);

    let postgres = OwnPostgres::start(&data, &unasked).await.unwrap();
    assert_eq!(call(&postgres, "select n from kept").await, [42]);
    let bound = docker(&["port", &docker(&running)]);
    assert!(bound.contains("127.0.0.1:"), "{bound}");
    assert!(!bound.contains("0.0.0.0:"), "{bound}");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn an_engine_elsewhere_is_refused_with_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDir::open(&place.path().join("data"), Said::ByItsPath).unwrap();
    let asked = OwnPostgresOptions {
        image: Some(IMAGE.to_owned()),
        docker_host: Some("tcp://build.example:2375".to_owned()),
        ..OwnPostgresOptions::default()
    };
    let error = OwnPostgres::start(&data, &asked).await.unwrap_err();
    assert!(matches!(error, ClusterError::RemoteEngine { .. }));
    let text = error.to_string();
    assert!(text.contains("tcp://build.example:2375") && text.contains("--database-url"));
}
