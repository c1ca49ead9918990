//! Class 6: nothing in the repository is a working credential, or one that a copied example would set.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::path::Path;
use std::process::Command;

/// Files that hold what looks like a credential, on purpose: made up, for tests of redaction and refusal.
const MADE_UP: &[&str] = &[];

/// How credentials begin that can be known by it, and how many letters, digits and signs follow at least.
const BEGINNINGS: [(&str, usize); 10] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("sk_live_", 20),
    ("npm_", 36),
];

/// Keys whose values are credentials, in files that are copied.
const KEYS: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "apikey"];

fn tracked() -> Vec<String> {
    let root = root();
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let names = String::from_utf8(listed.stdout).unwrap();
    names
        .split_terminator('\0')
        .map(ToOwned::to_owned)
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The part of a line that looks like a credential.
fn credential(line: &str, is_copied: bool) -> Option<&str> {
    let whole = line.trim();
    if whole.starts_with("-----BEGIN ") && whole.ends_with("PRIVATE KEY-----") {
        return Some(line);
    }
    for (beginning, more) in BEGINNINGS {
        for (at, _) in line.match_indices(beginning) {
            let word = &line[at..];
            let end = word
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
                .unwrap_or(word.len());
            if end >= beginning.len() + more {
                return Some(&word[..end]);
            }
        }
    }
    (is_copied && sets_a_password(line)).then_some(line)
}

/// Whether a line is `password = "…"`, `PASSWORD: …` or the like, with a value that is not a variable.
fn sets_a_password(line: &str) -> bool {
    let Some((key, value)) = line.split_once(['=', ':']) else {
        return false;
    };
    let key = key
        .trim()
        .trim_start_matches(['#', '-', ' '])
        .to_lowercase();
    let key = key.trim_matches(['"', '\'']);
    let value = value.trim().trim_matches(['"', '\'']);
    let is_word = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word
        && KEYS.iter().any(|word| key.ends_with(word))
        && !value.is_empty()
        && !value.contains('$')
}

#[test]
fn class_06_no_file_of_the_repository_holds_a_credential() {
    let files = tracked();
    assert!(files.len() > 300, "the repository is somewhere else");
    let mut found = Vec::new();
    for file in &files {
        let is_copied = ["deploy/", "dags/", "docs/"]
            .iter()
            .any(|folder| file.starts_with(folder));
        // A link, or what is deleted and not yet committed.
        let Ok(bytes) = std::fs::read(root().join(file)) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = credential(line, is_copied) {
                found.push(format!("{file}:{}: {what}", number + 1));
            }
        }
    }
    found.retain(|one| {
        !MADE_UP
            .iter()
            .any(|file| one.starts_with(&format!("{file}:")))
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn class_06_credentials_are_known_by_their_looks() {
    let letters = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
    for (beginning, _) in BEGINNINGS {
        let made = format!("key = \"{beginning}{letters}\"");
        assert!(credential(&made, false).is_some(), "{made}");
    }
    let pem = ["-----BEGIN RSA ", "PRIVATE KEY-----"].concat();
    assert!(credential(&pem, false).is_some());
    for line in [
        "password = \"changeme\"",
        "  POSTGRES_PASSWORD: postgres",
        "#admin_token = 'x'",
        "- webhook_secret=hunter2",
    ] {
        assert!(credential(line, true).is_some(), "{line}");
        assert!(credential(line, false).is_none(), "{line}");
    }
    for line in [
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}",
        "secret_key_file = \"/var/lib/trainyard/secret.key\"",
        "open_passwords = false",
        "password =",
        "the password: whatever you like",
    ] {
        assert!(credential(line, true).is_none(), "{line}");
    }
}
