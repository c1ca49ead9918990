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
        .droppable(&[5, 4]);
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

/// Tokens make most changes, so only other principals are named with their kind.
fn who(entry: &AuditEntry) -> String {
    match entry.by.kind.as_str() {
        "token" => entry.by.name.clone(),
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
