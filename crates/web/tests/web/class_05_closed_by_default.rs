//! Every route needs a token except the listed open ones, and no spelling of a path bypasses that.

use crate::kit::{Place, filled, request, routes};

/// Other spellings of a path, for servers that check one and route by another.
fn spellings(path: &str) -> Vec<String> {
    let upper = path.to_ascii_uppercase();
    let encoded = path.replacen("/api", "/%61pi", 1);
    vec![
        path.to_owned(),
        format!("{path}/"),
        format!("/{path}"),
        format!("{path}/."),
        format!("{path}/..;/healthz"),
        format!("/healthz/..{path}"),
        format!("/healthz/..;{path}"),
        format!("/healthz%2f..{path}"),
        format!("/hooks/github/..{path}"),
        format!("{path}%2f"),
        format!("{path};/healthz"),
        format!("{path}?x=/healthz"),
        format!("{path}%3f/healthz"),
        format!("{path}%23/healthz"),
        format!("{path}%00"),
        path.replacen("/api/v1/", "/api//v1/", 1),
        path.replacen("/api/v1/", "/api/v1/./", 1),
        path.replacen("/api/v1/", "/api%2fv1%2f", 1),
        upper,
        encoded,
    ]
}

#[tokio::test]
async fn class_05_no_route_answers_without_a_good_token_in_any_spelling() {
    let place = Place::new().await;
    let mut others = vec![
        ("GET".to_owned(), "/metrics".to_owned()),
        ("GET".to_owned(), "/api/v1/openapi.json".to_owned()),
    ];
    others.extend(routes());
    let before = place.everything();
    for (method, route) in others {
        for path in spellings(&filled(&route)) {
            for token in [None, Some("wrong"), Some("")] {
                let answer = place.ask(request(&method, &path, token, "{}")).await;
                assert!(
                    [401, 404].contains(&answer.status.as_u16()),
                    "{method} {path} {token:?}: {}",
                    answer.status
                );
            }
        }
        let closed = place
            .ask(request(&method, &filled(&route), None, "{}"))
            .await;
        assert_eq!(closed.status, 401, "{method} {route}");
    }
    assert_eq!(before, place.everything());
}

#[tokio::test]
async fn class_05_the_open_routes_are_these_three() {
    let place = Place::new().await;
    assert_eq!(
        trainyard_web::auth::OPEN,
        ["/healthz", "/readyz", "/hooks/{provider}/{repo}"]
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(place.ask(request("GET", path, None, "")).await.status, 200);
    }
}

#[tokio::test]
async fn class_05_headers_that_name_another_path_or_user_open_nothing() {
    let place = Place::new().await;
    for (name, value) in [
        ("x-original-url", "/healthz"),
        ("x-rewrite-url", "/healthz"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "admin"),
        ("x-http-method-override", "GET"),
        ("authorization", "Basic YWRtaW46YWRtaW4="),
        ("authorization", "Bearer"),
        ("authorization", "Bearer null"),
    ] {
        let mut asked = request("GET", "/api/v1/tokens", None, "");
        asked.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(place.ask(asked).await.status, 401, "{name}: {value}");
    }
    let mut twice = request("GET", "/api/v1/tokens", Some("wrong"), "");
    let good = format!("Bearer {}", place.admin).parse().unwrap();
    twice.headers_mut().append("authorization", good);
    assert_eq!(place.ask(twice).await.status, 401, "two tokens");
}
