//! An unhealthy daemon claims nothing, in no way, and the other daemons know why.

use trainyard_core::Timestamp;
use trainyard_store::ProblemKind;

use crate::kit::*;

fn now() -> Timestamp {
    chrono::DateTime::from_timestamp(0, 0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_engine_is_away_claims_nothing_on_any_way() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 2)).await;
    place.start(ids).await;
    let claim = place.claim_one().await;
    let health = place.store.health();
    let what = Some("Docker does not answer".to_owned());
    health.note(ProblemKind::Engine, what, now());

    place.start(ids).await;
    assert!(place.claim(10).await.is_empty(), "by a claim");
    let ended = finished(&claim, good());
    let ended = place.store.finish_attempt(ended, Some(place.request(10)));
    assert!(ended.await.unwrap().claims.is_empty(), "by an end");

    health.note(ProblemKind::Engine, None, now());
    assert_eq!(place.claim(10).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_runs_are_shown_as_paused_only_where_no_daemon_could_start_them() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let run = place.start(ids).await;
    let other = register(&place.store, "there").await;
    let paused = async || {
        let capacity = place.request(4).capacity;
        let queue = place.store.queue(run, ids.0, &capacity).await;
        let paused = queue.unwrap().paused;
        paused.into_iter().map(|p| p.what).collect::<Vec<_>>()
    };
    let health = place.store.health();
    health.note(ProblemKind::Space, Some("full".to_owned()), now());
    health.note(ProblemKind::Lease, Some("lapsed".to_owned()), now());
    place.store.publish_health(place.daemon).await.unwrap();
    assert!(paused().await.is_empty(), "the other one could start it");
    place.store.publish_health(other).await.unwrap();
    assert_eq!(paused().await, ["full"]);
    let listed = place.store.list_daemons().await.unwrap();
    assert_eq!(listed[0].troubles.len(), 2);
}
