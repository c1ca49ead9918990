//! Formats values as text with colours, by pure functions. Times are arguments; the only input from outside is the
//! time zone of this machine, and nothing is printed here.

use std::borrow::Cow;

pub(crate) mod artifact;
pub(crate) mod audit;
pub(crate) mod daemon;
pub(crate) mod dag;
pub(crate) mod detail;
pub(crate) mod event;
pub(crate) mod gc;
pub(crate) mod graph;
pub(crate) mod log;
pub(crate) mod metric;
pub(crate) mod quarantine;
pub(crate) mod repo;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod secret;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod token;

/// Text from outside, without control sequences and line breaks.
pub(crate) fn plain(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    visible(&text).into_owned()
}

/// Text with its colours, but without other control sequences, except for the control characters in `kept`.
pub(crate) fn tame(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\x1b' => match rest.next() {
                Some('[') => {
                    let mut parameters = String::new();
                    let last = rest.by_ref().find(|letter| {
                        let is_last = ('@'..='~').contains(letter);
                        if !is_last {
                            parameters.push(*letter);
                        }
                        is_last
                    });
                    // `ESC [ > 4 ; 1 m` is not a colour: it changes the codes that keys send.
                    let is_colour = |letter: char| matches!(letter, '0'..='9' | ';' | ':');
                    if last == Some('m') && parameters.chars().all(is_colour) {
                        shown.push_str(&format!("\x1b[{parameters}m"));
                    }
                }
                // Strings for the terminal are dropped up to their end: BEL, or ESC and a backslash.
                Some(']' | 'P' | '^' | '_' | 'X') => {
                    while let Some(letter) = rest.next() {
                        if letter == '\x07' || (letter == '\x1b' && rest.next().is_some()) {
                            break;
                        }
                    }
                }
                Some(_) | None => {}
            },
            letter if kept.contains(&letter) => shown.push(letter),
            // The line ends there, or starts again.
            '\r' => {}
            // Replaced, not removed: text on both sides of a control character must not be joined, since that could
            // restore a secret.
            letter if letter.is_control() => shown.push('\u{fffd}'),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Text without hidden letters: letters that a terminal does not show, or that change the order of others, are
/// written out as `\\u202e`. So two names that look the same are the same.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_hidden(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Invisible letters: marks of direction and of joining, fillers, tags, and the control characters that JSON does not
/// escape.
fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::screen::Screen;
    use super::*;
    use trainyard_present::zone::Zone;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b]52;c;x\x07b\r\nc"), "a ]52;c;x b  c");
        assert_eq!(plain("größer ✓"), "größer ✓");
    }

    #[test]
    fn a_text_may_colour_itself_and_nothing_else() {
        let tame = |text| tame(text, &['\t', '\n']);
        let coloured = "\x1b[1;38:5:9mred\x1b[0m\n\tplain";
        assert_eq!(tame(coloured), coloured);
        assert_eq!(tame("a\x1b[2J\x1b[H\x1b[3Jb"), "ab");
        assert_eq!(tame("a\x1b]52;c;c2VjcmV0\x07b\x1b]0;title\x1b\\c"), "abc");
        assert_eq!(tame("a\x1bP1$r\x1b\\b\x1bcd\x1b[?1049he"), "abde");
        assert_eq!(
            tame("a\x1b[>4;1mb\x1b[\x1b]0;t\x07mc\x1b["),
            "ab0;t\u{fffd}mc"
        );
        assert_eq!(tame("a\x08\x07\u{9b}2J\rb"), "a\u{fffd}\u{fffd}\u{fffd}2Jb");
    }

    #[test]
    fn nothing_is_hidden_and_nothing_turned_around() {
        assert_eq!(plain("main\u{202e}txt.exe"), "main\\u202etxt.exe");
        assert_eq!(plain("ma\u{200b}in\u{feff}"), "ma\\u200bin\\ufeff");
        assert_eq!(
            plain("a\u{2066}b\u{2069}c\u{200f}"),
            "a\\u2066b\\u2069c\\u200f"
        );
        assert_eq!(plain("a\u{e0041}"), "a\\udb40\\udc41");
        assert_eq!(visible("a\u{9b}2J\u{7f}"), "a\\u009b2J\\u007f");
        assert_eq!(plain("日本語 é ❤️ 👩"), "日本語 é ❤️ 👩");
    }

    /// Rows of each listing, with names of realistic length.
    fn listings(screen: Screen) -> Vec<String> {
        let at = "2026-11-23T15:00:00Z";
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let (repo, dag) = (
            "customer-analytics",
            "customer-analytics/monthly-churn-of-customers",
        );
        let run = json!({
            "id": 12345, "dag": dag, "state": "succeeded", "reason": null, "cancelling": false,
            "cause": {"kind": "push", "summary": "push to release/2026-11 by ada", "actor": "ada"},
            "branch": "main", "commit": hash, "commit_summary": "Train faster", "logical_time": at,
            "created_at": at, "started_at": at, "finished_at": at, "stages_total": 12,
            "stages_finished": 12, "stages_failed": 0,
        });
        let dags = json!({
            "dag": dag, "repo": repo, "name": "monthly", "path": "dags/monthly.yaml", "paused": true,
            "commit": hash, "has_faults": true, "next_tick": at, "active_runs": 1,
            "last_run": {"id": 12345, "state": "succeeded", "created_at": at, "finished_at": at},
        });
        let repos = json!({
            "name": repo, "url": "https://git.example.org/analytics/customer-analytics.git",
            "branch": "release/2026-11", "poll_every_seconds": 60, "takes_webhooks": true,
            "has_credentials": false, "created_at": at, "last_sync_at": at,
            "last_error": "the remote refused the password of user deploy", "dags": 1, "faults": 1,
        });
        let delivery = json!({
            "id": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "provider": "github", "event": "push",
            "branch": "release/2026-11", "commit": hash, "actor": "ada", "received_at": at,
            "processed_at": at, "result": "no run: branch not followed, no push trigger matches",
        });
        let daemon = json!({
            "id": "01a2", "host": "trainer-1.example.org:/var/lib/trainyard", "pid": 123_456,
            "version": "0.1.0", "state": "alive", "started_at": at, "lease_until": at,
            "stopped_at": null, "attempts": 3, "leads": [{"role": "scheduler", "term": 2}],
        });
        let artifact = json!({
            "run": 12345, "stage": "extract-transactions", "output": "transactions", "kind": "folder",
            "sha256": hash, "size_bytes": 848_486, "created_at": at,
        });
        let metric = json!({
            "run": 12345, "dag": dag, "stage": "evaluate-on-holdout", "name": "validation/auc",
            "value": 0.625_730, "commit": hash, "at": at,
        });
        let secret = json!({
            "repo": repo, "name": "WAREHOUSE_CONNECTION_STRING", "updated_at": at,
            "branches": ["main", "release/*", "topic/*"],
        });
        let token = json!({
            "id": "019a0000-0000-7000-8000-000000000000", "name": "continuous-integration",
            "created_at": at, "last_used_at": at, "revoked_at": at,
        });
        let held = json!({
            "id": 3, "kind": "dag", "name": dag, "place": "scheduling", "failures": 1, "held_at": at,
            "reason": "its schedule cannot be read from the database: `Atlantis` is not a time zone",
        });
        let event = json!({
            "id": 1, "at": at, "kind": "stage_backing_off", "stage": "extract-transactions",
            "attempt": 2, "detail": {"until": at},
        });
        vec![
            run::list(&[read(run)], at.parse().unwrap(), screen),
            dag::list(&[read(dags)], screen),
            repo::list(&[read(repos)], screen),
            repo::deliveries(&[read(delivery)], screen),
            daemon::list(&[read(daemon)], screen),
            artifact::list(&[read(artifact)], screen),
            metric::list(&[read(metric)], screen),
            secret::list(&[read(secret)], screen),
            token::list(&[read(token)], screen),
            quarantine::list(&[read(held)], screen),
            event::list(&[read(event)], screen),
        ]
    }

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_listing_fits_a_terminal_of_80_columns() {
        let zone = Zone::Utc;
        let tables = listings(Screen {
            width: Some(80),
            zone,
        });
        let tables = anstream::adapter::strip_str(&tables.join("\n")).to_string();
        let too_wide = |line: &&str| line.chars().count() > 80;
        assert_eq!(tables.lines().find(too_wide), None);
        insta::assert_snapshot!(tables);
    }

    #[test]
    fn a_listing_loses_nothing_where_it_is_read_by_a_program() {
        for table in listings(Screen {
            width: None,
            zone: Zone::Utc,
        }) {
            assert!(!table.contains('…'), "{table}");
        }
    }
}
