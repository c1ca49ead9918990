//! The audit log.

use serde_json::Value;
use trainyard_api::AuditEntry;

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

pub(crate) fn list(entries: &[AuditEntry], screen: Screen) -> String {
    let heads = ["WHEN", "WHO", "ACTION", "SUBJECT", "REPO", "FROM", "DETAIL"];
    let mut rows = Rows::new(&heads, screen)
        .moments(0)
        .names(&[1, 3])
        .droppable(&[5, 4, 6]);
    for entry in entries {
        rows.add(vec![
            moment(entry.at, screen),
            cell(who(entry)),
            cell(&entry.action),
            cell(entry.subject.as_deref().unwrap_or("-")),
            cell(entry.repo.as_deref().unwrap_or("-")),
            cell(entry.peer.as_deref().unwrap_or("-")),
            cell(detail(entry)),
        ]);
    }
    rows.text("no changes")
}

/// Tokens make most changes, so only other principals are named with their kind. A daemon's name is its host and data
/// folder, which would take the room of the details.
fn who(entry: &AuditEntry) -> String {
    match entry.by.kind.as_str() {
        "token" => entry.by.name.clone(),
        "daemon" => "daemon".to_owned(),
        kind => format!("{kind} {}", entry.by.name),
    }
}

/// The details as `key: value`, without those that are not set.
fn detail(entry: &AuditEntry) -> String {
    let parts = entry.detail.iter().filter_map(|(key, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items = items.iter().map(|item| match item {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                items.collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        };
        Some(format!("{key}: {text}"))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use console::measure_text_width;
    use trainyard_api::Principal;

    use super::*;
    use trainyard_present::zone::Zone;

    fn entry(kind: &str, name: &str, action: &str, subject: &str) -> AuditEntry {
        AuditEntry {
            id: 7,
            at: "2026-11-23T15:00:00Z".parse().unwrap(),
            by: Principal {
                kind: kind.to_owned(),
                id: "1".to_owned(),
                name: name.to_owned(),
            },
            peer: Some("2001:db8:1234:5678:9abc:def0:1234:5678".to_owned()),
            action: action.to_owned(),
            subject: Some(subject.to_owned()),
            repo: Some("churn-of-customers".to_owned()),
            detail: [("url".to_owned(), "https://example.org/churn.git".into())].into(),
        }
    }

    #[test]
    fn the_audit_log_fits_into_eighty_columns() {
        let screen = Screen {
            width: Some(80),
            zone: Zone::Utc,
        };
        let usual = [
            entry("token", "laptop", "repo.add", "churn-of-customers"),
            entry("daemon", "host:/var/lib/trainyard", "token.create", "admin"),
        ];
        let long = "churn-of-customers/train-and-evaluate";
        let longest = [entry(
            "token",
            "continuous-integration",
            "quarantine.release",
            long,
        )];
        for (entries, has_details) in [(&usual[..], true), (&longest[..], false)] {
            let text = strip_str(&list(entries, screen)).to_string();
            let widest = text.lines().map(measure_text_width).max();
            assert!(widest <= Some(80), "{text}");
            assert_eq!(text.contains("DETAIL"), has_details, "{text}");
        }
    }
}
