//! `init` writes a valid repository, and overwrites nothing.

use crate::binary::Place;

#[test]
fn every_template_is_a_repository_with_valid_dags() {
    let place = Place::new();
    for template in ["hello", "retrain"] {
        let answer = place.call(&["init", template, template]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        for line in answer.stdout.lines() {
            let path = line.strip_prefix("wrote ").unwrap();
            assert!(place.path(path).is_file(), "{path}");
        }
        let answer = place.call(&["validate", template]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
}

#[test]
fn the_next_step_can_be_copied_from_the_answer() {
    let place = Place::new();
    for (folder, step) in [
        (".", "try it: trainyard exec dags/hello.yaml\n"),
        ("h1", "try it: cd h1 && trainyard exec dags/hello.yaml\n"),
        (
            "my h2",
            "try it: cd 'my h2' && trainyard exec dags/hello.yaml\n",
        ),
    ] {
        let answer = place.call(&["init", "hello", folder]);
        assert!(answer.stderr.ends_with(step), "{answer:?}");
    }
}

#[test]
fn editors_find_the_schema_by_the_first_line_of_each_dag_file() {
    let place = Place::new();
    // The second one finds the schema of the first.
    for template in ["hello", "retrain"] {
        let answer = place.call(&["init", template]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let file = std::fs::read_to_string(place.path(&format!("dags/{template}.yaml"))).unwrap();
        let line = file.lines().next().unwrap();
        let name = line
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap();
        let schema = std::fs::read_to_string(place.path("dags").join(name)).unwrap();
        let printed = place.call(&["schema"]).stdout;
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&schema), json(&printed));
    }
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let place = Place::new();
    place.write("dags/hello.yaml", "mine");
    let answer = place.call(&["init", "hello"]);
    insta::assert_snapshot!(answer.whole(), @"
    exit code 2
    --- stdout
    --- stderr
    error: ./dags/hello.yaml already exists
    help: name another folder
    ");
    let kept = std::fs::read_to_string(place.path("dags/hello.yaml")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn a_folder_that_is_a_link_is_not_written_through() {
    let place = Place::new();
    place.write("elsewhere/keep", "");
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("dags")).unwrap();
    let answer = place.call(&["init", "hello"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("symbolic link"), "{answer:?}");
    assert!(!place.path("elsewhere/hello.yaml").exists());
}
