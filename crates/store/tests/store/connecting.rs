//! Bad databases, and the errors about them.

use std::time::Duration;

use trainyard_store::{Error, Store, StoreOptions};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_reported_with_its_address_at_once() {
    let mut options = StoreOptions::new("postgres://someone:hidden@127.0.0.1:1/x");
    // This timeout does not end the wait.
    options.acquire_timeout = Duration::from_secs(3_600);
    let connecting = Store::connect(&options);
    let error = tokio::time::timeout(Duration::from_secs(300), connecting)
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("hidden"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_reported_with_the_way_out() {
    let url = migrated_database().await.url();
    let wrong = url.replace("/test_", "/missing_");
    let error = Store::connect(&StoreOptions::new(wrong)).await.unwrap_err();
    assert!(matches!(error, Error::DatabaseMissing { .. }));
    assert!(error.to_string().contains("createdb missing_"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_is_reported_by_name() {
    let url = migrated_database()
        .await
        .url()
        .replace("trainyard@", "nobody_here@");
    let error = Store::connect(&StoreOptions::new(url)).await.unwrap_err();
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("`nobody_here`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_address_is_reported() {
    let error = Store::connect(&StoreOptions::new("mysql//what"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidUrl(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let place = Place::new().await;
    place
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (99990101000000, 'from the future', true, ''::bytea, 0)",
        )
        .await;
    let error = place.another().await.migrate().await.unwrap_err();
    let Error::SchemaNewer { found, known } = error else {
        panic!("{error:?}")
    };
    assert_eq!(found, 99_990_101_000_000);
    assert!(known < found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_build_before_the_first_release_is_refused_in_words() {
    let place = Place::new().await;
    place
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (20261123000001, 'before the release', true, ''::bytea, 0)",
        )
        .await;
    let error = place.another().await.migrate().await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("before the first release"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_lost_in_between_are_replaced() {
    let place = Place::new().await;
    place.store.failing_syncs().await.unwrap();
    let _ = sqlx::raw_sql(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&place.raw)
    .await;
    let back = async {
        while let Err(error) = place.store.instance().await {
            assert!(error.is_transient(), "{error:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(300), back)
        .await
        .expect("the store heals");
}
