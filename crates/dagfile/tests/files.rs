//! DAG files in, diagnostics out: each wrong file with its diagnostics as a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use trainyard_dagfile::{json_schema, parse, render, to_json};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn every_wrong_file_is_refused_with_its_faults() {
    let files = files("wrong");
    assert!(files.len() >= 60, "{} files", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = name(&path);
        let parsed = parse(&format!("dags/{name}.yaml"), &text);
        assert!(parsed.dag.is_none(), "{name} is taken");
        assert!(!parsed.diagnostics.is_empty(), "{name} has no diagnostics");
        for diagnostic in &parsed.diagnostics {
            assert!(
                text.get(diagnostic.span.clone()).is_some(),
                "{name}: {diagnostic:?}"
            );
        }
        let rendered = render(
            &format!("dags/{name}.yaml"),
            &text,
            &parsed.diagnostics,
            false,
        );
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("wrong_{name}"), rendered);
        });
    }
}

#[test]
fn every_right_file_becomes_a_dag() {
    for path in files("right") {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = name(&path);
        let parsed = parse(&format!("dags/{name}.yaml"), &text);
        let rendered = render(&name, &text, &parsed.diagnostics, false);
        let dag = parsed.dag.unwrap_or_else(|| panic!("{rendered}"));
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_debug_snapshot!(format!("right_{name}"), dag.declared());
        });
    }
}

#[test]
fn diagnostics_as_json_say_the_same() {
    let text = "stages: {hello: {imag: alpine:3, run: echo hi}}\n";
    let parsed = parse("dags/hello.yaml", text);
    insta::assert_json_snapshot!(to_json("dags/hello.yaml", &parsed.diagnostics));
}

#[test]
fn the_json_schema_is_stable() {
    insta::assert_json_snapshot!(json_schema());
}

#[test]
fn the_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dags");
    let mut count = 0;
    for folder in [folder.clone(), folder.join("retrain/dags")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let shown = path.display().to_string();
                let parsed = parse(&shown, &text);
                let said = render(&shown, &text, &parsed.diagnostics, false);
                assert_eq!(said, "");
                assert!(parsed.dag.is_some(), "{shown}");
                count += 1;
            }
        }
    }
    assert!(count >= 7, "{count} examples");
}
