//! What retention deletes, and what it keeps.

use trainyard_store::{LogChunk, Pruned, Retention};

use crate::kit::*;

async fn ended_runs(place: &Place, count: usize) {
    let ids = place.dag(&chain("a", 1)).await;
    for _ in 0..count {
        place.start(ids).await;
        let claim = place.claim_one().await;
        let chunk = LogChunk {
            text: "2026-11-23T00:00:00Z O a\n".into(),
            cursor: None,
        };
        place
            .store
            .append_log(claim.attempt, claim.fence, &[chunk])
            .await
            .unwrap();
        finish(&place.store, &claim, good()).await.unwrap();
    }
}

/// As if the followed branch had the DAGs.
async fn make_current(place: &Place) {
    place
        .sql("update dag set current_version = (select id from dag_version where dag = dag.id)")
        .await;
}

/// Ages everything that ended; triggers refuse other changes to such rows.
async fn age(place: &Place, interval: &'static str) {
    let statement = format!(
        "alter table run disable trigger user;
         update run set finished_at = now() - interval '{interval}';
         alter table run enable trigger user;"
    );
    place.sql(Box::leak(statement.into_boxed_str())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_but_the_newest_of_each_dag_stay_for_ever() {
    let place = Place::new().await;
    ended_runs(&place, 5).await;
    make_current(&place).await;
    age(&place, "100 days").await;
    let rule = Retention {
        runs_of_each_dag: 3,
        ..Retention::default()
    };
    let dry = place.store.prune(&rule, true).await.unwrap();
    assert_eq!(dry.runs, 2);
    assert_eq!(place.count("select count(*) from run").await, 5);
    let pruned = place.store.prune(&rule, false).await.unwrap();
    assert_eq!(pruned.runs, 2);
    assert_eq!(place.count("select count(*) from run").await, 3);
    assert_eq!(place.count("select min(id) from run").await, 3);
    for orphans in [
        "select count(*) from run_event where run not in (select id from run)",
        "select count(*) from cause where id not in (select cause from run)",
        "select count(*) from attempt where run not in (select id from run)",
    ] {
        assert_eq!(place.count(orphans).await, 0, "{orphans}");
    }
    assert_eq!(
        place.store.prune(&rule, false).await.unwrap(),
        Pruned::default()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dags_that_the_followed_branch_does_not_have_go_after_their_old_runs() {
    let place = Place::new().await;
    ended_runs(&place, 2).await;
    place.dag(&chain("young", 1)).await;
    place
        .sql("update dag set created_at = now() - interval '100 days' where name = 'a'")
        .await;
    let rule = Retention::default();
    place.store.prune(&rule, false).await.unwrap();
    assert_eq!(place.count("select count(*) from dag").await, 2);
    age(&place, "100 days").await;
    assert_eq!(place.store.prune(&rule, false).await.unwrap().runs, 2);
    assert_eq!(place.text("select name from dag").await, "young");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_are_gone_and_refused_causes_go() {
    let place = Place::new().await;
    place.dag(&chain("a", 1)).await;
    place
        .sql(
            "insert into repo_ref (repo, branch, sha, generation, moved_at)
             select id, branch, sha, 2, now() - interval '1 day' from repo, (values
                ('here', 'abc'), ('gone', null), ('has-a-cause', null)) b (branch, sha);
             insert into cause (id, key, dag, kind, detail, commit, summary, branch, recorded_at, refused)
             select gen_random_uuid(), 'k' || n, (select id from dag), 'push', '{}', 'abc', '', 'has-a-cause',
                now() - n * interval '100 days', 'paused' from generate_series(0, 1) n",
        )
        .await;
    place
        .store
        .prune(&Retention::default(), false)
        .await
        .unwrap();
    assert_eq!(
        place
            .text("select string_agg(branch, ' ' order by branch) from repo_ref")
            .await,
        "has-a-cause here",
        "its next push has another key than its last one"
    );
    assert_eq!(
        place.text("select string_agg(key, ' ') from cause").await,
        "k0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_goes() {
    let place = Place::new().await;
    ended_runs(&place, 5).await;
    make_current(&place).await;
    age(&place, "100 days").await;
    let rule = Retention {
        runs_of_each_dag: 3,
        ..Retention::default()
    };
    let dry = place.store.prune(&rule, true).await.unwrap();
    assert_eq!((dry.runs, dry.logs), (2, 3));
    assert_eq!(place.store.prune(&rule, false).await.unwrap(), dry);
}

#[tokio::test(flavor = "multi_thread")]
async fn young_runs_and_live_runs_stay() {
    let place = Place::new().await;
    ended_runs(&place, 3).await;
    let ids = place.dag(&chain("b", 1)).await;
    place.start(ids).await;
    let rule = Retention {
        runs_of_each_dag: 1,
        ..Retention::default()
    };
    assert!(place.store.prune(&rule, false).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_deleted_earlier_than_their_runs_and_readers_see_that() {
    let place = Place::new().await;
    ended_runs(&place, 1).await;
    age(&place, "40 days").await;
    let pruned = place
        .store
        .prune(&Retention::default(), false)
        .await
        .unwrap();
    assert_eq!((pruned.logs, pruned.runs), (1, 0));
    assert_eq!(place.count("select count(*) from log_chunk").await, 0);
    let run = trainyard_core::id::RunId(place.count("select id from run").await);
    let logged = place.store.logged(run, "s0", None).await.unwrap();
    let (attempt, _) = logged.attempt.unwrap();
    let slice = place.store.read_log(attempt, 0, 100).await.unwrap();
    assert!(slice.pruned_at.is_some() && slice.complete && slice.pieces.is_empty());
    assert_eq!((slice.dropped, slice.dropped_lines), (25, 1));
    assert_eq!(
        place
            .store
            .prune(&Retention::default(), false)
            .await
            .unwrap()
            .logs,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_nothing_uses_go_within_hours_and_those_that_are_used_stay() {
    let place = Place::new().await;
    ended_runs(&place, 1).await;
    let (store, spare) = (&place.store, chain("a", 1));
    store
        .record_dag_version(place.repo, "other", "dags/a.yaml", "", &spare)
        .await
        .unwrap();
    place
        .sql("update dag_version set created_at = now() - interval '2 hours'")
        .await;
    let rule = Retention::default();
    assert_eq!(
        place.store.prune(&rule, true).await.unwrap().dag_versions,
        1
    );
    assert_eq!(
        place.store.prune(&rule, false).await.unwrap().dag_versions,
        1
    );
    assert_eq!(place.text("select commit from dag_version").await, COMMIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_kept_while_a_run_of_late_used_it_or_a_run_may_still() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    for image in ["old", "late", "unfinished"] {
        place.start(ids).await;
        let claim = place.claim_one().await;
        place
            .store
            .mark_started(claim.attempt, claim.fence, Some(image), None)
            .await
            .unwrap();
        if image != "unfinished" {
            finish(&place.store, &claim, good()).await.unwrap();
        }
        if image == "old" {
            age(&place, "8 days").await;
        }
    }
    let kept = place
        .store
        .kept_images(&Retention::default())
        .await
        .unwrap();
    let used: Vec<&str> = kept.used.iter().map(String::as_str).collect();
    assert_eq!(used, ["late", "unfinished"]);
}
