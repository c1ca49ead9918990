//! A daemon reports its health: in words by `/readyz`, in numbers by `/metrics`.

use std::collections::BTreeSet;

use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::until_true;

const PAGE: &str = include_str!("../../docs/metrics.md");

#[test]
fn metrics_need_a_token_and_are_those_of_the_page() {
    let scene = Scene::with_dag("stages: {say: {image: alpine:3, run: echo hi}}\n");
    let daemon = &scene.daemon;
    assert_eq!(scene.run("dag", &[])["state"], "succeeded");

    assert_eq!(daemon.get("/metrics", None).0, 401);
    let (status, text) = daemon.get("/metrics", Some(daemon.token()));
    assert_eq!(status, 200);
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let documented: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `trainyard_"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let shown: BTreeSet<&str> = shown
        .into_iter()
        .filter_map(|name| name.strip_prefix("trainyard_"))
        .collect();
    assert_eq!(shown, documented);

    let succeeded = "{outcome=\"succeeded\"}";
    let attempts = format!("trainyard_attempts_finished_total{succeeded}");
    assert_eq!(daemon.figure(&attempts), 1.0);
    assert_eq!(
        daemon.figure("trainyard_runs_finished_total{state=\"succeeded\"}"),
        1.0
    );
    assert_eq!(daemon.figure("trainyard_database_up"), 1.0);
    assert!(daemon.figure("trainyard_reconcile_lag_seconds") < 30.0);
    assert_eq!(daemon.figure("trainyard_listening"), 1.0);
    assert_eq!(daemon.readiness(), ("ready".to_owned(), String::new()));
}

#[test]
fn a_daemon_without_its_database_is_unready_and_public_figures_say_so() {
    let scene = Scene::plan()
        .configuration("[metrics]\npublic = true\n")
        .own_cluster()
        .begin_without_repo();
    let (daemon, cluster) = (&scene.daemon, scene.cluster());
    assert_eq!(daemon.get("/readyz", None).0, 200);

    cluster.down("fast");
    until_true("an unready daemon", BOUND, || {
        daemon.get("/readyz", None).0 == 503
    });
    let (state, reasons) = daemon.readiness();
    assert_eq!(state, "unready");
    assert!(
        reasons.contains("the database does not answer"),
        "{reasons}"
    );
    let (status, text) = daemon.get("/metrics", None);
    assert_eq!(status, 200);
    assert!(text.contains("trainyard_database_up 0"), "{text}");
    let shows = |figure| daemon.get("/metrics", None).1.contains(figure);
    until_true("a deaf daemon", BOUND, || shows("trainyard_listening 0\n"));
    assert_eq!(daemon.get("/healthz", None).0, 200);

    cluster.try_up().unwrap();
    until_true("a ready daemon", BOUND, || daemon.readiness().0 == "ready");
    until_true("a listening daemon", BOUND, || {
        shows("trainyard_listening 1\n")
    });
}
