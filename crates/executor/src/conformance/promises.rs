//! The promises of the contract. Each takes a [`Kit`] and gives it back when it holds.

use std::io::Read;
use std::time::Duration;

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use trainyard_core::id::Fence;

use super::kit::joined;
use super::{Kit, MissingProgram, Printed, Program, Subject};
use crate::contract::{CollectedKind, ErrorKind, Executor, Status, Stream};

/// More than any output of the suite.
const PLENTY: u64 = 1 << 20;

/// Much longer than a program takes to end on SIGTERM, much shorter than a test may take.
const GRACE: Duration = Duration::from_secs(30);

/// What a suite's program prints when it runs.
const WITNESS: Program<'_> = Program::Print(&[(Stream::Stdout, "ran")]);

/// Exit codes come back as they are, and the end has a time.
pub async fn an_exit_code_is_told<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    for code in [0, 1, 42] {
        let spec = kit.spec(&Program::Exit(code));
        let handle = kit.start(&executor, &spec).await;
        let ended = kit.end(&executor, &handle).await;
        let Status::Exited {
            code: told,
            out_of_memory,
            ..
        } = ended
        else {
            panic!("{ended:?}");
        };
        assert_eq!((told, out_of_memory), (code, false));
        assert_eq!(
            kit.end(&executor, &handle).await,
            ended,
            "a second wait says the same"
        );
        let looked = executor.inspect(&handle).await.expect("an answer");
        assert_eq!(looked, Some(ended), "a look says the same");
    }
    kit
}

/// A second create with the same spec gives the same container, also with a later fence.
pub async fn creating_again_adopts<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&WITNESS);
    let first = executor.create(&spec).await.expect("a container");
    spec.fence = Fence(2);
    let second = executor.create(&spec).await.expect("the same container");
    assert_eq!(first, second);
    let listed = executor.list().await.expect("a listing");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        listed[0].fence,
        Fence(1),
        "it keeps the fence of its creator"
    );
    assert_eq!(listed[0].spec_hash, spec.hash());
    kit
}

/// A create with another spec is refused, and the container is left alone.
pub async fn another_spec_for_the_same_attempt_is_refused<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&WITNESS);
    let handle = executor.create(&spec).await.expect("a container");
    let mut other = spec.clone();
    other.env.insert("OTHER".to_owned(), "1".to_owned());
    let error = executor.create(&other).await.expect_err("a refusal");
    assert_eq!(error.kind, ErrorKind::Mismatch, "{error}");
    assert_eq!(executor.inspect(&handle).await, Ok(Some(Status::Created)));
    kit
}

/// However often a program is started, while it runs and after it ended: it runs once.
pub async fn starting_again_runs_nothing<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&Program::TakeASecond("ran", "done"));
    let handle = kit.start(&executor, &spec).await;
    executor
        .start(&handle)
        .await
        .expect("a start that does nothing");
    kit.end(&executor, &handle).await;
    executor
        .start(&handle)
        .await
        .expect("a start that does nothing");
    kit.subject
        .make()
        .await
        .start(&handle)
        .await
        .expect("a start that does nothing");
    let status = executor.inspect(&handle).await.expect("an answer");
    assert!(
        matches!(status, Some(Status::Exited { code: 0, .. })),
        "{status:?}"
    );
    let printed = kit.printed(&executor, &handle).await;
    assert_eq!(printed.stdout, "ran\ndone\n", "the log shows one run");
    kit
}

/// A daemon that starts anew finds what another one created, with the handle or without.
pub async fn an_attempt_is_taken_over_before_its_start<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let with_handle = kit.spec(&WITNESS);
    let without = kit.spec(&WITNESS);
    let before = kit.subject.make().await;
    let handle = before.create(&with_handle).await.expect("a container");
    before.create(&without).await.expect("a container");
    drop(before);
    let after = kit.subject.make().await;
    assert_eq!(after.inspect(&handle).await, Ok(Some(Status::Created)));
    after.start(&handle).await.expect("a start");
    let (again, _) = kit.run(&after, &without).await;
    kit.end(&after, &handle).await;
    for handle in [handle, again] {
        assert_eq!(kit.printed(&after, &handle).await.stdout, "ran\n");
    }
    kit
}

/// A program goes on when its daemon goes; the next one sees its end and all of its log.
pub async fn an_attempt_is_taken_over_while_it_runs<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let spec = kit.spec(&Program::TakeASecond("ran", "done"));
    let before = kit.subject.make().await;
    let handle = kit.start(&before, &spec).await;
    drop(before);
    let after = kit.subject.make().await;
    let status = after.inspect(&handle).await.expect("an answer");
    assert!(matches!(status, Some(Status::Running { .. })), "{status:?}");
    let ended = kit.end(&after, &handle).await;
    assert!(matches!(ended, Status::Exited { code: 0, .. }), "{ended:?}");
    assert_eq!(kit.printed(&after, &handle).await.stdout, "ran\ndone\n");
    kit
}

/// An end that no daemon saw is still there, with its code and its outputs.
pub async fn an_attempt_is_taken_over_after_its_end<S: Subject>(kit: Kit<S>) -> Kit<S> {
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

/// Reading a log from the start gives all of it; reading on after any frame gives the rest.
pub async fn a_log_goes_on_after_any_of_its_frames<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let texts: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
    let lines: Vec<(Stream, &str)> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            (
                if n % 3 == 0 {
                    Stream::Stderr
                } else {
                    Stream::Stdout
                },
                &**text,
            )
        })
        .collect();
    let (handle, _) = kit.run(&executor, &kit.spec(&Program::Print(&lines))).await;
    let whole = kit.frames(&executor, &handle, None).await;
    let of = |stream: Stream| -> String {
        let of = lines.iter().filter(|(of, _)| *of == stream);
        of.map(|(_, text)| format!("{text}\n")).collect()
    };
    let expected = Printed {
        stdout: of(Stream::Stdout),
        stderr: of(Stream::Stderr),
    };
    assert_eq!(joined(&whole), expected);
    assert!(whole.is_sorted_by_key(|frame| frame.cursor), "cursors grow");
    for read in 0..whole.len() {
        let rest = kit
            .frames(&executor, &handle, Some(whole[read].cursor))
            .await;
        let all = [&whole[..=read], &rest].concat();
        assert_eq!(joined(&all), expected, "after frame {read}");
    }
    kit
}

/// Lines come while the program runs, and the log ends when the program has.
pub async fn a_log_can_be_followed_and_ends_with_its_program<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&Program::TakeASecond("before", "after"));
    let handle = kit.start(&executor, &spec).await;
    let mut log = executor.logs(&handle, None).await.expect("an open log");
    let first = log.next().await.expect("a first frame").expect("a frame");
    assert_eq!(&first.bytes[..], b"before\n");
    let status = executor.inspect(&handle).await.expect("an answer");
    assert!(
        matches!(status, Some(Status::Running { .. })),
        "it still runs: {status:?}"
    );
    let rest: Vec<_> = log.map(|frame| frame.expect("a frame")).collect().await;
    assert_eq!(joined(&rest).stdout, "after\n");
    kit.end(&executor, &handle).await;
    kit
}

/// The log of what was never started ends at once, and is empty.
pub async fn what_was_never_started_has_no_log<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let handle = executor
        .create(&kit.spec(&WITNESS))
        .await
        .expect("a container");
    assert_eq!(kit.frames(&executor, &handle, None).await, []);
    kit
}

/// A file's bytes come back as they are, a folder as an archive that holds its files, both with
/// their hash; equal folders have equal hashes.
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
        let (told, bytes) = file.expect("an answer").expect("a file");
        assert_eq!(
            (told.kind, told.size, &bytes[..]),
            (CollectedKind::File, 7, &b"weights"[..])
        );
        assert_eq!(told.sha256, hex::encode(Sha256::digest(&bytes)));
        let folder = kit.collect(&executor, &handle, "report", PLENTY).await;
        let (told, bytes) = folder.expect("an answer").expect("a folder");
        assert_eq!(
            (told.kind, told.size),
            (CollectedKind::Folder, bytes.len() as u64)
        );
        assert_eq!(told.sha256, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(
            files_of(&bytes),
            [
                ("a.txt".to_owned(), "one".to_owned()),
                ("sub/b.txt".to_owned(), "two".to_owned())
            ]
        );
        hashes.push(told.sha256);
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

/// What was not written is no error: it is not there.
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

/// Outputs are bounded.
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

/// Inputs, variables and secrets are what the spec says.
pub async fn inputs_and_variables_reach_the_program<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::PrintInput("raw"));
    kit.add_input(&mut spec, "raw", "1,2,3\n");
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

/// Stopping what was created and never started leaves nothing.
pub async fn stopping_what_never_started_removes_it<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let handle = executor
        .create(&kit.spec(&WITNESS))
        .await
        .expect("a container");
    executor.stop(&handle, GRACE).await.expect("a stop");
    assert_eq!(executor.inspect(&handle).await, Ok(None));
    let error = executor.start(&handle).await.expect_err("no start");
    assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    kit
}

/// A program that ends on SIGTERM is not waited for any longer, however young it is.
pub async fn stopping_ends_a_program_by_sigterm<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    for wait_for_it in [true, false] {
        let handle = kit.start(&executor, &kit.spec(&Program::Hang)).await;
        if wait_for_it {
            kit.first_frame(&executor, &handle).await;
        }
        let stopping = tokio::time::timeout(GRACE / 3, executor.stop(&handle, GRACE));
        let stopped = stopping.await.expect("a stop before the grace is over");
        stopped.expect("a stop");
        let status = executor.inspect(&handle).await.expect("an answer");
        assert!(
            matches!(status, Some(Status::Exited { code: 143, .. })),
            "{status:?}"
        );
    }
    kit
}

/// A program that ignores SIGTERM is killed once its grace is over.
pub async fn stopping_kills_what_ignores_sigterm<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let handle = kit.start(&executor, &kit.spec(&Program::Stubborn)).await;
    kit.first_frame(&executor, &handle).await;
    executor
        .stop(&handle, Duration::from_secs(1))
        .await
        .expect("a stop");
    let status = executor.inspect(&handle).await.expect("an answer");
    assert!(
        matches!(
            status,
            Some(Status::Exited {
                code: 137,
                out_of_memory: false,
                ..
            })
        ),
        "{status:?}"
    );
    kit
}

/// A stop that comes too late changes nothing, and one for what is gone is fine.
pub async fn stopping_what_ended_leaves_it_alone<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let (handle, _) = kit.run(&executor, &kit.spec(&Program::Exit(3))).await;
    executor
        .stop(&handle, GRACE)
        .await
        .expect("a stop that does nothing");
    let status = executor.inspect(&handle).await.expect("an answer");
    assert!(
        matches!(status, Some(Status::Exited { code: 3, .. })),
        "{status:?}"
    );
    executor.remove(&handle).await.expect("a removal");
    executor
        .stop(&handle, GRACE)
        .await
        .expect("a stop that does nothing");
    kit
}

/// After a removal nothing is there, and every call says so.
pub async fn removing_is_final_and_can_be_repeated<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let (handle, _) = kit.run(&executor, &kit.spec(&WITNESS)).await;
    executor.remove(&handle).await.expect("a removal");
    executor
        .remove(&handle)
        .await
        .expect("a removal that does nothing");
    assert_eq!(executor.inspect(&handle).await, Ok(None));
    let listed = executor.list().await.expect("a listing");
    assert!(listed.is_empty(), "{listed:?}");
    let error = executor.wait(&handle).await.expect_err("no end");
    assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    let error = executor.start(&handle).await.expect_err("no start");
    assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    let opened = match executor.logs(&handle, None).await {
        Ok(mut log) => log.next().await.expect("an item").map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(opened.expect_err("no log").kind, ErrorKind::Gone);
    kit
}

/// A listing is complete, whatever state its containers are in.
pub async fn a_listing_shows_every_state<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let created = executor
        .create(&kit.spec(&WITNESS))
        .await
        .expect("a container");
    let running = kit.start(&executor, &kit.spec(&Program::Hang)).await;
    let (ended, _) = kit.run(&executor, &kit.spec(&Program::Exit(1))).await;
    let listed = executor.list().await.expect("a listing");
    assert_eq!(listed.len(), 3, "{listed:?}");
    let status = |handle| {
        let found = listed.iter().find(|listed| listed.handle == handle);
        found
            .unwrap_or_else(|| panic!("{handle:?} is not listed"))
            .status
            .clone()
    };
    assert_eq!(status(created), Status::Created);
    assert!(matches!(status(running.clone()), Status::Running { .. }));
    assert!(matches!(
        status(ended),
        Status::Exited { .. } | Status::Unknown
    ));
    executor
        .stop(&running, Duration::ZERO)
        .await
        .expect("a stop");
    kit
}

/// A program that is not there is told of in the way that the executor says.
pub async fn a_missing_program_is_told<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&Program::Missing);
    let handle = executor.create(&spec).await.expect("a container");
    let started = executor.start(&handle).await;
    match kit.subject.missing_program() {
        MissingProgram::StartFails => {
            let error = started.expect_err("no start");
            assert_eq!(error.kind, ErrorKind::Start, "{error}");
            assert!(
                error.message.contains("no-such-program"),
                "it is named: {error}"
            );
            assert_eq!(executor.inspect(&handle).await, Ok(Some(Status::Created)));
        }
        MissingProgram::Exit127 => {
            started.expect("a start");
            let ended = kit.end(&executor, &handle).await;
            assert!(
                matches!(ended, Status::Exited { code: 127, .. }),
                "{ended:?}"
            );
            let printed = kit.printed(&executor, &handle).await;
            assert!(
                printed.stderr.contains("no-such-program"),
                "it is named: {printed:?}"
            );
        }
    }
    kit
}

/// Whoever stops waiting does not stop the program.
pub async fn giving_up_a_wait_leaves_the_program_alone<S: Subject>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&Program::TakeASecond("ran", "done"));
    let handle = kit.start(&executor, &spec).await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), executor.wait(&handle)).await;
    assert!(given_up.is_err(), "it ended too soon: {given_up:?}");
    kit.end(&executor, &handle).await;
    assert_eq!(kit.printed(&executor, &handle).await.stdout, "ran\ndone\n");
    kit
}
