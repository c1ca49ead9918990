//! A value that Postgres cannot keep, such as a NUL from outside, is reported where it came from, and stops nothing
//! else.

use trainyard_tests::daemon::{items, stage};
use trainyard_tests::scene::{BOUND, Scene, dag_file};
use trainyard_tests::wait::until;

/// A daemon that runs nothing in earnest, and does not follow the remote yet.
fn unsynced(files: &[(&str, &str)]) -> Scene {
    let plan = Scene::plan().configuration("executor = \"fake\"\n");
    let files = files.iter();
    files
        .fold(plan, |plan, (path, text)| plan.file(path, text))
        .begin_without_repo()
}

/// The first sync of the remote is over.
fn synced(files: &[(&str, &str)]) -> Scene {
    let scene = unsynced(files);
    follow(&scene);
    scene.sync();
    scene
}

fn follow(scene: &Scene) {
    let add = ["repo", "add", "model", &scene.remote.url(), "--no-wait"];
    let _ = scene.daemon.cli(&add).good();
}

fn refuse(scene: &Scene, table: &str, check: &str) {
    let refuse = format!("alter table {table} add constraint refusing check ({check})");
    let _ = scene.database.sql(&refuse);
}

fn shown(scene: &Scene) -> String {
    let shown = scene.daemon.cli(&["repo", "show", "model"]).good();
    shown.stdout
}

fn branches(scene: &Scene) -> Vec<String> {
    let shown = scene.daemon.json(&["repo", "show", "model"]);
    let branches = shown["branches"].as_array().unwrap().iter();
    branches
        .map(|branch| branch["name"].as_str().unwrap().to_owned())
        .collect()
}

const SAY: &str =
    "triggers: {push: {}}\nstages: {say: {image: x, checkout: false, run: \"true\"}}\n";

#[test]
fn a_metric_with_a_nul_in_its_name_fails_its_stage() {
    let scene = synced(&[("dags/dag.yaml", &dag_file("nul_in_a_metric"))]);
    let run = scene.run("dag", &[]);
    let reason = &stage(&run, "measure")["reason"];
    assert_eq!(reason["code"], "invalid_metrics", "{run}");
    let message = reason["message"].as_str().unwrap();
    assert!(message.contains(r"`a\0b` is not a valid metric"), "{run}");
}

#[test]
fn an_attempt_whose_end_is_refused_ends_all_the_same() {
    let scene = synced(&[("dags/say.yaml", SAY)]);
    refuse(&scene, "attempt", "outcome <> 'succeeded'");
    let run = scene.run("say", &[]);
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
    let scene = synced(&[("dags/log.yaml", text), ("dags/say.yaml", SAY)]);
    refuse(&scene, "log_chunk", "length = 0");
    let sick = scene.trigger("log", &[]);
    let held = until("a quarantine", BOUND, || {
        let listed = scene.daemon.json(&["quarantine", "list"]);
        items(&listed).first().cloned().ok_or(listed.to_string())
    });
    assert_eq!(held["name"], sick.to_string(), "{held}");
    assert!(held["reason"].as_str().unwrap().contains("23514"), "{held}");
    let well = scene.run("say", &[]);
    assert_eq!(well["state"], "succeeded", "{well}");
    let sick = sick.to_string();
    let _ = scene.daemon.cli(&["run", "cancel", &sick]).good();
    let run = scene.daemon.json(&["run", "show", &sick]);
    assert_eq!(run["state"], "errored", "{run}");
}

#[test]
fn a_nul_in_a_file_is_that_file_s_fault_and_the_rest_is_followed() {
    let scene = synced(&[("dags/good.yaml", SAY)]);
    let name = format!("name: \"\\0\"\n{SAY}");
    let script = SAY.replace("\"true\"", "\"a\\x00b\"");
    let changed = format!("{SAY}# again\n");
    let files = [
        ("dags/good.yaml", changed.as_str()),
        ("dags/name.yaml", &name),
        ("dags/script.yaml", &script),
    ];
    scene.push("main", &files);
    scene.push("other", &[]);
    scene.sync();
    assert_eq!(scene.finished(scene.first_run())["state"], "succeeded");
    let shown = shown(&scene);
    for fault in ["dags/name.yaml:1:7", "dags/script.yaml:2:", "NUL character"] {
        assert!(shown.contains(fault), "{fault} is shown: {shown}");
    }
    assert_eq!(branches(&scene), ["main", "other"]);
}

#[test]
fn a_branch_that_is_refused_is_reported_and_the_others_are_followed() {
    let scene = unsynced(&[("dags/say.yaml", SAY)]);
    scene.push("a-sick-one", &[]);
    scene.push("well", &[]);
    refuse(&scene, "repo_ref", "branch <> 'a-sick-one'");
    follow(&scene);
    let reported = scene.daemon.cli(&["repo", "sync", "model"]);
    assert!(
        reported.stderr.contains("branch a-sick-one"),
        "{reported:#?}"
    );
    assert!(reported.stderr.contains("23514"), "{reported:#?}");
    assert!(shown(&scene).contains("branch a-sick-one"));

    // Pushes to the others start runs from now on, though that one is never recorded.
    scene.push("main", &[("more", "1")]);
    let reported = scene.daemon.cli(&["repo", "sync", "model"]);
    assert!(
        reported.stderr.contains("branch a-sick-one"),
        "{reported:#?}"
    );
    let run = scene.finished(scene.first_run());
    assert_eq!(run["branch"], "main", "{run}");
    assert_eq!(branches(&scene), ["main", "well"]);
}

#[test]
fn a_request_with_a_nul_is_answered_in_words() {
    let scene = synced(&[("dags/say.yaml", SAY)]);
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
