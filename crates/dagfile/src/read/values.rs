//! Reads values by their wanted type. A value that does not fit is reported, and reading goes on.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use trainyard_core::measure::{in_units, in_words, parse_duration, parse_size};
use trainyard_core::name::NameError;
use trainyard_core::text::shortened;

use super::{FileReader, forms};
use crate::diagnostic::DiagnosticCode as Code;
use crate::tree::{Node, Value};

impl FileReader<'_> {
    pub(super) fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = match &node.value {
            Value::Null => format!("{what} must be {wanted}, not empty"),
            _ => format!("{what} must be {wanted}, not {}", node.kind()),
        };
        self.sink
            .error(Code::WrongType, node.span.clone(), message)
            .maybe_help(forms::right_form(what, node));
    }

    pub(super) fn invalid(&mut self, span: &Range<usize>, message: String) {
        self.sink.error(Code::InvalidValue, span.clone(), message);
    }

    /// A text, whatever it looks like.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, what, "a text");
                None
            }
        }
    }

    /// A name, by its own rule.
    pub(super) fn name<T: FromStr<Err = NameError>>(
        &mut self,
        node: &Node,
        what: &str,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        self.checked_name(text, &node.span)
    }

    pub(super) fn checked_name<T: FromStr<Err = NameError>>(
        &mut self,
        text: &str,
        span: &Range<usize>,
    ) -> Option<T> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.invalid(span, error.to_string());
                None
            }
        }
    }

    /// `true` or `false`, unquoted.
    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, plain: true } if &**text == "true" => Some(true),
            Value::Scalar { text, plain: true } if &**text == "false" => Some(false),
            Value::Scalar { text, .. } if let Some(meant) = meant_boolean(text) => {
                self.sink
                    .error(
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
                self.wrong_type(node, what, "true or false");
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(
        &mut self,
        node: &Node,
        what: &str,
        bounds: RangeInclusive<i64>,
    ) -> Option<i64> {
        let Value::Scalar { text, plain: true } = &node.value else {
            self.wrong_type(node, what, "a whole number");
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
                self.invalid(&node.span, message);
                None
            }
            Err(_) => {
                self.invalid(
                    &node.span,
                    format!("{what} must be a whole number, not `{}`", shortened(text)),
                );
                None
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node, what: &str) -> Option<f64> {
        let Value::Scalar { text, plain: true } = &node.value else {
            self.wrong_type(node, what, "a number");
            return None;
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Some(number),
            _ => {
                self.invalid(
                    &node.span,
                    format!("{what} must be a number, not `{}`", shortened(text)),
                );
                None
            }
        }
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        node: &Node,
        what: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.text(node, what)?;
        let Some(duration) = parse_duration(text) else {
            self.sink
                .error(
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
        self.invalid(&node.span, message);
        None
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &mut self,
        node: &Node,
        what: &str,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = self.text(node, what)?;
        let Some(size) = parse_size(text) else {
            self.sink
                .error(
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
        self.invalid(&node.span, message);
        None
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let written = self.text(node, what)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == written) {
            return Some(*choice);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = self
            .sink
            .nearest(written, words.iter().copied())
            .map(|word| format!("did you mean `{word}`?"));
        let message = format!(
            "{what} cannot be `{}`; it is one of {}",
            shortened(written),
            words.join(", ")
        );
        self.sink
            .error(Code::InvalidValue, node.span.clone(), message)
            .maybe_help(help);
        None
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(self.bounded(items, node, what)),
            Value::Null | Value::Scalar { .. } | Value::Map(_) => {
                self.wrong_type(node, what, "a list");
                None
            }
        }
    }

    /// The items of a list, or a single text for a list of one.
    pub(super) fn list_or_one<'n>(&mut self, node: &'n Node, what: &str) -> Vec<&'n Node> {
        match &node.value {
            Value::List(items) => self.bounded(items, node, what).iter().collect(),
            Value::Scalar { .. } => vec![node],
            Value::Null | Value::Map(_) => {
                self.wrong_type(node, what, "a list");
                Vec::new()
            }
        }
    }

    /// A nested part of a scalar's text: its place in the file, as exactly as possible.
    pub(super) fn part(&self, node: &Node, part: &Range<usize>) -> Range<usize> {
        let whole = node.span.clone();
        let (Value::Scalar { text, plain }, Some(raw)) =
            (&node.value, self.sink.source().get(whole.clone()))
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
