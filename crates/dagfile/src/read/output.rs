//! `outputs`, and paths.

use std::collections::BTreeMap;

use trainyard_core::name::OutputName;
use trainyard_core::stage::{DeclaredOutput, Keep, RelativePath};
use trainyard_core::text::shortened;

use super::fields::{self, Fields};
use super::{expressions, keys};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Node, Value};

/// The outputs, and whether there are more that could not be read.
pub(super) fn outputs(
    fields: &Fields<'_>,
    sink: &mut Sink<'_>,
) -> (BTreeMap<OutputName, DeclaredOutput>, bool) {
    let mut outputs = BTreeMap::new();
    let Some(node) = fields.get("outputs") else {
        return (outputs, fields.is_meant("outputs"));
    };
    let Some(entries) = fields::map(node, "`outputs`", sink) else {
        return (outputs, true);
    };
    let mut has_unread = false;
    for (key, value) in entries {
        let name = fields::checked_name::<OutputName>(&key.text, &key.span, sink);
        let what = format!("output `{}`", shortened(&key.text));
        // An output whose path is wrong still counts as one: inputs do not lack it.
        let output = output(value, &what, sink).or_else(|| some_path().map(DeclaredOutput::from));
        has_unread |= name.is_none();
        if let (Some(name), Some(output)) = (name, output) {
            outputs.insert(name, output);
        }
    }
    (outputs, has_unread)
}

/// Prefixes that people write before a path below `$OUTPUTS`.
const OUTPUTS: [&str; 3] = ["$OUTPUTS/", "${OUTPUTS}/", "/trainyard/outputs/"];

/// A path below `$OUTPUTS` that names one file or folder.
pub(super) fn output_path(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<RelativePath> {
    let text = expressions::plain(node, what, sink)?;
    let below = OUTPUTS.iter().find_map(|start| text.strip_prefix(start));
    if let Some(below) = below.filter(|below| !below.is_empty()) {
        let message = format!(
            "{what}: the path `{}` is relative to `$OUTPUTS`",
            shortened(text)
        );
        sink.error(Code::InvalidValue, node.span.clone(), message)
            .help(format!("write `{}`", shortened(below)));
        return None;
    }
    if text.contains(['*', '?', '[', '{']) {
        let message = format!(
            "{what}: the path `{}` is a pattern, which no file is named by",
            shortened(text)
        );
        sink.error(Code::InvalidValue, node.span.clone(), message)
            .help("name one file, or a folder below `$OUTPUTS` that holds all of them");
        return None;
    }
    if text.contains('$') || text.starts_with('~') {
        let message = format!(
            "{what}: the path `{}` is taken as it is, without variables",
            shortened(text)
        );
        sink.error(Code::InvalidValue, node.span.clone(), message)
            .help("name a file or folder below `$OUTPUTS`");
        return None;
    }
    path(node, what, sink)
}

fn output(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<DeclaredOutput> {
    if !matches!(node.value, Value::Map(_)) {
        return output_path(node, what, sink).map(DeclaredOutput::from);
    }
    let fields = Fields::of(node, what, keys::OUTPUT, sink)?;
    let choices = Keep::ALL.map(|keep| (keep.as_str(), keep));
    let keep = fields
        .get("keep")
        .and_then(|node| fields::one_of(node, "`keep`", &choices, sink));
    let Some(node) = fields.get("path") else {
        sink.error(
            Code::Missing,
            node.span.clone(),
            format!("{what} needs a `path`"),
        )
        .help("add `path:`, the file or folder below $OUTPUTS");
        return None;
    };
    Some(DeclaredOutput {
        path: output_path(node, what, sink)?,
        keep: keep.unwrap_or_default(),
    })
}

pub(super) fn path(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<RelativePath> {
    let text = expressions::plain(node, what, sink)?;
    match RelativePath::new(text) {
        Ok(path) => Some(path),
        Err(problem) => {
            fields::invalid(
                &node.span,
                format!("{what}: the path `{}` {problem}", shortened(text)),
                sink,
            );
            None
        }
    }
}

/// In place of a path that is wrong.
pub(super) fn some_path() -> Option<RelativePath> {
    RelativePath::new("unread").ok()
}
