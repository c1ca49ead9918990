//! Parts of the format that this version cannot run yet. They are checked for their form, and then refused, each once
//! and with its place, so that users do not take them for active.

use std::time::Duration;

use trainyard_core::text::shortened;
use trainyard_core::trigger::{Pattern, PatternFault};

use super::fields::{self, Fields};
use super::{keys, triggers};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Key, Node, Value};

/// The keys of this module: a help that lists keys leaves them out.
pub(super) const KEYS: [&str; 12] = [
    "pull_request",
    "tag",
    "after",
    "notify",
    "gpus",
    "matrix",
    "cache",
    "approval",
    "service",
    "best_by",
    "against",
    "max_drop",
];

const ANY: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(366 * 86_400);

fn refuse(key: &Key, sink: &mut Sink<'_>) {
    let message = format!("`{}` is not supported yet", shortened(&key.text));
    sink.error(Code::NotSupportedYet, key.span.clone(), message)
        .help("leave it out for now");
}

/// A check that says why a pattern matches nothing.
type Fault = fn(&Pattern) -> Option<PatternFault>;

/// `pull_request`, `tag`, `after`.
pub(super) fn triggers(fields: &Fields<'_>, sink: &mut Sink<'_>) {
    if let (Some(key), Some(node)) = (fields.key("pull_request"), fields.get("pull_request")) {
        if let Some(inner) = optional(node, "`pull_request`", keys::PULL_REQUEST, sink) {
            for (list, what, fault) in [
                ("branches", "a branch", Pattern::branch_fault as Fault),
                ("paths", "a path", Pattern::path_fault),
            ] {
                if let Some(node) = inner.get(list) {
                    triggers::patterns(node, what, fault, sink);
                }
            }
        }
        refuse(key, sink);
    }
    if let (Some(key), Some(node)) = (fields.key("tag"), fields.get("tag")) {
        if let Some(names) =
            optional(node, "`tag`", keys::TAG, sink).and_then(|inner| inner.get("names"))
        {
            triggers::patterns(names, "a tag", |_| None, sink);
        }
        refuse(key, sink);
    }
    if let (Some(key), Some(node)) = (fields.key("after"), fields.get("after")) {
        texts(node, "`after`", sink);
        refuse(key, sink);
    }
}

/// `gpus`.
pub(super) fn resources(fields: &Fields<'_>, sink: &mut Sink<'_>) {
    if let (Some(key), Some(node)) = (fields.key("gpus"), fields.get("gpus")) {
        fields::integer(node, "`gpus`", 0..=1024, sink);
        refuse(key, sink);
    }
}

/// `matrix`, `cache`, `approval`, `service`.
pub(super) fn stage(fields: &Fields<'_>, sink: &mut Sink<'_>) {
    if let (Some(key), Some(node)) = (fields.key("matrix"), fields.get("matrix")) {
        for (_, values) in fields::map(node, "`matrix`", sink).unwrap_or_default() {
            texts(values, "a matrix's values", sink);
        }
        refuse(key, sink);
    }
    if let (Some(key), Some(node)) = (fields.key("cache"), fields.get("cache")) {
        if let Some(files) =
            optional(node, "`cache`", keys::CACHE, sink).and_then(|inner| inner.get("files"))
        {
            triggers::patterns(files, "a file", Pattern::path_fault, sink);
        }
        refuse(key, sink);
    }
    if let (Some(key), Some(node)) = (fields.key("approval"), fields.get("approval")) {
        let inner = optional(node, "`approval`", keys::APPROVAL, sink);
        if let Some(node) = inner.and_then(|inner| inner.get("timeout")) {
            fields::duration(node, "`timeout`", ANY, sink);
        }
        refuse(key, sink);
    }
    if let (Some(key), Some(node)) = (fields.key("service"), fields.get("service")) {
        service(node, sink);
        refuse(key, sink);
    }
}

fn service(node: &Node, sink: &mut Sink<'_>) {
    let Some(fields) = Fields::of(node, "`service`", keys::SERVICE, sink) else {
        return;
    };
    if let Some(node) = fields.get("name") {
        fields::text(node, "the service's name", sink);
    }
    if let Some(node) = fields.get("port") {
        fields::integer(node, "`port`", 1..=65_535, sink);
    }
    if let Some(node) = fields.get("drain") {
        fields::duration(node, "`drain`", ANY, sink);
    }
    if let Some(node) = fields.get("keep") {
        fields::integer(node, "`keep`", 0..=1_000, sink);
    }
    let Some(node) = fields.get("health") else {
        return;
    };
    let Some(health) = Fields::of(node, "`health`", keys::HEALTH, sink) else {
        return;
    };
    if let Some(node) = health.get("http") {
        fields::text(node, "`http`", sink);
    }
    for key in ["interval", "within"] {
        if let Some(node) = health.get(key) {
            fields::duration(node, &format!("`{key}`"), ANY, sink);
        }
    }
}

/// `against` and `max_drop` of a gate.
pub(super) fn gate(fields: &Fields<'_>, sink: &mut Sink<'_>) -> bool {
    let mut refused = false;
    if let (Some(key), Some(node)) = (fields.key("against"), fields.get("against")) {
        fields::one_of(node, "`against`", &[("live", ())], sink);
        refuse(key, sink);
        refused = true;
    }
    if let (Some(key), Some(node)) = (fields.key("max_drop"), fields.get("max_drop")) {
        fields::number(node, "`max_drop`", sink);
        if !refused {
            refuse(key, sink);
        }
        refused = true;
    }
    refused
}

/// `best_by` of an input.
pub(super) fn input(fields: &Fields<'_>, sink: &mut Sink<'_>) {
    if let (Some(key), Some(node)) = (fields.key("best_by"), fields.get("best_by")) {
        fields::text(node, "`best_by`", sink);
        refuse(key, sink);
    }
}

/// `notify`.
pub(super) fn notify(key: &Key, node: Option<&Node>, sink: &mut Sink<'_>) {
    for item in node
        .and_then(|node| fields::list(node, "`notify`", sink))
        .unwrap_or_default()
    {
        let Some(fields) = Fields::of(item, "a notification", keys::NOTIFY, sink) else {
            continue;
        };
        if let Some(node) = fields.get("on") {
            texts(node, "`on`", sink);
        }
        if let Some(node) = fields.get("webhook") {
            fields::map(node, "`webhook`", sink);
        }
    }
    refuse(key, sink);
}

/// A map that may be left empty.
fn optional<'n>(
    node: &'n Node,
    what: &str,
    keys: &[&'static str],
    sink: &mut Sink<'_>,
) -> Option<Fields<'n>> {
    match &node.value {
        Value::Null => None,
        _ => Fields::of(node, what, keys, sink),
    }
}

fn texts(node: &Node, what: &str, sink: &mut Sink<'_>) {
    for item in fields::list_or_one(node, what, sink) {
        fields::text(item, what, sink);
    }
}
