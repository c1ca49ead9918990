//! Finding the daemon, and not finding it.

use std::os::unix::fs::PermissionsExt;

use trainyard_daemon::known_folders::KnownFolders;

use crate::binary::Place;
use crate::daemon::{Daemon, TOKEN};

#[test]
fn where_no_daemon_answers_it_is_exit_code_3_with_the_address() {
    let place = Place::new();
    let variables = [
        ("TRAINYARD_URL", "http://127.0.0.1:1"),
        ("TRAINYARD_TOKEN", "x"),
    ];
    let answer = place.call_with("", &variables, &["run", "list"]);
    assert_eq!(answer.code, Some(3));
    assert!(
        answer.stderr.contains("http://127.0.0.1:1") && answer.stderr.contains("trainyard dev"),
        "{answer:?}"
    );
}

#[test]
fn where_none_is_known_it_says_how_to_start_one() {
    let answer = Place::new().call(&["run", "list"]);
    assert_eq!(answer.code, Some(3));
    assert!(
        answer.stderr.contains("trainyard dev") && answer.stderr.contains("TRAINYARD_URL"),
        "{answer:?}"
    );
}

#[test]
fn a_refusal_is_exit_code_3_in_the_daemons_words() {
    let daemon = Daemon::new(|_, _, _| {
        (
            401,
            r#"{"code":"unauthorized","message":"the token is not known","help":"make one"}"#
                .into(),
        )
    });
    insta::assert_snapshot!(daemon.call(&["run", "list"]).whole(), @"
    exit code 3
    --- stdout
    --- stderr
    error: the token is not known
    help: make one
    ");
}

#[test]
fn the_address_and_the_token_are_found_in_the_data_folder() {
    let daemon = Daemon::new(|_, _, _| (200, r#"{"items":[]}"#.into()));
    let place = Place::new();
    plant(&place, &daemon);
    KnownFolders::at(Some(place.path(".config/trainyard/data-folders")))
        .note(&place.path(".trainyard"))
        .unwrap();
    let answer = place.call(&["repo", "list"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(daemon.asked()[0].authorization, format!("Bearer {TOKEN}"));
}

/// A data folder with the address of `daemon`, as a checkout could bring one along.
fn plant(place: &Place, daemon: &Daemon) {
    let endpoint = format!(r#"{{"url":"{}","pid":1}}"#, daemon.url());
    place.write(".trainyard/endpoint.json", &endpoint);
    place.write(".trainyard/token", &format!("{TOKEN}\n"));
    for (path, mode) in [
        (".trainyard", 0o700),
        (".trainyard/endpoint.json", 0o600),
        (".trainyard/token", 0o600),
    ] {
        std::fs::set_permissions(place.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_checkout_does_not_say_where_secrets_and_tokens_go() {
    let daemon = Daemon::new(|_, _, _| (204, String::new()));
    let place = Place::new();
    plant(&place, &daemon);
    let mine = [("TRAINYARD_TOKEN", "trainyard_mine")];
    let relative = [("TRAINYARD_DATA_DIR", ".trainyard")];
    let both = [mine[0], relative[0]];
    let set = ["secret", "set", "KEY", "--repo", "churn"];
    let list = ["repo", "list"];
    type Call<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let calls: [Call<'_>; 6] = [
        (&[], &set),
        (&mine, &list),
        (&relative, &set),
        (&both, &list),
        (&[], &["repo", "list", "--data-dir", ".trainyard"]),
        (&mine, &["doctor", "--check"]),
    ];
    for (variables, arguments) in calls {
        let answer = place.call_with("value\n", variables, arguments);
        assert_eq!(answer.code, Some(3), "{arguments:?}: {answer:?}");
        assert!(
            answer
                .stderr
                .contains("not made by `trainyard dev` of this user"),
            "{answer:?}"
        );
    }
    assert!(daemon.asked().is_empty(), "{:?}", daemon.asked());
}

#[test]
fn the_token_is_never_printed() {
    let daemon = Daemon::new(|_, _, _| (500, "oh".into()));
    let place = Place::new();
    let url = daemon.url();
    let calls = [
        place.call(&["run", "list", "--url", &url, "--token", TOKEN]),
        place.call(&[
            "run",
            "list",
            "--url",
            "http://127.0.0.1:1",
            "--token",
            TOKEN,
        ]),
        place.call(&[
            "run",
            "list",
            "--url",
            &url,
            "--token",
            &format!("{TOKEN}\n"),
        ]),
        place.call_with(
            "",
            &[("TRAINYARD_TOKEN", TOKEN)],
            &["run", "list", "--help"],
        ),
        place.call_with(
            "",
            &[("TRAINYARD_TOKEN", TOKEN)],
            &["run", "list", "--nonsense"],
        ),
    ];
    for answer in calls {
        let all = format!("{}{}", answer.stdout, answer.stderr);
        assert!(!all.contains("canary"), "{all}");
    }
}
