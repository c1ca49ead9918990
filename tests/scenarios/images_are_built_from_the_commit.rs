//! `build:` makes the image from the commit's tree, once for equal content.

use trainyard_tests::daemon::stage;
use trainyard_tests::scene::Scene;

#[test]
fn equal_content_is_built_once_and_changed_content_again() {
    let unique = format!("{:?}", std::time::SystemTime::UNIX_EPOCH.elapsed());
    let dockerfile = "FROM alpine:3\nARG WORD\nCOPY note /note\nRUN echo \"$WORD $(cat /note)\" > /word\nUSER 1234\n";
    let scene = Scene::plan()
        .dag("built")
        .file("image/Dockerfile", dockerfile)
        .file("image/note", &unique)
        .begin();
    let first = scene.run("dag", &[]);
    let log = scene.log(&first);
    assert!(log.contains(&format!("hello {unique}")), "{first}\n{log}");

    scene.update(&[("elsewhere", "changed")]);
    let second = scene.run("dag", &[]);
    assert_eq!(
        stage(&second, "use")["image"],
        stage(&first, "use")["image"]
    );

    scene.update(&[("image/note", "changed")]);
    let third = scene.run("dag", &[]);
    assert_ne!(stage(&third, "use")["image"], stage(&first, "use")["image"]);
    assert!(scene.log(&third).contains("hello changed"));
}

#[test]
fn a_dockerfile_that_fails_is_reported_with_its_own_words() {
    let dag = "stages: {use: {build: ., run: \"true\"}}\n";
    let dockerfile = "FROM alpine:3\nRUN echo the compiler is missing && exit 7\n";
    let scene = Scene::with(&[("dags/dag.yaml", dag), ("Dockerfile", dockerfile)]);
    let run = scene.run("dag", &[]);
    assert_eq!(stage(&run, "use")["reason"]["code"], "image_build", "{run}");
    assert!(
        scene.log(&run).contains("the compiler is missing"),
        "{}",
        scene.log(&run)
    );
}
