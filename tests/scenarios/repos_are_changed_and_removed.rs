//! A repo that cannot be read is told of and mended, what its runs lack is told at once, and it goes when asked to.

use trainyard_tests::cli;
use trainyard_tests::daemon::{Daemon, Launch};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::wait::until_true;

#[test]
fn a_repo_is_mended_and_removed_with_the_command_line_alone() {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    let stage = |more: &str| format!("{{image: \"{IMAGE}\", run: echo hi, {more}}}");
    let file = format!(
        "stages:\n  extract: {}\n  upload: {}\n",
        stage("secrets: [DSN], retry: {attempts: 3, backoff: 1s, on: [errored]}"),
        stage("secrets: [BUCKET], needs: [extract]")
    );
    remote.push("main", &[("dags/train.yaml", &file)]);
    let daemon = Daemon::dev(&place, &[]);

    let nowhere = remote.url().replace("model.git", "nowhere.git");
    let added = daemon.cli(&["repo", "add", "model", &nowhere]);
    assert_eq!(added.code, Some(3), "{added:?}");
    assert!(added.stdout.contains("webhook secret"), "{added:?}");
    assert!(
        added.stderr.contains("trainyard repo set model"),
        "{added:?}"
    );
    let (state, reasons) = daemon.readiness();
    assert_eq!(state, "degraded");
    assert!(
        reasons.contains("1 repo has failed to sync since"),
        "{reasons}"
    );
    assert_eq!(daemon.figure("trainyard_repos_failing"), 1.0);

    let set = daemon.cli(&["repo", "set", "model", &remote.url()]).good();
    assert!(set.stdout.contains("found 1 DAG on main"), "{set:?}");
    until_true("a daemon that is ready again", BOUND, || {
        daemon.readiness().0 == "ready"
    });

    let run = daemon.json(&["dag", "trigger", "train"])["id"]
        .as_i64()
        .unwrap();
    let run = daemon.finished_run(run, BOUND);
    assert_eq!(run["state"], "errored", "{run}");
    let reason = run["reason"]["message"].as_str().unwrap();
    for told in [
        "secret DSN is not set",
        "secret BUCKET of stage upload is not set",
        "`trainyard secret set BUCKET --repo model`",
    ] {
        assert!(reason.contains(told), "{told}: {reason}");
    }
    let tries = run["stages"][0]["attempts"].as_array().unwrap();
    assert_eq!(tries.len(), 1, "{run}");

    std::fs::remove_file(remote.tree().join("dags/train.yaml")).unwrap();
    remote.push("main", &[]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    for what in [["dag", "remove", "train"], ["repo", "remove", "model"]] {
        let asked = daemon.cli(&what);
        assert_eq!(asked.code, Some(2), "{asked:?}");
        assert!(asked.stderr.contains("--yes"), "{asked:?}");
        let _ = daemon.cli(&[&what[..], &["--yes"]].concat()).good();
    }
    let left = daemon.json(&["repo", "list"]);
    assert_eq!(left["items"].as_array().unwrap().len(), 0, "{left}");
}

#[test]
fn a_folder_without_a_repository_is_refused_at_the_start() {
    let place = Place::new();
    let plain = place.join("plain");
    std::fs::create_dir(&plain).unwrap();
    for (folder, words) in [
        (&plain, "is not a git repository; run `git init` there"),
        (&place.join("nowhere"), "is not a directory"),
    ] {
        let folder = folder.display().to_string();
        let refused = Daemon::try_dev(&place, &["--repo", &folder], &Launch::default());
        let said = refused.err().unwrap();
        assert!(said.contains(words), "{said}");
        let data = place.join("other").display().to_string();
        let start = ["dev", "--data-dir", &data, "--repo", &folder];
        let refused = cli::call(place.path(), &[], &start);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(!place.join("other").exists(), "nothing is made");
    }
}
