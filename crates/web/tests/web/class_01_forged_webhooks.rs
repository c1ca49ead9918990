//! A delivery counts only with the signature of its repo's secret, and a forgery learns nothing.

use axum::body::Body;
use axum::http::Request;
use futures_util::stream;

use crate::kit::{Answer, CANARIES, Place, sign};

const BODY: &str = r#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"}"#;

fn delivery(path: &str, signatures: &[&str], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .header("content-type", "application/json")
        .header("x-github-event", "push")
        .header("x-github-delivery", "d-1");
    for signature in signatures {
        request = request.header("x-hub-signature-256", *signature);
    }
    request.body(body.into()).unwrap()
}

async fn deliveries(place: &Place) -> i64 {
    sqlx::query_scalar("select count(*) from delivery")
        .fetch_one(&place.raw)
        .await
        .unwrap()
}

fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}")));
    (
        answer.status.as_u16(),
        headers.collect(),
        answer.body.clone(),
    )
}

#[tokio::test]
async fn class_01_forgeries_make_no_row_and_are_answered_as_an_unknown_repo_is() {
    let place = Place::new().await;
    let good = sign(CANARIES[0], BODY);
    let other = sign("the-secret-of-another-repo", BODY);
    let altered = BODY.replace("main", "mein");
    let hook = "/hooks/github/shop";
    let forgeries = [
        (
            "an unknown repo",
            delivery("/hooks/github/nosuch", &[&good], BODY),
        ),
        (
            "no repo's name",
            delivery("/hooks/github/%2e%2e%2fshop", &[&good], BODY),
        ),
        ("another repo's", delivery(hook, &[&other], BODY)),
        ("none", delivery(hook, &[], BODY)),
        ("empty", delivery(hook, &[""], BODY)),
        ("truncated", delivery(hook, &[&good[..40]], BODY)),
        ("longer", delivery(hook, &[&format!("{good}00")], BODY)),
        (
            "sha1",
            delivery(hook, &[&good.replace("sha256=", "sha1=")], BODY),
        ),
        (
            "bare",
            delivery(hook, &[good.trim_start_matches("sha256=")], BODY),
        ),
        ("doubled", delivery(hook, &[&good, &good], BODY)),
        (
            "doubled with a bad one",
            delivery(hook, &[&other, &good], BODY),
        ),
        ("an altered byte", delivery(hook, &[&good], altered)),
        ("a byte more", delivery(hook, &[&good], format!("{BODY} "))),
        ("an empty body", delivery(hook, &[&good], "")),
        (
            "signed with nothing",
            delivery(hook, &[&sign("", BODY)], BODY),
        ),
        (
            "another forge",
            delivery("/hooks/gitlab/shop", &[&good], BODY),
        ),
    ];
    let mut first = None;
    for (what, forgery) in forgeries {
        let answer = seen(&place.ask(forgery).await);
        assert_eq!(answer.0, 401, "{what}");
        assert_eq!(
            first.get_or_insert_with(|| answer.clone()),
            &answer,
            "{what}"
        );
    }
    assert_eq!(deliveries(&place).await, 0);
    let taken = place.ask(delivery(hook, &[&good], BODY)).await;
    assert_eq!(taken.status, 202);
    assert_eq!(deliveries(&place).await, 1);
}

#[tokio::test]
async fn class_01_what_no_body_can_make_good_is_answered_before_a_body_comes() {
    let place = Place::new().await;
    let good = sign(CANARIES[0], BODY);
    let never = || Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let mut no_delivery = delivery("/hooks/github/shop", &[&good], never());
    let kind = "multipart/form-data".parse().unwrap();
    no_delivery.headers_mut().insert("content-type", kind);
    for (request, status) in [
        (delivery("/hooks/github/shop", &[], never()), 401),
        (delivery("/hooks/github/nosuch", &[], never()), 401),
        (delivery("/hooks/github/shop", &["sha256=zz"], never()), 401),
        (delivery("/hooks/nosuch/shop", &[&good], never()), 401),
        (no_delivery, 415),
    ] {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), place.ask(request));
        assert_eq!(answer.await.unwrap().status, status);
    }
}

#[tokio::test]
async fn class_02_a_delivery_that_is_sent_fifty_times_at_once_is_stored_once() {
    let place = Place::new().await;
    let good = sign(CANARIES[0], BODY);
    let all = (0..50).map(|_| place.ask(delivery("/hooks/github/shop", &[&good], BODY)));
    let answers = futures_util::future::join_all(all).await;
    let stored = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(stored, 1);
    assert!(answers.iter().all(|answer| answer.status.is_success()));
    assert_eq!(deliveries(&place).await, 1);
}

#[tokio::test]
async fn the_delivery_of_a_tag_says_why_it_starts_nothing() {
    let place = Place::new().await;
    let body = BODY.replace("refs/heads/main", "refs/tags/v1");
    let signature = sign(CANARIES[0], &body);
    let answer = place
        .ask(delivery("/hooks/github/shop", &[&signature], body))
        .await;
    assert_eq!(answer.status, 202);
    let result: String = sqlx::query_scalar("select result from delivery")
        .fetch_one(&place.raw)
        .await
        .unwrap();
    assert_eq!(
        result,
        "nothing to do: tags start no runs; `trainyard dag trigger DAG --ref TAG` starts one"
    );
}
