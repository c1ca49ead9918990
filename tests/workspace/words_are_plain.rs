//! Holds the texts that people read to the words of CONTRIBUTING.md: comments, messages and pages use the words that
//! people search for.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::path::{Path, PathBuf};

/// What is not written, and what to write instead.
const WORDS: [(&str, &str); 15] = [
    ("told", "reported, logged"),
    ("tell of", "report"),
    ("tells of", "reports"),
    ("heed", "handle"),
    ("anew", "again"),
    ("let go", "released"),
    ("lets go", "releases"),
    ("letting go", "releasing"),
    ("held back", "quarantined, paused"),
    ("blotted out", "redacted"),
    ("given up", "abandoned"),
    ("gives up", "abandons, stops retrying"),
    ("look at", "read, check, inspect"),
    ("looks at", "reads, checks, inspects"),
    ("looked at", "read, checked, inspected"),
];

/// The same of comments and pages alone: names of variables have these parts.
const IN_PROSE: [(&str, &str); 3] = [
    ("trouble", "error, failure, problem"),
    ("troubles", "errors, failures, problems"),
    ("beside", "next to, besides"),
];

/// Subjects without a name. Comments and pages name the thing that acts.
const NAMELESS: [&str; 3] = ["nobody", "somebody", "whoever"];

/// Systems have users and words of these names.
const NAMES: [&str; 3] = ["`nobody`", "nobody:", "nobody@"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files(&path, found);
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The parts of a line that people read: of a page the whole, of a program its comments and its texts.
fn read_by_people(is_page: bool, line: &str) -> String {
    let trimmed = line.trim_start();
    if is_page {
        return line.to_owned();
    }
    if trimmed.starts_with("//") {
        return trimmed.to_owned();
    }
    let texts = line.split('"').skip(1).step_by(2);
    texts.collect::<Vec<_>>().join(" ")
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// A text without the parts in backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

/// Whether a text says "is no X". "There is no X" and "is no longer" are plain.
fn is_not_a_valid_one(text: &str) -> bool {
    ["is no ", "are no "].iter().any(|words| {
        text.match_indices(words).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let is_word = !before.is_some_and(char::is_alphanumeric);
            let after = &text[at + words.len()..];
            is_word
                && !text[..at].trim_end().ends_with("there")
                && !["longer", "more", "less"]
                    .iter()
                    .any(|word| after.starts_with(word))
        })
    })
}

#[test]
fn texts_use_the_words_that_people_search_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    files(root, &mut all);
    assert!(all.len() > 400, "the sources are somewhere else");
    let mut faults = Vec::new();
    for path in all {
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        // Both name the words.
        if path.ends_with("CONTRIBUTING.md") || path.ends_with("workspace/words_are_plain.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let mut read = read_by_people(is_page, line).to_lowercase();
            for name in NAMES {
                read = read.replace(name, "");
            }
            let instead = |word: &str, words: &str| {
                let path = path.strip_prefix(root).unwrap().display();
                format!("{path}:{}: `{word}`; write {words}", number + 1)
            };
            let wrong = WORDS.iter().filter(|(word, _)| has_word(&read, word));
            faults.extend(wrong.map(|(word, words)| instead(word, words)));
            let is_comment = is_page || line.trim_start().starts_with("//");
            let nameless = NAMELESS
                .iter()
                .filter(|word| is_comment && has_word(&read, word));
            faults.extend(nameless.map(|word| instead(word, "the name of what acts")));
            let odd = IN_PROSE
                .iter()
                .filter(|(word, _)| is_comment && has_word(&without_code(&read), word));
            faults.extend(odd.map(|(word, words)| instead(word, words)));
            if is_not_a_valid_one(&read) {
                faults.push(instead("is no", "invalid X, or is not an X"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
