//! The API conforms to its OpenAPI document for arbitrary requests.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::kit::{Answer, Place, request, routes};
use crate::schema;

/// How many requests are made.
const REQUESTS: u32 = 1_500;

/// Values for path and query parameters of any type, percent-encoded.
const ODD: [&str; 22] = [
    "shop",
    "train",
    "1",
    "a",
    "-",
    "nosuch",
    "0",
    "-1",
    "9223372036854775807",
    "99999999999999999999999",
    "1e3",
    "true",
    "null",
    "%00",
    "%ff",
    "%2f",
    "..",
    "%2e%2e%2fshop",
    "%F0%9F%9A%82",
    "%E2%80%AE",
    "' or 1=1 --",
    "running",
];

const BODIES: [&str; 26] = [
    "",
    "{}",
    "[]",
    "[true]",
    "null",
    "7",
    "\"text\"",
    "{",
    "{\"a\":",
    "{\"dry_run\":true}",
    "{\"dry_run\":\"yes\"}",
    "{\"dryrun\":true}",
    "{\"name\":\"ci\"}",
    "{\"name\":\"\\u0000\"}",
    "{\"name\":\"shop\",\"url\":\"file:///nowhere\"}",
    "{\"name\":\"../x\",\"url\":\"http://[::1\"}",
    "{\"name\":\"ro\",\"scope\":\"read\"}",
    "{\"name\":\"x\",\"scope\":\"root\"}",
    "{\"value\":\"v\"}",
    "{\"value\":\"\\u0000\"}",
    "{\"paused\":false}",
    "{\"params\":{\"lr\":1e400}}",
    "{\"params\":{\"lr\":[1]},\"ref\":\"main\"}",
    "{\"from\":\"a\",\"from_failed\":true}",
    "{\"branch\":\"b\",\"default_branch\":true}",
    "{\"poll_every_seconds\":9}",
];

#[derive(Debug, Clone)]
struct Asked {
    method: String,
    /// As the document has it.
    route: String,
    path: String,
    token: usize,
    body: &'static str,
    content_type: &'static str,
}

fn odd() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&ODD[..]).prop_map(|odd| odd.replace(' ', "%20")),
        1 => "[a-zA-Z0-9_~.-]{1,40}",
        1 => "\\PC{1,12}".prop_map(|text| {
            percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string()
        }),
    ]
}

fn asked(document: &Value) -> impl Strategy<Value = Asked> + use<> {
    let mut described = Vec::new();
    for (method, route) in routes() {
        let short = route.trim_start_matches(trainyard_api::PREFIX).to_owned();
        let parameters = &document["paths"][&short][method.to_ascii_lowercase()]["parameters"];
        let query: Vec<String> = parameters
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        described.push((method, route, query));
    }
    (
        select(described),
        prop::collection::vec(odd(), 4),
        prop::collection::vec((any::<prop::sample::Index>(), odd()), 0..3),
        prop_oneof![8 => Just(0_usize), 1 => Just(1), 1 => Just(2), 1 => Just(3)],
        select(&BODIES[..]),
        prop_oneof![
            9 => Just("application/json"),
            1 => Just("APPLICATION/JSON; charset=utf-8"),
            1 => Just("text/plain"),
            1 => Just(""),
        ],
    )
        .prop_map(
            |((method, route, query), odd, pairs, token, body, content_type)| {
                let mut path = String::new();
                let mut values = odd.into_iter();
                for part in route.split('/').skip(1) {
                    path.push('/');
                    if part.starts_with('{') {
                        path.push_str(&values.next().unwrap());
                    } else {
                        path.push_str(part);
                    }
                }
                let mut names = query;
                names.push("unknown".to_owned());
                let pairs: Vec<String> = pairs
                    .into_iter()
                    .map(|(place, value)| {
                        let name = place.get(&names);
                        // A granted wait only delays the test.
                        let value = if name == "wait_seconds" {
                            "0".to_owned()
                        } else {
                            value
                        };
                        format!("{name}={value}")
                    })
                    .collect();
                if !pairs.is_empty() {
                    path = format!("{path}?{}", pairs.join("&"));
                }
                Asked {
                    method,
                    route: route.trim_start_matches(trainyard_api::PREFIX).to_owned(),
                    path,
                    token,
                    body,
                    content_type,
                }
            },
        )
        // A sync waits for a watcher, which this test does not run; and the repo is needed to the end.
        .prop_filter("it waits for others, or removes the scene", |asked| {
            let path = asked.path.split('?').next().unwrap();
            let scene = ["/repos/shop", "/dags/shop/train", "/dags/-/train"];
            let removes = asked.method == "DELETE" && scene.iter().any(|of| path.ends_with(of));
            !(removes || path.ends_with("/shop/sync"))
        })
}

fn is_error_body(answer: &Answer) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return false;
    };
    body["code"].is_string() && body["message"].is_string()
}

fn content_type(answer: &Answer) -> &str {
    answer
        .headers
        .get("content-type")
        .map_or("", |kind| kind.to_str().unwrap())
}

/// The parts of an answer that the document does not describe.
fn undescribed(document: &Value, asked: &Asked, answer: &Answer) -> Vec<String> {
    let operation = &document["paths"][&asked.route][asked.method.to_ascii_lowercase()];
    let described = &operation["responses"][answer.status.as_str()];
    if described.is_null() {
        return vec![format!("{} is not described", answer.status)];
    }
    if answer.status.is_server_error() {
        return vec![format!("{} with nothing amiss", answer.status)];
    }
    let Some((kind, content)) = described["content"]
        .as_object()
        .and_then(|all| all.iter().next())
    else {
        return if answer.body.is_empty() {
            Vec::new()
        } else {
            vec!["a body where none is described".to_owned()]
        };
    };
    if content_type(answer) != kind {
        return vec![format!("{:?} instead of {kind}", content_type(answer))];
    }
    if kind != "application/json" {
        return Vec::new();
    }
    schema::faults(document, &content["schema"], &answer.json())
}

#[test]
fn every_status_and_body_is_one_that_the_document_describes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = runtime.block_on(Place::new());
    let document = serde_json::to_value(trainyard_web::openapi()).unwrap();
    let tokens = [
        Some(place.admin.as_str()),
        None,
        Some("wrong"),
        Some(place.reader.as_str()),
    ];
    let config = Config {
        cases: REQUESTS,
        failure_persistence: None,
        ..Config::default()
    };
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<u16, u32>::new());
    TestRunner::new(config)
        .run(&asked(&document), |asked| {
            let mut request = request(&asked.method, &asked.path, tokens[asked.token], asked.body);
            request.headers_mut().remove("content-type");
            if !asked.content_type.is_empty() {
                let kind = asked.content_type.parse().unwrap();
                request.headers_mut().insert("content-type", kind);
            }
            let answer = runtime.block_on(place.ask(request));
            *seen.borrow_mut().entry(answer.status.as_u16()).or_default() += 1;
            let undescribed = undescribed(&document, &asked, &answer);
            prop_assert!(
                undescribed.is_empty(),
                "{undescribed:#?}\n{}",
                String::from_utf8_lossy(&answer.body)
            );
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    for status in [200, 400, 401, 403, 404, 415, 422] {
        assert!(
            seen.contains_key(&status),
            "nothing was answered {status}: {seen:?}"
        );
    }
}

/// Arbitrary names seldom reach what the scene has: all of it is read here.
#[tokio::test]
async fn what_the_scene_has_is_as_the_document_describes_it_with_params_of_each_type() {
    let place = Place::with_current_version().await;
    let document = serde_json::to_value(trainyard_web::openapi()).unwrap();
    let body = r#"{"params":{"lr":0.5,"size":3,"tag":"b","verbose":false}}"#;
    let trigger = &document["paths"]["/dags/{repo}/{dag}/runs"]["post"]["requestBody"];
    let trigger = &trigger["content"]["application/json"]["schema"];
    for given in [body, r#"{"params":{"size":"3"}}"#] {
        let given: Value = serde_json::from_str(given).unwrap();
        assert_eq!(schema::faults(&document, trigger, &given), [""; 0]);
    }
    let listed: Value = serde_json::from_str(r#"{"params":{"size":[3]}}"#).unwrap();
    assert!(!schema::faults(&document, trigger, &listed).is_empty());
    let path = "/api/v1/dags/shop/train/runs";
    let started = place.call("POST", path, &place.admin, body).await;
    assert_eq!(started.json()["id"], 2, "{}", started.json());
    sqlx::query(
        "insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
         select d.id, 0, d.current_version, '0 3 * * *', 'UTC', 'none', r.params, null
         from dag d, run r where r.id = 2",
    )
    .execute(&place.raw)
    .await
    .unwrap();
    for (method, route) in routes() {
        if method != "GET" {
            continue;
        }
        let parts = route.split('/').map(|part| match part {
            "{repo}" => "shop",
            "{dag}" => "train",
            "{stage}" => "a",
            part if part.starts_with('{') => "2",
            part => part,
        });
        let asked = Asked {
            path: parts.collect::<Vec<_>>().join("/"),
            route: route.trim_start_matches(trainyard_api::PREFIX).to_owned(),
            method,
            token: 0,
            body: "",
            content_type: "",
        };
        let answer = place.call("GET", &asked.path, &place.admin, "").await;
        let undescribed = undescribed(&document, &asked, &answer);
        assert!(undescribed.is_empty(), "{asked:?}: {undescribed:#?}");
    }
}

#[tokio::test]
async fn what_has_no_route_or_not_that_method_is_answered_as_errors_are() {
    let place = Place::new().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v2/runs", 404),
        ("PATCH", "/api/v1/runs", 405),
        ("OPTIONS", "/api/v1/runs", 405),
        ("TRACE", "/api/v1/runs", 405),
        ("DELETE", "/api/v1/openapi.json", 405),
        ("GET", "/hooks/github/shop", 405),
    ] {
        let answer = place.call(method, path, &place.admin, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(is_error_body(&answer), "{method} {path}");
        assert_eq!(content_type(&answer), "application/json");
    }
    let head = place.call("HEAD", "/api/v1/runs", &place.admin, "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_collection_that_is_asked_for_with_anything_but_its_object_collects_nothing() {
    let place = Place::new().await;
    for body in [
        "[]",
        "[false]",
        "null",
        "{\"dryrun\":true}",
        "\"\"",
        "{\"dry_run\":1}",
    ] {
        let answer = place.call("POST", "/api/v1/gc", &place.admin, body).await;
        assert_eq!(answer.status, 422, "{body}");
        assert!(is_error_body(&answer), "{body}");
    }
}

#[tokio::test]
async fn the_scheme_of_a_token_may_be_written_in_any_case() {
    let place = Place::new().await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let mut asked = request("GET", "/api/v1/runs", None, "");
        let value = format!("{scheme} {}", place.admin).parse().unwrap();
        asked.headers_mut().insert("authorization", value);
        assert_eq!(place.ask(asked).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn a_slip_in_a_query_is_named() {
    let place = Place::new().await;
    let answer = place
        .call("GET", "/api/v1/runs?limt=5", &place.admin, "")
        .await;
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("limt") && message.contains("limit"),
        "{message}"
    );
}
