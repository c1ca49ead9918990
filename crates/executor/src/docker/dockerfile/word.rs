//! The words of an instruction: quotes and variables.

use std::collections::BTreeMap;

use super::LARGEST;
use super::instruction::is_blank;

/// The words of a text: blanks within quotes, and after a backslash, do not end one.
pub(super) fn quoted_words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begun = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if is_blank(c) && quote.is_none() && !escaped {
            words.extend(begun.take().map(|from| &text[from..at]));
            continue;
        }
        begun.get_or_insert(at);
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    words.extend(begun.map(|from| &text[from..]));
    words
}

/// The names of the variables in a text, `$NAME` and `${NAME…}`; maybe too many, where a `$` begins none.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).map(|part| {
        let part = part.strip_prefix('{').unwrap_or(part);
        let end = part
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(part.len());
        &part[..end]
    })
}

/// A word with its variables replaced and its quotes removed; an error where this is ambiguous.
pub(super) fn expand(
    text: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, &'static str> {
    let mut expanded = String::new();
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => return Err("backslashes are not supported here"),
            '"' => {
                quoted = !quoted;
                after
            }
            '\'' if !quoted => {
                let (literal, after) = after.split_once('\'').ok_or("a quote is not closed")?;
                expanded.push_str(literal);
                after
            }
            '$' => {
                let (value, after) = variable(after, values)?;
                expanded.push_str(&value);
                if expanded.len() > LARGEST {
                    return Err("it is too long");
                }
                after
            }
            c => {
                expanded.push(c);
                after
            }
        };
    }
    if quoted {
        return Err("a quote is not closed");
    }
    Ok(expanded)
}

/// The variable after a `$`: its value, and what follows.
fn variable<'t>(
    text: &'t str,
    values: &BTreeMap<String, String>,
) -> Result<(String, &'t str), &'static str> {
    let unknown = "expected a variable as $NAME, ${NAME}, ${NAME:-VALUE} or ${NAME:+VALUE}";
    let name_end = |text: &str| {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(text.len())
    };
    let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let Some(inner) = text.strip_prefix('{') else {
        let (name, after) = text.split_at(name_end(text));
        let value = values.get(name).cloned().unwrap_or_default();
        return if is_name(name) {
            Ok((value, after))
        } else {
            Err(unknown)
        };
    };
    let (inner, after) = inner.split_once('}').ok_or(unknown)?;
    let (name, rule) = inner.split_at(name_end(inner));
    if !is_name(name) || rule.contains(['$', '{', '"', '\'', '\\']) {
        return Err(unknown);
    }
    let value = values.get(name).filter(|value| !value.is_empty());
    let value = if rule.is_empty() {
        value.cloned().unwrap_or_default()
    } else if let Some(default) = rule.strip_prefix(":-") {
        value.map_or_else(|| default.to_owned(), Clone::clone)
    } else if let Some(instead) = rule.strip_prefix(":+") {
        value.map(|_| instead.to_owned()).unwrap_or_default()
    } else {
        return Err(unknown);
    };
    Ok((value, after))
}
