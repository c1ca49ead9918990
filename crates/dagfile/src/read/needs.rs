//! `needs` and `inputs`: the stages before a stage, and what it takes from them.

use std::collections::{BTreeMap, HashSet};

use trainyard_core::name::{InputName, StageName};
use trainyard_core::stage::InputSource;
use trainyard_core::text::shortened;

use super::FileReader;
use super::fields::Fields;
use super::places::StagePlaces;
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
use crate::tree::{Node, Value};

impl FileReader<'_> {
    /// The stages that are needed, and whether there are more that could not be read.
    pub(super) fn needs(
        &mut self,
        fields: &Fields<'_>,
        unread: &HashSet<&str>,
        places: &mut StagePlaces,
    ) -> (Vec<StageName>, bool) {
        let mut needs = Vec::new();
        let Some(node) = fields.get("needs") else {
            return (needs, fields.is_meant("needs"));
        };
        let items = self.list_or_one(node, "`needs`");
        let count = items.len();
        for item in items {
            let Some(text) = self.text(item, "a stage's name") else {
                continue;
            };
            if unread.contains(text) {
                continue;
            }
            if let Some(name) = self.checked_name(text, &item.span) {
                needs.push(name);
                places.needs.push(item.span.clone());
            }
        }
        let is_list = matches!(&node.value, Value::List(_) | Value::Scalar { .. });
        let is_unread = !is_list || needs.len() < count;
        (needs, is_unread)
    }

    pub(super) fn inputs(
        &mut self,
        fields: &Fields<'_>,
        unread: &HashSet<&str>,
        places: &mut StagePlaces,
    ) -> BTreeMap<InputName, InputSource> {
        let mut inputs = BTreeMap::new();
        let Some(node) = fields.get("inputs") else {
            return inputs;
        };
        for (key, value) in self.map(node, "`inputs`").unwrap_or_default() {
            let name = self.checked_name::<InputName>(&key.text, &key.span);
            let from = match &value.value {
                Value::Map(_) => {
                    let Some(inner) = self.fields(value, "an input", document::Input::FORM) else {
                        continue;
                    };
                    match inner.get("from") {
                        Some(node) => node,
                        None => {
                            if inner.lacks("from") {
                                self.sink.error(
                                    Code::Missing,
                                    value.span.clone(),
                                    "an input needs `from`",
                                );
                            }
                            continue;
                        }
                    }
                }
                Value::Null | Value::Scalar { .. } | Value::List(_) => value,
            };
            if let (Some(name), Some(source)) = (name, self.input_source(from, unread)) {
                places.inputs.insert(name.clone(), from.span.clone());
                inputs.insert(name, source);
            }
        }
        inputs
    }

    fn input_source(&mut self, node: &Node, unread: &HashSet<&str>) -> Option<InputSource> {
        let text = self.text(node, "an input")?;
        let Some((stage, output)) = text.split_once('.') else {
            self.sink
                .error(
                    Code::InvalidValue,
                    node.span.clone(),
                    format!("`{}` does not name an output", shortened(text)),
                )
                .help("write STAGE.OUTPUT, as in train.model");
            return None;
        };
        if unread.contains(stage) {
            return None;
        }
        let stage_name = self.checked_name(stage, &self.part(node, &(0..stage.len())));
        let rest = stage.len() + 1..text.len();
        let output_name = self.checked_name(output, &self.part(node, &rest));
        Some(InputSource {
            stage: stage_name?,
            output: output_name?,
        })
    }
}
