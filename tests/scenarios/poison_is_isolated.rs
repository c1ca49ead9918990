//! A run that fails repeatedly is quarantined with its reason and shown; a file with faults is
//! shown; all others go on.

use serde_json::Value;
use trainyard_tests::daemon::items;
use trainyard_tests::engine::containers_of;
use trainyard_tests::scene::{BOUND, Scene, dag_file};
use trainyard_tests::wait::{until, until_true};

/// A DAG that a push starts.
const GOOD: &str = "triggers: {push: {}}\nstages: {say: {image: alpine:3, run: echo hi}}\n";

#[test]
fn an_unreadable_run_is_quarantined_shown_and_ended_by_hand() {
    let mut scene = Scene::plan()
        .configuration("")
        .file("dags/sick.yaml", &dag_file("hangs"))
        .file("dags/well.yaml", GOOD)
        .begin();
    let sick = scene.trigger("sick", &[]);
    until_true("the start of the stage", BOUND, || {
        scene.witness().count("up") == 1
    });
    let spoil = "update dag_version v set spec = '{\"format\": 1, \"stages\": 17}' from dag d
         where d.id = v.dag and d.name = 'sick'";
    let _ = scene.database.sql(spoil);

    // The next daemon has to read what the last one knew by heart.
    scene.restart();
    let daemon = &scene.daemon;
    let held = until("a quarantine", BOUND, || {
        let listed = daemon.json(&["quarantine", "list"]);
        match items(&listed).first() {
            Some(held) => Ok(held.clone()),
            None => Err(listed.to_string()),
        }
    });
    assert_eq!(held["kind"], "run", "{held}");
    assert_eq!(held["name"], Value::from(sick.to_string()), "{held}");
    let refused = daemon.cli(&["run", "why", &sick.to_string()]);
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert!(refused.stderr.contains("quarantined since"), "{refused:#?}");
    let instance = scene.database.sql("select id from instance");
    assert_eq!(
        containers_of(instance.trim()).len(),
        1,
        "its container is left alone"
    );

    assert_eq!(scene.run("well", &[])["state"], "succeeded");

    let _ = daemon.cli(&["run", "cancel", &sick.to_string()]).good();
    let runs = daemon.json(&["run", "list"]);
    let ended = items(&runs).iter().find(|run| run["id"] == sick).unwrap();
    assert_eq!(ended["state"], "errored", "{ended}");
    let message = ended["reason"]["message"].as_str().unwrap();
    assert!(
        message.contains("quarantine") && message.contains("cannot be read"),
        "{message}"
    );
    let again = daemon.cli(&["run", "cancel", &sick.to_string()]);
    assert!(again.stderr.contains("has ended already"), "{again:#?}");
    until_true("the removal of its container", BOUND, || {
        containers_of(instance.trim()).is_empty()
    });
    assert_eq!(scene.witness().count("up"), 1, "nothing ran twice");
}

#[test]
fn fifty_poisoned_files_do_not_stop_a_good_one() {
    let good = GOOD;
    let scene = Scene::with(&[("dags/good.yaml", good)]);
    let poison = |number: usize| match number % 5 {
        0 => good[..good.len() - 1 - number].to_owned(),
        1 => "[".repeat(1000 * number),
        2 => format!(
            "a: &a [x, x]\nb: &b [*a, *a]\nstages: *{}\n",
            "b".repeat(number)
        ),
        3 => good.replace("echo hi", &"\u{202e}\u{0}\u{7f}".repeat(number)),
        _ => good.replace(
            "image",
            &format!("image{number}: 1{}\n    image", "0".repeat(number)),
        ),
    };
    let files: Vec<(String, String)> = (1..=50)
        .map(|number| (format!("dags/poison{number}.yaml"), poison(number)))
        .collect();
    let mut pushed: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let changed = format!("{good}# again\n");
    pushed.push(("dags/good.yaml", &changed));
    scene.update(&pushed);
    assert_eq!(scene.finished(scene.first_run())["state"], "succeeded");
    let shown = scene.daemon.cli(&["repo", "show", "model"]).good().stdout;
    for number in [1, 25, 50] {
        let file = format!("dags/poison{number}.yaml");
        assert!(shown.contains(&file), "{file} is shown: {shown}");
    }
    let held = scene.daemon.json(&["quarantine", "list"]);
    assert!(
        items(&held).is_empty(),
        "a file with faults is not quarantined: {held}"
    );
}
