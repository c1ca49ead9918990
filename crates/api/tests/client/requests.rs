//! The client sends requests as the table of routes says, and distinguishes answers from errors.

use futures_util::StreamExt;
use trainyard_api::{Client, ClientError, RetryRequest, RunSelection, SecretValue, Trigger};

use crate::server::{Server, TOKEN, json, status};

#[tokio::test]
async fn every_request_carries_the_token_and_goes_below_the_prefix() {
    let server = Server::new(|_, _| json(r#"{"items":[]}"#)).await;
    let listing = server.client().repos().await.unwrap();
    assert!(listing.items.is_empty() && !listing.more);
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("GET", "/api/v1/repos")
    );
    assert_eq!(asked.authorization, format!("Bearer {TOKEN}"));
}

#[tokio::test]
async fn names_from_outside_stay_one_part_of_the_path() {
    let server = Server::new(|_, _| status(204, "")).await;
    let client = server.client();
    client.remove_repo("../tokens/x?y#z").await.unwrap();
    let value = SecretValue {
        value: "v".to_owned(),
        branches: None,
    };
    client.set_secret("a b", "ö", &value).await.unwrap();
    assert_eq!(
        server.targets(),
        [
            "/api/v1/repos/%2E%2E%2Ftokens%2Fx%3Fy%23z",
            "/api/v1/repos/a%20b/secrets/%C3%B6",
        ]
    );
}

#[tokio::test]
async fn a_dag_without_a_repo_is_left_to_the_daemon() {
    let server = Server::new(|_, _| json(r#"{"id":7,"existed":false}"#)).await;
    let client = server.client();
    let trigger = Trigger::default();
    assert_eq!(client.trigger("churn", &trigger).await.unwrap().id, 7);
    let _ = client.trigger("model/churn", &trigger).await.unwrap();
    let _ = client.retry(7, &RetryRequest::default()).await.unwrap();
    assert_eq!(
        server.targets(),
        [
            "/api/v1/dags/-/churn/runs",
            "/api/v1/dags/model/churn/runs",
            "/api/v1/runs/7/retry"
        ]
    );
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_in_the_query() {
    let server = Server::new(|_, _| json(r#"{"items":[]}"#)).await;
    let client = server.client();
    let _ = client.runs(&RunSelection::default()).await.unwrap();
    let some = RunSelection {
        dag: Some("a/b".to_owned()),
        states: vec!["failed".to_owned()],
        before: Some(9),
        limit: Some(2),
        ..RunSelection::default()
    };
    let _ = client.runs(&some).await.unwrap();
    assert_eq!(
        server.targets(),
        [
            "/api/v1/runs",
            "/api/v1/runs?dag=a%2Fb&state=failed&before=9&limit=2"
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_reported_in_the_daemons_words() {
    let server = Server::new(|_, _| {
        status(
            404,
            r#"{"code":"not_found","message":"run 4711","help":"look"}"#,
        )
    })
    .await;
    let error = server.client().run(4711).await.unwrap_err();
    let ClientError::Refused { status, body } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*status, body.code.as_str()), (404, "not_found"));
    assert_eq!(body.help.as_deref(), Some("look"));
    assert_eq!(error.to_string(), "run 4711");
}

#[tokio::test]
async fn an_answer_of_another_program_is_reported_as_such() {
    let server = Server::new(|place, _| match place {
        0 => status(404, "<html>nginx</html>"),
        1 => json("<html>hello</html>"),
        _ => status(302, ""),
    })
    .await;
    let client = server.client();
    let error = client.run(1).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { body, .. } if body.help.is_some()),
        "{error:?}"
    );
    let error = client.run(1).await.unwrap_err();
    assert!(
        matches!(error, ClientError::NotUnderstood { .. }),
        "{error:?}"
    );
    let error = client.run(1).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Refused { status: 302, .. }),
        "a redirect is not followed, the token would go along: {error:?}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_reported_with_the_address_and_the_systems_words() {
    let client = Client::new("http://127.0.0.1:1", TOKEN).unwrap();
    let error = client.repos().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("http://127.0.0.1:1") && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn the_token_is_in_no_text_of_the_client() {
    let client = Client::new("http://127.0.0.1:1", TOKEN).unwrap();
    let error = client.repos().await.unwrap_err();
    let bad = Client::new("http://127.0.0.1:1", "trainyard_canary\n").unwrap_err();
    for text in [
        format!("{client:?}"),
        format!("{error} {error:?}"),
        format!("{bad} {bad:?}"),
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn a_download_comes_in_pieces_and_whole() {
    let content = "0123456789".repeat(50_000);
    let sent = content.clone();
    let server = Server::new(move |_, _| json(&sent)).await;
    let mut pieces = server.client().download(3, "train", "model").await.unwrap();
    let mut received = Vec::new();
    while let Some(piece) = pieces.next().await {
        received.extend_from_slice(&piece.unwrap());
    }
    assert!(received == content.as_bytes());
    assert_eq!(server.targets(), ["/api/v1/runs/3/artifacts/train/model"]);
}
