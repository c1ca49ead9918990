//! Stopping and removing, and the state afterwards.

use std::time::Duration;

use futures_util::StreamExt;

use super::{GRACE, WITNESS};
use crate::conformance::{Candidate, Kit, Program};
use crate::contract::{Containers, Handle, Status};
use crate::error::ErrorKind;

/// Stopping a container that was created and never started leaves nothing.
pub async fn stopping_what_never_started_removes_it<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A stop returns as soon as the program ends on SIGTERM, however young the program is.
pub async fn stopping_ends_a_program_by_sigterm<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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
pub async fn stopping_kills_what_ignores_sigterm<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A stop that comes too late changes nothing, and a stop of a missing container succeeds.
pub async fn stopping_what_ended_leaves_it_alone<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// For an attempt that never had a container the executor reports that it has none.
pub async fn what_never_was_is_gone<S: Candidate>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&WITNESS);
    let handle = Handle {
        attempt: spec.attempt,
        container: spec.attempt.to_string(),
    };
    assert_eq!(executor.inspect(&handle).await, Ok(None));
    let error = executor.wait(&handle).await.expect_err("no end");
    assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    executor
        .stop(&handle, GRACE)
        .await
        .expect("a stop that does nothing");
    executor
        .remove(&handle)
        .await
        .expect("a removal that does nothing");
    kit
}

/// After a removal the container is gone, and every call reports it.
pub async fn removing_is_final_and_can_be_repeated<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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
