//! A repo over ssh is taken with a key and the keys of its host, or refused with what to do.

use serde_json::json;

use crate::kit::Place;

#[tokio::test]
async fn a_repo_over_ssh_needs_a_key_and_the_keys_of_its_host() {
    let place = Place::new().await;
    // How an unlocked key of OpenSSH begins; in parts, so that nobody takes it for one.
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
    let (status, said) = add(json!({"ssh_key": "hunter2", "known_hosts": "example.org x y"})).await;
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
