//! A repo over ssh needs a private key and the keys of its host; an error says how to give them.

use serde_json::json;

use crate::kit::Place;

const HOST: &str =
    "example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

#[tokio::test]
async fn a_repo_over_ssh_needs_a_key_and_the_keys_of_its_host() {
    let place = Place::new().await;
    // The head of an unencrypted OpenSSH key; in parts, so that scanners do not report it as a key.
    let kind = "PRIVATE KEY";
    let head = format!("-----BEGIN OPENSSH {kind}-----");
    let key = format!("{head}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAA\n");
    let add = async |more: serde_json::Value| {
        let mut body = json!({"name": "deep", "url": "git@example.org:team/model.git"});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let body = body.to_string();
        let answer = place
            .call("POST", "/api/v1/repos", &place.admin, &body)
            .await;
        (answer.status.as_u16(), answer.json().to_string())
    };
    let (status, said) = add(json!({})).await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains("ssh-keygen") && said.contains("--ssh-key"),
        "{said}"
    );
    let (status, said) = add(json!({"ssh_key": key})).await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("ssh-keyscan -p 22 example.org"), "{said}");
    let (status, said) = add(json!({"ssh_key": "hunter2", "known_hosts": HOST})).await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains("private key") && !said.contains("hunter2"),
        "{said}"
    );
    let (status, said) = add(json!({"password": "hunter2"})).await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains("ssh takes a key") && !said.contains("hunter2"),
        "{said}"
    );

    let (status, said) = add(json!({"ssh_key": key, "known_hosts": "example.org x y"})).await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("known hosts, line 1"), "{said}");

    let (status, said) = add(json!({"ssh_key": key, "known_hosts": HOST})).await;
    assert_eq!(status, 201, "{said}");
    assert!(
        said.contains("ssh://git@example.org/~/team/model.git"),
        "{said}"
    );
    assert!(
        said.contains("\"has_credentials\":true") && !said.contains("b3Bl"),
        "{said}"
    );
}

#[tokio::test]
async fn a_key_and_the_keys_of_its_host_are_changed_each_alone() {
    let place = Place::new().await;
    let kind = "PRIVATE KEY";
    let head = format!("-----BEGIN OPENSSH {kind}-----");
    let key = |end: &str| format!("{head}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAA{end}\n");
    let call = async |method: &str, path: &str, body: serde_json::Value| {
        let path = format!("/api/v1{path}");
        let answer = place
            .call(method, &path, &place.admin, &body.to_string())
            .await;
        (answer.status.as_u16(), answer.json().to_string())
    };
    let url = "git@example.org:team/model.git";
    let new = json!({"name": "deep", "url": url, "ssh_key": key("one"), "known_hosts": HOST});
    let (status, said) = call("POST", "/repos", new).await;
    assert_eq!(status, 201, "{said}");
    let set = async |body| call("PATCH", "/repos/deep", body).await;
    for change in [
        json!({"ssh_key": key("two")}),
        json!({"known_hosts": format!("{HOST} renewed")}),
        json!({"url": "git@example.org:team/moved.git", "ssh_key": key("three")}),
    ] {
        let (status, said) = set(change.clone()).await;
        assert_eq!(status, 200, "{change}: {said}");
    }
    let (status, said) = set(json!({"known_hosts": "example.org"})).await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("known hosts, line 1"), "{said}");
    // A part of credentials of another kind does not complete these.
    let (status, said) = set(json!({"password": "hunter2"})).await;
    assert_eq!(status, 422, "{said}");
    let (status, said) =
        set(json!({"url": "https://example.org/team/model.git", "username": "bot"})).await;
    assert_eq!(status, 422, "{said}");
}

#[tokio::test]
async fn class_13_a_kept_part_of_credentials_does_not_follow_a_repo_to_another_host() {
    let place = Place::new().await;
    for change in [
        json!({"url": "https://elsewhere.example.org/shop.git", "username": "bot"}),
        json!({"url": "http://example.org/shop.git", "username": "bot"}),
    ] {
        let path = "/api/v1/repos/shop";
        let body = change.to_string();
        let answer = place.call("PATCH", path, &place.admin, &body).await;
        assert_eq!(answer.status, 422, "{change}");
        let said = answer.json().to_string();
        assert!(said.contains("a user name needs a password"), "{said}");
    }
}
