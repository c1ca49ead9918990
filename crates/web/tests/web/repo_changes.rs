//! A change of a repo never sends its credentials to another host.

use serde_json::{Value, json};

use crate::kit::{CANARIES, Place};

async fn change(place: &Place, body: Value) -> (u16, Value) {
    let path = "/api/v1/repos/shop";
    let answer = place
        .call("PATCH", path, &place.admin, &body.to_string())
        .await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(
        CANARIES.iter().all(|canary| !text.contains(canary)),
        "{text}"
    );
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn only_given_fields_change_and_a_generated_webhook_secret_is_shown_once() {
    let place = Place::new().await;
    let (status, saved) = change(
        &place,
        json!({"branch": "trunk", "poll_every_seconds": 300, "new_webhook_secret": true}),
    )
    .await;
    assert_eq!(status, 200, "{saved}");
    assert_eq!(saved["repo"]["branch"], "trunk");
    assert_eq!(saved["repo"]["poll_every_seconds"], 300);
    assert_eq!(saved["repo"]["has_credentials"], true);
    assert_eq!(saved["webhook_secret"].as_str().unwrap().len(), 64);

    let (status, saved) = change(&place, json!({"default_branch": true})).await;
    assert_eq!(status, 200, "{saved}");
    assert_eq!(saved["repo"]["branch"], Value::Null);
    assert_eq!(saved.get("webhook_secret"), None);
}

#[tokio::test]
async fn class_13_credentials_do_not_follow_a_repo_to_another_host() {
    let place = Place::new().await;
    let elsewhere = json!({"url": "https://example.org/team/shop.git"});
    let (status, refused) = change(&place, elsewhere.clone()).await;
    assert_eq!(status, 422, "{refused}");
    let help = refused["help"].as_str().unwrap();
    assert!(
        help.contains("--password-stdin") && help.contains("--no-credentials"),
        "{help}"
    );

    let mut with_own = elsewhere.clone();
    with_own["password"] = "another".into();
    let (status, saved) = change(&place, with_own).await;
    assert_eq!(status, 200, "{saved}");
    // On the same host they stay.
    let moved = json!({"url": "https://example.org/other/shop.git"});
    let (status, saved) = change(&place, moved).await;
    assert_eq!(
        (status, &saved["repo"]["has_credentials"]),
        (200, &true.into()),
        "{saved}"
    );

    for other in [
        "http://example.org/team/shop.git",
        "https://example.org:8443/team/shop.git",
        "https://example.org.evil.test/team/shop.git",
        "file:///srv/shop",
    ] {
        let (status, refused) = change(&place, json!({"url": other})).await;
        assert_eq!(status, 422, "{other}: {refused}");
    }
    let without = json!({"url": "https://example.com/shop.git", "no_credentials": true});
    let (status, saved) = change(&place, without).await;
    assert_eq!(
        (status, &saved["repo"]["has_credentials"]),
        (200, &false.into()),
        "{saved}"
    );
}

/// Where the repo is, what it is fetched with, and how often its address has changed.
const STANDING: &str = "select url, credentials is not null, address_number from repo";

#[tokio::test(flavor = "multi_thread")]
async fn class_13_credentials_do_not_follow_a_repo_that_is_moved_while_they_are_changed() {
    let moved = json!({"url": "https://example.com/team/shop.git", "no_credentials": true});
    let completed = json!({"username": "another"});
    // The one that came first is recorded first, and the other was decided for the address before it.
    for [first, second] in [[&moved, &completed], [&completed, &moved]] {
        let place = Place::new().await;
        let start = json!({"url": "https://example.org/team/shop.git", "password": CANARIES[2]});
        let (status, saved) = change(&place, start).await;
        assert_eq!(status, 200, "{saved}");
        let mut lock = place.raw.begin().await.unwrap();
        sqlx::query("select from repo for update")
            .execute(&mut *lock)
            .await
            .unwrap();
        let both = async {
            let second = async {
                until_waiting(&place, 1).await;
                change(&place, second.clone()).await
            };
            tokio::join!(change(&place, first.clone()), second)
        };
        let unlocked = async {
            until_waiting(&place, 2).await;
            lock.rollback().await.unwrap();
        };
        let ((one, other), ()) = tokio::join!(both, unlocked);
        let (url, has_credentials, address): (String, bool, i64) = sqlx::query_as(STANDING)
            .fetch_one(&place.raw)
            .await
            .unwrap();
        assert_eq!(
            (url.as_str(), has_credentials),
            ("https://example.com/team/shop.git", false),
            "{one:?} {other:?}"
        );
        // A user name alone is refused where no password is kept; else both were recorded, one after the other.
        let of_completed = if first == &completed { &one } else { &other };
        let recorded = i64::from(of_completed.0 == 200);
        assert!([200, 422].contains(&of_completed.0), "{of_completed:?}");
        assert_eq!(address, 3 + recorded, "{one:?} {other:?}");
    }
}

/// Waits until so many requests wait for locks.
async fn until_waiting(place: &Place, requests: i64) {
    let blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
        and datname = current_database()";
    let waits = async {
        while sqlx::query_scalar::<_, i64>(blocked)
            .fetch_one(&place.raw)
            .await
            .unwrap()
            < requests
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(300), waits)
        .await
        .expect("the requests wait for locks");
}

#[tokio::test]
async fn a_change_of_nothing_or_of_two_things_that_exclude_each_other_is_refused() {
    let place = Place::new().await;
    for body in [
        json!({}),
        json!({"branch": "a", "default_branch": true}),
        json!({"webhook_secret": "a-secret-of-ones-own", "new_webhook_secret": true}),
        json!({"webhook_secret": "short"}),
        json!({"password": "x", "no_credentials": true}),
        json!({"url": "git@example.org:team/model.git", "no_credentials": true}),
    ] {
        let (status, refused) = change(&place, body.clone()).await;
        assert_eq!(status, 422, "{body}: {refused}");
    }
}

#[tokio::test]
async fn a_repo_that_fails_to_sync_makes_the_daemon_degraded_without_a_name() {
    let place = Place::new().await;
    let fails =
        "update repo set failing_since = '2026-11-28 23:00:00Z', last_error = 'no route to host'";
    sqlx::query(fails).execute(&place.raw).await.unwrap();
    let answer = place.call("GET", "/readyz", "", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"state": "degraded", "reasons": [
            "1 repo has failed to sync since 2026-11-28 23:00:00 UTC; `trainyard repo list` shows which, and why"
        ]})
    );
}
