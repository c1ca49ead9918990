//! Maps with known keys.

use std::collections::HashSet;

use trainyard_core::text::shortened;

use super::{FileReader, synonyms};
use crate::diagnostic::DiagnosticCode as Code;
use crate::document::{self, Form};
use crate::limits::ENTRIES_AT_MOST;
use crate::tree::{Key, Node, Value};

/// A map whose keys were checked.
#[derive(Debug, Clone)]
pub(super) struct Fields<'n> {
    fields: &'n [(Key, Node)],
    /// The keys that unknown ones seem to stand for: these are not reported as missing.
    meant: Vec<&'static str>,
    /// Whether it has a key that this version does not support.
    pub(super) is_refused: bool,
}

impl<'n> Fields<'n> {
    /// Whether a key is missing, and no unknown one seems to stand for it.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.get(key).is_none() && !self.is_meant(key)
    }

    /// Whether an unknown key seems to stand for this one.
    pub(super) fn is_meant(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.fields
            .iter()
            .find(|(found, _)| &*found.text == key)
            .map(|(_, node)| node)
    }

    pub(super) fn key(&self, key: &str) -> Option<&'n Key> {
        self.fields
            .iter()
            .find(|(found, _)| &*found.text == key)
            .map(|(found, _)| found)
    }
}

impl FileReader<'_> {
    /// Checks that `node` is a map with only the keys of `form`, each once. `what` names it for people.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        form: &Form,
    ) -> Option<Fields<'n>> {
        let fields = self.all(node, what)?;
        let mut meant = Vec::new();
        if self.sink.has_wrong_merge {
            meant.extend(form.keys.iter().map(|key| key.name));
        }
        let mut is_refused = false;
        for (key, _) in fields {
            match form.key(&key.text) {
                Some(known) if known.is_supported() => {}
                Some(_) => {
                    is_refused = true;
                    let message = format!("`{}` is not supported yet", key.text);
                    self.sink
                        .error(Code::NotSupportedYet, key.span.clone(), message)
                        .help("leave it out for now");
                }
                None => meant.extend(self.unknown_key(key, what, form)),
            }
        }
        Some(Fields {
            fields,
            meant,
            is_refused,
        })
    }

    /// Reports a key that `form` does not have. Returns the one that it seems to stand for.
    fn unknown_key(&mut self, key: &Key, what: &str, form: &Form) -> Option<&'static str> {
        let right = synonyms::right_word(&key.text, form)
            .or_else(|| self.sink.nearest(&key.text, form.supported()));
        let foreign = synonyms::foreign(&key.text, form);
        let help = match (foreign, right) {
            (Some(help), _) => help.to_owned(),
            (None, Some(word)) => format!("did you mean `{word}`?"),
            (None, None) if form.keys.is_empty() => {
                "leave it out: there are no keys here".to_owned()
            }
            (None, None) => {
                let supported: Vec<&str> = form.supported().collect();
                let more = if form.name == document::Dag::FORM.name {
                    "; a key that begins with `x-` may hold anything"
                } else {
                    ""
                };
                format!("there is {}{more}", supported.join(", "))
            }
        };
        self.sink
            .error(
                Code::UnknownKey,
                key.span.clone(),
                format!("{what} has no key `{}`", shortened(&key.text)),
            )
            .help(help);
        right.filter(|_| foreign.is_none())
    }

    /// The fields of a map. Of a key that stands twice, each one after the first is a fault.
    pub(super) fn all<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        let Value::Map(fields) = &node.value else {
            self.wrong_type(node, what, "a map of keys and values");
            return None;
        };
        let mut seen = HashSet::with_capacity(fields.len());
        for (key, _) in &**fields {
            if !seen.insert(&*key.text) {
                self.sink
                    .error(
                        Code::DuplicateKey,
                        key.span.clone(),
                        format!("`{}` stands here twice", shortened(&key.text)),
                    )
                    .help("remove one of them");
            }
        }
        Some(fields)
    }

    /// As [`FileReader::all`], up to a bound on their number.
    pub(super) fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        let fields = self.all(node, what)?;
        Some(self.bounded(fields, node, what))
    }

    /// The first entries of too many; the others are counted, and cost no other work.
    pub(super) fn bounded<'n, T>(&mut self, entries: &'n [T], node: &Node, what: &str) -> &'n [T] {
        if entries.len() <= ENTRIES_AT_MOST {
            return entries;
        }
        let message = format!(
            "{what} may have {ENTRIES_AT_MOST} entries at the most, not {}",
            entries.len()
        );
        self.sink.error(Code::TooLarge, node.span.clone(), message);
        &entries[..ENTRIES_AT_MOST]
    }
}
