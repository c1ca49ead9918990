//! From create to the end, once, also when daemons change.

use std::time::Duration;

use trainyard_core::id::Fence;

use super::WITNESS;
use crate::conformance::{Candidate, Kit, MissingProgram, Program};
use crate::contract::{Containers, Status};
use crate::error::ErrorKind;

/// Exit codes come back as they are, and the end has a time.
pub async fn an_exit_code_is_reported<S: Candidate>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    for code in [0, 1, 42] {
        let spec = kit.spec(&Program::Exit(code));
        let handle = kit.start(&executor, &spec).await;
        let ended = kit.end(&executor, &handle).await;
        let Status::Exited {
            code: reported,
            out_of_memory,
            ..
        } = ended
        else {
            panic!("{ended:?}");
        };
        assert_eq!((reported, out_of_memory), (code, false));
        assert_eq!(
            kit.end(&executor, &handle).await,
            ended,
            "a second wait says the same"
        );
        let looked = executor.inspect(&handle).await.expect("an answer");
        assert_eq!(looked, Some(ended), "an inspection says the same");
    }
    kit
}

/// A second create with the same spec returns the same container, also with a later fence.
pub async fn creating_again_adopts<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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
pub async fn another_spec_for_the_same_attempt_is_refused<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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
pub async fn starting_again_runs_nothing<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A daemon that starts finds the container that another one created, with the handle or without.
pub async fn an_attempt_is_taken_over_before_its_start<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A program goes on when its daemon stops; the next daemon sees its end and all of its log.
pub async fn an_attempt_is_taken_over_while_it_runs<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A running Docker engine answers a ping while programs run.
pub async fn a_ping_is_answered<S: Candidate>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let running = kit.start(&executor, &kit.spec(&Program::Hang)).await;
    executor.ping().await.expect("an answer");
    executor
        .stop(&running, Duration::ZERO)
        .await
        .expect("a stop");
    kit
}

/// A listing is complete, whatever the state of the containers.
pub async fn a_listing_shows_every_state<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// A program that does not exist is reported in the executor's own way.
pub async fn a_missing_program_is_reported<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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

/// Dropping a wait does not stop the program.
pub async fn dropping_a_wait_leaves_the_program_alone<S: Candidate>(kit: Kit<S>) -> Kit<S> {
    let executor = kit.subject.make().await;
    let spec = kit.spec(&Program::TakeASecond("ran", "done"));
    let handle = kit.start(&executor, &spec).await;
    let dropped = tokio::time::timeout(Duration::from_millis(50), executor.wait(&handle)).await;
    assert!(dropped.is_err(), "it ended too soon: {dropped:?}");
    kit.end(&executor, &handle).await;
    assert_eq!(kit.printed(&executor, &handle).await.stdout, "ran\ndone\n");
    kit
}

/// Inputs, variables and secrets reach the program as the spec has them.
pub async fn inputs_and_variables_reach_the_program<S: Candidate>(kit: Kit<S>) -> Kit<S> {
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
