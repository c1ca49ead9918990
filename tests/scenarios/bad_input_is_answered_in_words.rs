//! Bad input gets a message that says what, where and what to do, the right exit code, and loses
//! nothing. The daemon never dies of it.

use trainyard_tests::cli::call;
use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::place::Place;
use trainyard_tests::scene::Scene;

#[test]
fn unknown_things_are_named() {
    let scene = Scene::with_dag("stages: {a: {image: alpine:3, run: \"true\"}}\n");
    for (arguments, named) in [
        (vec!["run", "show", "4711"], "4711"),
        (vec!["dag", "trigger", "nosuch"], "nosuch"),
        (vec!["run", "logs", "4711"], "4711"),
        (vec!["repo", "show", "nosuch"], "nosuch"),
    ] {
        let answer = scene.daemon.cli(&arguments);
        assert_eq!(answer.code, Some(4), "{answer:#?}");
        assert!(answer.stderr.contains(named), "{answer:#?}");
    }
    let typo = scene.daemon.cli(&["rnu", "list"]);
    assert_eq!(typo.code, Some(2), "{typo:#?}");
}

#[test]
fn an_unknown_image_differs_from_a_failing_program() {
    let scene = Scene::with_dag(
        "stages: {a: {image: \"trainyard.invalid/nosuch:1\", pull: never, run: \"true\"}}\n",
    );
    let run = scene.run("dag", &[]);
    let reason = &stage(&run, "a")["reason"];
    assert_eq!(stage(&run, "a")["state"], "errored", "{run}");
    assert_eq!(reason["code"], "image_not_found", "{run}");
    assert!(
        reason["message"].as_str().unwrap().contains("nosuch:1"),
        "{run}"
    );
}

#[test]
fn exit_codes_and_memory_kills_are_distinguished() {
    let scene = Scene::of("ends");
    let run = scene.run("dag", &[]);
    let code = |name: &str| {
        stage(&run, name)["reason"]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(code("code"), "exit_code", "{run}");
    assert_eq!(code("notfound"), "command_not_found", "{run}");
    assert_eq!(code("memory"), "out_of_memory", "{run}");
    assert_eq!(code("slow"), "stage_timeout", "{run}");
    assert_eq!(stage(&run, "slow")["state"], "timed_out", "{run}");
}

#[test]
fn an_unreachable_daemon_is_exit_code_3() {
    let place = Place::new();
    let variables = [
        ("TRAINYARD_URL", "http://127.0.0.1:1"),
        ("TRAINYARD_TOKEN", "x"),
    ];
    let answer = call(place.path(), &variables, &["run", "list"]);
    assert_eq!(answer.code, Some(3), "{answer:#?}");
    assert!(answer.stderr.contains("127.0.0.1:1"), "{answer:#?}");
}

#[test]
fn a_wrong_token_is_refused_and_says_what_to_do() {
    let place = Place::new();
    let daemon = Daemon::dev(&place, &[]);
    let variables = [
        ("TRAINYARD_URL", daemon.url()),
        ("TRAINYARD_TOKEN", "wrong"),
    ];
    let answer = call(place.path(), &variables, &["run", "list"]);
    assert_eq!(answer.code, Some(3), "{answer:#?}");
    assert!(answer.stderr.contains("token"), "{answer:#?}");
}

#[test]
fn an_unreachable_database_stops_the_start_with_its_address() {
    let place = Place::new();
    let answer = call(
        place.path(),
        &[],
        &[
            "dev",
            "--data-dir",
            "data",
            "--database-url",
            "postgres://nobody@127.0.0.1:1/none",
        ],
    );
    assert_eq!(answer.code, Some(3), "{answer:#?}");
    assert!(answer.stderr.contains("127.0.0.1:1"), "{answer:#?}");
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let place = Place::new();
    let database = place.database();
    let url = database.url();
    let configuration = format!("database_url = {url:?}\n");
    assert_eq!(Daemon::production(&place, &configuration).stop(), Some(0));
    let _ = database.sql(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (99990101000000, 'from the future', true, '', 0)",
    );
    let answer = call(
        place.path(),
        &[],
        &[
            "daemon",
            "--config",
            &place.join("daemon.toml").display().to_string(),
        ],
    );
    assert_eq!(answer.code, Some(3), "{answer:#?}");
    assert!(answer.stderr.contains("newer"), "{answer:#?}");
}

#[test]
fn an_unreachable_engine_is_said_by_exec() {
    let place = Place::new();
    place.write(
        "hello.yaml",
        "stages: {hello: {image: alpine:3, run: echo hi}}\n",
    );
    let variables = [("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
    let answer = call(place.path(), &variables, &["exec", "hello.yaml"]);
    assert_eq!(answer.code, Some(3), "{answer:#?}");
    assert!(
        answer.stderr.contains("/nonexistent/docker.sock"),
        "{answer:#?}"
    );
}
