//! Leases, adoption, and the queries of the sweeper.

use std::time::Duration;

use trainyard_api::DaemonState;
use trainyard_core::adopted::{Adopted, LogCursor};
use trainyard_core::id::{AttemptId, DaemonId};
use trainyard_store::{Claim, ClaimRequest, DaemonInfo, Error, LogChunk};

use crate::kit::*;

const ATTEND_WITHIN: Duration = Duration::from_secs(60);

fn of_executor(daemon: DaemonId, executor: &str) -> ClaimRequest {
    ClaimRequest {
        executor: executor.into(),
        ..request(daemon, 1)
    }
}

fn at_engine(daemon: DaemonId, engine: &str) -> ClaimRequest {
    ClaimRequest {
        engine: Some(engine.into()),
        ..request(daemon, 1)
    }
}

/// The attempts that the daemon of a place can adopt while it supervises `attended`.
async fn adoptable(place: &Place, attended: Vec<AttemptId>) -> Vec<Claim> {
    let request = request(place.daemon, 1);
    let found = place
        .store
        .adoptable(&request, &attended, ATTEND_WITHIN, &[]);
    found.await.unwrap()
}

/// The attempts that a daemon holds.
async fn held(place: &Place, daemon: DaemonId) -> Vec<AttemptId> {
    let ids = sqlx::query_scalar(
        "select id from attempt where owner = $1 and state in ('claimed', 'running')",
    );
    let ids = ids.bind(daemon.0).fetch_all(&place.raw).await.unwrap();
    ids.into_iter().map(AttemptId).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_daemon_at_the_same_engine_takes_over() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let owner = at_engine(place.daemon, "one");
    assert_eq!(place.store.claim(&owner).await.unwrap().len(), 1);
    place.store.stop_daemon(place.daemon).await.unwrap();
    let heir = register(&place.store, "heir").await;
    let adopted = |engine: &'static str| {
        let store = place.store.clone();
        async move {
            store
                .adoptable(&at_engine(heir, engine), &[], ATTEND_WITHIN, &[])
                .await
                .unwrap()
                .len()
        }
    };
    assert_eq!(adopted("two").await, 0);
    assert_eq!(adopted("one").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_daemon_holds_is_left_alone() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let other = register(&place.store, "there").await;
    assert!(
        place
            .store
            .adoptable(&request(other, 1), &[], ATTEND_WITHIN, &[])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(held(&place, place.daemon).await, [claim.attempt]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_attempt_comes_with_all_that_was_recorded_of_it() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let (attempt, fence) = (claim.attempt, claim.fence);
    place
        .store
        .save_handle(attempt, fence, "container", "hash", &[])
        .await
        .unwrap();
    place
        .store
        .mark_started(attempt, fence, None, None)
        .await
        .unwrap();
    let chunk = LogChunk {
        text: "2026-11-23T00:00:00Z O a\n".into(),
        cursor: Some(LogCursor { major: 5, minor: 6 }),
    };
    place
        .store
        .append_log(attempt, fence, &[chunk])
        .await
        .unwrap();
    place
        .sql("update daemon set lease_until = now() - interval '1 second'")
        .await;

    let heir = register(&place.store, "heir").await;
    let adopted = place
        .store
        .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[])
        .await
        .unwrap()
        .pop()
        .unwrap();
    let Some(Adopted {
        container,
        started_at,
        running_for,
        log_cursor,
    }) = adopted.adopted
    else {
        panic!()
    };
    assert_eq!(container.as_deref(), Some("container"));
    assert!(started_at.is_some());
    assert!(running_for < Duration::from_secs(60));
    assert_eq!(log_cursor, Some(LogCursor { major: 5, minor: 6 }));
    assert_eq!(held(&place, place.daemon).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_another_executor_are_not_adopted() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    place.claim_one().await;
    place.store.stop_daemon(place.daemon).await.unwrap();
    let heir = register(&place.store, "heir").await;
    assert!(
        place
            .store
            .adoptable(&of_executor(heir, "docker"), &[], ATTEND_WITHIN, &[])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        place
            .store
            .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[])
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_daemon_of_a_host_takes_over_at_once() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    place.claim_one().await;
    let alone = |host: &str| DaemonInfo {
        host: host.into(),
        pid: 2,
        version: "0".into(),
        alone_on_host: true,
    };
    let elsewhere = place
        .store
        .register_daemon(&alone("there"), LEASE)
        .await
        .unwrap();
    assert!(
        place
            .store
            .adoptable(&request(elsewhere, 1), &[], ATTEND_WITHIN, &[])
            .await
            .unwrap()
            .is_empty()
    );
    let heir = place
        .store
        .register_daemon(&alone("here"), LEASE)
        .await
        .unwrap();
    assert_eq!(
        place
            .store
            .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[])
            .await
            .unwrap()
            .len(),
        1
    );
    let gone = place.store.renew_leases(place.daemon, LEASE).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    let daemons = place.store.list_daemons().await.unwrap();
    let replaced = daemons
        .iter()
        .filter(|daemon| daemon.state == DaemonState::Replaced);
    let replaced: Vec<_> = replaced.map(|daemon| daemon.id.clone()).collect();
    let expected = [place.daemon.to_string()];
    assert_eq!(replaced, expected, "it did not stop by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let adoptable = |attended: Vec<_>| adoptable(&place, attended);
    assert!(
        adoptable(vec![]).await.is_empty(),
        "it was claimed only just now"
    );
    place
        .sql("update attempt set claimed_at = now() - interval '5 minutes'")
        .await;
    assert!(
        adoptable(vec![claim.attempt]).await.is_empty(),
        "it is supervised"
    );
    assert_eq!(adoptable(vec![]).await[0].attempt, claim.attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_before_the_clock_went_back_is_found_again() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let adoptable = |attended: Vec<_>| adoptable(&place, attended);
    place
        .sql("update attempt set claimed_at = now() + interval '1 day'")
        .await;
    assert!(
        adoptable(vec![claim.attempt]).await.is_empty(),
        "it is supervised"
    );
    assert_eq!(adoptable(vec![]).await[0].attempt, claim.attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_attempt_waits_for_its_container_to_be_removed() {
    let place = Place::new().await;
    place.start(place.dag(&wide("a", 2)).await).await;
    let claim = place.claim_one().await;
    place
        .store
        .save_handle(claim.attempt, claim.fence, "container", "hash", &[])
        .await
        .unwrap();
    let request = place.request(1);
    let unremoved = || place.store.unremoved(&request, 10);
    assert!(unremoved().await.unwrap().is_empty());
    finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(unremoved().await.unwrap(), [claim.attempt]);
    let elsewhere = ClaimRequest {
        engine: Some("another Docker engine".to_owned()),
        ..place.request(1)
    };
    let there = place.store.unremoved(&elsewhere, 10).await.unwrap();
    assert!(there.is_empty(), "{there:?}");
    place.store.mark_removed(claim.attempt).await.unwrap();
    place.store.mark_removed(claim.attempt).await.unwrap();
    assert!(unremoved().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_unknown_attempts_are_recognised() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let stranger = AttemptId("0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap());
    let known = place
        .store
        .known_attempts(&[claim.attempt, stranger])
        .await
        .unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[&claim.attempt].fence, Some(claim.fence));
    assert!(!known[&claim.attempt].ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_from_before_the_clock_went_back_is_cut_to_its_length() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    place.claim_one().await;
    let heir = register(&place.store, "heir").await;
    place.store.lead(place.daemon, LEASE).await.unwrap();
    // The rows look like this after the clock went back by a day.
    for statement in [
        "update daemon set lease_until = lease_until + interval '1 day'",
        "update leader set lease_until = lease_until + interval '1 day'",
    ] {
        place.sql(statement).await;
    }
    place.store.renew_leases(heir, LEASE).await.unwrap();
    let longest = "select extract(epoch from max(lease_until) - now())::bigint from daemon";
    assert!(place.count(longest).await <= 600);
    assert!(place.store.lead(heir, LEASE).await.unwrap().is_empty());
    place
        .sql("update daemon set lease_until = now() - interval '1 s' where host <> 'heir'")
        .await;
    assert_eq!(place.store.lead(heir, LEASE).await.unwrap().len(), 3);
    let adopted = place
        .store
        .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[place.daemon])
        .await
        .unwrap();
    assert_eq!(adopted.len(), 0, "it renews, whatever the clock shows");
    let adopted = place
        .store
        .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[])
        .await
        .unwrap();
    assert_eq!(adopted.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_an_unknown_daemon_is_adopted() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    place.claim_one().await;
    place
        .sql("update attempt set owner = gen_random_uuid()")
        .await;
    let heir = register(&place.store, "heir").await;
    let adopted = place
        .store
        .adoptable(&request(heir, 1), &[], ATTEND_WITHIN, &[])
        .await
        .unwrap();
    assert_eq!(adopted.len(), 1);
}
