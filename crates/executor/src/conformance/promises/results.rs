//! The input of programs, and their outputs.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::PLENTY;
use crate::conformance::{Kit, Program, Subject};
use crate::contract::ErrorKind;
use trainyard_core::artifact::ArtifactKind;

/// A file's bytes come back unchanged, a folder as an archive with its files, both with their hash;
/// equal folders have equal hashes.
pub async fn a_file_and_a_folder_come_back_as_they_were<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let files = [
        ("model.bin", "weights"),
        ("report/a.txt", "one"),
        ("report/sub/b.txt", "two"),
    ];
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let mut spec = kit.spec(&Program::Write(&files));
        spec.outputs = true;
        let (handle, code) = kit.run(&executor, &spec).await;
        assert_eq!(code, 0);
        let file = kit.collect(&executor, &handle, "model.bin", PLENTY).await;
        let (collected, bytes) = file.expect("an answer").expect("a file");
        assert_eq!(
            (collected.kind, collected.size, &bytes[..]),
            (ArtifactKind::File, 7, &b"weights"[..])
        );
        assert_eq!(collected.sha256, hex::encode(Sha256::digest(&bytes)));
        let folder = kit.collect(&executor, &handle, "report", PLENTY).await;
        let (collected, bytes) = folder.expect("an answer").expect("a folder");
        assert_eq!(
            (collected.kind, collected.size),
            (ArtifactKind::Folder, bytes.len() as u64)
        );
        assert_eq!(collected.sha256, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(
            files_of(&bytes),
            [
                ("a.txt".to_owned(), "one".to_owned()),
                ("sub/b.txt".to_owned(), "two".to_owned())
            ]
        );
        hashes.push(collected.sha256);
    }
    assert_eq!(hashes[0], hashes[1]);
    kit
}

fn files_of(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(archive);
    let mut files = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        if entry.header().entry_type().is_file() {
            let path = entry.path().expect("a path").display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("content");
            files.push((path, text));
        }
    }
    files
}

/// A missing output is not an error: it is `None`.
pub async fn a_missing_output_is_none<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::Write(&[("a", "1")]));
    spec.outputs = true;
    let (handle, _) = kit.run(&executor, &spec).await;
    for missing in ["b", "folder/b", "a/b"] {
        let output = kit.collect(&executor, &handle, missing, PLENTY).await;
        assert_eq!(output, Ok(None), "{missing}");
    }
    kit
}

pub async fn an_output_beyond_the_limit_is_refused<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::Write(&[
        ("model.bin", "weights"),
        ("report/a", "one"),
    ]));
    spec.outputs = true;
    let (handle, _) = kit.run(&executor, &spec).await;
    for (output, limit) in [("model.bin", 6), ("report", 600)] {
        let refused = kit.collect(&executor, &handle, output, limit).await;
        let error = refused.expect_err("a refusal");
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
        assert!(error.message.contains(output), "it is named: {error}");
    }
    let output = kit.collect(&executor, &handle, "model.bin", 7).await;
    assert!(
        matches!(output, Ok(Some(_))),
        "the limit itself is permitted: {output:?}"
    );
    kit
}

/// Inputs, variables and secrets reach the program as the spec has them.
pub async fn inputs_and_variables_reach_the_program<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::PrintInput("raw"));
    Kit::<S>::add_input(&mut spec, "raw", "1,2,3\n");
    let (handle, _) = kit.run(&executor, &spec).await;
    assert_eq!(kit.printed(&executor, &handle).await.stdout, "1,2,3\n");
    let mut spec = kit.spec(&Program::PrintVariables(&["LR", "TOKEN"]));
    spec.env.insert("LR".to_owned(), "it's $HOME".to_owned());
    Kit::<S>::add_secret(&mut spec, "TOKEN", "hush");
    let (handle, _) = kit.run(&executor, &spec).await;
    assert_eq!(
        kit.printed(&executor, &handle).await.stdout,
        "LR=it's $HOME\nTOKEN=hush\n"
    );
    kit
}
