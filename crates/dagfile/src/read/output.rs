//! `outputs`, and paths.

use std::collections::BTreeMap;

use trainyard_core::name::OutputName;
use trainyard_core::stage::{DeclaredOutput, Keep, RelativePath};
use trainyard_core::text::shortened;

use super::FileReader;
use super::fields::Fields;
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
use crate::tree::{Node, Value};

impl FileReader<'_> {
    /// The outputs, and whether there are more that could not be read.
    pub(super) fn outputs(
        &mut self,
        fields: &Fields<'_>,
    ) -> (BTreeMap<OutputName, DeclaredOutput>, bool) {
        let mut outputs = BTreeMap::new();
        let Some(node) = fields.get("outputs") else {
            return (outputs, fields.is_meant("outputs"));
        };
        let Some(entries) = self.map(node, "`outputs`") else {
            return (outputs, true);
        };
        let mut has_unread = false;
        for (key, value) in entries {
            let name = self.checked_name::<OutputName>(&key.text, &key.span);
            let what = format!("output `{}`", shortened(&key.text));
            // An output whose path is wrong still counts as one: inputs do not lack it.
            let output = self
                .output(value, &what)
                .or_else(|| some_path().map(DeclaredOutput::from));
            has_unread |= name.is_none();
            if let (Some(name), Some(output)) = (name, output) {
                outputs.insert(name, output);
            }
        }
        (outputs, has_unread)
    }
}

/// Prefixes that people write before a path below `$OUTPUTS`.
const OUTPUTS: [&str; 3] = ["$OUTPUTS/", "${OUTPUTS}/", "/trainyard/outputs/"];

impl FileReader<'_> {
    /// A path below `$OUTPUTS` that names one file or folder.
    pub(super) fn output_path(&mut self, node: &Node, what: &str) -> Option<RelativePath> {
        let text = self.plain(node, what)?;
        let below = OUTPUTS.iter().find_map(|start| text.strip_prefix(start));
        if let Some(below) = below.filter(|below| !below.is_empty()) {
            let message = format!(
                "{what}: the path `{}` is relative to `$OUTPUTS`",
                shortened(text)
            );
            self.sink
                .error(Code::InvalidValue, node.span.clone(), message)
                .help(format!("write `{}`", shortened(below)));
            return None;
        }
        if text.contains(['*', '?', '[', '{']) {
            let message = format!(
                "{what}: the path `{}` is a pattern, which no file is named by",
                shortened(text)
            );
            self.sink
                .error(Code::InvalidValue, node.span.clone(), message)
                .help("name one file, or a folder below `$OUTPUTS` that holds all of them");
            return None;
        }
        if text.contains('$') || text.starts_with('~') {
            let message = format!(
                "{what}: the path `{}` is taken as it is, without variables",
                shortened(text)
            );
            self.sink
                .error(Code::InvalidValue, node.span.clone(), message)
                .help("name a file or folder below `$OUTPUTS`");
            return None;
        }
        self.path(node, what)
    }

    fn output(&mut self, node: &Node, what: &str) -> Option<DeclaredOutput> {
        if !matches!(node.value, Value::Map(_)) {
            return self.output_path(node, what).map(DeclaredOutput::from);
        }
        let fields = self.fields(node, what, document::Output::FORM)?;
        let choices = Keep::ALL.map(|keep| (keep.as_str(), keep));
        let keep = fields
            .get("keep")
            .and_then(|node| self.one_of(node, "`keep`", &choices));
        let Some(node) = fields.get("path") else {
            self.sink
                .error(
                    Code::Missing,
                    node.span.clone(),
                    format!("{what} needs a `path`"),
                )
                .help("add `path:`, the file or folder below $OUTPUTS");
            return None;
        };
        Some(DeclaredOutput {
            path: self.output_path(node, what)?,
            keep: keep.unwrap_or_default(),
        })
    }

    pub(super) fn path(&mut self, node: &Node, what: &str) -> Option<RelativePath> {
        let text = self.plain(node, what)?;
        match RelativePath::new(text) {
            Ok(path) => Some(path),
            Err(problem) => {
                self.invalid(
                    &node.span,
                    format!("{what}: the path `{}` {problem}", shortened(text)),
                );
                None
            }
        }
    }
}

/// In place of a path that is wrong.
pub(super) fn some_path() -> Option<RelativePath> {
    RelativePath::new("unread").ok()
}
