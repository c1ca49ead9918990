//! Secrets are read from standard input and never from the command line, and are printed once or never.

use serde_json::{Value, json};

use crate::daemon::Daemon;

#[test]
fn a_secret_is_read_from_standard_input_and_of_one_line_without_its_line_break() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    for (input, value) in [
        ("s3cret\n", "s3cret"),
        ("s3cret", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        (
            "-----BEGIN\ns3cret\n-----END\n",
            "-----BEGIN\ns3cret\n-----END\n",
        ),
        ("two\r\nlines\r\n", "two\r\nlines\r\n"),
    ] {
        let answer = daemon.call_with(input, &["secret", "set", "DSN", "--repo", "model"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(!answer.whole().contains("s3cret"));
        let asked = daemon.asked().pop().unwrap();
        assert_eq!(asked.what, "PUT /repos/model/secrets/DSN");
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body["value"], value);
    }
}

#[test]
fn the_branches_of_a_secret_are_sent_only_where_they_are_given() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    let set = ["secret", "set", "DSN", "--repo", "model"];
    let answer = daemon.call_with("s3cret", &set);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let with = [&set[..], &["--branch", "main", "--branch", "release/*"]].concat();
    let answer = daemon.call_with("s3cret", &with);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let bodies: Vec<Value> = daemon
        .asked()
        .iter()
        .map(|asked| serde_json::from_str(&asked.body).unwrap())
        .collect();
    assert_eq!(bodies[0].get("branches"), None);
    assert_eq!(bodies[1]["branches"], json!(["main", "release/*"]));
}

#[test]
fn parts_of_a_secret_that_cannot_be_redacted_are_reported_when_it_is_set() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    for (value, is_reported) in [
        ("q7z", true),
        (" ab ", true),
        ("long enough\nabc\n", true),
        ("q7zx", false),
        ("long enough\n\nand more\n", false),
    ] {
        let answer = daemon.call_with(value, &["secret", "set", "PIN", "--repo", "model"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(
            answer.stderr.contains("cannot be redacted"),
            is_reported,
            "{value:?}: {answer:?}"
        );
        assert!(!answer.whole().contains(value.trim()), "{answer:?}");
    }
}

#[test]
fn parts_of_a_json_secret_that_are_not_redacted_are_named_when_it_is_set() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    let set = ["secret", "set", "KEY", "--repo", "model"];
    let value = r#"{"user": "svc", "mode": "fast", "password": "hush", "id": "a1b2c3"}"#;
    insta::assert_snapshot!(daemon.call_with(value, &set).stderr, @"KEY: its JSON values of `mode`, `user` are short or ordinary words, and are not redacted if a stage prints them by themselves");
    let large = daemon.call_with(&"k".repeat(50_000), &set);
    insta::assert_snapshot!(large.stderr, @"KEY: it is so large that its base64 and hex forms are only partly redacted; its plain text is redacted");
}

#[test]
fn a_secret_cannot_be_given_on_the_command_line() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    let answer = daemon.call(&["secret", "set", "DSN", "s3cret", "--repo", "model"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    let answer = daemon.call(&["secret", "set", "DSN", "--repo", "model"]);
    assert_eq!(answer.code, Some(2), "an empty one is none: {answer:?}");
    assert!(daemon.asked().is_empty());
}

#[test]
fn a_new_token_stands_alone_on_standard_output() {
    let made = json!({
        "id": "01a2", "name": "ci", "created_at": "2026-11-23T15:00:00Z", "last_used_at": null,
        "revoked_at": null, "secret": "trainyard_1234",
    });
    let daemon = Daemon::with("POST /tokens", made.to_string());
    insta::assert_snapshot!(daemon.call(&["token", "create", "ci"]).whole(), @"
    exit code 0
    --- stdout
    trainyard_1234
    --- stderr
    the token of ci; it is not shown again:
    ");
}
