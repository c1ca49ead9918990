//! A value that Postgres cannot keep, such as a NUL from outside, is reported where it came from, and stops nothing
//! else.

use serde_json::Value;
use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::{Daemon, items, stage};
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::wait::until;

/// A daemon that runs nothing in earnest, and the remote that it follows.
struct Scene {
    daemon: Daemon,
    remote: Remote,
    cluster: Cluster,
    _place: Place,
}

impl Scene {
    /// The repo is not followed yet.
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let cluster = Cluster::start(&place);
        let remote = Remote::new(&place, "model");
        remote.push("main", files);
        let configuration = format!(
            "database_url = {:?}\nallow_file_urls = true\nexecutor = \"fake\"\n",
            cluster.url("trainyard")
        );
        let daemon = Daemon::production(&place, &configuration);
        Self {
            daemon,
            remote,
            cluster,
            _place: place,
        }
    }

    /// The first sync of the remote is over.
    fn synced(files: &[(&str, &str)]) -> Self {
        let scene = Self::with(files);
        scene.follow();
        let _ = scene.daemon.cli(&["repo", "sync", "model"]).good();
        scene
    }

    fn follow(&self) {
        let add = ["repo", "add", "model", &self.remote.url(), "--no-wait"];
        let _ = self.daemon.cli(&add).good();
    }

    fn refuse(&self, table: &str, check: &str) {
        let refuse = format!("alter table {table} add constraint refusing check ({check})");
        let _ = self.cluster.sql("trainyard", &refuse);
    }

    fn trigger(&self, dag: &str) -> i64 {
        let run = self.daemon.json(&["dag", "trigger", dag]);
        run["id"].as_i64().unwrap()
    }

    fn shown(&self) -> String {
        let shown = self.daemon.cli(&["repo", "show", "model"]).good();
        shown.stdout
    }

    fn branches(&self) -> Vec<String> {
        let shown = self.daemon.json(&["repo", "show", "model"]);
        let branches = shown["branches"].as_array().unwrap().iter();
        let name = |branch: &Value| branch["name"].as_str().unwrap().to_owned();
        branches.map(name).collect()
    }
}

const SAY: &str =
    "triggers: {push: {}}\nstages: {say: {image: x, checkout: false, run: \"true\"}}\n";

#[test]
fn a_metric_with_a_nul_in_its_name_fails_its_stage() {
    let text = r#"stages:
  measure:
    image: x
    checkout: false
    metrics: metrics.json
    run: |
      fake
      metrics={"a\u0000b": 1}
"#;
    let scene = Scene::synced(&[("dags/dag.yaml", text)]);
    let run = scene.daemon.finished_run(scene.trigger("dag"), BOUND);
    let reason = &stage(&run, "measure")["reason"];
    assert_eq!(reason["code"], "invalid_metrics", "{run}");
    let message = reason["message"].as_str().unwrap();
    assert!(message.contains(r"`a\0b` is not a valid metric"), "{run}");
}

#[test]
fn an_attempt_whose_end_is_refused_ends_all_the_same() {
    let scene = Scene::synced(&[("dags/say.yaml", SAY)]);
    scene.refuse("attempt", "outcome <> 'succeeded'");
    let run = scene.daemon.finished_run(scene.trigger("say"), BOUND);
    let reason = &stage(&run, "say")["reason"];
    assert_eq!(run["state"], "errored", "{run}");
    assert_eq!(reason["code"], "internal", "{run}");
    assert!(
        reason["message"].as_str().unwrap().contains("23514"),
        "{run}"
    );
}

#[test]
fn a_run_whose_log_is_refused_is_quarantined_until_it_is_cancelled() {
    let text = "stages: {say: {image: x, checkout: false, run: \"fake\\nlog=hi\\nhang\"}}\n";
    let scene = Scene::synced(&[("dags/log.yaml", text), ("dags/say.yaml", SAY)]);
    scene.refuse("log_chunk", "length = 0");
    let sick = scene.trigger("log");
    let held = until("a quarantine", BOUND, || {
        let listed = scene.daemon.json(&["quarantine", "list"]);
        items(&listed).first().cloned().ok_or(listed.to_string())
    });
    assert_eq!(held["name"], sick.to_string(), "{held}");
    assert!(held["reason"].as_str().unwrap().contains("23514"), "{held}");
    let well = scene.daemon.finished_run(scene.trigger("say"), BOUND);
    assert_eq!(well["state"], "succeeded", "{well}");
    let sick = sick.to_string();
    let _ = scene.daemon.cli(&["run", "cancel", &sick]).good();
    let run = scene.daemon.json(&["run", "show", &sick]);
    assert_eq!(run["state"], "errored", "{run}");
}

#[test]
fn a_nul_in_a_file_is_that_file_s_fault_and_the_rest_is_followed() {
    let scene = Scene::synced(&[("dags/good.yaml", SAY)]);
    let name = format!("name: \"\\0\"\n{SAY}");
    let script = SAY.replace("\"true\"", "\"a\\x00b\"");
    let changed = format!("{SAY}# again\n");
    let files = [
        ("dags/good.yaml", changed.as_str()),
        ("dags/name.yaml", &name),
        ("dags/script.yaml", &script),
    ];
    scene.remote.push("main", &files);
    scene.remote.push("other", &[]);
    let _ = scene.daemon.cli(&["repo", "sync", "model"]).good();
    let id = scene.daemon.runs(1, BOUND)[0];
    assert_eq!(scene.daemon.finished_run(id, BOUND)["state"], "succeeded");
    let shown = scene.shown();
    for fault in ["dags/name.yaml:1:7", "dags/script.yaml:2:", "NUL character"] {
        assert!(shown.contains(fault), "{fault} is shown: {shown}");
    }
    assert_eq!(scene.branches(), ["main", "other"]);
}

#[test]
fn a_branch_that_is_refused_is_reported_and_the_others_are_followed() {
    let scene = Scene::with(&[("dags/say.yaml", SAY)]);
    scene.remote.push("a-sick-one", &[]);
    scene.remote.push("well", &[]);
    scene.refuse("repo_ref", "branch <> 'a-sick-one'");
    scene.follow();
    let reported = scene.daemon.cli(&["repo", "sync", "model"]);
    assert!(
        reported.stderr.contains("branch a-sick-one"),
        "{reported:#?}"
    );
    assert!(reported.stderr.contains("23514"), "{reported:#?}");
    assert!(scene.shown().contains("branch a-sick-one"));

    // Pushes to the others start runs from now on, though that one is never recorded.
    scene.remote.push("main", &[("more", "1")]);
    let reported = scene.daemon.cli(&["repo", "sync", "model"]);
    assert!(
        reported.stderr.contains("branch a-sick-one"),
        "{reported:#?}"
    );
    let run = scene
        .daemon
        .finished_run(scene.daemon.runs(1, BOUND)[0], BOUND);
    assert_eq!(run["branch"], "main", "{run}");
    assert_eq!(scene.branches(), ["main", "well"]);
}

#[test]
fn a_request_with_a_nul_is_answered_in_words() {
    let scene = Scene::synced(&[("dags/say.yaml", SAY)]);
    let repo = format!(
        r#"{{"name": "other", "url": {:?}, "branch": "a\u0000"}}"#,
        scene.remote.url()
    );
    for (path, body) in [
        ("/dags/model/say/runs", r#"{"request": "a\u0000"}"#),
        ("/dags/model/say/runs", r#"{"params": {"a\u0000": "b"}}"#),
        ("/dags/model/s%00ay/runs", "{}"),
        ("/repos", &repo),
        ("/tokens", r#"{"name": "a\u0000"}"#),
    ] {
        let (status, said) = scene.daemon.post(&format!("/api/v1{path}"), body);
        assert_eq!(status, 422, "{path} {body}: {said}");
        assert!(!said.contains("Postgres refused"), "{said}");
    }
    let token = scene.daemon.token();
    for path in ["/repos/mo%00del", "/metrics?name=%00", "/dags/%00/say"] {
        let path = format!("/api/v1{path}");
        let (status, said) = scene.daemon.get(&path, Some(token));
        assert_eq!(status, 422, "{path}: {said}");
        assert!(said.contains("NUL"), "{said}");
    }
    let set = ["secret", "set", "KEY", "--repo", "model"];
    let set = scene.daemon.cli_with_input(&set, "a\0b");
    assert!(set.stderr.contains("NUL"), "{set:#?}");
}
