//! Ticks and their runs.

use std::time::Duration;

use trainyard_core::dag::Dag;
use trainyard_store::{PushRecorded, RunFilter};

use crate::kit::*;
use crate::pushes::{file, push, scheduled};

async fn with_schedule(cron: &str) -> Place {
    let place = Place::new().await;
    let mut seen = push(None, '1', vec![file(&scheduled("night", cron))]);
    seen.matches.clear();
    assert!(matches!(
        place
            .store
            .record_push(place.repo, FIRST_ADDRESS, seen)
            .await
            .unwrap(),
        PushRecorded::Recorded { .. }
    ));
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_fires_once_however_many_look() {
    let place = with_schedule("* * * * *").await;
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    let other = place.another().await;
    let looking = (0..8).map(|at| {
        let store = if at % 2 == 0 {
            place.store.clone()
        } else {
            other.clone()
        };
        tokio::spawn(async move { store.fire_due_schedules().await.unwrap().fired })
    });
    let mut fired = 0;
    for looked in looking.collect::<Vec<_>>() {
        fired += looked.await.unwrap();
    }
    // A minute may have passed meanwhile; then that tick fired as well, once.
    let runs = place.store.list_runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), fired);
    let mut ticks: Vec<_> = runs.iter().map(|run| run.logical_time).collect();
    ticks.dedup();
    assert_eq!(ticks.len(), fired);
    assert!((1..=2).contains(&fired), "{fired} ticks fired");
    assert_eq!(runs[0].cause.summary, "schedule * * * * * (Europe/Berlin)");
    assert_eq!(runs[0].branch.as_deref(), Some("main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_whose_run_cannot_be_made_is_not_lost() {
    let place = with_schedule("0 3 * * *").await;
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    // As if the daemon had died between the run and the advance: nothing of the transaction remains.
    place
        .sql(
            "create function fail() returns trigger language plpgsql as $$ begin raise exception 'crash'; end $$;
             create trigger crash before update on schedule for each row execute function fail();",
        )
        .await;
    assert!(place.store.fire_due_schedules().await.is_err());
    assert_eq!(place.count("select count(*) from run").await, 0);
    assert_eq!(place.count("select count(*) from cause").await, 0);
    place.sql("drop trigger crash on schedule").await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.duplicates), (1, 0));
    assert!(report.next_in.unwrap() > Duration::from_secs(60));
    assert_eq!(place.store.fire_due_schedules().await.unwrap().fired, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_was_recorded_before_starts_nothing_more() {
    let place = with_schedule("0 3 * * *").await;
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    assert_eq!(place.store.fire_due_schedules().await.unwrap().fired, 1);
    // As if a restored backup had moved the schedule back in time.
    place
        .sql("update schedule set next_tick = (select logical_time from run)")
        .await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.duplicates), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_dag_lets_its_ticks_pass() {
    let place = with_schedule("0 3 * * *").await;
    let dag = place.store.resolve_dag("night").await.unwrap();
    place.store.pause_dag(&ada(), dag, true).await.unwrap();
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.passed_over), (0, 1));
    place.store.pause_dag(&ada(), dag, false).await.unwrap();
    assert_eq!(place.store.fire_due_schedules().await.unwrap().fired, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_ticks_follow_the_rule_of_their_schedule() {
    let place = with_schedule("0 * * * *").await;
    let five_hours_ago =
        "update schedule set next_tick = date_trunc('hour', now() - interval '5 hours'), missed = ";
    for (rule, at_least) in [("'none'", 0), ("'last'", 1), ("'all'", 5)] {
        place.sql("delete from run; delete from cause;").await;
        let set: &'static str = Box::leak(format!("{five_hours_ago}{rule}").into_boxed_str());
        place.sql(set).await;
        let report = place.store.fire_due_schedules().await.unwrap();
        // On the hour itself one tick is on time, whatever the rule.
        assert!(
            (at_least..=at_least + 1).contains(&report.fired),
            "{rule}: {report:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_read_does_not_stop_the_others() {
    let place = Place::new().await;
    let mut seen = push(
        None,
        '1',
        vec![
            file(&scheduled("sick", "0 3 * * *")),
            file(&scheduled("well", "0 3 * * *")),
        ],
    );
    seen.matches.clear();
    place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    place
        .sql(
            "update schedule set next_tick = date_trunc('minute', now());
             update schedule set timezone = 'Atlantis' where dag = (select id from dag where name = 'sick');",
        )
        .await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!(report.fired, 1);
    assert!(
        report.next_in.unwrap() > Duration::ZERO,
        "no busy loop over the sick one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_the_database_refuses_does_not_stop_the_others() {
    let place = Place::new().await;
    let files = ["before", "sick", "well"]
        .map(|name| file(&scheduled(name, "0 3 * * *")))
        .into();
    let mut seen = push(None, '1', files);
    seen.matches.clear();
    place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    place
        .sql(
            "update schedule set next_tick = date_trunc('minute', now());
             create function fail() returns trigger language plpgsql as $$ begin
                 if new.dag = (select id from dag where name = 'sick') then raise exception 'sick'; end if;
                 return new;
             end $$;
             create trigger sick before update on schedule for each row execute function fail();",
        )
        .await;
    assert!(place.store.fire_due_schedules().await.is_err());
    assert!(place.store.fire_due_schedules().await.is_err());
    let runs = place.store.list_runs(&RunFilter::default()).await.unwrap();
    let mut started: Vec<_> = runs.iter().map(|run| run.dag.as_str()).collect();
    started.sort_unstable();
    assert_eq!(started, ["shop/before", "shop/well"]);
}

/// A DAG with schedules that tick once a day, each at another minute.
fn daily(name: &str, schedules: usize) -> Dag {
    let mut draft = draft(name, vec![stage("only", &[])]);
    let minutes = (0..schedules).map(|number| format!("{} {} * * *", number % 60, number / 60));
    draft.triggers.schedule = minutes
        .map(|cron| scheduled(name, &cron).declared().triggers.schedule[0].clone())
        .collect();
    Dag::new(draft).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn class_17_ticks_of_a_repo_with_too_many_unfinished_runs_pass_and_are_its_fault() {
    let place = Place::with(|options| options.unfinished.runs = 3).await;
    let other = add_repo(&place.store, "other").await;
    for (repo, dags) in [(place.repo, 5), (other, 1)] {
        let dags = (0..dags).map(|number| file(&daily(&format!("d{number}"), 1)));
        let mut seen = push(None, '1', dags.collect());
        seen.matches.clear();
        let _ = place
            .store
            .record_push(repo, FIRST_ADDRESS, seen)
            .await
            .unwrap();
    }
    let due = "update schedule set next_tick = date_trunc('minute', now()) where next_tick > now()";
    place.sql(due).await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.refused), (4, 2));
    let faults = place.store.list_faults(Some(place.repo)).await.unwrap();
    assert_eq!(faults.len(), 2);
    let words = faults[0].diagnostics.to_string();
    assert!(
        words.contains("trainyard run cancel --repo shop"),
        "{words}"
    );
    assert!(
        place
            .store
            .list_faults(Some(other))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        place
            .count("select count(*) from schedule where next_tick <= date_trunc('minute', now())")
            .await,
        0,
        "none is tried again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn class_17_schedules_of_the_same_minute_fire_in_several_transactions() {
    let place = Place::new().await;
    let mut seen = push(None, '1', vec![file(&daily("night", 130))]);
    seen.matches.clear();
    let _ = place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    let report = place.store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.is_more_due), (100, true));
    assert_eq!(report.next_in, Some(Duration::ZERO));
    let report = place.store.fire_due_schedules().await.unwrap();
    assert!(!report.is_more_due);
    assert_eq!(
        place
            .count("select count(*) from schedule where next_tick <= now()")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_a_long_absence_are_searched_in_several_transactions() {
    let place = with_schedule("* * * * *").await;
    place
        .sql(
            "update schedule set missed = 'none', next_tick = date_trunc('minute', now()) - interval '60 days';
             insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
             select dag, n, dag_version, cron, timezone, missed, params, next_tick
             from schedule, generate_series(1, 2) n",
        )
        .await;
    let mut passes = 0;
    loop {
        let report = place.store.fire_due_schedules().await.unwrap();
        assert!(report.passed_over <= 100_000, "{report:?}");
        if !report.is_more_due {
            break;
        }
        assert_eq!(report.next_in, Some(Duration::ZERO), "it goes on at once");
        passes += 1;
    }
    assert!(passes >= 2, "{passes}");
    let late = "select count(*) from schedule where next_tick <= now() - interval '1 minute'";
    assert_eq!(place.count(late).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_tick_of_each_dag_is_read_from_an_index_of_its_own() {
    let place = with_schedule("0 3 * * *").await;
    place
        .sql(
            "insert into dag (id, repo, name, path, created_at)
             select gen_random_uuid(), repo, 'dag-' || n, 'dags/' || n || '.yaml', now()
             from dag, generate_series(1, 300) n;
             insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
             select d.id, n, dag_version, cron, timezone, missed, params, next_tick + make_interval(hours => n)
             from schedule s, dag d, generate_series(1, 50) n;
             analyze",
        )
        .await;
    let explain =
        "explain select (select min(next_tick) from schedule where dag = d.id) from dag d";
    let plan: Vec<String> = sqlx::query_scalar(explain)
        .fetch_all(&place.raw)
        .await
        .unwrap();
    // The index of all ticks has those of the other DAGs as well: it would be read from its beginning for each DAG.
    let plan = plan.join("\n");
    assert!(plan.contains("using schedule_dag_next_tick"), "{plan}");
}
