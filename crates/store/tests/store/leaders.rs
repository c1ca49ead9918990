//! Jobs that one daemon does for all.

use trainyard_api::DaemonState;
use trainyard_core::id::DaemonId;
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
    let leads = |daemon: DaemonId| {
        let found = listed.iter().find(|view| view.id == daemon.to_string());
        let found = found.unwrap();
        let leads = found.leads.iter();
        let leads: Vec<_> = leads.map(|lead| (&*lead.role, lead.term)).collect();
        leads
    };
    assert_eq!(leads(place.daemon), []);
    assert_eq!(
        leads(other),
        [("pruner", 2), ("scheduler", 2), ("watcher", 2)]
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
    assert_eq!(listed[0].id, place.daemon.to_string());
    assert_eq!(listed[0].state, DaemonState::Alive);
    assert_eq!(listed[0].attempts, 2);
    assert_eq!(listed[1].state, DaemonState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_attempts_are_listed_with_run_stage_and_state() {
    let place = Place::new().await;
    let run = place.start(place.dag(&wide("a", 3)).await).await;
    let claims = place.claim(2).await;
    place
        .store
        .mark_started(claims[0].attempt, claims[0].fence, None, None)
        .await
        .unwrap();
    let listed = place.store.list_daemons().await.unwrap();
    let holds: Vec<_> = listed[0]
        .holds
        .iter()
        .map(|held| (held.run, &*held.stage, held.attempt, &*held.state))
        .collect();
    assert_eq!(
        holds,
        [(run.0, "s0", 1, "running"), (run.0, "s1", 1, "starting")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_attempt_is_listed_for_the_daemon_that_adopted_it() {
    let place = Place::new().await;
    place.start(place.dag(&wide("a", 1)).await).await;
    place.claim_one().await;
    let other = register(&place.store, "there").await;
    place
        .sql("update attempt set owner = (select id from daemon where host = 'there')")
        .await;
    let listed = place.store.list_daemons().await.unwrap();
    let held = |daemon: DaemonId| {
        let found = listed.iter().find(|view| view.id == daemon.to_string());
        let found = found.unwrap();
        (found.attempts, found.holds.len())
    };
    assert_eq!((held(place.daemon), held(other)), ((0, 0), (1, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_daemon_with_very_many_attempts_the_count_is_whole_and_the_first_are_listed() {
    let place = Place::new().await;
    let run = place.start(place.dag(&wide("a", 1)).await).await;
    place.claim_one().await;
    place
        .sql(
            "insert into stage_run (run, position, name, state)
                select run, n, 's' || n, 'active' from stage_run, generate_series(1, 1000) n;
             insert into attempt (id, repo, run, stage, number, state, owner, executor, fence, queued_at, claimed_at)
                select gen_random_uuid(), a.repo, a.run, n, 1, 'claimed', a.owner, a.executor, nextval('fence'),
                    a.queued_at, a.claimed_at
                from attempt a, generate_series(1, 1000) n",
        )
        .await;
    let listed = place.store.list_daemons().await.unwrap();
    assert_eq!((listed[0].attempts, listed[0].holds.len()), (1_001, 1_000));
    assert_eq!(
        (listed[0].holds[0].run, listed[0].holds[0].stage.as_str()),
        (run.0, "s0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_without_a_leader_is_known() {
    let place = Place::new().await;
    let leaderless = || place.store.leaderless_for(Role::Scheduler);
    assert_eq!(leaderless().await.unwrap(), None, "it never had a leader");
    place.store.lead(place.daemon, LEASE).await.unwrap();
    assert_eq!(leaderless().await.unwrap(), None);
    place
        .sql("update leader set lease_until = now() - interval '90 seconds'")
        .await;
    let time = leaderless().await.unwrap().unwrap();
    assert!((90..120).contains(&time.as_secs()), "{time:?}");
}
