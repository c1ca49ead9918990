//! Reads values by their wanted type. A value that does not fit is reported, and reading goes on.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use trainyard_core::measure::{in_units, in_words};
use trainyard_core::name::NameError;
use trainyard_core::text::shortened;

use super::{forms, synonyms};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::limits::ENTRIES_AT_MOST;
use crate::quantity;
use crate::tree::{Key, Node, Value};

/// A map whose keys were checked.
#[derive(Debug, Clone)]
pub(super) struct Fields<'n> {
    fields: &'n [(Key, Node)],
    /// The keys that unknown ones seem to stand for: these are not reported as missing.
    meant: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Checks that `node` is a map with only these keys, each once. `what` names it for people.
    pub(super) fn of(
        node: &'n Node,
        what: &str,
        keys: &[&'static str],
        sink: &mut Sink<'_>,
    ) -> Option<Self> {
        let fields = all(node, what, sink)?;
        let mut meant = if sink.has_wrong_merge {
            keys.to_vec()
        } else {
            Vec::new()
        };
        for (key, _) in fields {
            if keys.contains(&&*key.text) {
                continue;
            }
            let right = synonyms::right_word(&key.text, keys)
                .or_else(|| sink.nearest(&key.text, synonyms::working(keys)));
            let foreign = synonyms::foreign(&key.text, keys);
            let help = match (foreign, right) {
                (Some(help), _) => help.to_owned(),
                (None, Some(word)) => format!("did you mean `{word}`?"),
                (None, None) if keys.is_empty() => {
                    "leave it out: there are no keys here".to_owned()
                }
                (None, None) => {
                    let working: Vec<&str> = synonyms::working(keys).collect();
                    // Only the file itself has `stages`.
                    let more = if keys.contains(&"stages") {
                        "; a key that begins with `x-` may hold anything"
                    } else {
                        ""
                    };
                    format!("there is {}{more}", working.join(", "))
                }
            };
            if foreign.is_none() {
                meant.extend(right);
            }
            sink.error(
                Code::UnknownKey,
                key.span.clone(),
                format!("{what} has no key `{}`", shortened(&key.text)),
            )
            .help(help);
        }
        Some(Self { fields, meant })
    }

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

/// The fields of a map. Of a key that stands twice, each one after the first is a fault.
pub(super) fn all<'n>(
    node: &'n Node,
    what: &str,
    sink: &mut Sink<'_>,
) -> Option<&'n [(Key, Node)]> {
    let Value::Map(fields) = &node.value else {
        wrong_type(node, what, "a map of keys and values", sink);
        return None;
    };
    let mut seen = HashSet::with_capacity(fields.len());
    for (key, _) in &**fields {
        if !seen.insert(&*key.text) {
            sink.error(
                Code::DuplicateKey,
                key.span.clone(),
                format!("`{}` stands here twice", shortened(&key.text)),
            )
            .help("remove one of them");
        }
    }
    Some(fields)
}

/// As [`all`], up to a bound on their number.
pub(super) fn map<'n>(
    node: &'n Node,
    what: &str,
    sink: &mut Sink<'_>,
) -> Option<&'n [(Key, Node)]> {
    let fields = all(node, what, sink)?;
    Some(bounded(fields, node, what, sink))
}

/// The first entries of too many; the others are counted, and cost no other work.
fn bounded<'n, T>(entries: &'n [T], node: &Node, what: &str, sink: &mut Sink<'_>) -> &'n [T] {
    if entries.len() <= ENTRIES_AT_MOST {
        return entries;
    }
    let message = format!(
        "{what} may have {ENTRIES_AT_MOST} entries at the most, not {}",
        entries.len()
    );
    sink.error(Code::TooLarge, node.span.clone(), message);
    &entries[..ENTRIES_AT_MOST]
}

pub(super) fn wrong_type(node: &Node, what: &str, wanted: &str, sink: &mut Sink<'_>) {
    let message = match &node.value {
        Value::Null => format!("{what} must be {wanted}, not empty"),
        _ => format!("{what} must be {wanted}, not {}", node.kind()),
    };
    sink.error(Code::WrongType, node.span.clone(), message)
        .maybe_help(forms::right_form(what, node));
}

pub(super) fn invalid(span: &Range<usize>, message: String, sink: &mut Sink<'_>) {
    sink.error(Code::InvalidValue, span.clone(), message);
}

/// A text, whatever it looks like.
pub(super) fn text<'n>(node: &'n Node, what: &str, sink: &mut Sink<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => {
            wrong_type(node, what, "a text", sink);
            None
        }
    }
}

/// A name, by its own rule.
pub(super) fn name<T: FromStr<Err = NameError>>(
    node: &Node,
    what: &str,
    sink: &mut Sink<'_>,
) -> Option<T> {
    checked_name(text(node, what, sink)?, &node.span, sink)
}

pub(super) fn checked_name<T: FromStr<Err = NameError>>(
    text: &str,
    span: &Range<usize>,
    sink: &mut Sink<'_>,
) -> Option<T> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            invalid(span, error.to_string(), sink);
            None
        }
    }
}

/// `true` or `false`, unquoted.
pub(super) fn boolean(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<bool> {
    match &node.value {
        Value::Scalar { text, plain: true } if &**text == "true" => Some(true),
        Value::Scalar { text, plain: true } if &**text == "false" => Some(false),
        Value::Scalar { text, .. } if let Some(meant) = meant_boolean(text) => {
            sink.error(
                Code::WrongType,
                node.span.clone(),
                format!("{what} must be true or false, not `{}`", shortened(text)),
            )
            .help(format!(
                "did you mean `{meant}`? YAML 1.2 has only `true` and `false`"
            ));
            None
        }
        _ => {
            wrong_type(node, what, "true or false", sink);
            None
        }
    }
}

/// The boolean that is meant by a word of other versions of YAML, or of other languages.
fn meant_boolean(text: &str) -> Option<bool> {
    // A boolean already, but in quotes.
    if matches!(text, "true" | "false") {
        return None;
    }
    match &*text.to_ascii_lowercase() {
        "yes" | "on" | "y" | "true" => Some(true),
        "no" | "off" | "n" | "false" => Some(false),
        _ => None,
    }
}

/// A whole number within bounds.
pub(super) fn integer(
    node: &Node,
    what: &str,
    bounds: RangeInclusive<i64>,
    sink: &mut Sink<'_>,
) -> Option<i64> {
    let Value::Scalar { text, plain: true } = &node.value else {
        wrong_type(node, what, "a whole number", sink);
        return None;
    };
    match text.parse::<i64>() {
        Ok(number) if bounds.contains(&number) => Some(number),
        Ok(number) => {
            let message = format!(
                "{what} must be from {} to {}, not {number}",
                bounds.start(),
                bounds.end()
            );
            invalid(&node.span, message, sink);
            None
        }
        Err(_) => {
            invalid(
                &node.span,
                format!("{what} must be a whole number, not `{}`", shortened(text)),
                sink,
            );
            None
        }
    }
}

pub(super) fn number(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<f64> {
    let Value::Scalar { text, plain: true } = &node.value else {
        wrong_type(node, what, "a number", sink);
        return None;
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(number),
        _ => {
            invalid(
                &node.span,
                format!("{what} must be a number, not `{}`", shortened(text)),
                sink,
            );
            None
        }
    }
}

/// A duration within bounds.
pub(super) fn duration(
    node: &Node,
    what: &str,
    bounds: RangeInclusive<Duration>,
    sink: &mut Sink<'_>,
) -> Option<Duration> {
    let text = text(node, what, sink)?;
    let Some(duration) = quantity::duration(text) else {
        sink.error(
            Code::InvalidValue,
            node.span.clone(),
            format!("{what} is not a duration: `{}`", shortened(text)),
        )
        .help("write it with its unit, as in 90s, 30m, 6h, 1h30m or 2d");
        return None;
    };
    if bounds.contains(&duration) {
        return Some(duration);
    }
    let message = format!(
        "{what} must be from {} to {}",
        in_words(*bounds.start()),
        in_words(*bounds.end())
    );
    invalid(&node.span, message, sink);
    None
}

/// A size in bytes within bounds.
pub(super) fn size(
    node: &Node,
    what: &str,
    bounds: RangeInclusive<u64>,
    sink: &mut Sink<'_>,
) -> Option<u64> {
    let text = text(node, what, sink)?;
    let Some(size) = quantity::size(text) else {
        sink.error(
            Code::InvalidValue,
            node.span.clone(),
            format!("{what} is not a size: `{}`", shortened(text)),
        )
        .help("write it with its unit, as in 512MiB or 8GiB");
        return None;
    };
    if bounds.contains(&size) {
        return Some(size);
    }
    let message = format!(
        "{what} must be from {} to {}",
        in_units(*bounds.start()),
        in_units(*bounds.end())
    );
    invalid(&node.span, message, sink);
    None
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(
    node: &Node,
    what: &str,
    choices: &[(&str, T)],
    sink: &mut Sink<'_>,
) -> Option<T> {
    let written = text(node, what, sink)?;
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == written) {
        return Some(*choice);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let help = sink
        .nearest(written, words.iter().copied())
        .map(|word| format!("did you mean `{word}`?"));
    let message = format!(
        "{what} cannot be `{}`; it is one of {}",
        shortened(written),
        words.join(", ")
    );
    sink.error(Code::InvalidValue, node.span.clone(), message)
        .maybe_help(help);
    None
}

/// The items of a list.
pub(super) fn list<'n>(node: &'n Node, what: &str, sink: &mut Sink<'_>) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) => Some(bounded(items, node, what, sink)),
        Value::Null | Value::Scalar { .. } | Value::Map(_) => {
            wrong_type(node, what, "a list", sink);
            None
        }
    }
}

/// The items of a list, or a single text for a list of one.
pub(super) fn list_or_one<'n>(node: &'n Node, what: &str, sink: &mut Sink<'_>) -> Vec<&'n Node> {
    match &node.value {
        Value::List(items) => bounded(items, node, what, sink).iter().collect(),
        Value::Scalar { .. } => vec![node],
        Value::Null | Value::Map(_) => {
            wrong_type(node, what, "a list", sink);
            Vec::new()
        }
    }
}

/// A nested part of a scalar's text: its place in the file, as exactly as possible.
pub(super) fn part(node: &Node, part: &Range<usize>, sink: &Sink<'_>) -> Range<usize> {
    let whole = node.span.clone();
    let (Value::Scalar { text, plain }, Some(raw)) =
        (&node.value, sink.source().get(whole.clone()))
    else {
        return whole;
    };
    let quotes = usize::from(!plain);
    let as_it_is = raw
        .get(quotes..)
        .is_some_and(|raw| raw.starts_with(&**text));
    if as_it_is && part.end <= text.len() {
        let start = whole.start + quotes;
        return start + part.start..start + part.end;
    }
    // Over several lines, or with escapes: where the part's own text is found once, that is it.
    let Some(wanted) = text.get(part.clone()).filter(|wanted| !wanted.is_empty()) else {
        return whole;
    };
    let mut found = raw.match_indices(wanted);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => whole.start + at..whole.start + at + wanted.len(),
        _ => whole,
    }
}
