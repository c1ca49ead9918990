mod hostile;

use proptest::prelude::*;

use self::hostile::HOSTILE;
use super::*;

#[track_caller]
fn full(text: &str) -> String {
    ImageReference::parse(text).unwrap().exact()
}

#[test]
fn class_17_references_are_completed_as_docker_does() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (text, expected) in [
        ("alpine", "docker.io/library/alpine:latest".to_owned()),
        ("alpine:3", "docker.io/library/alpine:3".to_owned()),
        ("team/app", "docker.io/team/app:latest".to_owned()),
        (
            "docker.io/alpine:3",
            "docker.io/library/alpine:3".to_owned(),
        ),
        (
            "index.docker.io/alpine",
            "docker.io/library/alpine:latest".to_owned(),
        ),
        (
            "ghcr.io/team/a/b:v1.0-x",
            "ghcr.io/team/a/b:v1.0-x".to_owned(),
        ),
        (
            "Registry.Example.COM:5000/app",
            "registry.example.com:5000/app:latest".to_owned(),
        ),
        ("localhost/app", "localhost/app:latest".to_owned()),
        ("a__b/c.d_e--f", "docker.io/a__b/c.d_e--f:latest".to_owned()),
        ("cafe:latest", "docker.io/library/cafe:latest".to_owned()),
        ("library/cafe", "docker.io/library/cafe:latest".to_owned()),
        (
            &format!("alpine@{digest}"),
            format!("docker.io/library/alpine@{digest}"),
        ),
        (
            &format!("alpine:3@{digest}"),
            format!("docker.io/library/alpine@{digest}"),
        ),
    ] {
        assert_eq!(full(text), expected, "{text}");
    }
    for text in [
        "alpine:3",
        "team/app:1",
        "docker.io/foo.bar/x:1",
        "ghcr.io/library/x:1",
    ] {
        assert_eq!(ImageReference::parse(text).unwrap().to_string(), text);
    }
    let both = ImageReference::parse(&format!("alpine:3@{digest}")).unwrap();
    assert_eq!(both.to_string(), format!("alpine:3@{digest}"));
}

#[test]
fn class_17_what_is_not_a_reference_is_refused() {
    let long_name = "a".repeat(256);
    let long_tag = format!("alpine:{}", "t".repeat(129));
    let id = "ab".repeat(32);
    let with_id = format!("sha256:{id}");
    let short_digest = format!("alpine@sha256:{}", "a".repeat(63));
    let upper_digest = format!("alpine@sha256:{}", "A".repeat(64));
    let huge = "a/".repeat(1 << 20);
    let long = [
        &id,
        &with_id,
        &long_tag,
        &short_digest,
        &upper_digest,
        long_name.as_str(),
        &huge,
    ];
    let hostile: Vec<&str> = HOSTILE.iter().copied().chain(long).collect();
    assert!(hostile.len() >= 100, "{}", hostile.len());
    for text in hostile {
        // A name with a port and no path is a name with a tag, and harmless.
        if text == "localhost:5000" {
            assert_eq!(full(text), "docker.io/library/localhost:5000");
            continue;
        }
        let fault = ImageReference::parse(text).expect_err(text);
        assert!(fault.at <= text.len(), "{text}: {fault:?}");
        assert!(fault.to_string().len() < 600, "{fault}");
    }
}

#[test]
fn a_fault_says_where_and_what_was_expected() {
    let fault = ImageReference::parse("ghcr.io/team/App:1").unwrap_err();
    assert_eq!(fault.at, 13);
    assert!(
        fault.message.starts_with("expected a name of a-z"),
        "{fault}"
    );
    let fault = ImageReference::parse("10").unwrap_err();
    assert_eq!(
        fault.to_string(),
        "invalid image reference `10`: this could be the beginning of an image's id; if it is a name, \
         add the tag: `10:latest`"
    );
}

#[test]
fn built_images_have_no_name_for_others() {
    for text in [
        "trainyard/build:00",
        "docker.io/trainyard/build",
        "trainyard/build/x:1",
    ] {
        assert!(
            ImageReference::parse(text).unwrap().is_built_here(),
            "{text}"
        );
    }
    for text in [
        "trainyard/builder",
        "ghcr.io/trainyard/build",
        "trainyard-test/busybox:1",
    ] {
        assert!(
            !ImageReference::parse(text).unwrap().is_built_here(),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn what_was_read_is_read_again_as_the_same(
        text in "([a-z0-9.-]{1,12}(:[0-9]{1,4})?/)?[a-z0-9._-]{1,8}(/[a-z0-9_.]{1,6}){0,2}(:[A-Za-z0-9_.-]{1,8})?"
    ) {
        if let Ok(reference) = ImageReference::parse(&text) {
            prop_assert_eq!(&ImageReference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&ImageReference::parse(&reference.exact()).unwrap(), &reference);
        }
    }

    #[test]
    fn what_is_sent_to_docker_stays_one_path_whatever_was_written(text in ".{0,80}") {
        if let Ok(reference) = ImageReference::parse(&text) {
            let sent = reference.exact();
            prop_assert!(!sent.contains(['?', '#', '%', '\\', ' ', '&']), "{}", sent);
            prop_assert!(sent.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{}", sent);
            prop_assert!(!is_hex(&sent) && !is_id(&sent), "{}", sent);
        }
    }
}
