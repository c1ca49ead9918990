//! Logs are complete, and can be read on from any frame.

use futures_util::StreamExt;

use super::WITNESS;
use crate::conformance::kit::joined;
use crate::conformance::{Candidate, Kit, Printed, Program};
use crate::contract::{Containers, Status, Stream};

/// Reading a log from the start yields all of it; reading on after any frame yields the rest.
pub async fn a_log_goes_on_after_any_of_its_frames<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// Lines come while the program runs, and the log ends when the program has ended.
pub async fn a_log_can_be_followed_and_ends_with_its_program<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// The log of a container that was never started ends at once, and is empty.
pub async fn what_was_never_started_has_no_log<S: Candidate>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let handle = executor
        .create(&kit.spec(&WITNESS))
        .await
        .expect("a container");
    assert_eq!(kit.frames(&executor, &handle, None).await, []);
    kit
}
