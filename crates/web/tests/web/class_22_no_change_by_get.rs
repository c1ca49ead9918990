//! Cross-site requests: GET changes nothing, cookies do not authenticate, and no CORS header allows other sites.

use crate::kit::{Place, filled, request, routes};

#[tokio::test]
async fn class_22_no_get_changes_anything() {
    let place = Place::new().await;
    let before = place.everything();
    for (method, path) in routes() {
        if method == "GET" {
            for method in ["GET", "HEAD"] {
                let answer = place.call(method, &filled(&path), &place.admin, "").await;
                assert!(answer.status.as_u16() < 500, "{method} {path}");
            }
        }
    }
    assert_eq!(before, place.everything());
}

#[tokio::test]
async fn class_22_a_token_in_a_cookie_or_a_query_is_none() {
    let place = Place::new().await;
    for (method, path) in routes() {
        let path = format!("{}?token={}", filled(&path), place.admin);
        let mut asked = request(&method, &path, None, "{}");
        let cookie = format!(
            "token={0}; session={0}; authorization=Bearer {0}",
            place.admin
        );
        asked
            .headers_mut()
            .insert("cookie", cookie.parse().unwrap());
        assert_eq!(place.ask(asked).await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn class_22_no_other_site_is_permitted_to_ask() {
    let place = Place::new().await;
    for (method, path) in routes() {
        for asks in [method.as_str(), "OPTIONS"] {
            let mut asked = request(asks, &filled(&path), Some(&place.reader), "");
            for (name, value) in [
                ("origin", "https://evil.example"),
                ("access-control-request-method", method.as_str()),
            ] {
                asked.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = place.ask(asked).await;
            let cors = answer
                .headers
                .keys()
                .find(|name| name.as_str().starts_with("access-control"));
            assert_eq!(cors, None, "{asks} {path}");
        }
    }
}
