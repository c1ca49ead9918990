//! Every example in `dags/` runs as its header says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trainyard_tests::cli::call;
use trainyard_tests::place::Place;
use trainyard_tests::scene::Scene;

const BOUND: Duration = Duration::from_secs(600);

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("dags");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_is_valid_and_says_what_it_teaches() {
    let files = examples();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} has no header", file.display());
        let shown = file.display().to_string();
        let _ = call(Path::new("/"), &[], &["validate", &shown]).good();
    }
}

#[test]
fn every_example_runs_without_a_daemon() {
    let files = examples();
    let place = Place::new();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(file).unwrap();
        place.write(&format!("dags/{name}"), &text);
    }
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let home = [("HOME", "/nowhere")];
        let _ = call(place.path(), &home, &["exec", &format!("dags/{name}")]).good();
    }
}

#[test]
fn every_example_runs_under_a_daemon() {
    let files: Vec<(String, String)> = examples()
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (
                format!("dags/{name}"),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let scene = Scene::with(&borrowed);
    let runs: Vec<(String, i64)> = files
        .iter()
        .map(|(name, _)| {
            let dag = Path::new(name)
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let run = scene.trigger(&dag, &[]);
            (dag, run)
        })
        .collect();
    for (dag, id) in runs {
        let run = scene.daemon.finished_run(id, BOUND);
        assert_eq!(
            run["state"],
            "succeeded",
            "{dag}: {run}\n{}",
            scene.log(&run)
        );
    }
}
