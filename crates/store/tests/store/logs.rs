//! Logs of attempts.

use bytes::Bytes;
use trainyard_core::adopted::LogCursor;
use trainyard_store::{Claim, LogChunk, LogSlice, Store};

use crate::kit::*;

fn lines(from: usize, to: usize) -> String {
    (from..to)
        .map(|at| format!("2026-11-23T00:00:00.000000000Z O line {at:06}\n"))
        .collect()
}

fn chunk(text: &str, cursor: i64) -> LogChunk {
    LogChunk {
        text: Bytes::copy_from_slice(text.as_bytes()),
        cursor: Some(LogCursor {
            major: cursor,
            minor: 0,
        }),
    }
}

async fn append(store: &Store, claim: &Claim, text: &str, cursor: i64) {
    store
        .append_log(claim.attempt, claim.fence, &[chunk(text, cursor)])
        .await
        .unwrap();
}

fn text(slice: &LogSlice) -> String {
    String::from_utf8(slice.pieces.concat()).unwrap()
}

async fn started() -> (Place, Claim) {
    // Half of this is 4,500 bytes, a hundred lines of 45.
    let place = Place::with(|options| options.log_limit = 9_000).await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    (place, claim)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reads_back_from_any_offset() {
    let (place, claim) = started().await;
    append(&place.store, &claim, &lines(0, 50), 1).await;
    append(&place.store, &claim, &lines(50, 100), 2).await;
    let whole = lines(0, 100);
    let all = place
        .store
        .read_log(claim.attempt, 0, 1 << 20)
        .await
        .unwrap();
    assert_eq!(text(&all), whole);
    assert_eq!(
        (all.next_offset, all.dropped, all.complete),
        (whole.len() as u64, 0, false)
    );
    let part = place
        .store
        .read_log(claim.attempt, 1_000, 1 << 20)
        .await
        .unwrap();
    assert_eq!(text(&part), whole[1_000..]);
    let little = place.store.read_log(claim.attempt, 0, 1).await.unwrap();
    assert_eq!(text(&little), lines(0, 50), "at least one chunk");
    assert_eq!(
        place.store.log_cursor(claim.attempt).await.unwrap(),
        Some(LogCursor { major: 2, minor: 0 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_keeps_its_head_and_its_tail_and_reports_the_gap() {
    let (place, claim) = started().await;
    for at in 0..100 {
        append(
            &place.store,
            &claim,
            &lines(at * 10, at * 10 + 10),
            i64::try_from(at).unwrap(),
        )
        .await;
    }
    let whole = lines(0, 1_000);
    let head = place
        .store
        .read_log(claim.attempt, 0, 1 << 20)
        .await
        .unwrap();
    assert_eq!(text(&head), lines(0, 100), "the first half of the limit");
    let tail = place
        .store
        .read_log(claim.attempt, head.next_offset, 1 << 20)
        .await
        .unwrap();
    assert_eq!(text(&tail), lines(900, 1_000), "the last half of the limit");
    assert_eq!(tail.dropped, tail.start - head.next_offset);
    assert_eq!(tail.dropped_lines, 800);
    // A reader that had already read half of it.
    let part = head.next_offset + tail.dropped / 2;
    let rest = place.store.read_log(claim.attempt, part, 1 << 20);
    assert_eq!(rest.await.unwrap().dropped_lines, 400);
    assert_eq!(tail.next_offset, whole.len() as u64);
    assert_eq!(text(&tail), whole[usize::try_from(tail.start).unwrap()..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_piece_sent_again_after_a_lost_answer_is_stored_once() {
    let (place, claim) = started().await;
    append(&place.store, &claim, &lines(0, 5), 1).await;
    append(&place.store, &claim, &lines(0, 5), 1).await;
    append(&place.store, &claim, &lines(5, 6), 2).await;
    let all = place
        .store
        .read_log(claim.attempt, 0, 1 << 20)
        .await
        .unwrap();
    assert_eq!(text(&all), lines(0, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_text_printed_again_is_stored_again() {
    let (place, claim) = started().await;
    let piece = lines(0, 50);
    // As for a long line: its pieces all have the same time.
    for cursor in 1..=3 {
        append(&place.store, &claim, &piece, cursor).await;
        append(&place.store, &claim, &piece, cursor).await;
    }
    let all = place.store.read_log(claim.attempt, 0, 1 << 20).await;
    assert_eq!(text(&all.unwrap()), piece.repeat(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_complete_once_its_attempt_has_ended() {
    let (place, claim) = started().await;
    append(&place.store, &claim, &lines(0, 5), 1).await;
    finish(&place.store, &claim, good()).await.unwrap();
    let all = place
        .store
        .read_log(claim.attempt, 0, 1 << 20)
        .await
        .unwrap();
    assert!(all.complete);
    let end = place
        .store
        .read_log(claim.attempt, all.next_offset, 1 << 20)
        .await
        .unwrap();
    assert!(end.complete && end.pieces.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_without_output_has_an_empty_log() {
    let (place, claim) = started().await;
    let empty = place.store.read_log(claim.attempt, 0, 100).await.unwrap();
    assert_eq!(empty, LogSlice::default());
    finish(&place.store, &claim, good()).await.unwrap();
    assert!(
        place
            .store
            .read_log(claim.attempt, 0, 100)
            .await
            .unwrap()
            .complete
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_very_many_small_pieces_is_read_in_pages_without_a_gap() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let pieces: Vec<LogChunk> = (0..1_200).map(|at| chunk(&lines(at, at + 1), 1)).collect();
    let (attempt, fence) = (claim.attempt, claim.fence);
    place
        .store
        .append_log(attempt, fence, &pieces)
        .await
        .unwrap();
    let (mut read, mut offset) = (String::new(), 0);
    while read.len() < lines(0, 1_200).len() {
        let slice = place
            .store
            .read_log(attempt, offset, 1 << 20)
            .await
            .unwrap();
        assert_eq!(slice.dropped, 0);
        assert!(slice.next_offset > offset, "it goes on");
        read.push_str(&text(&slice));
        offset = slice.next_offset;
    }
    assert_eq!(read, lines(0, 1_200));
}

#[tokio::test(flavor = "multi_thread")]
async fn little_is_kept_of_a_log_once_the_run_has_logged_as_much_as_it_may() {
    const MIB: usize = 1 << 20;
    let place = Place::with(|options| {
        options.log_limit = 4 << 20;
        options.run_log_limit = 3 << 20;
    })
    .await;
    place.start(place.dag(&wide("a", 2)).await).await;
    let claims = place.claim(2).await;
    let mebibyte = lines(0, MIB / 45 + 1);
    for cursor in 0..3 {
        append(&place.store, &claims[0], &mebibyte, cursor).await;
    }
    let kept = |slice: &LogSlice| slice.next_offset - slice.start;
    let first = place.store.read_log(claims[0].attempt, 0, 64 << 20).await;
    let first = first.unwrap();
    assert_eq!(
        (first.dropped, kept(&first)),
        (0, 3 * mebibyte.len() as u64)
    );
    for cursor in 0..2 {
        append(&place.store, &claims[1], &mebibyte, cursor).await;
    }
    let stored = place
        .count("select coalesce(sum(length), 0)::bigint from log_chunk")
        .await;
    let of_second = stored - i64::try_from(3 * mebibyte.len()).unwrap();
    assert!((1..512 * 1024).contains(&of_second), "{of_second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_of_the_last_attempt_or_of_the_one_that_is_named() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 2)).await).await;
    let of = |stage, number| place.store.logged(run, stage, number);
    let none = of("s1", None).await.unwrap();
    assert_eq!((none.attempt, none.stage_is_over), (None, false));
    let claim = place.claim_one().await;
    let last = of("s0", None).await.unwrap();
    let expected = Some((claim.attempt, 1));
    assert_eq!((last.attempt, last.stage_is_over), (expected, false));
    finish(&place.store, &claim, good()).await.unwrap();
    let named = of("s0", Some(1)).await.unwrap();
    assert_eq!((named.attempt, named.stage_is_over), (expected, true));
    for (stage, number, missing) in [
        ("s0", Some(2), "attempt 2 of stage `s0` in run 1"),
        ("s9", None, "stage `s9` in run 1; it has s0, s1"),
    ] {
        let error = of(stage, number).await.unwrap_err().to_string();
        assert!(error.ends_with(missing), "{error}");
    }
}
