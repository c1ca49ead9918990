//! A full disk fails the stage that needs the room, with the reason; all else goes on, and a retry reuses
//! the results.

use trainyard_tests::daemon::{items, stage};
use trainyard_tests::scene::Scene;

#[test]
fn an_output_without_room_errs_its_stage_and_a_retry_keeps_it_once_there_is_room() {
    let scene = Scene::plan()
        .configuration("")
        .disk("data", 24)
        .dag("large_output")
        .begin();
    let run = scene.run("dag", &[]);
    let large = stage(&run, "large");
    assert_eq!(large["state"], "errored", "{run}");
    assert_eq!(large["reason"]["code"], "storage", "{run}");
    let message = large["reason"]["message"].as_str().unwrap();
    assert!(message.contains("full"), "what: {message}");
    assert!(message.contains("data folder"), "where: {message}");
    assert!(message.contains("free space"), "what to do: {message}");
    assert_eq!(stage(&run, "beside")["state"], "succeeded", "{run}");

    scene.disks[0].resize(128);
    let id = run["id"].as_i64().unwrap();
    let again = scene.finished(scene.retry(id, &["--from-failed"]));
    assert_eq!(again["state"], "succeeded", "{again}");
    let kept = scene
        .daemon
        .json(&["artifact", "list", &again["id"].to_string()]);
    assert_eq!(items(&kept).len(), 2, "{kept}");
}
