//! Logs: every byte, in order, also under load.

use std::time::Duration;

use futures_util::StreamExt;
use trainyard_executor::Containers;
use trainyard_executor::conformance::{Candidate, check};

use crate::place::{RealDocker, script};

#[tokio::test]
async fn a_long_line_without_an_end_is_intact() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "head -c 300000 /dev/zero | tr '\\0' x\nprintf end";
        let (handle, _) = kit.run(&executor, &kit.spec_of(script(text))).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        // Docker ends a last line that has no end.
        let expected = "x".repeat(300_000) + "end";
        assert!(
            printed.trim_end() == expected,
            "{} bytes came",
            printed.len()
        );
        let frames = kit.frames(&executor, &handle, None).await;
        assert!(frames.len() > 10, "it came in pieces");
        let middle = frames.len() / 2;
        let rest = kit
            .frames(&executor, &handle, Some(frames[middle].cursor))
            .await;
        assert_eq!(
            rest,
            frames[middle + 1..],
            "pieces of one line have equal times"
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn a_line_is_seen_before_it_ends() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = "asked=; trap 'asked=1' TERM; printf '10%%\\r' >&2; until [ \"$asked\" ]; do :; done; printf '20%%\\n' >&2";
        let handle = kit.start(&executor, &kit.spec_of(script(text))).await;
        let mut log = executor.logs(&handle, None).await.expect("an open log");
        let first = log.next().await.expect("a first frame").expect("a frame");
        assert_eq!(first.bytes, "10%\r");
        executor.stop(&handle, Duration::from_secs(10)).await.unwrap();
        kit.end(&executor, &handle).await;
        let printed = kit.printed(&executor, &handle).await;
        assert_eq!(printed.stderr, "10%\r20%\n");
        kit
    })
    .await;
}

#[tokio::test]
async fn no_line_is_lost_however_fast_a_program_prints_and_ends() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script("seq 1 20000"));
        let handle = kit.start(&executor, &spec).await;
        // Opened while it may or may not have ended.
        let (printed, _) =
            tokio::join!(kit.printed(&executor, &handle), kit.end(&executor, &handle));
        let expected: String = (1..=20000).map(|n| format!("{n}\n")).collect();
        assert!(
            printed.stdout == expected,
            "{} bytes came",
            printed.stdout.len()
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn docker_keeps_no_more_of_a_log_than_the_configured_size() {
    check(RealDocker::with_log_size(1 << 20).await, |kit| async move {
        let executor = kit.subject.make().await;
        let spec = kit.spec_of(script(
            "yes 0123456789 | head -c 4000000 || true\necho last",
        ));
        let (handle, _) = kit.run(&executor, &spec).await;
        let printed = kit.printed(&executor, &handle).await.stdout;
        assert!(printed.ends_with("last\n"), "the end is kept");
        assert!(printed.len() < 1 << 20, "{} bytes are kept", printed.len());
        executor.remove(&handle).await.unwrap();
        kit
    })
    .await;
}
