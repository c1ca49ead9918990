//! Claims, capacity and fences.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trainyard_core::dag::Dag;
use trainyard_core::id::{DaemonId, Fence, RunId};
use trainyard_core::name::PoolName;
use trainyard_store::{Claim, ClaimRequest, Error, LogChunk};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_claimers_never_share_an_attempt() {
    let place = Place::new().await;
    let ids = place.dag(&wide("a", 40)).await;
    place.start(ids).await;
    place.start(ids).await;
    let mut claimers = Vec::new();
    for at in 0..8 {
        let store = place.another().await;
        let daemon = register(&store, &format!("host{at}")).await;
        claimers.push(tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let claims = store.claim(&request(daemon, 1_000)).await.unwrap()
                && !claims.is_empty()
            {
                claimed.extend(claims.into_iter().map(|claim| (claim.attempt, claim.fence)));
            }
            claimed
        }));
    }
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!(all.len(), 80);
    assert_eq!(
        all.iter()
            .map(|(attempt, _)| attempt)
            .collect::<BTreeSet<_>>()
            .len(),
        80
    );
    assert_eq!(
        all.iter()
            .map(|(_, fence)| fence)
            .collect::<BTreeSet<_>>()
            .len(),
        80
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn claimers_at_the_same_time_never_exceed_the_slots() {
    let place = Place::new().await;
    place.start(place.dag(&wide("a", 30)).await).await;
    let claimers = (0..6).map(|_| {
        let (store, request) = (place.store.clone(), place.request(7));
        tokio::spawn(async move { store.claim(&request).await.unwrap().len() })
    });
    let mut claimed = 0;
    for claimer in claimers.collect::<Vec<_>>() {
        claimed += claimer.await.unwrap();
    }
    assert_eq!(claimed, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_shared_by_all_daemons() {
    let place = Place::new().await;
    let gpu = PoolName::new("gpu").unwrap();
    let stages = (0..3).map(|at| {
        let mut stage = stage(&format!("s{at}"), &[]);
        stage.program_mut().pools.insert(gpu.clone(), 2);
        stage
    });
    place
        .start(place.dag(&dag("a", stages.collect())).await)
        .await;
    let other = register(&place.store, "there").await;
    let with_pool = |daemon| {
        let mut request = request(daemon, 10);
        request.capacity.pools_total = BTreeMap::from([(gpu.clone(), 5)]);
        request
    };
    assert_eq!(
        place
            .store
            .claim(&with_pool(place.daemon))
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(place.store.claim(&with_pool(other)).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_run_does_not_starve_a_later_one() {
    let place = Place::new().await;
    let first = place.start(place.dag(&wide("wide", 300)).await).await;
    let second = place.start(place.dag(&wide("narrow", 1)).await).await;
    let claims = place.claim(2).await;
    let runs: BTreeSet<_> = claims.iter().map(|claim| claim.run.facts.id).collect();
    assert_eq!(runs, BTreeSet::from([first, second]));
}

/// A DAG whose first stages take a slot of the pool `gpu`; the other stages take none.
fn with_gpus(text: &str, gpu: usize, cpu: usize) -> Dag {
    let stages = (0..gpu + cpu).map(|at| {
        let mut stage = stage(&format!("s{at}"), &[]);
        if at < gpu {
            stage
                .program_mut()
                .pools
                .insert(PoolName::new("gpu").unwrap(), 1);
        }
        stage
    });
    dag(text, stages.collect())
}

/// Eight slots, and a pool with one slot.
fn one_gpu(daemon: DaemonId) -> ClaimRequest {
    let mut request = request(daemon, 8);
    request.capacity.pools_total = BTreeMap::from([(PoolName::new("gpu").unwrap(), 1)]);
    request
}

/// The claimed stages, each with its run.
fn stages(claims: &[Claim]) -> BTreeSet<(RunId, usize)> {
    let stages = claims
        .iter()
        .map(|claim| (claim.run.facts.id, claim.reference.stage.0));
    stages.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_does_not_hold_up_the_stages_of_a_run_that_take_none_of_it() {
    let place = Place::new().await;
    let run = place.start(place.dag(&with_gpus("a", 20, 4)).await).await;
    let claims = place.store.claim(&one_gpu(place.daemon)).await.unwrap();
    let expected = [0, 20, 21, 22, 23].map(|stage| (run, stage));
    assert_eq!(stages(&claims), BTreeSet::from(expected));
}

/// Starts more runs of a DAG than one admission reads.
async fn many(place: &Place, dag: &Dag) {
    place.start(place.dag(dag).await).await;
    place
        .sql(
            "create table copy as select gen_random_uuid() as cause, nextval('run_id_seq') as run
                from generate_series(1, 600);
             insert into cause (id, dag, kind, detail, commit, summary, recorded_at)
                select copy.cause, c.dag, c.kind, c.detail, c.commit, c.summary, c.recorded_at from cause c, copy;
             insert into run (id, dag, dag_version, cause, params, logical_time, phase, stages_total, stages_finished,
                    stages_failed, created_at, started_at)
                select copy.run, r.dag, r.dag_version, copy.cause, r.params, r.logical_time, r.phase, r.stages_total,
                    0, 0, r.created_at, r.started_at from run r, copy;
             insert into stage_run (run, position, name, state)
                select copy.run, s.position, s.name, s.state from stage_run s, copy;
             insert into attempt (id, repo, run, stage, number, state, pools, queued_at)
                select gen_random_uuid(), a.repo, copy.run, a.stage, a.number, a.state, a.pools, a.queued_at
                from attempt a, copy;",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_younger_run_is_claimed_though_many_older_ones_wait_for_a_full_pool() {
    let place = Place::new().await;
    many(&place, &with_gpus("older", 1, 0)).await;
    let request = one_gpu(place.daemon);
    let younger = place.dag(&wide("younger", 1)).await;
    // The first claim fills the pool; at the second it is full.
    let first = place.start(younger).await;
    let claims = place.store.claim(&request).await.unwrap();
    assert_eq!(stages(&claims), BTreeSet::from([(RunId(1), 0), (first, 0)]));
    let second = place.start(younger).await;
    let claims = place.store.claim(&request).await.unwrap();
    assert_eq!(stages(&claims), BTreeSet::from([(second, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_younger_run_is_claimed_though_many_older_ones_wait_for_a_pool_that_is_not_configured() {
    let place = Place::new().await;
    many(&place, &with_gpus("older", 1, 0)).await;
    let younger = place.start(place.dag(&wide("younger", 1)).await).await;
    assert_eq!(
        stages(&place.claim(8).await),
        BTreeSet::from([(younger, 0)])
    );
}

/// How many of the claims are of runs of a DAG's name.
fn of_dag(claims: &[Claim], name: &str) -> usize {
    let of = |claim: &&Claim| claim.run.facts.dag.as_str() == name;
    claims.iter().filter(of).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn class_15_a_repos_first_run_is_claimed_though_another_repo_has_hundreds_waiting() {
    let place = Place::new().await;
    many(&place, &wide("greedy", 1)).await;
    // The greedy repo holds a slot already, so the next free slot is not its turn.
    assert_eq!(place.claim(1).await.len(), 1);
    let modest = add_repo(&place.store, "modest").await;
    let run = place
        .start(place.dag_of(modest, &wide("modest", 1)).await)
        .await;
    assert_eq!(stages(&place.claim(2).await), BTreeSet::from([(run, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn class_15_two_repos_share_the_slots_however_many_runs_each_has() {
    let place = Place::new().await;
    many(&place, &wide("greedy", 3)).await;
    let modest = add_repo(&place.store, "modest").await;
    place
        .start(place.dag_of(modest, &wide("modest", 20)).await)
        .await;
    let mut held = place.claim(8).await;
    assert_eq!((of_dag(&held, "greedy"), of_dag(&held, "modest")), (4, 4));
    // Each attempt of the greedy repo belongs to another run.
    let runs: BTreeSet<_> = held.iter().map(|claim| claim.run.facts.id).collect();
    assert_eq!(runs.len(), 5);
    for name in ["greedy", "modest", "greedy", "greedy"] {
        let at = held
            .iter()
            .position(|claim| claim.run.facts.dag.as_str() == name);
        let ended = held.swap_remove(at.unwrap());
        let end = finished(&ended, good());
        let done = place.store.finish_attempt(end, Some(place.request(8)));
        held.extend(done.await.unwrap().claims);
        assert_eq!((of_dag(&held, "greedy"), of_dag(&held, "modest")), (4, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_15_all_daemons_together_hold_no_more_of_a_repo_than_the_operator_permits() {
    let place = Place::new().await;
    let ids = place.dag(&wide("greedy", 30)).await;
    let greedy = place.start(ids).await;
    let other = register(&place.store, "there").await;
    let bounded = |daemon| {
        let mut request = request(daemon, 8);
        request.capacity.stages_of_a_repo = Some(3);
        request
    };
    assert_eq!(
        place
            .store
            .claim(&bounded(place.daemon))
            .await
            .unwrap()
            .len(),
        3
    );
    let modest = add_repo(&place.store, "modest").await;
    place
        .start(place.dag_of(modest, &wide("modest", 2)).await)
        .await;
    let claims = place.store.claim(&bounded(other)).await.unwrap();
    assert_eq!(
        (of_dag(&claims, "greedy"), of_dag(&claims, "modest")),
        (0, 2)
    );
    let queue = place
        .store
        .queue(greedy, ids.0, &bounded(other).capacity)
        .await
        .unwrap();
    assert_eq!(
        (queue.slots_used, queue.repo_used, queue.stages_of_a_repo),
        (5, 3, Some(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_writer_is_fenced_off_everywhere() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let old = place.claim_one().await;
    place.store.stop_daemon(place.daemon).await.unwrap();
    let heir = register(&place.store, "heir").await;
    let new = place
        .store
        .adoptable(&request(heir, 1), &[], Duration::from_secs(60), &[])
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert!(new.fence > old.fence);

    let store = &place.store;
    let line = LogChunk {
        text: "2026-11-23T00:00:00Z O late\n".into(),
        cursor: None,
    };
    assert!(matches!(
        store
            .save_handle(old.attempt, old.fence, "c", "h", &[])
            .await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        store.mark_started(old.attempt, old.fence, None, None).await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        store.append_log(old.attempt, old.fence, &[line]).await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        finish(store, &old, bad()).await,
        Err(Error::Fenced)
    ));
    finish(store, &new, good()).await.unwrap();
    assert!(matches!(
        finish(store, &old, bad()).await,
        Err(Error::Fenced)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_fence_writes_nothing() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let mut claim = place.claim_one().await;
    claim.fence = Fence(claim.fence.0 + 1);
    assert!(matches!(
        finish(&place.store, &claim, good()).await,
        Err(Error::Fenced)
    ));
    assert_eq!(place.text("select state from attempt").await, "claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_lease_ran_out_claims_nothing_until_it_renews() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    place
        .sql("update daemon set lease_until = now() - interval '1 second'")
        .await;
    assert!(place.claim(1).await.is_empty());
    place.store.renew_leases(place.daemon, LEASE).await.unwrap();
    assert_eq!(place.claim(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_that_come_together_are_all_recorded_and_what_follows_is_claimed_once() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 3)).await;
    for _ in 0..20 {
        place.start(ids).await;
    }
    let mut claims = place.claim(20).await;
    assert_eq!(claims.len(), 20);
    for _ in 0..2 {
        let ends = claims.into_iter().map(|claim| {
            let (store, request) = (place.store.clone(), place.request(20));
            tokio::spawn(async move {
                store
                    .finish_attempt(finished(&claim, good()), Some(request))
                    .await
                    .unwrap()
                    .claims
            })
        });
        let mut next = Vec::new();
        for end in ends.collect::<Vec<_>>() {
            next.extend(end.await.unwrap());
        }
        assert_eq!(next.len(), 20);
        claims = next;
    }
    for claim in &claims {
        finish(&place.store, claim, good()).await.unwrap();
    }
    assert_eq!(
        place
            .count("select count(*) from run where outcome = 'succeeded'")
            .await,
        20
    );
}
