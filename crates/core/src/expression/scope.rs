//! What the expressions of one stage may refer to, checked before anything runs.

use std::collections::BTreeSet;

use crate::dag::nearest;
use crate::expression::machine;
use crate::name::{ParamName, StageName};

/// What `cause` holds, beside `params` and `stages`.
const CAUSE_FIELDS: [&str; 4] = ["kind", "branch", "commit", "logical_time"];

/// What each of `stages` holds.
const STAGE_FIELDS: [&str; 3] = ["outcome", "metrics", "image"];

/// The names that there are at the top.
const ROOTS: [&str; 3] = ["params", "cause", "stages"];

/// The names that an expression of one stage may use.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The DAG's parameters.
    pub params: BTreeSet<ParamName>,
    /// The stages that the stage needs, directly or not.
    pub stages: BTreeSet<StageName>,
}

impl Scope {
    /// References of an expression to what does not exist: message and help, each.
    pub(super) fn faults(&self, source: &str) -> Vec<(String, Option<String>)> {
        let dotted = machine::references(source);
        let subscripted = subscripted(source);
        let paths: BTreeSet<(String, Vec<String>)> = dotted
            .into_iter()
            .map(|path| {
                let parts = path.split('.').map(ToOwned::to_owned).collect();
                (path, parts)
            })
            .chain(subscripted)
            .collect();
        paths
            .iter()
            .filter_map(|(path, parts)| self.fault(path, parts))
            .collect()
    }

    fn fault(&self, path: &str, parts: &[String]) -> Option<(String, Option<String>)> {
        let part = |place: usize| parts.get(place).map(String::as_str);
        let among = |written: &str, known: Vec<&str>, what: &str| {
            let help = nearest(written, known.iter().copied())
                .map(|name| format!("did you mean `{name}`?"))
                .or_else(|| (!known.is_empty()).then(|| format!("there is {}", known.join(", "))));
            Some((format!("`{path}` refers to {what} `{written}`"), help))
        };
        match (part(0)?, part(1)) {
            ("params", Some(name)) if !self.params.contains(name) => {
                let known = self.params.iter().map(ParamName::as_str).collect();
                among(name, known, "an undeclared parameter")
            }
            ("stages", Some(name)) if !self.stages.contains(name) => {
                let what = "a stage that this one does not need:";
                if let Some(meant) = self.dashed(name) {
                    let help = format!("`-` means minus here; write `stages['{meant}']`");
                    return Some((format!("`{path}` refers to {what} `{name}`"), Some(help)));
                }
                let known = self.stages.iter().map(StageName::as_str).collect();
                among(name, known, what)
            }
            ("stages", Some(_)) => {
                let field = part(2).filter(|field| !STAGE_FIELDS.contains(field))?;
                among(field, STAGE_FIELDS.to_vec(), "an unknown field of a stage:")
            }
            ("cause", Some(name)) if !CAUSE_FIELDS.contains(&name) => among(
                name,
                CAUSE_FIELDS.to_vec(),
                "an unknown field of the cause:",
            ),
            (root, _) if ROOTS.contains(&root) => None,
            (root, _) => among(root, ROOTS.to_vec(), "an unknown name"),
        }
    }

    /// The stage that `stages.train-2` means, of which only `train` is read as its name.
    fn dashed(&self, beginning: &str) -> Option<&StageName> {
        self.stages.iter().find(|stage| {
            stage
                .as_str()
                .strip_prefix(beginning)
                .is_some_and(|rest| rest.starts_with('-'))
        })
    }
}

/// Paths that hold a subscript with a literal, such as `stages['train-2'].outcome`: as written, and
/// their parts. The machine tells of paths with dots only.
fn subscripted(source: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if let Some((_, after)) = string_literal(rest) {
            rest = after;
        } else if let Some((root, mut after)) = word(rest) {
            let mut parts = vec![root.to_owned()];
            let mut has_subscript = false;
            loop {
                let open = after.trim_start();
                if let Some((name, next)) = open
                    .strip_prefix('.')
                    .and_then(|dotted| word(dotted.trim_start()))
                {
                    parts.push(name.to_owned());
                    after = next;
                } else if let Some((name, next)) = subscript(open) {
                    parts.push(name.to_owned());
                    has_subscript = true;
                    after = next;
                } else {
                    break;
                }
            }
            if has_subscript && ROOTS.contains(&root) {
                let path = rest[..rest.len() - after.len()].to_owned();
                found.push((path, parts));
            }
            rest = after;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn word(text: &str) -> Option<(&str, &str)> {
    let starts = text
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_');
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    starts.then(|| text.split_at(end))
}

/// `['name']`: the name, and what follows.
fn subscript(text: &str) -> Option<(&str, &str)> {
    let (name, after) = string_literal(text.strip_prefix('[')?.trim_start())?;
    Some((name, after.trim_start().strip_prefix(']')?))
}

/// A literal at the beginning: what is between its quotes, and what follows.
fn string_literal(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut escaped = false;
    let (end, _) = text[1..].char_indices().find(|(_, c)| {
        let closes = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    })?;
    Some((&text[1..=end], &text[end + 2..]))
}
