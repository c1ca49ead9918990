//! The router enforces the scope of a token at its root, for every route.

use trainyard_web::auth::PERMISSIONS;

use crate::kit::{CANARIES, Place, filled, routes};

#[tokio::test]
async fn class_07_a_token_that_may_read_changes_nothing_on_any_route() {
    let place = Place::new().await;
    let before = place.everything().await;
    for (method, path) in routes() {
        let answer = place
            .call(&method, &filled(&path), &place.reader, "{}")
            .await;
        if method == "GET" {
            assert!(
                ![401, 403].contains(&answer.status.as_u16()),
                "{method} {path}"
            );
        } else {
            assert_eq!(answer.status, 403, "{method} {path}");
        }
    }
    assert_eq!(before, place.everything().await);
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
