//! The private Postgres, and the proxy in the middle of its protocol.

use std::process::Command;
use std::time::Duration;

use trainyard_rig::cluster::{Mode, PrivateCluster};
use trainyard_rig::proxy::{Action, Address, FaultProxy, Matcher, Pattern, Protocol, Rule};
use trainyard_tests::place::Place;

/// Runs SQL through psql at a URL; what it printed, or its complaint.
fn psql(url: &str, statements: &[&str]) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args([url, "-At", "-q", "-v", "ON_ERROR_STOP=1"]);
    for statement in statements {
        command.args(["-c", statement]);
    }
    let output = command.output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn it_is_reached_both_ways_and_survives_faults() {
    let place = Place::new();
    let mut cluster = PrivateCluster::start(&place, 50);
    for address in [cluster.tcp(), cluster.socket()] {
        let url = cluster.url_at(&address);
        assert_eq!(psql(&url, &["show fsync"]).unwrap(), "on");
    }
    let _ = cluster.sql("create table t (n int)");
    let _ = cluster.sql("insert into t values (1)");
    cluster.restart(Mode::Fast);
    cluster.restart(Mode::Immediate);
    cluster.kill();
    cluster.up();
    cluster.down(Mode::Fast);
    assert!(psql(&cluster.url_at(&cluster.tcp()), &["select 1"]).is_err());
    cluster.up();
    cluster.limit_connections(23);
    assert_eq!(cluster.sql("show max_connections"), "23");
    assert_eq!(cluster.sql("select n from t"), "1");
    assert!(cluster.dump().contains("CREATE TABLE"));
    assert!(cluster.log().contains("database system was interrupted"));
}

#[test]
fn a_commit_is_applied_and_its_answer_is_dropped() {
    let place = Place::new();
    let cluster = PrivateCluster::start(&place, 50);
    let _ = cluster.sql("create table t (n int)");
    let proxy = FaultProxy::start(&Address::any_port(), cluster.tcp(), Protocol::Postgres, 1);
    let url = cluster.url_at(proxy.address());
    proxy.add(Rule::once(
        "lost-commit",
        Matcher::requests(Pattern::Commit),
        Action::DropAnswer,
    ));
    let lost = psql(&url, &["begin", "insert into t values (1)", "COMMIT"]);
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(cluster.sql("select count(*) from t"), "1");
    proxy.until_fired("lost-commit", 1, Duration::from_secs(300));
    psql(&url, &["begin", "insert into t values (2)", "COMMIT"]).unwrap();

    proxy.add(Rule::once(
        "reset-commit",
        Matcher::requests(Pattern::Commit),
        Action::Reset,
    ));
    psql(&url, &["begin", "insert into t values (3)", "COMMIT"]).unwrap_err();
    assert_eq!(
        cluster.sql("select count(*) from t"),
        "2",
        "this one never arrived"
    );
}
