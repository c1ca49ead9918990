//! The results of attempts: how they ended, and what they left.

use std::io::Read;

use sha2::{Digest, Sha256};
use trainyard_core::artifact::ArtifactKind;
use trainyard_core::id::Fence;

use super::PLENTY;
use crate::conformance::{Candidate, Kit, Program};
use crate::contract::{Attempts, Containers, Exit, Proof, Status};
use crate::error::ErrorKind;

/// A file's bytes come back unchanged, a folder as an archive with its files, both with their hash;
/// equal folders have equal hashes.
pub async fn a_file_and_a_folder_come_back_as_they_were<S: Candidate<Executor: Attempts>>(
    kit: Kit<S>,
) -> Kit<S> {
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
pub async fn a_missing_output_is_none<S: Candidate<Executor: Attempts>>(kit: Kit<S>) -> Kit<S> {
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

pub async fn an_output_beyond_the_limit_is_refused<S: Candidate<Executor: Attempts>>(
    kit: Kit<S>,
) -> Kit<S> {
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

/// An end that no daemon saw is found later, with its code and its outputs.
pub async fn an_attempt_is_taken_over_after_its_end<S: Candidate<Executor: Attempts>>(
    kit: Kit<S>,
) -> Kit<S> {
    let mut spec = kit.spec(&Program::Write(&[("model.bin", "weights")]));
    spec.outputs = true;
    let before = kit.subject.make().await;
    let (handle, _) = kit.run(&before, &spec).await;
    drop(before);
    let after = kit.subject.make().await;
    spec.fence = Fence(2);
    assert_eq!(after.create(&spec).await, Ok(handle.clone()));
    after
        .start(&handle)
        .await
        .expect("a start that does nothing");
    let ended = kit.end(&after, &handle).await;
    assert!(matches!(ended, Status::Exited { code: 0, .. }), "{ended:?}");
    let output = kit
        .collect(&after, &handle, "model.bin", PLENTY)
        .await
        .expect("an answer");
    assert_eq!(output.map(|(_, bytes)| bytes), Some(b"weights".to_vec()));
    kit
}

/// An end that was seen is proved.
pub async fn an_end_is_proved<S: Candidate<Executor: Attempts>>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    for code in [0, 3] {
        let (handle, _) = kit.run(&executor, &kit.spec(&Program::Exit(code))).await;
        let exit = Exit {
            code,
            out_of_memory: false,
        };
        let proof = executor.prove(&handle, &exit).await;
        assert_eq!(proof, Ok(Proof::Ended { exit, asked: false }));
    }
    kit
}
