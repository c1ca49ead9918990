//! Every example runs: those in `dags/` as their heads say, and those in the documentation in a project that has what
//! they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trainyard_tests::cli::call;
use trainyard_tests::place::Place;
use trainyard_tests::scene::Scene;

const BOUND: Duration = Duration::from_secs(600);

const PAGES: [&str; 3] = ["README.md", "docs/dag-file.md", "docs/coming-from.md"];

/// The files that the DAG files of the documentation name: programs in Python, and a Dockerfile.
const PROGRAMS: [&str; 5] = [
    "extract.py",
    "train.py",
    "src/extract.py",
    "src/train.py",
    "src/evaluate.py",
];
const PROGRAM: &str = r#"
import json, os, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--in" in given:
    assert open(given["--in"]).read() == "rows"
if "--out" in given:
    open(given["--out"], "w").write("rows")
json.dump({"auc": 0.96}, open(os.environ["OUTPUTS"] + "/metrics.json", "w"))
"#;
const DOCKERFILE: &str = "FROM python:3.11-slim
RUN printf '#!/bin/sh\\n' > /usr/local/bin/pytest && chmod +x /usr/local/bin/pytest
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("dags"))
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

/// The examples in `dags/`, and the DAG files of the documentation with what they name, by their paths in a repo.
fn project() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = examples()
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            (format!("dags/{name}"), read(path))
        })
        .collect();
    for page in PAGES {
        let text = read(&root().join(page));
        let name = page.split(['/', '.']).rev().nth(1).unwrap().to_lowercase();
        let blocks = text.split("\n```yaml\n").skip(1);
        for (number, block) in blocks.enumerate() {
            let (dag, _) = block.split_once("\n```").unwrap();
            let dag = dag
                .replace("image: \"python:3.12-slim\"", "build: .")
                .replace("image: python:3.12-slim", "build: .");
            // The stage of `dags/push.yaml` asks for this line.
            let dag = format!("# Teaches: see {page}\n{dag}");
            files.push((format!("dags/{name}-{number}.yaml"), dag));
        }
    }
    let programs = PROGRAMS.map(|name| (name.to_owned(), PROGRAM.to_owned()));
    files.extend(programs);
    files.push(("Dockerfile".to_owned(), DOCKERFILE.to_owned()));
    files.push(("requirements.txt".to_owned(), String::new()));
    files
}

/// The paths of its DAG files.
fn dags(project: &[(String, String)]) -> impl Iterator<Item = &str> {
    let paths = project.iter().map(|(path, _)| path.as_str());
    paths.filter(|path| path.starts_with("dags/"))
}

/// The commands in the head of an example, each with what stands before it, as in `# Try it:   trainyard exec …`.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut label = String::new();
    let mut commands = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        let Some((before, command)) = line.split_once(" trainyard ") else {
            continue;
        };
        let before = before.trim_matches(['#', ' ', ':']);
        if !before.is_empty() {
            before.clone_into(&mut label);
        }
        let words = command.split_whitespace().map(ToOwned::to_owned).collect();
        commands.push((label.clone(), words));
    }
    commands
}

fn needs_a_daemon(command: &[String]) -> bool {
    !["exec", "graph"].contains(&command[0].as_str())
}

#[test]
fn every_example_is_valid_and_says_what_it_teaches() {
    let files = examples();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let text = read(&file);
        assert!(text.starts_with("# "), "{} has no header", file.display());
        let shown = file.display().to_string();
        let _ = call(Path::new("/"), &[], &["validate", &shown]).good();
    }
}

#[test]
fn every_example_runs_without_a_daemon_by_the_commands_of_its_head() {
    let place = Place::new();
    let project = project();
    for (path, text) in &project {
        place.write(path, text);
    }
    let variables = [("HOME", "/nowhere"), ("WAREHOUSE_DSN", "postgresql://")];
    for (path, text) in project.iter().filter(|(path, _)| path.starts_with("dags/")) {
        let mut commands = commands(text);
        commands.retain(|(_, command)| !needs_a_daemon(command));
        if commands.is_empty() {
            commands.push((String::new(), vec!["exec".to_owned(), path.clone()]));
        }
        for (label, command) in commands {
            let expected = match label.as_str() {
                "Refused" => 2,
                "Fails" => 1,
                _ => 0,
            };
            let answer = call(place.path(), &variables, &command);
            assert_eq!(answer.code, Some(expected), "{command:?}: {answer:#?}");
        }
    }
}

#[test]
fn every_example_runs_under_a_daemon_by_the_commands_of_its_head() {
    let project = project();
    let borrowed: Vec<(&str, &str)> = project
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let scene = Scene::with(&borrowed);
    let secret = ["secret", "set", "WAREHOUSE_DSN", "--repo", "model"];
    let _ = scene.daemon.cli_with_input(&secret, "postgresql://").good();
    let runs: Vec<(&str, i64)> = dags(&project)
        .map(|path| {
            let dag = Path::new(path).file_stem().unwrap().to_str().unwrap();
            (path, scene.trigger(dag, &[]))
        })
        .collect();
    for (path, id) in &runs {
        let run = scene.daemon.finished_run(*id, BOUND);
        let log = scene.log(&run);
        assert_eq!(run["state"], "succeeded", "{path}: {run}\n{log}");
    }
    let mut count = 0;
    for (path, text) in &project {
        for (_, command) in commands(text) {
            if needs_a_daemon(&command) {
                let (_, run) = runs.iter().find(|(ran, _)| ran == path).unwrap();
                let command = command.iter().map(|word| match word.as_str() {
                    "RUN" => run.to_string(),
                    _ => word.clone(),
                });
                let command: Vec<String> = command.collect();
                let answer = scene.daemon.cli(&command).good();
                assert!(!answer.stdout.is_empty(), "{command:?}: {answer:#?}");
                count += 1;
            }
        }
    }
    assert!(count >= 3, "{count}");
    // `dags/push.yaml` starts by itself, as its head says.
    scene.remote.push("main", &[("README.md", "changed")]);
    let _ = scene.daemon.cli(&["repo", "sync", "model"]).good();
    let id = *scene.daemon.runs(runs.len() + 1, BOUND).last().unwrap();
    let run = scene.daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}\n{}", scene.log(&run));
    assert_eq!(run["cause"]["kind"], "push", "{run}");
}
