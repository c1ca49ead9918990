//! Declared outputs are kept and handed on; a missing one fails its stage by name.

use trainyard_tests::daemon::{items, stage};
use trainyard_tests::scene::Scene;

#[test]
fn a_file_and_a_folder_are_handed_to_the_next_stage_and_can_be_fetched() {
    let scene = Scene::of("handed_on");
    let run = scene.run("dag", &[]);
    assert_eq!(run["state"], "succeeded", "{run}\n{}", scene.log(&run));
    let id = run["id"].to_string();
    let listing = scene.daemon.json(&["artifact", "list", &id]);
    assert_eq!(items(&listing).len(), 3, "{listing}");
    let to = scene.place.join("fetched").display().to_string();
    let _ = scene
        .daemon
        .cli(&["artifact", "get", &id, "make.file", "--to", &to])
        .good();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "content\n");
}

#[test]
fn a_missing_output_fails_its_stage_by_name() {
    let scene = Scene::of("missing_output");
    let run = scene.run("dag", &[]);
    assert_eq!(run["state"], "failed", "{run}");
    let make = stage(&run, "make");
    assert_eq!(make["reason"]["code"], "missing_output", "{run}");
    assert!(
        make["reason"]["message"]
            .as_str()
            .unwrap()
            .contains("`model`"),
        "{run}"
    );
    assert_eq!(stage(&run, "use")["state"], "upstream_failed", "{run}");
}
