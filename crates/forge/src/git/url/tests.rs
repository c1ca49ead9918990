//! Valid and invalid addresses of remotes.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const ALL: UrlRules = UrlRules {
    allow_file_urls: true,
    allow_loopback: true,
    allow_private: true,
    hosts: Vec::new(),
    allow_open_passwords: false,
};

fn why(text: &str) -> String {
    match RemoteUrl::parse(text, &ALL) {
        Err(Error::InvalidUrl { why, .. }) => why,
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn addresses_are_written_in_one_form() {
    let forms = [
        (
            "https://example.org/team/model.git",
            "https://example.org/team/model.git",
        ),
        (
            " HTTPS://Example.ORG:443/team/model ",
            "https://example.org/team/model",
        ),
        ("http://10.0.0.1:3000/a/b", "http://10.0.0.1:3000/a/b"),
        ("/srv/git/model.git", "file:///srv/git/model.git"),
        ("file:///srv/git/model.git", "file:///srv/git/model.git"),
        ("file://localhost/srv/model.git", "file:///srv/model.git"),
        (
            "/srv/with space:and colon",
            "file:///srv/with%20space:and%20colon",
        ),
    ];
    for (text, form) in forms {
        assert_eq!(RemoteUrl::parse(text, &ALL).unwrap().as_str(), form);
    }
}

#[test]
fn addresses_of_ssh_are_written_in_one_form_and_say_the_path_as_git_does() {
    let forms = [
        (
            "ssh://git@Example.org:22/team/model.git",
            "ssh://git@example.org/team/model.git",
            "/team/model.git",
        ),
        (
            "ssh://example.org:2222/srv/a%20b",
            "ssh://git@example.org:2222/srv/a%20b",
            "/srv/a b",
        ),
        (
            "git@example.org:team/model.git",
            "ssh://git@example.org/~/team/model.git",
            "team/model.git",
        ),
        (
            "ada@10.0.0.1:/srv/model.git",
            "ssh://ada@10.0.0.1/srv/model.git",
            "/srv/model.git",
        ),
        (
            "ssh://ada@example.org/~bob/x",
            "ssh://ada@example.org/~bob/x",
            "~bob/x",
        ),
    ];
    for (text, form, path) in forms {
        let url = RemoteUrl::parse(text, &ALL).unwrap();
        assert_eq!((url.as_str(), url.ssh_path().as_str()), (form, path));
    }
    let url = RemoteUrl::parse("ssh://git@example.org:2222/x", &ALL).unwrap();
    assert_eq!(url.known_host(), "[example.org]:2222");
}

#[test]
fn credentials_are_moved_out_of_the_address() {
    let url = RemoteUrl::parse("https://ada:p%40ss@example.org/model", &ALL).unwrap();
    assert_eq!(url.as_str(), "https://example.org/model");
    let login = url.login().unwrap();
    assert_eq!(login.username, "ada");
    assert_eq!(login.password.expose_secret(), "p@ss");
    assert!(!format!("{url} {url:?}").contains("p@ss"));
}

#[test]
fn what_git_would_take_for_a_command_is_refused() {
    assert!(why("--upload-pack=touch x").contains("dash"));
    assert!(why("-oProxyCommand=touch").contains("dash"));
    assert!(why("ext::sh -c touch% /tmp/x").contains("remote helpers"));
    assert!(why("fd::17/foo").contains("remote helpers"));
    assert!(why("https::https://example.org/x").contains("remote helpers"));
}

#[test]
fn other_transports_are_refused_in_words() {
    assert!(why("ssh://git:geheim@example.org/x").contains("a key, not a password"));
    assert!(why("ssh://-oProxyCommand=x@example.org/x").contains("user name"));
    assert!(why("ssh://git@example.org").contains("no repository"));
    assert!(why("ssh://git@example.org/a%0ab").contains("control"));
    assert!(why("git://example.org/model").contains("https"));
    assert!(why("ftp://example.org/model").contains("\"ftp\""));
    assert!(why("models/churn").contains("absolute path"));
    assert!(why("").contains("empty"));
    assert!(why("https://example.org").contains("no repository"));
    assert!(why("https://example.org/a?token=x").contains('?'));
    assert!(why("file://server/share").contains("three slashes"));
    assert!(why("https://example.org/a\nb").contains("control"));
    assert!(why("https:\\\\example.org\\a").contains("backslash"));
    assert!(why(&format!("/{}", "a".repeat(3000))).contains("longer"));
}

#[test]
fn file_addresses_need_the_operators_leave() {
    let rules = UrlRules::default();
    for text in [
        "/srv/model.git",
        "file:///srv/model.git",
        "FILE:///srv/model.git",
    ] {
        let error = RemoteUrl::parse(text, &rules).unwrap_err();
        assert!(error.to_string().contains("allow_file_urls"), "{error}");
    }
}

#[test]
fn a_refused_address_shows_no_password() {
    for text in [
        "ftp://ada:geheim@example.org/x",
        "https://ada:ge/heim@example.org/x?token=geheim",
        "ada:geheim@example.org:model",
        "https://ada:geheim@[bad/x",
    ] {
        let error = RemoteUrl::parse(text, &ALL).unwrap_err().to_string();
        assert!(
            !error.contains("heim") && !error.contains("token="),
            "{error}"
        );
    }
}

#[test]
fn class_14_addresses_of_the_daemons_own_surroundings_are_refused_in_every_spelling() {
    for text in [
        "http://127.0.0.1:8080/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://0177.0.0.1/x",
        "http://127.1/x",
        "http://127.0.0.1./x",
        "http://LOCALHOST/x",
        "http://localhost./x",
        "http://a.localhost/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[::ffff:a9fe:a9fe]/x",
        "http://169.254.169.254/latest/meta-data",
        "http://good.example@169.254.169.254/x",
        "http://\u{ff11}27.0.0.1/x",
        "http://0/x",
        "http://10.0.0.5/x",
        "ssh://git@127.0.0.1/x",
        "ssh://git@0x7f.1/x",
        "ssh://git@[::1]/x",
        "git@169.254.169.254:x",
        "git@localhost:x",
        "https://192.168.1.1/x",
    ] {
        let error = RemoteUrl::parse(text, &UrlRules::default()).unwrap_err();
        assert!(error.to_string().contains("`git."), "{text}: {error}");
    }
    assert!(RemoteUrl::parse("https://github.com/a/b", &UrlRules::default()).is_ok());
}

#[test]
fn a_password_is_not_sent_without_encryption() {
    let refused = |text: &str, rules: &UrlRules| {
        let url = RemoteUrl::parse(text, rules).unwrap();
        url.refuse_open_password(rules).is_err()
    };
    assert!(refused("http://example.org/x", &ALL));
    assert!(!refused("https://example.org/x", &ALL));
    assert!(!refused("http://127.0.0.1:3000/x", &ALL));
    assert!(!refused("http://localhost/x", &ALL));
    let open = UrlRules {
        allow_open_passwords: true,
        ..ALL
    };
    assert!(!refused("http://example.org/x", &open));
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_taken_is_one_of_ours(text in "[a-z:/@.\\-?# %]{0,40}|.{0,40}") {
        if let Ok(url) = RemoteUrl::parse(&text, &ALL) {
            let form = url.as_str();
            prop_assert!(
                ["https://", "http://", "ssh://", "file:///"].iter().any(|start| form.starts_with(start))
            );
            let again = RemoteUrl::parse(form, &ALL).unwrap();
            prop_assert_eq!(again.as_str(), form);
        }
    }
}
