//! Runs made from earlier ones: the results that they reuse, and what is refused.

use std::collections::BTreeSet;

use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_core::cause::{Again, CauseKind, RetryAt};
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::stage::{Command, InputSource, RelativePath, Stage};
use trainyard_store::{Claim, Error, MetricFilter, NewRun, Recorded};

use crate::kit::*;

const FIXED: &str = "f1edf1edf1edf1edf1edf1edf1edf1edf1edf1ed";

fn content(byte: &str, size: u64) -> ArtifactContent {
    ArtifactContent {
        kind: ArtifactKind::File,
        sha256: byte.repeat(32),
        size,
    }
}

/// The stage `make`, which leaves a model.
fn make() -> Stage {
    let mut make = stage("make", &[]);
    let path = RelativePath::new("m").unwrap();
    make.program_mut()
        .outputs
        .insert("model".parse().unwrap(), path.into());
    make
}

/// The stage `take`, which reads the model.
fn take() -> Stage {
    let mut take = stage("take", &["make"]);
    let source = InputSource {
        stage: name("make"),
        output: "model".parse().unwrap(),
    };
    take.program_mut()
        .inputs
        .insert("model".parse().unwrap(), source);
    take
}

/// A run whose `make` left a model and a metric, and whose `take` failed.
async fn half_done(place: &Place) -> ((DagId, DagVersionId), RunId) {
    let ids = place.dag(&dag("a", vec![make(), take()])).await;
    let run = place.start(ids).await;
    let claim = place.claim_one().await;
    let mut ended = good();
    ended.metrics.insert("auc".parse().unwrap(), 0.9);
    let mut first = finished(&claim, ended);
    first.artifacts = vec![KeptOutput {
        name: "model".parse().unwrap(),
        content: content("ab", 3),
    }];
    place.store.finish_attempt(first, None).await.unwrap();
    let claim = place.claim_one().await;
    assert_eq!(claim.inputs["model"], Some(content("ab", 3)));
    finish(&place.store, &claim, bad()).await.unwrap();
    (ids, run)
}

fn retry(ids: (DagId, DagVersionId), of: RunId, again: Again) -> NewRun {
    let mut new = manual(ids.0, ids.1, None);
    new.cause.kind = CauseKind::Retry {
        of,
        again,
        at: RetryAt::SameCommit { branch_head: None },
        request: None,
    };
    new
}

/// The same run again, with the DAG at a later commit.
async fn resume(place: &Place, dag: DagId, stages: Vec<Stage>, of: RunId) -> NewRun {
    let changed = self::dag("a", stages);
    let recorded =
        place
            .store
            .record_dag_version(place.repo, FIXED, "dags/a.yaml", "stages: {}", &changed);
    let (_, version) = recorded.await.unwrap();
    let mut new = retry((dag, version), of, Again::FromFailed);
    new.cause.commit = FIXED.to_owned();
    new.cause.kind = CauseKind::Retry {
        of,
        again: Again::FromFailed,
        at: RetryAt::Reference {
            reference: "main".to_owned(),
            rebuilt: BTreeSet::new(),
        },
        request: None,
    };
    new
}

/// The name of a claim's stage.
fn of(claim: &Claim) -> &str {
    claim.pinned.dag.stage(claim.reference.stage).name.as_str()
}

async fn started(place: &Place, new: &NewRun) -> RunId {
    match place.store.start_run(&ada(), new).await.unwrap() {
        Recorded::Started(run) => run,
        other => panic!("no run was started: {other:?}"),
    }
}

async fn refused(place: &Place, new: &NewRun) -> String {
    match place.store.start_run(&ada(), new).await.unwrap_err() {
        refused @ (Error::Conflict { .. } | Error::NotFound { .. }) => refused.to_string(),
        other => panic!("another fault: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_takes_over_results_metrics_and_artifacts() {
    let place = Place::new().await;
    let (ids, run) = half_done(&place).await;
    let second = started(&place, &retry(ids, run, Again::FromFailed)).await;
    let claim = place.claim_one().await;
    assert_eq!(claim.run.facts.id, second);
    assert_eq!(claim.reference.stage.0, 1, "only what failed runs again");
    assert_eq!(claim.inputs["model"], Some(content("ab", 3)));
    let detail = place.detail(second).await;
    assert_eq!(detail.stages[0].reused_from, Some(run.0));
    assert_eq!(detail.stages[0].metrics["auc"], 0.9);
    assert_eq!(
        detail.summary.logical_time,
        place.store.run_summary(run).await.unwrap().logical_time
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_resumed_with_other_code_takes_over_the_stages_that_have_not_changed() {
    let place = Place::new().await;
    let (ids, run) = half_done(&place).await;
    let mut fixed = take();
    fixed.program_mut().command = Some(Command::Script("true # fixed".to_owned()));
    // Now another stage comes before them.
    let stages = vec![stage("check", &[]), make(), fixed];
    let new = resume(&place, ids.0, stages, run).await;
    let second = started(&place, &new).await;
    let mut claims = place.claim(2).await;
    claims.sort_by_key(|claim| claim.reference);
    let [check, take] = <[Claim; 2]>::try_from(claims).expect("both wait for nothing");
    assert_eq!(of(&check), "check");
    assert_eq!(take.inputs["model"], Some(content("ab", 3)));
    let detail = place.detail(second).await;
    assert_eq!(detail.stages[1].reused_from, Some(run.0));
    assert_eq!(detail.stages[1].metrics["auc"], 0.9);
    assert_eq!(detail.stages[1].artifacts[0].size_bytes, 3);
    assert_eq!(detail.summary.commit, FIXED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_has_changed_runs_again_when_the_run_is_resumed() {
    let place = Place::new().await;
    let (ids, run) = half_done(&place).await;
    let mut fixed = make();
    fixed.program_mut().command = Some(Command::Script("true # fixed".to_owned()));
    let new = resume(&place, ids.0, vec![fixed, take()], run).await;
    let second = started(&place, &new).await;
    assert_eq!(of(&place.claim_one().await), "make");
    let detail = place.detail(second).await;
    assert_eq!(detail.stages[0].reused_from, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn class_09_results_of_another_branch_are_taken_over_from_the_followed_one_only() {
    let place = Place::new().await;
    place.sql("update repo set current_branch = 'main'").await;
    let (ids, run) = half_done(&place).await;
    let mut new = resume(&place, ids.0, vec![make(), take()], run).await;
    new.cause.branch = Some("fix".to_owned());
    let on_fix = started(&place, &new).await;
    finish(&place.store, &place.claim_one().await, bad())
        .await
        .unwrap();
    // Any user who may push to `fix` can have made these results.
    let back = resume(&place, ids.0, vec![make(), take()], on_fix).await;
    assert_eq!(
        refused(&place, &back).await,
        format!(
            "run {on_fix} is of branch `fix`, and its results cannot be reused on branch `main`: only those \
             of the same branch and of the followed one can; start a new run with `trainyard dag trigger shop/a \
             --ref main`"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn class_09_a_run_of_no_branch_takes_over_nothing_of_a_branch() {
    let place = Place::new().await;
    place.sql("update repo set current_branch = 'main'").await;
    let (ids, run) = half_done(&place).await;
    let mut of_commit = resume(&place, ids.0, vec![make(), take()], run).await;
    of_commit.cause.branch = None;
    assert_eq!(
        refused(&place, &of_commit).await,
        format!(
            "run {run} is of branch `main`, and its results cannot be reused by a run of a tag or a bare commit: \
             it has no branch, and gets no results made with the secrets of one; start a new run with `trainyard \
             dag trigger shop/a --ref {FIXED}`"
        )
    );
    place.sql("update cause set branch = null").await;
    started(&place, &of_commit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_succeeded_has_nothing_that_failed() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let run = place.start(ids).await;
    finish(&place.store, &place.claim_one().await, good())
        .await
        .unwrap();
    assert_eq!(
        refused(&place, &retry(ids, run, Again::FromFailed)).await,
        format!(
            "run {run} succeeded: nothing is left to run; name a stage to run again with `--from STAGE`, or start \
             a new run with `trainyard dag trigger`"
        )
    );
    assert_eq!(place.count("select count(*) from run").await, 1);
    let next = started(&place, &retry(ids, run, Again::All)).await;
    assert_eq!(next.0, run.0 + 1, "what was refused took no number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_not_ended_cannot_be_retried() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let run = place.start(ids).await;
    assert_eq!(
        refused(&place, &retry(ids, run, Again::All)).await,
        format!("run {run} has not ended; wait for it, or cancel it first")
    );
    let unknown = retry(ids, RunId(99), Again::All);
    assert_eq!(refused(&place, &unknown).await, "there is no run 99");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_a_run_took_over_are_listed_once_across_runs() {
    let place = Place::new().await;
    let (ids, run) = half_done(&place).await;
    let second = started(&place, &retry(ids, run, Again::FromFailed)).await;
    let listed = async |of: Option<RunId>| {
        let filter = MetricFilter {
            run: of,
            ..MetricFilter::default()
        };
        let points = place.store.list_metrics(&filter).await.unwrap();
        points
            .iter()
            .map(|point| RunId(point.run))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(None).await, [run]);
    assert_eq!(listed(Some(second)).await, [second]);
    place.sql("delete from run where id = 1").await;
    assert_eq!(listed(None).await, [second], "it is the one that is left");
}
