//! The router enforces the scope of a token at its root, for every route.

use trainyard_api::TokenScope;
use trainyard_web::Peer;
use trainyard_web::auth::PERMISSIONS;

use crate::kit::{Answer, CANARIES, Place, filled, request, routes};

#[tokio::test]
async fn class_07_a_token_that_may_read_changes_nothing_on_any_route() {
    let place = Place::new().await;
    let before = place.everything();
    for (method, path, scope) in PERMISSIONS {
        let answer = place.call(method, &filled(path), &place.reader, "{}").await;
        match scope {
            TokenScope::Read => assert_permitted(&answer, method, path),
            TokenScope::Admin => assert_eq!(answer.status, 403, "{method} {path}"),
        }
    }
    assert_eq!(before, place.everything());
}

#[tokio::test]
async fn class_07_a_token_that_may_change_things_is_permitted_on_every_route() {
    let place = Place::new().await;
    for (method, path, _) in PERMISSIONS {
        // A sync waits for a watcher, which this test does not run.
        if !path.ends_with("/sync") {
            let answer = place.call(method, &filled(path), &place.admin, "{}").await;
            assert_permitted(&answer, method, path);
        }
    }
}

#[track_caller]
fn assert_permitted(answer: &Answer, method: &str, path: &str) {
    let status = answer.status.as_u16();
    assert!(![401, 403].contains(&status), "{method} {path}: {status}");
}

#[test]
fn class_07_every_route_has_its_permission_and_every_permission_its_route() {
    let mut all = routes();
    let others = ["/metrics", "/api/v1/openapi.json"];
    all.extend(others.map(|path| ("GET".to_owned(), path.to_owned())));
    let mut listed: Vec<(String, String)> = PERMISSIONS
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    all.sort();
    listed.sort();
    assert_eq!(all, listed);
}

#[tokio::test]
async fn class_07_a_method_without_a_permission_is_refused_to_every_token() {
    let place = Place::new().await;
    for method in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
        for token in [&place.admin, &place.reader] {
            let answer = place.call(method, "/api/v1/tokens", token, "{}").await;
            assert_eq!(answer.status, 405, "{method}");
            let allowed = answer.headers["allow"].to_str().unwrap();
            assert_eq!(allowed, "GET,HEAD,POST", "{method}");
        }
    }
}

#[tokio::test]
async fn class_07_a_change_is_recorded_with_the_token_and_the_address_that_made_it() {
    let place = Place::new().await;
    let mut asked = request(
        "PUT",
        "/api/v1/dags/shop/train/paused",
        Some(&place.admin),
        r#"{"paused":true}"#,
    );
    asked
        .extensions_mut()
        .insert(Peer::new([192, 0, 2, 7].into()));
    assert_eq!(place.ask(asked).await.status, 200);
    let answer = place
        .call("GET", "/api/v1/audit?action=dag.pause", &place.admin, "")
        .await;
    let listed = answer.json();
    let entry = &listed["items"][0];
    assert_eq!(entry["action"], "dag.pause", "{listed}");
    assert_eq!(entry["subject"], "shop/train");
    assert_eq!(entry["by"]["kind"], "token");
    assert_eq!(entry["by"]["name"], "admin");
    assert_eq!(entry["peer"], "192.0.2.7");
}

#[tokio::test]
async fn class_07_the_audit_log_is_paged_and_names_a_wrong_action() {
    let place = Place::new().await;
    let read = async |query: &str| {
        let path = format!("/api/v1/audit{query}");
        place.call("GET", &path, &place.admin, "").await
    };
    let all = read("").await.json();
    let all = all["items"].as_array().unwrap();
    let first = read("?limit=2").await.json();
    assert_eq!(first["more"], true);
    assert_eq!(first["items"].as_array().unwrap()[..], all[..2]);
    let next = read(&format!("?limit=1000&before={}", all[1]["id"]))
        .await
        .json();
    assert_eq!(next["more"], false);
    assert_eq!(next["items"].as_array().unwrap()[..], all[2..]);
    let wrong = read("?action=dag.paws").await;
    assert_eq!(wrong.status, 422);
    let help = wrong.json()["help"].as_str().unwrap().to_owned();
    assert!(help.contains("dag.pause"), "{help}");
}

#[tokio::test]
async fn class_07_a_scope_that_this_version_does_not_know_permits_nothing() {
    let place = Place::new().await;
    sqlx::raw_sql("update token set scope = 'galaxy' where name = 'reader'")
        .execute(&place.raw)
        .await
        .unwrap();
    let answer = place.call("GET", "/api/v1/runs", &place.reader, "").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn class_07_no_answer_shows_a_secret() {
    let place = Place::new().await;
    for (method, path) in routes() {
        if method != "GET" {
            continue;
        }
        let answer = place.call("GET", &filled(&path), &place.admin, "").await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        for canary in CANARIES
            .into_iter()
            .chain([place.admin.as_str(), place.reader.as_str()])
        {
            assert!(!text.contains(canary), "{path} shows {canary}: {text}");
        }
    }
}

#[tokio::test]
async fn class_07_the_command_lines_own_token_is_not_revoked_while_its_daemon_lives() {
    let place = Place::new().await;
    let answer = place
        .call("DELETE", "/api/v1/tokens/admin", &place.admin, "")
        .await;
    assert_eq!(answer.status, 409);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("own token of the daemon at here"),
        "{message}"
    );
    assert_eq!(
        place
            .call("GET", "/api/v1/runs", &place.admin, "")
            .await
            .status,
        200
    );
    // Once that daemon has stopped, it is a token like any other.
    sqlx::raw_sql("update daemon set stopped_at = now()")
        .execute(&place.raw)
        .await
        .unwrap();
    let answer = place
        .call("DELETE", "/api/v1/tokens/admin", &place.admin, "")
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        place
            .call("GET", "/api/v1/runs", &place.admin, "")
            .await
            .status,
        401
    );
}
