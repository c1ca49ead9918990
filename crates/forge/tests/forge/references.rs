//! Every way to name a commit leads to it, and to no other.

use std::collections::BTreeMap;

use git2::{Signature, Time};
use trainyard_forge::{CommitSha, Error};

use crate::remote::{COMMITTED_AT, Remote, oid, sha};

#[test]
fn branches_tags_and_hashes_lead_to_commits() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let second = remote.push("release/1", &[("a", "2")]);
    remote.annotated_tag("v1", &first);
    let mirror = remote.fetched();
    for (name, commit) in [
        ("main", &first),
        (" main\n", &first),
        ("refs/heads/main", &first),
        ("release/1", &second),
        ("v1", &first),
        ("refs/tags/v1", &first),
        (first.as_str(), &first),
        (second.short(), &second),
        (&second.as_str().to_uppercase(), &second),
    ] {
        assert_eq!(&mirror.resolve(name).unwrap(), commit, "{name}");
    }
}

#[test]
fn what_names_nothing_is_refused_in_words() {
    let remote = Remote::new();
    remote.push("release/1", &[("a", "1")]);
    let mirror = remote.fetched();
    for name in [
        "",
        "nope",
        "release",
        "HEAD~1",
        "release/1~1",
        ":/A",
        "@{-1}",
        "--output=x",
        "a..b",
        "refs/remotes/x",
        "\u{1b}[31m",
        &"a".repeat(40),
        &"b".repeat(64),
        &"c".repeat(5000),
    ] {
        let error = mirror.resolve(name).unwrap_err();
        assert!(
            matches!(error, Error::UnknownReference { .. }),
            "{name:?}: {error}"
        );
        assert!(
            error.to_string().len() < 600 && !error.to_string().contains('\u{1b}'),
            "{error}"
        );
    }
}

#[test]
fn a_branch_called_like_a_commit_does_not_shadow_it() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let second = remote.push("main", &[("a", "2")]);
    remote.point(&format!("refs/heads/{first}"), &second);
    assert_eq!(remote.fetched().resolve(first.as_str()).unwrap(), first);
}

#[test]
fn a_branch_goes_before_a_tag() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let second = remote.push("v1", &[("a", "2")]);
    remote.point("refs/tags/v1", &first);
    let mirror = remote.fetched();
    assert_eq!(mirror.resolve("v1").unwrap(), second);
    assert_eq!(mirror.resolve("refs/tags/v1").unwrap(), first);
}

#[test]
fn a_beginning_that_several_commits_have_is_refused() {
    let remote = Remote::new();
    let mut beginnings: BTreeMap<String, CommitSha> = BTreeMap::new();
    let beginning = (0..100_000).find_map(|n| {
        let commit = remote.push_tree("main", remote.raw_tree(&[]), &format!("Number {n}"));
        let beginning = commit.as_str()[..4].to_owned();
        beginnings
            .insert(beginning.clone(), commit)
            .map(|_| beginning)
    });
    let error = remote.fetched().resolve(&beginning.unwrap()).unwrap_err();
    assert!(error.to_string().contains("several commits"), "{error}");
}

#[test]
fn a_tag_of_a_file_is_not_a_commit() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let blob = remote.blob(b"key");
    remote
        .repository
        .reference("refs/tags/key", blob, true, "push")
        .unwrap();
    let error = remote.fetched().resolve("key").unwrap_err();
    assert!(matches!(error, Error::UnknownReference { .. }), "{error}");
}

#[test]
fn a_commit_has_its_summary_author_and_time() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let read = remote.fetched().commit(&first).unwrap();
    assert_eq!(
        (read.sha, read.summary.as_str(), read.author.as_str()),
        (first, "A change", "Ada")
    );
    assert_eq!(read.at.timestamp(), COMMITTED_AT);
}

#[test]
fn the_metadata_of_a_commit_is_bounded_and_harmless() {
    let remote = Remote::new();
    let message = format!(
        "\u{1b}]0;owned\u{7}`$(touch x)` ${{{{ secrets }}}} {}",
        "x".repeat(5000)
    );
    let who = Signature::new("Eve\u{1b}[2J", "eve@example.org", &Time::new(i64::MAX, 0)).unwrap();
    let tree = remote.repository.find_tree(remote.raw_tree(&[])).unwrap();
    let id = remote
        .repository
        .commit(None, &who, &who, &message, &tree, &[])
        .unwrap();
    remote.point("refs/heads/main", &sha(id));
    let read = remote.fetched().commit(&sha(id)).unwrap();
    assert!(!format!("{}{}", read.summary, read.author).contains(char::is_control));
    assert!(read.summary.chars().count() <= 201 && read.summary.contains("`$(touch x)`"));
}

#[test]
fn ancestry_is_known() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    remote.point("refs/heads/topic", &first);
    let second = remote.push("main", &[("a", "2")]);
    let topic = remote.push("topic", &[("a", "3")]);
    let apart = remote.push("apart", &[("a", "4")]);
    let mirror = remote.fetched();
    for (older, newer, is_ancestor) in [
        (&first, &second, true),
        (&first, &first, true),
        (&second, &first, false),
        (&second, &topic, false),
        (&first, &apart, false),
    ] {
        assert_eq!(mirror.is_ancestor(older, newer).unwrap(), is_ancestor);
    }
    let missing = CommitSha::new(&"a".repeat(40)).unwrap();
    assert!(mirror.is_ancestor(&missing, &first).is_err());
    assert_eq!(oid(&first).to_string(), first.as_str());
}
