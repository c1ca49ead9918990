//! What all answers have in common: headers, the form of errors, and bounds of listings.

use serde_json::Value;

use crate::kit::{Answer, Place, filled, request, routes};

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn no_answer_is_cached_or_taken_for_another_type_whoever_asks() {
    let place = Place::new().await;
    let mut all = routes();
    let others = ["/healthz", "/readyz", "/metrics", "/nowhere"];
    all.extend(others.map(|path| ("GET".to_owned(), path.to_owned())));
    for (method, path) in all {
        for token in [None, Some("wrong"), Some(place.reader.as_str())] {
            let asked = request(&method, &filled(&path), token, "{}");
            let answer = place.ask(asked).await;
            assert_eq!(
                header(&answer, "cache-control"),
                "no-store",
                "{method} {path}"
            );
            assert_eq!(
                header(&answer, "x-content-type-options"),
                "nosniff",
                "{method} {path}"
            );
            assert_eq!(header(&answer, "set-cookie"), "", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_error_names_its_cause_in_words_and_by_a_code() {
    let place = Place::new().await;
    let mut shown = String::new();
    for (method, path, body) in [
        ("GET", "/nowhere", ""),
        ("GET", "/api/v1/repos/nosuch", ""),
        ("GET", "/api/v1/dags/shop/trian", ""),
        ("GET", "/api/v1/runs/17", ""),
        ("GET", "/api/v1/runs/first", ""),
        ("GET", "/api/v1/runs?limt=5", ""),
        ("GET", "/api/v1/runs?limit=-1", ""),
        ("GET", "/api/v1/runs?state=asleep", ""),
        ("GET", "/api/v1/runs/1/stages/b/log", ""),
        ("GET", "/api/v1/runs/1/artifacts/a/model", ""),
        ("PATCH", "/api/v1/runs", "{}"),
        ("POST", "/api/v1/tokens", "{"),
        ("POST", "/api/v1/tokens", "{}"),
        ("POST", "/api/v1/tokens", "{\"name\": \"admin\"}"),
        (
            "POST",
            "/api/v1/tokens",
            "{\"name\": \"ci\", \"scope\": \"root\"}",
        ),
        ("DELETE", "/api/v1/tokens/nosuch", ""),
        (
            "POST",
            "/api/v1/repos",
            "{\"name\": \"shop\", \"url\": \"https://example.org/shop.git\"}",
        ),
        ("DELETE", "/api/v1/repos/shop", ""),
        ("POST", "/api/v1/runs/1/retry", "{}"),
        ("DELETE", "/api/v1/quarantine/1", ""),
    ] {
        let answer = place.call(method, path, &place.admin, body).await;
        shown += &in_words(&format!("{method} {path} {body}"), &answer);
    }
    for (what, token) in [("no token", None), ("a wrong token", Some("wrong"))] {
        let answer = place.ask(request("GET", "/api/v1/runs", token, "")).await;
        shown += &in_words(&format!("GET /api/v1/runs with {what}"), &answer);
    }
    let answer = place.call("POST", "/api/v1/gc", &place.reader, "{}").await;
    shown += &in_words("POST /api/v1/gc with a token that may read", &answer);
    insta::assert_snapshot!(shown);
}

fn in_words(asked: &str, answer: &Answer) -> String {
    assert_eq!(
        header(answer, "content-type"),
        "application/json",
        "{asked}"
    );
    let body = answer.json();
    let mut lines = format!(
        "{}\n  {} {}\n",
        asked.trim_end(),
        answer.status.as_u16(),
        body["code"]
    );
    for part in ["message", "help"] {
        if let Some(text) = body[part].as_str() {
            lines += &format!("  {part}: {text}\n");
        }
    }
    lines + "\n"
}

#[tokio::test]
async fn a_listing_has_at_least_one_item_and_no_more_than_its_bound_whatever_is_asked_for() {
    let place = Place::new().await;
    let document = serde_json::to_value(trainyard_web::openapi()).unwrap();
    let mut listings = 0;
    for (method, path) in routes() {
        let short = path.trim_start_matches(trainyard_api::PREFIX);
        let parameters = &document["paths"][short][method.to_ascii_lowercase()]["parameters"];
        let has_limit = parameters
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["name"] == "limit"));
        if !has_limit {
            continue;
        }
        listings += 1;
        for (limit, most) in [("0", 1), ("1", 1), ("4294967295", 10_000)] {
            let path = format!("{}?limit={limit}", filled(&path));
            let answer = place.call(&method, &path, &place.admin, "").await;
            assert_eq!(answer.status, 200, "{path}");
            let items = answer.json()["items"].as_array().map_or(0, Vec::len);
            assert!(items <= most, "{path}: {items}");
        }
        for limit in ["-1", "4294967296", "many", ""] {
            let path = format!("{}?limit={limit}", filled(&path));
            let answer = place.call(&method, &path, &place.admin, "").await;
            assert_eq!(answer.status, 400, "{path}");
            assert!(
                answer.json()["message"].as_str().unwrap().contains("limit"),
                "{path}"
            );
        }
    }
    assert!(listings >= 4, "{listings}");
}

#[tokio::test]
async fn a_page_says_whether_there_is_another() {
    let place = Place::new().await;
    let read = async |query: &str| -> Value {
        let path = format!("/api/v1/audit{query}");
        place.call("GET", &path, &place.admin, "").await.json()
    };
    let all = read("").await["items"].as_array().unwrap().len();
    assert!(all > 2);
    let exact = read(&format!("?limit={all}")).await;
    assert_eq!(exact["more"], false, "{exact}");
    let less = read(&format!("?limit={}", all - 1)).await;
    assert_eq!(less["more"], true, "{less}");
}
