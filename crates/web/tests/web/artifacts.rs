//! Artifacts, whose content is in the artifact store.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, ETAG};
use sha2::{Digest as _, Sha256};

use crate::kit::Place;

#[tokio::test]
async fn content_is_sent_whole_or_not_at_all() {
    let place = Place::new().await;
    let sha256 = hex::encode(Sha256::digest("model"));
    let rows = [
        "insert into blob values ($1, 5)",
        "insert into artifact values (1, 0, 'model', gen_random_uuid(), 'file', $1, now())",
    ];
    for row in rows {
        let insert = sqlx::query(row).bind(&sha256).execute(&place.raw);
        insert.await.unwrap();
    }
    let get = async |path: &str| place.call("GET", path, &place.reader, "").await;
    let download = "/api/v1/runs/1/artifacts/a/model";
    assert_eq!(get(download).await.status, StatusCode::NOT_FOUND);

    let folder = place.folder.path().join("artifacts");
    let folder = folder.join(&sha256[..2]).join(&sha256[2..4]);
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(&sha256);
    std::fs::write(&file, "model").unwrap();
    let sent = get(download).await;
    assert_eq!(sent.status, StatusCode::OK);
    assert_eq!(sent.body, b"model");
    assert_eq!(sent.headers[CONTENT_LENGTH], "5");
    assert_eq!(sent.headers[ETAG], format!("\"{sha256}\""));
    let violations = get("/api/v1/violations").await.json();
    assert_eq!(violations["items"].as_array().unwrap().len(), 0);

    std::fs::write(&file, "mod").unwrap();
    assert_eq!(get(download).await.status, StatusCode::NOT_FOUND);
    let violations = get("/api/v1/violations").await.json();
    assert_eq!(violations["items"][0]["invariant"], "blobs-are-stored");
}
