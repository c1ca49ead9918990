//! Jobs that one daemon does for all.

use trainyard_store::Role;

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_daemon_leads_until_its_lease_runs_out_and_then_another_does() {
    let place = Place::new().await;
    let other = register(&place.store, "there").await;
    let lead = |daemon| {
        let store = place.store.clone();
        async move { store.lead(daemon, LEASE).await.unwrap() }
    };
    assert_eq!(lead(place.daemon).await.len(), Role::ALL.len());
    assert!(lead(other).await.is_empty());
    assert_eq!(lead(place.daemon).await.len(), Role::ALL.len());
    place
        .sql("update leader set lease_until = now() - interval '1 second'")
        .await;
    assert_eq!(lead(other).await.len(), Role::ALL.len());
    assert!(lead(place.daemon).await.is_empty());

    let listed = place.store.list_daemons().await.unwrap();
    let leads = |daemon| {
        let found = listed.iter().find(|view| view.id == daemon).unwrap();
        found.leads.clone()
    };
    assert_eq!(leads(place.daemon), []);
    assert_eq!(
        leads(other),
        [(Role::Pruner, 2), (Role::Scheduler, 2), (Role::Watcher, 2)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stopped_is_replaced_at_once() {
    let place = Place::new().await;
    let other = register(&place.store, "there").await;
    place.store.lead(place.daemon, LEASE).await.unwrap();
    place.store.stop_daemon(place.daemon).await.unwrap();
    let led = place.store.lead(other, LEASE).await.unwrap();
    assert_eq!(led.len(), Role::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_says_who_lives_and_what_each_holds() {
    let place = Place::new().await;
    place.start(place.dag(&wide("a", 3)).await).await;
    assert_eq!(place.claim(2).await.len(), 2);
    let gone = register(&place.store, "gone").await;
    place.store.stop_daemon(gone).await.unwrap();
    let listed = place.store.list_daemons().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].id, place.daemon);
    assert!(listed[0].is_alive);
    assert_eq!(listed[0].attempts, 2);
    assert!(!listed[1].is_alive && listed[1].stopped_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_nobody_has_led_is_known() {
    let place = Place::new().await;
    let leaderless = || place.store.leaderless_for(Role::Scheduler);
    assert_eq!(leaderless().await.unwrap(), None, "nobody ever did");
    place.store.lead(place.daemon, LEASE).await.unwrap();
    assert_eq!(leaderless().await.unwrap(), None);
    place
        .sql("update leader set lease_until = now() - interval '90 seconds'")
        .await;
    let time = leaderless().await.unwrap().unwrap();
    assert!((90..120).contains(&time.as_secs()), "{time:?}");
}
