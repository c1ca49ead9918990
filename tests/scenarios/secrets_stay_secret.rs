//! Secrets reach the stages that name them, and nothing else: not logs, not the API, not the database.

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;

const SECRET: &str = "canary-4f9a-do-not-show";

#[test]
fn a_secret_is_used_masked_and_never_stored_in_the_clear() {
    let place = Place::new();
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let text = format!(
        r#"stages:
  use:
    image: "{IMAGE}"
    secrets: [DSN]
    run: |
      test ${{#DSN}} -eq {}
      echo "it is $DSN"
      printf %s "${{DSN%????????}}"; sleep 0.3; printf '%s\n' "${{DSN#???????????????}}"
      printf %s "$DSN" | base64
  other: {{image: "{IMAGE}", run: 'test -z "${{DSN-}}"'}}
"#,
        SECRET.len()
    );
    remote.push("main", &[("dags/dag.yaml", &text)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\n",
        cluster.url("trainyard")
    );
    let daemon = Daemon::production(&place, &configuration);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon
        .cli_with_input(&["secret", "set", "DSN", "--repo", "model"], SECRET)
        .good();
    let id = daemon.json(&["dag", "trigger", "dag"])["id"]
        .as_i64()
        .unwrap();
    let run = daemon.finished_run(id, BOUND);
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    assert_eq!(run["state"], "succeeded", "{run}\n{log}");
    assert!(log.contains("it is ***"), "{log}");
    let names = daemon
        .cli(&["secret", "list", "--output", "json"])
        .good()
        .stdout;
    assert!(names.contains("DSN"), "{names}");

    let events = daemon
        .cli(&["run", "show", &id.to_string(), "--output", "json"])
        .good()
        .stdout;
    let dump = cluster.dump("trainyard");
    for (what, text) in [
        ("the log", &log),
        ("the list of secrets", &names),
        ("the run", &events),
        ("the daemon's own output", &daemon.output()),
        ("a dump of the database", &dump),
    ] {
        assert!(!text.contains(SECRET), "{what} shows the secret");
        assert!(
            !text.contains("Y2FuYXJ5LTRmOWEtZG8tbm90LXNob3c"),
            "{what} shows it in base64"
        );
    }
}
