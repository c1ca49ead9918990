//! DAGs, requested by name.

use std::time::Duration;

use serde_json::json;

use crate::kit::Place;

impl Place {
    /// A place whose DAG is on the followed branch.
    pub(crate) async fn with_current_version() -> Self {
        let place = Self::new().await;
        sqlx::query("update dag set current_version = (select id from dag_version)")
            .execute(&place.raw)
            .await
            .unwrap();
        place
    }
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_one_that_was_meant() {
    let place = Place::new().await;
    for (path, message, help) in [
        (
            "/dags/-/trian",
            "there is no DAG `trian`",
            "did you mean `train`?",
        ),
        (
            "/dags/shp/train",
            "there is no DAG `shp/train`",
            "did you mean `shop/train`?",
        ),
        (
            "/dags/-/other",
            "there is no DAG `other`",
            "`trainyard dag list` lists the DAGs",
        ),
        (
            "/runs?dag=trian",
            "there is no DAG `trian`",
            "did you mean `train`?",
        ),
        (
            "/runs?repo=shpo",
            "there is no repo `shpo`",
            "did you mean `shop`?",
        ),
        (
            "/repos/shpo",
            "there is no repo `shpo`",
            "did you mean `shop`?",
        ),
    ] {
        let path = format!("/api/v1{path}");
        let answer = place.call("GET", &path, &place.admin, "").await;
        assert_eq!(answer.status, 404, "{path}");
        let expected = json!({"code": "not_found", "message": message, "help": help});
        assert_eq!(answer.json(), expected, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_secret_or_token_is_answered_with_the_one_that_was_meant() {
    let place = Place::new().await;
    for (path, help) in [
        ("/repos/shop/secrets/API_KAY", "did you mean `API_KEY`?"),
        (
            "/repos/shop/secrets/OTHER",
            "`trainyard secret list --repo shop` lists them",
        ),
        ("/tokens/raeder", "did you mean `reader`?"),
    ] {
        let path = format!("/api/v1{path}");
        let answer = place.call("DELETE", &path, &place.admin, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["help"], help, "{path}");
    }
}

#[tokio::test]
async fn a_run_that_has_to_wait_is_answered_with_what_it_waits_for() {
    let place = Place::with_current_version().await;
    let path = "/api/v1/dags/-/train/runs";
    let answer = place.call("POST", path, &place.admin, "{}").await;
    let why = "run 1 of the same DAG has to end first (concurrency limit 1)";
    let started = answer.json();
    assert_eq!(
        (&started["id"], &started["existed"], &started["state"]),
        (&json!(2), &json!(false), &json!("queued")),
        "{started}"
    );
    assert_eq!(started["why"], why);
}

#[tokio::test]
async fn a_dag_is_answered_with_its_pushes_bounds_gates_and_limit() {
    let place = Place::with_current_version().await;
    let answer = place
        .call("GET", "/api/v1/dags/-/train", &place.admin, "")
        .await;
    let dag = answer.json();
    assert_eq!(
        dag["push"],
        json!({"branches": ["main"], "paths": ["src/**"]})
    );
    assert_eq!(dag["concurrency"], json!({"limit": 1, "overlap": "queue"}));
    assert_eq!(dag["params"][0]["minimum"], json!(0.01));
    assert_eq!(
        dag["stages"][0]["gate"],
        json!([{"metric": "auc", "min": 0.5}])
    );
}

#[tokio::test]
async fn runs_are_listed_by_repo_states_and_moment() {
    let place = Place::new().await;
    let count = async |query: &str| {
        let path = format!("/api/v1/runs?{query}");
        let answer = place.call("GET", &path, &place.admin, "").await;
        answer.json()["items"].as_array().map(Vec::len)
    };
    assert_eq!(count("repo=shop&state=running,queued").await, Some(1));
    assert_eq!(
        count("branch=main&commit=c0ffee&since=2020-01-01T00:00:00Z").await,
        Some(1)
    );
    assert_eq!(count("since=-200000-01-01T00:00:00Z").await, Some(1));
    assert_eq!(count("commit=c0ffef").await, Some(0));
    assert_eq!(count("commit=C0FFEE").await, Some(1));
    assert_eq!(count("state=running,sleeping").await, None);
}

#[tokio::test]
async fn a_branch_by_its_full_reference_is_refused_with_its_name() {
    let place = Place::new().await;
    let message = "it starts with `refs/heads/`, and branches are named without it; write `main`";
    let secret = r#"{"value":"abcd","branches":["refs/heads/main"]}"#;
    let new = r#"{"name":"n","url":"https://example.org/n.git","branch":"refs/heads/main"}"#;
    for (method, path, body) in [
        ("PUT", "/repos/shop/secrets/KEY", secret),
        ("PATCH", "/repos/shop", r#"{"branch":"refs/heads/main"}"#),
        ("POST", "/repos", new),
        ("GET", "/runs?branch=refs%2Fheads%2Fmain", ""),
    ] {
        let path = format!("/api/v1{path}");
        let answer = place.call(method, &path, &place.admin, body).await;
        assert_eq!(answer.status, 422, "{path}");
        let refused = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(refused.ends_with(message), "{path}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_20_ticks_of_many_rare_schedules_are_answered_in_order_and_soon() {
    let place = Place::with_current_version().await;
    sqlx::query(
        "insert into schedule (dag, position, dag_version, cron, timezone, missed, params, next_tick)
         select d.id, n, d.current_version, n || ' 0 29 2 */7', 'America/New_York', 'none', '{}',
            '2032-02-29 05:00+00'::timestamptz + make_interval(mins => n)
         from dag d, generate_series(0, 49) n",
    )
    .execute(&place.raw)
    .await
    .unwrap();
    let path = "/api/v1/dags/shop/train/ticks?count=1000";
    let asking = (0..4).map(|_| place.call("GET", path, &place.reader, ""));
    let asking = futures_util::future::join_all(asking);
    // Each of the 50,000 ticks that are not among the first thousand would cost a search, too.
    let answers = tokio::time::timeout(Duration::from_secs(60), asking).await;
    for answer in answers.unwrap() {
        assert_eq!(answer.status, 200);
        let listing = answer.json();
        let ticks = listing["items"].as_array().unwrap();
        let is_cut = listing["more"] == json!(true);
        assert!(ticks.len() == 1000 || is_cut, "{}", ticks.len());
        let cron = |place: usize| ticks[place]["cron"].as_str().unwrap();
        assert_eq!(cron(0), "0 0 29 2 */7");
        assert_eq!(cron(49), "49 0 29 2 */7");
        assert_eq!(cron(50), "0 0 29 2 */7", "28 years later");
    }
}
