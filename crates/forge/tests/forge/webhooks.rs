//! Only deliveries that a forge signed are read, and reading them never does harm.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;
use trainyard_forge::CommitSha;
use trainyard_forge::webhook::{
    Delivery, Malformed, Provider, Push, Pushed, Rejected, WebhookEvent,
};

const ZERO: &str = "0000000000000000000000000000000000000000";

fn secret() -> SecretString {
    SecretString::from("a webhook secret".to_owned())
}

fn headers(event: &str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-github-event", event),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-hub-signature-256", signature),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn signed(event: &str, body: &[u8]) -> HeaderMap {
    headers(event, &Provider::GitHub.sign(&secret(), body).1)
}

fn parse(event: &str, body: &[u8]) -> Result<Delivery, Malformed> {
    Provider::GitHub
        .verify(&secret(), &signed(event, body), body)
        .unwrap()
        .parse()
}

fn is_rejected(headers: &HeaderMap, body: &[u8]) -> bool {
    Provider::GitHub.verify(&secret(), headers, body).err() == Some(Rejected)
}

fn push(reference: &str, before: &str, after: &str) -> Vec<u8> {
    json!({
        "ref": reference, "before": before, "after": after,
        "created": false, "deleted": after == ZERO, "forced": false,
        "pusher": {"name": "ada", "email": "ada@example.org"},
        "repository": {"full_name": "team/model", "private": true},
        "commits": [{"id": after, "message": "Fix", "added": [], "modified": ["a"]}],
    })
    .to_string()
    .into_bytes()
}

fn commit(digit: &str) -> CommitSha {
    CommitSha::new(&digit.repeat(40)).unwrap()
}

fn pushed(body: &[u8]) -> Push {
    match parse("push", body).unwrap().event {
        WebhookEvent::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_signature_is_the_one_that_github_documents() {
    let secret = SecretString::from("It's a Secret to Everybody".to_owned());
    let (name, value) = Provider::GitHub.sign(&secret, b"Hello, World!");
    assert_eq!(name, "x-hub-signature-256");
    assert_eq!(
        value,
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
}

#[test]
fn a_push_has_its_branch_ends_and_pusher() {
    let body = push("refs/heads/release/1", &"a".repeat(40), &"b".repeat(40));
    let delivery = parse("push", &body).unwrap();
    assert_eq!(delivery.id, "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    let expected = Push {
        reference: Pushed::Branch("release/1".to_owned()),
        before: Some(commit("a")),
        after: Some(commit("b")),
        pusher: Some("ada".to_owned()),
    };
    assert_eq!(delivery.event, WebhookEvent::Push(expected));
}

#[test]
fn a_new_branch_has_no_before_and_a_deleted_one_no_after() {
    let new = pushed(&push("refs/heads/main", ZERO, &"b".repeat(40)));
    assert_eq!((new.before, new.after), (None, Some(commit("b"))));
    let deleted = pushed(&push("refs/heads/main", &"a".repeat(40), ZERO));
    assert_eq!((deleted.before, deleted.after), (Some(commit("a")), None));
}

#[test]
fn a_tag_is_not_read_as_a_branch() {
    let tag = pushed(&push("refs/tags/v1", ZERO, &"b".repeat(40)));
    assert_eq!(tag.reference, Pushed::Tag("v1".to_owned()));
    let other = parse("push", &push("refs/notes/x", ZERO, &"b".repeat(40))).unwrap();
    assert!(matches!(other.event, WebhookEvent::Other(_)));
}

#[test]
fn other_events_are_known_by_name_whatever_they_hold() {
    assert_eq!(
        parse("ping", b"{\"zen\": \"x\"}").unwrap().event,
        WebhookEvent::Ping
    );
    let other = parse("workflow_job", b"not even json").unwrap().event;
    assert_eq!(other, WebhookEvent::Other("workflow_job".to_owned()));
}

#[test]
fn a_hook_that_sends_forms_is_understood() {
    let json = String::from_utf8(push("refs/heads/main", ZERO, &"b".repeat(40))).unwrap();
    let body: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &json)
        .finish();
    let mut headers = signed("push", body.as_bytes());
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let delivery = Provider::GitHub
        .verify(&secret(), &headers, body.as_bytes())
        .unwrap()
        .parse();
    assert!(matches!(delivery.unwrap().event, WebhookEvent::Push(_)));
}

#[test]
fn every_delivery_without_a_valid_signature_gets_one_answer() {
    let body = push("refs/heads/main", ZERO, &"b".repeat(40));
    let good = Provider::GitHub.sign(&secret(), &body).1;
    let other = SecretString::from("another secret".to_owned());
    let wrong = [
        String::new(),
        "sha256=".to_owned(),
        good[..40].to_owned(),
        good[..good.len() - 2].to_owned(),
        format!("{good}00"),
        good.replace("sha256=", ""),
        good.replace("sha256=", "sha1="),
        format!("sha256={}", "0".repeat(64)),
        format!("sha256={}", "zz".repeat(32)),
        Provider::GitHub.sign(&other, &body).1,
    ];
    for signature in wrong {
        assert!(
            is_rejected(&headers("push", &signature), &body),
            "{signature}"
        );
    }
    assert!(!is_rejected(&headers("push", &good), &body));
    assert!(
        is_rejected(&headers("push", &good), &body[1..]),
        "another body"
    );
    let mut old = headers("push", &good);
    let value = old.remove("x-hub-signature-256").unwrap();
    assert!(is_rejected(&old, &body), "unsigned");
    old.insert("x-hub-signature", value.clone());
    assert!(is_rejected(&old, &body), "the older header");
    let mut twice = headers("push", &good);
    twice.append("x-hub-signature-256", value);
    assert!(is_rejected(&twice, &body), "two signatures");
}

#[test]
fn nothing_passes_for_an_empty_secret() {
    let empty = SecretString::from(String::new());
    let body = b"{}";
    let headers_of_empty = headers("push", &Provider::GitHub.sign(&empty, body).1);
    assert!(
        Provider::GitHub
            .verify(&empty, &headers_of_empty, body)
            .is_err()
    );
}

#[test]
fn signed_nonsense_is_malformed_in_words() {
    let deep = [b"{\"ref\":".to_vec(), vec![b'['; 200_000]].concat();
    let deep_unknown = [
        b"{\"x\":".to_vec(),
        vec![b'['; 200_000],
        vec![b']'; 200_000],
    ]
    .concat();
    let long = push(&format!("refs/heads/{}", "a".repeat(5000)), ZERO, ZERO);
    let control = push("refs/heads/a\u{1b}b", ZERO, ZERO);
    for body in [
        &b""[..],
        b"null",
        b"[]",
        b"{\"ref\": 1}",
        b"{\"ref\": \"refs/heads/a\"}",
        b"{\"ref\": \"refs/heads/a\", \"ref\": \"refs/heads/b\", \"before\": \"\", \"after\": \"\"}",
        &push("refs/heads/main", "short", ZERO),
        &push("refs/heads/main", ZERO, "--output=x"),
        &deep,
        &deep_unknown,
        &long,
        &control,
    ] {
        assert!(!parse("push", body).unwrap_err().to_string().is_empty());
    }
}

#[test]
fn a_delivery_needs_an_id_and_an_event() {
    for name in ["x-github-delivery", "x-github-event"] {
        for value in [
            None,
            Some(""),
            Some("with space"),
            Some(&"x".repeat(200)[..]),
        ] {
            let mut headers = signed("ping", b"{}");
            headers.remove(name);
            if let Some(value) = value {
                let name = HeaderName::from_static(name);
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            let error = Provider::GitHub
                .verify(&secret(), &headers, b"{}")
                .unwrap()
                .parse();
            assert!(error.unwrap_err().to_string().contains(name));
        }
    }
}

#[test]
fn providers_are_known_by_their_word_in_the_path() {
    assert_eq!(Provider::from_path("github"), Some(Provider::GitHub));
    assert_eq!(Provider::GitHub.word(), "github");
    for word in ["", "GitHub", "gitlab", "github/"] {
        assert_eq!(Provider::from_path(word), None);
    }
}

proptest! {
    #[test]
    fn signed_bytes_of_any_kind_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = parse("push", &body);
    }

    #[test]
    fn a_damaged_push_is_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8)
    ) {
        let mut body = push("refs/heads/main", &"a".repeat(40), &"b".repeat(40));
        for (at, byte, what) in cuts {
            if body.is_empty() { break; }
            let at = at.index(body.len());
            match what {
                0 => body[at] = byte,
                1 => body.truncate(at),
                _ => body.insert(at, byte),
            }
        }
        if let Ok(Delivery { event: WebhookEvent::Push(push), .. }) = parse("push", &body) {
            let (Pushed::Branch(name) | Pushed::Tag(name)) = push.reference;
            prop_assert!(!name.contains(char::is_control));
            prop_assert!(!push.pusher.unwrap_or_default().contains(char::is_control));
        }
    }

    #[test]
    fn an_altered_byte_is_rejected(at in any::<prop::sample::Index>(), by in 1..=255u8) {
        let mut body = push("refs/heads/main", &"a".repeat(40), &"b".repeat(40));
        let headers = signed("push", &body);
        let at = at.index(body.len());
        body[at] ^= by;
        prop_assert!(is_rejected(&headers, &body));
    }

    #[test]
    fn an_altered_signature_is_rejected(at in 7..71usize, digit in 0..16u32) {
        let body = push("refs/heads/main", &"a".repeat(40), &"b".repeat(40));
        let good = Provider::GitHub.sign(&secret(), &body).1;
        let digit = char::from_digit(digit, 16).unwrap().to_string();
        let mut altered = good.clone();
        altered.replace_range(at..=at, &digit);
        prop_assert_eq!(is_rejected(&headers("push", &altered), &body), altered != good);
    }
}
