//! `docs/troubleshooting.md` quotes messages. Each of them is one that the code can print.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::path::Path;

fn sources(folder: &Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The source with texts that go over lines in one piece.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        joined.push_str(part.trim_start());
    }
    joined
}

#[test]
fn every_message_in_troubleshooting_is_printed_by_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let mut code = String::new();
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        let src = entry.unwrap().path().join("src");
        sources(&src, &mut code);
    }
    let code = joined(&code);
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let messages: Vec<&str> = headings
        .filter_map(|heading| heading.strip_prefix('`')?.strip_suffix('`'))
        .collect();
    assert!(messages.len() >= 20, "{messages:?}");
    for message in messages {
        for part in message
            .split('…')
            .map(|part| part.trim_matches([' ', ':', ';']))
        {
            assert!(
                code.contains(part),
                "docs/troubleshooting.md has the message `{message}`, of which `{part}` is not in the code any more"
            );
        }
    }
}
