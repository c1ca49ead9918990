//! Repos, deliveries and pushes.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_api::SmallPool;
use trainyard_core::cron::Cron;
use trainyard_core::dag::Dag;
use trainyard_core::name::{DagName, ParamName, PoolName, RepoName};
use trainyard_core::param::{ParamKind, ParamSpec};
use trainyard_core::schedule::Missed;
use trainyard_core::trigger::ScheduleTrigger;
use trainyard_store::{DagAtCommit, NewRepo, PushRecorded, PushSeen, RunFilter};

use crate::kit::*;

pub(crate) fn file(dag: &Dag) -> DagAtCommit {
    DagAtCommit {
        path: format!("dags/{}.yaml", dag.name()),
        source: "stages: {}".into(),
        dag: Ok(dag.clone()),
    }
}

pub(crate) fn sha(digit: char) -> String {
    digit.to_string().repeat(40)
}

pub(crate) fn push(before: Option<char>, after: char, dags: Vec<DagAtCommit>) -> PushSeen {
    let matches = dags
        .iter()
        .filter_map(|file| file.dag.as_ref().ok().map(|dag| dag.name().clone()));
    PushSeen {
        branch: "main".into(),
        before: before.map(sha),
        after: sha(after),
        matches: matches.collect(),
        dags: dags.into(),
        is_followed: true,
        summary: "subject".into(),
        actor: Some("ada".into()),
    }
}

pub(crate) fn scheduled(text: &str, cron: &str) -> Dag {
    let mut draft = draft(text, vec![stage("only", &[])]);
    draft.triggers.schedule = vec![ScheduleTrigger {
        cron: Cron::parse(cron).unwrap(),
        timezone: "Europe/Berlin".parse().unwrap(),
        missed: Missed::Last,
        params: Default::default(),
    }];
    Dag::new(draft).unwrap()
}

async fn recorded(place: &Place, seen: PushSeen) -> (usize, usize) {
    match place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap()
    {
        PushRecorded::Recorded { runs, faults } => (runs.len(), faults),
        other => panic!("the push was not recorded: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_starts_a_run_of_the_dag_at_its_commit() {
    let place = Place::new().await;
    assert_eq!(
        recorded(&place, push(None, '1', vec![file(&chain("a", 1))])).await,
        (1, 0)
    );
    let runs = place.store.list_runs(&RunFilter::default()).await.unwrap();
    assert_eq!(
        (runs[0].commit.as_str(), runs[0].branch.as_deref()),
        (sha('1').as_str(), Some("main"))
    );
    assert_eq!(runs[0].cause.summary, "push to main by ada");
    let cause = "select detail #>> '{push,generation}' || coalesce(detail #>> '{push,before}', '-') from cause";
    assert_eq!(place.text(cause).await, "1-");
    assert_eq!(
        place.store.refs(place.repo).await.unwrap()["main"],
        sha('1')
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_starts_a_bounded_number_of_runs_and_names_the_dags_left_out() {
    let place = Place::new().await;
    let dags = (0..102).map(|number| file(&chain(&format!("d{number}"), 1)));
    let seen = push(None, '1', dags.collect());
    assert_eq!(recorded(&place, seen).await, (100, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_saw_the_same_push_record_it_once() {
    let place = Place::new().await;
    let seen = push(None, '1', vec![file(&chain("a", 1))]);
    let watchers = (0..6).map(|_| {
        let (store, repo, seen) = (place.store.clone(), place.repo, seen.clone());
        tokio::spawn(async move { store.record_push(repo, FIRST_ADDRESS, seen).await.unwrap() })
    });
    let mut results = Vec::new();
    for watcher in watchers.collect::<Vec<_>>() {
        results.push(watcher.await.unwrap());
    }
    assert_eq!(
        results
            .iter()
            .filter(|result| **result == PushRecorded::Stale)
            .count(),
        5
    );
    assert_eq!(place.count("select count(*) from run").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_forced_back_to_an_old_commit_starts_a_run_again() {
    let place = Place::new().await;
    let dags = || vec![file(&chain("a", 1))];
    for (before, after) in [
        (None, '1'),
        (Some('1'), '2'),
        (Some('2'), '1'),
        (Some('1'), '2'),
    ] {
        assert_eq!(recorded(&place, push(before, after, dags())).await, (1, 0));
    }
    assert_eq!(place.count("select count(*) from dag_version").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_was_deleted_and_pushed_again_is_new_and_counts_on() {
    let place = Place::new().await;
    recorded(&place, push(None, '1', vec![file(&chain("a", 1))])).await;
    place
        .store
        .record_branch_gone(place.repo, FIRST_ADDRESS, "main", Some(sha('9')))
        .await
        .unwrap();
    assert_eq!(
        place.store.refs(place.repo).await.unwrap().len(),
        1,
        "it was not where it was said to be"
    );
    place
        .store
        .record_branch_gone(place.repo, FIRST_ADDRESS, "main", Some(sha('1')))
        .await
        .unwrap();
    assert!(place.store.refs(place.repo).await.unwrap().is_empty());
    assert_eq!(
        recorded(&place, push(None, '1', vec![file(&chain("a", 1))])).await,
        (1, 0)
    );
    assert_eq!(place.count("select generation from repo_ref").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_dag_takes_note_of_the_push_and_starts_nothing() {
    let place = Place::new().await;
    let (dag, _) = place.dag(&chain("a", 1)).await;
    place.store.pause_dag(&ada(), dag, true).await.unwrap();
    assert_eq!(
        recorded(&place, push(None, '1', vec![file(&chain("a", 1))])).await,
        (0, 0)
    );
    assert_eq!(place.text("select refused from cause").await, "paused");
    place.store.pause_dag(&ada(), dag, false).await.unwrap();
    assert_eq!(
        recorded(&place, push(Some('1'), '2', vec![file(&chain("a", 1))])).await,
        (1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_errors_is_recorded_and_the_others_work_on() {
    let place = Place::new().await;
    let broken = |path: &str| DagAtCommit {
        path: path.into(),
        source: "stages: [".into(),
        dag: Err(serde_json::json!([{"message": "not closed"}])),
    };
    recorded(
        &place,
        push(
            None,
            '1',
            vec![file(&scheduled("night", "0 3 * * *")), file(&chain("a", 1))],
        ),
    )
    .await;
    let seen = push(
        Some('1'),
        '2',
        vec![broken("dags/night.yaml"), file(&chain("a", 1))],
    );
    assert_eq!(recorded(&place, seen).await, (1, 1));
    let faults = place.store.list_faults(Some(place.repo)).await.unwrap();
    assert_eq!(
        (faults[0].path.as_str(), faults[0].commit.clone()),
        ("dags/night.yaml", sha('2'))
    );
    // A branch from the same commit has the same fault, and is named as the branch that it is.
    let mut seen = push(None, '2', vec![broken("dags/night.yaml")]);
    seen.branch = "dev".into();
    seen.is_followed = false;
    recorded(&place, seen).await;
    place.sql("update repo set current_branch = 'main'").await;
    let faults = place.store.list_faults(Some(place.repo)).await.unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].branches, ["main", "dev"]);
    place.sql("delete from repo_ref where branch = 'dev'").await;
    let night = place.store.resolve_dag("night").await.unwrap();
    let pools = BTreeMap::new();
    let detail = place.store.dag_detail(night, &pools).await.unwrap();
    assert!(detail.summary.has_faults);
    assert_eq!(
        detail.summary.commit,
        Some(sha('1')),
        "the last good version stands"
    );
    assert_eq!(detail.schedules.len(), 1);
    // The file is fixed: the fault is history.
    let seen = push(
        Some('2'),
        '3',
        vec![file(&scheduled("night", "0 3 * * *")), file(&chain("a", 1))],
    );
    recorded(&place, seen).await;
    assert!(place.store.list_faults(None).await.unwrap().is_empty());
    // A branch that is not followed breaks it for itself alone.
    let mut seen = push(None, '4', vec![broken("dags/night.yaml")]);
    seen.branch = "dev".into();
    seen.is_followed = false;
    recorded(&place, seen).await;
    let detail = place.store.dag_detail(night, &pools).await.unwrap();
    assert_eq!(detail.faults[0].branches, ["dev"]);
    assert!(!detail.summary.has_faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_with_errors_that_are_shown_and_kept_are_bounded() {
    let place = Place::new().await;
    let broken = |count: usize| -> Vec<DagAtCommit> {
        (0..count)
            .map(|n| DagAtCommit {
                path: format!("dags/d{n:04}.yaml"),
                source: String::new(),
                dag: Err(serde_json::json!([{"message": "not closed"}])),
            })
            .collect()
    };
    assert_eq!(
        recorded(&place, push(None, '1', broken(2_000))).await,
        (0, 2_000)
    );
    for commit in ['2', '3'] {
        let mut seen = push(None, commit, broken(2_000));
        seen.branch = commit.to_string();
        seen.is_followed = false;
        recorded(&place, seen).await;
    }
    let faults = place.store.list_faults(Some(place.repo)).await.unwrap();
    assert_eq!((faults.len(), faults[0].branch.as_str()), (50, "main"));
    assert_eq!(place.count("select count(*) from dag_fault").await, 4_000);
    assert_eq!(
        place
            .count("select count(*) from dag_fault where commit = (select sha from repo_ref where branch = 'main')")
            .await,
        2_000,
        "those of the followed branch stay"
    );
    let repo = place.store.repo_summary(place.repo).await.unwrap().shown;
    assert_eq!(repo.faults, 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_to_other_branches_add_a_bounded_number_of_dags() {
    let place = Place::new().await;
    place
        .sql(
            "insert into dag (id, repo, name, path, created_at)
             select gen_random_uuid(), (select id from repo), 'junk-' || n, 'dags/junk.yaml', now()
             from generate_series(1, 1999) n",
        )
        .await;
    let other = |before, after, names: &[&str]| {
        let dags = names.iter().map(|name| file(&chain(name, 1))).collect();
        let mut seen = push(before, after, dags);
        seen.branch = "dev".into();
        seen.is_followed = false;
        seen
    };
    assert_eq!(
        recorded(&place, other(None, '1', &["a", "b"])).await,
        (1, 1)
    );
    let faults = place.store.list_faults(None).await.unwrap();
    assert_eq!(faults[0].path, "dags/b.yaml");
    let message = faults[0].diagnostics.to_string();
    assert!(message.contains("has 2000 DAGs"), "{message}");
    assert_eq!(
        recorded(&place, other(Some('1'), '2', &["a"])).await,
        (1, 0),
        "a DAG that is known goes on"
    );
    let seen = push(None, '3', vec![file(&chain("c", 1))]);
    assert_eq!(
        recorded(&place, seen).await,
        (1, 0),
        "the followed branch has room"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_smaller_than_a_stage_takes_is_named() {
    let place = Place::new().await;
    let with_pools = |name: &str, pools: &[(&str, u32)]| {
        let mut stage = stage(name, &[]);
        let pools = pools
            .iter()
            .map(|(name, slots)| (PoolName::new(*name).unwrap(), *slots));
        stage.program_mut().pools.extend(pools);
        stage
    };
    let one = with_pools("a", &[("gpu", 2), ("licence", 1)]);
    let other = with_pools("b", &[("gpu", 3), ("tpu", 1)]);
    let dag = dag("p", vec![one, other]);
    recorded(&place, push(None, '1', vec![file(&dag)])).await;
    let dag = place.store.resolve_dag("p").await.unwrap();
    let pools = [("gpu", 2), ("licence", 1)];
    let pools = pools.map(|(name, slots)| (PoolName::new(name).unwrap(), slots));
    let detail = place
        .store
        .dag_detail(dag, &BTreeMap::from(pools))
        .await
        .unwrap();
    assert_eq!(detail.undefined_pools, ["tpu"]);
    let small = SmallPool {
        pool: "gpu".to_owned(),
        slots: 2,
        wanted: 3,
    };
    assert_eq!(detail.small_pools, [small]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_without_a_value_is_a_fault_and_not_a_failed_sync() {
    let place = Place::new().await;
    let mut draft = draft("a", vec![stage("only", &[])]);
    let kind = ParamKind::Boolean;
    draft.params.insert(
        ParamName::new("full").unwrap(),
        ParamSpec {
            kind,
            default: None,
            description: None,
        },
    );
    let seen = push(None, '1', vec![file(&Dag::new(draft).unwrap())]);
    assert_eq!(recorded(&place, seen).await, (0, 1));
    let faults = place.store.list_faults(None).await.unwrap();
    assert!(
        faults[0]
            .diagnostics
            .to_string()
            .contains("`full` has no default")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_goes_on_where_it_was_unless_it_changed_and_ends_with_its_file() {
    let place = Place::new().await;
    recorded(
        &place,
        push(None, '1', vec![file(&scheduled("night", "0 3 * * *"))]),
    )
    .await;
    place
        .sql("update schedule set next_tick = '2020-01-01'")
        .await;
    recorded(
        &place,
        push(Some('1'), '2', vec![file(&scheduled("night", "0 3 * * *"))]),
    )
    .await;
    assert_eq!(
        place
            .text("select next_tick::date::text from schedule")
            .await,
        "2020-01-01"
    );
    recorded(
        &place,
        push(Some('2'), '3', vec![file(&scheduled("night", "0 4 * * *"))]),
    )
    .await;
    assert_eq!(
        place
            .count("select count(*) from schedule where next_tick > now()")
            .await,
        1
    );
    recorded(&place, push(Some('3'), '4', vec![])).await;
    assert_eq!(place.count("select count(*) from schedule").await, 0);
    let night = place.store.resolve_dag("night").await.unwrap();
    let gone = place.store.current_version(night).await.unwrap_err();
    assert!(
        gone.to_string().contains("not on the followed branch"),
        "{gone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_topic_branch_leaves_schedules_and_current_versions_alone() {
    let place = Place::new().await;
    recorded(
        &place,
        push(None, '1', vec![file(&scheduled("night", "0 3 * * *"))]),
    )
    .await;
    let mut seen = push(
        None,
        '2',
        vec![
            file(&scheduled("night", "0 4 * * *")),
            file(&chain("new", 1)),
        ],
    );
    seen.branch = "topic".into();
    seen.is_followed = false;
    seen.matches = vec![DagName::new("new").unwrap()];
    assert_eq!(recorded(&place, seen).await, (1, 0));
    assert_eq!(place.text("select cron from schedule").await, "0 3 * * *");
    let night = place.store.resolve_dag("shop/night").await.unwrap();
    assert_eq!(
        place.store.current_version(night).await.unwrap().commit,
        sha('1')
    );
    let new = place.store.resolve_dag("new").await.unwrap();
    assert!(place.store.current_version(new).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dag_name_of_several_repos_has_to_be_given_in_full() {
    let place = Place::new().await;
    let new = NewRepo {
        name: RepoName::new("lab").unwrap(),
        url: "file:///lab".into(),
        followed_branch: None,
        poll_every: Duration::from_secs(60),
        webhook_secret: None,
        credentials: None,
    };
    let lab = place.store.add_repo(&ada(), &new).await.unwrap();
    place.dag(&chain("a", 1)).await;
    place
        .store
        .record_dag_version(lab, COMMIT, "dags/a.yaml", "", &chain("a", 1))
        .await
        .unwrap();
    let error = place.store.resolve_dag("a").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "several repos have a DAG named `a`; say which: lab/a, shop/a"
    );
    assert!(place.store.resolve_dag("lab/a").await.is_ok());
    assert_eq!(
        place
            .store
            .resolve_dag("lab/b")
            .await
            .unwrap_err()
            .to_string(),
        "there is no DAG `lab/b`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_repo_leaves_nothing_but_not_while_it_runs() {
    let place = Place::new().await;
    recorded(
        &place,
        push(None, '1', vec![file(&scheduled("night", "0 3 * * *"))]),
    )
    .await;
    let refused = place
        .store
        .remove_repo(&ada(), place.repo)
        .await
        .unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.starts_with("1 run of this repo has not ended"),
        "{refused}"
    );
    assert!(
        refused.contains("`trainyard run cancel --repo shop`"),
        "{refused}"
    );
    let claim = place.claim_one().await;
    finish(&place.store, &claim, good()).await.unwrap();
    place.store.remove_repo(&ada(), place.repo).await.unwrap();
    for table in [
        "repo",
        "dag",
        "dag_version",
        "schedule",
        "cause",
        "run",
        "attempt",
        "run_event",
    ] {
        let query: &'static str =
            Box::leak(format!("select count(*) from {table}").into_boxed_str());
        assert_eq!(place.count(query).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_17_pushes_to_many_branches_start_no_more_runs_than_the_repo_may_have() {
    let place = Place::with(|options| options.unfinished.runs = 5).await;
    let mut started = 0;
    for branch in ["a", "b", "c"] {
        let dags = (0..3).map(|number| file(&chain(&format!("d{number}"), 1)));
        let mut seen = push(None, '1', dags.collect());
        seen.branch = branch.to_owned();
        seen.is_followed = false;
        started += recorded(&place, seen).await.0;
    }
    assert_eq!(started, 5);
    assert_eq!(
        place
            .store
            .list_faults(Some(place.repo))
            .await
            .unwrap()
            .len(),
        3
    );
}
