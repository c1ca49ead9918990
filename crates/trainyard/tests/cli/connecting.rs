//! Finding the daemon, and not finding it.

use std::io::{Read, Write};
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
fn an_address_that_cannot_be_one_is_exit_code_2_with_the_one_that_was_meant() {
    let call = |url| Place::new().call(&["run", "list", "--url", url, "--token", "x"]);
    insta::assert_snapshot!(call("127.0.0.1:8491").whole(), @"
    exit code 2
    --- stdout
    --- stderr
    error: invalid daemon address `127.0.0.1:8491`: expected http://HOST:PORT or https://HOST
    help: did you mean `http://127.0.0.1:8491`?
    ");
    for url in ["localhost:8491", "ftp://localhost", "http://", ""] {
        let answer = call(url);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(
            answer.stderr.contains("invalid daemon address"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_daemon_that_speaks_http_is_named_with_its_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut hello = [0; 64];
        let _ = connection.read(&mut hello).unwrap();
        connection
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let url = format!("https://{address}");
    let answer = Place::new().call(&["run", "list", "--url", &url, "--token", "x"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let meant = format!("it does not speak TLS there; write http://{address}");
    assert!(answer.stderr.contains(&meant), "{answer:?}");
    server.join().unwrap();
}

#[test]
fn an_empty_variable_counts_as_one_that_is_not_set() {
    let daemon = Daemon::new(|_, _, _| (200, r#"{"items":[]}"#.into()));
    let place = Place::new();
    let (url, empty) = (daemon.url(), ("TRAINYARD_DATA_DIR", ""));
    let given = [
        ("TRAINYARD_URL", url.as_str()),
        ("TRAINYARD_TOKEN", "x"),
        empty,
    ];
    let answer = place.call_with("", &given, &["run", "list"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let empty = [("TRAINYARD_URL", ""), ("TRAINYARD_TOKEN", ""), empty];
    let answer = place.call_with("", &empty, &["run", "list"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.stderr.contains("no daemon is known here"),
        "{answer:?}"
    );
}

#[test]
fn a_usage_line_has_nothing_that_a_variable_gave() {
    let given = [
        ("TRAINYARD_DATA_DIR", "/data"),
        ("DOCKER_HOST", "unix:///x"),
    ];
    let show = Place::new().call_with("", &given, &["run", "show"]);
    assert!(
        show.stderr.contains("\nUsage: trainyard run show <RUN>\n"),
        "{show:?}"
    );
    let exec = Place::new().call_with("", &given, &["exec"]);
    assert!(
        exec.stderr.contains("\nUsage: trainyard exec <FILE>\n"),
        "{exec:?}"
    );
}

#[test]
fn status_shows_which_daemon_is_used_why_and_its_state() {
    let daemon = Daemon::new(|_, what, query| {
        let text = match what {
            "GET /readyz" => r#"{"state":"degraded","reasons":["Docker does not answer"]}"#,
            "GET /daemon" => {
                r#"{"version":"0.0.1","instance":"i","url":"http://x","slots":4,"pools":{"gpu":2}}"#
            }
            "GET /daemons" => r#"{"items":[]}"#,
            "GET /runs" if query.contains("state=running%2Cqueued") => r#"{"items":[]}"#,
            _ => return (404, String::new()),
        };
        (200, text.to_owned())
    });
    let answer = daemon.call(&["status"]);
    let said = answer.whole().replace(&daemon.url(), "http://127.0.0.1:1");
    insta::assert_snapshot!(said);
}

#[test]
fn status_of_a_daemon_that_does_not_answer_is_exit_code_3_and_says_why_it_was_asked() {
    let answer = Place::new().call(&["status", "--url", "http://127.0.0.1:1", "--token", "x"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.stderr.contains("--url or TRAINYARD_URL"),
        "{answer:?}"
    );
    let unready = |_: usize, _: &str, _: &str| {
        let text = r#"{"state":"unready","reasons":["the database does not answer"]}"#;
        (503, text.to_owned())
    };
    let answer = Daemon::new(unready).call(&["status"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.stdout.contains("the database does not answer"),
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
    help: give a valid token in TRAINYARD_TOKEN or with --token, or name the data folder of the daemon with --data-dir; `trainyard token create` makes a token
    ");
}

#[test]
fn what_the_daemon_finds_invalid_is_exit_code_2_as_what_clap_finds() {
    let daemon = Daemon::new(|_, _, _| {
        let body = r#"{"code":"invalid","message":"`n` is not an integer: `abc`"}"#;
        (422, body.into())
    });
    let answer = daemon.call(&["dag", "trigger", "train", "-p", "n=abc"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("is not an integer"), "{answer:?}");
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

/// A data folder with the address of `daemon`, as a checkout could contain one.
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
