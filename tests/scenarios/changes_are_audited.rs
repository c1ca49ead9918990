//! The audit log names who made each change, at the command line and at the start of the daemon.

use trainyard_tests::cli::Answer;
use trainyard_tests::daemon::{Daemon, items};
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;

const SECRET: &str = "canary-9d02-do-not-show";

const HOOK: &str = "canary-hook-77aa-do-not-show";

#[test]
fn the_audit_log_names_who_changed_what_and_shows_no_secret() {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    let text = "stages: {hold: {image: alpine:3, run: sleep 600}}\n";
    remote.push("main", &[("dags/dag.yaml", text)]);
    let url = remote.url();
    // As in the quick start: the user who starts the daemon names its first repo.
    let daemon = Daemon::dev(&place, &["--repo", &url]);
    let database = place.database();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let token = |name: &str, more: &[&str]| {
        let arguments = [&["token", "create", name], more].concat();
        daemon.cli(&arguments).good().stdout.trim().to_owned()
    };
    let (ci, reader) = (token("ci", &[]), token("reader", &["--read-only"]));
    let by = |token: &str, arguments: &[&str], input: &str| -> Answer {
        let arguments = [arguments, &["--token", token]].concat();
        daemon.cli_with_input(&arguments, input)
    };

    let add = ["repo", "add", "second", &url, "--webhook-secret", "-"];
    let _ = by(&ci, &add, HOOK).good();
    let _ = by(&ci, &["secret", "set", "DSN", "--repo", "second"], SECRET).good();
    let run = daemon.json(&["dag", "trigger", "model/dag"])["id"].to_string();
    let _ = by(&ci, &["dag", "pause", "model/dag"], "").good();
    let _ = by(&ci, &["run", "cancel", &run], "").good();
    let _ = daemon.finished_run(run.parse().unwrap(), BOUND);
    let held = "insert into quarantine (dag, place, reason, failures, first_at, last_at, held_at)
        select d.id, 'scheduling', 'why', 1, now(), now(), now() from dag d join repo r on r.id = d.repo
        where r.name = 'model' returning id";
    let held = database.sql(held);
    let held = held.lines().next().unwrap().trim();
    let _ = by(&ci, &["quarantine", "release", held], "").good();

    let log = |more: &[&str]| -> Vec<String> {
        let listed = daemon.json(&[&["audit", "list"], more].concat());
        let lines = items(&listed).iter().rev().map(|entry| {
            let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let by = &entry["by"];
            let who = match by["kind"].as_str() {
                Some("token") => word(&by["name"]),
                _ => word(&by["kind"]),
            };
            format!(
                "{who} {} {}",
                word(&entry["action"]),
                word(&entry["subject"])
            )
        });
        lines.collect()
    };
    let cancelled = format!("ci run.cancel {run}");
    assert_eq!(
        log(&[]),
        [
            "user repo.add model",
            "daemon token.create admin",
            "admin token.create ci",
            "admin token.create reader",
            "ci repo.add second",
            "ci secret.set DSN",
            "admin dag.trigger model/dag",
            "ci dag.pause model/dag",
            &cancelled,
            "ci quarantine.release model/dag",
        ]
    );
    let second = ["ci repo.add second", "ci secret.set DSN"];
    assert_eq!(log(&["--repo", "second"]), second);
    assert_eq!(log(&["--by", "ci", "--since", "1h"]).len(), 5);
    assert_eq!(log(&["--until", "1h"]).len(), 0);
    assert_eq!(log(&["--action", "run.cancel,gc"]), [cancelled]);
    assert_eq!(log(&["--limit", "1"]).len(), 1);

    let refused = by(&reader, &["audit", "list"], "");
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    let shown = daemon.cli(&["audit", "list"]).good().stdout;
    assert!(shown.contains("127.0.0.1"), "{shown}");
    let rows = database.sql("select a::text from audit a");
    for text in [&shown, &rows] {
        for secret in [SECRET, HOOK, &ci] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
