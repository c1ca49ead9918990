//! The right form of what is written in another one: `retry: 3` is `retry: {attempts: 3}`.

use trainyard_core::text::shortened;

use crate::tree::{Node, Value};

/// How to write `node`, which is of the wrong type for `what`, as messages name it.
pub(super) fn right_form(what: &str, node: &Node) -> Option<String> {
    let what = what.replace('`', "");
    let (kind, name) = match what.split_once(' ') {
        Some((kind @ ("stage" | "parameter" | "output"), name)) => (kind, name),
        _ => (what.as_str(), ""),
    };
    let form = match (kind, &node.value) {
        ("schedule", Value::Scalar { text, .. }) => {
            format!("schedule: [{{cron: \"{}\"}}]", shortened(text))
        }
        ("push", Value::Null) => return None,
        ("push", _) => format!("push: {{branches: [{}]}}", items(node)?),
        ("triggers", _) => format!("triggers: {{{}: {{}}}}", items(node)?),
        ("retry", Value::Scalar { .. }) => format!("retry: {{attempts: {}}}", scalar(node)?),
        ("concurrency", Value::Scalar { text, plain }) => {
            if *plain && text.parse::<u32>().is_ok() {
                format!("concurrency: {{limit: {}}}", scalar(node)?)
            } else {
                "concurrency: {group: cause.branch, overlap: queue}".to_owned()
            }
        }
        ("resources", _) => "resources: {cpus: 2, memory: 4GiB}".to_owned(),
        ("outputs", Value::Scalar { .. } | Value::List(_)) => {
            format!(
                "outputs: {{{}}}",
                pairs(node, |path| {
                    let name = path.rsplit('/').next().unwrap_or(path);
                    (
                        word(name.split('.').next().unwrap_or(name)),
                        path.to_owned(),
                    )
                })?
            )
        }
        ("inputs", Value::Scalar { .. } | Value::List(_)) => {
            format!(
                "inputs: {{{}}}",
                pairs(node, |from| {
                    (
                        word(from.rsplit('.').next().unwrap_or(from)),
                        from.to_owned(),
                    )
                })?
            )
        }
        ("env", Value::Scalar { .. } | Value::List(_)) => {
            format!("env: {{{}}}", pairs(node, variable)?)
        }
        ("build arguments", Value::Scalar { .. } | Value::List(_)) => {
            format!("args: {{{}}}", pairs(node, variable)?)
        }
        ("gate" | "a gate", Value::Scalar { text, .. }) => {
            let rule = rule(text).unwrap_or_else(|| "{metric: auc, min: 0.8}".to_owned());
            format!("gate: [{rule}]")
        }
        ("stages", _) => "stages: {NAME: {image: alpine:3, run: …}}".to_owned(),
        ("stage", Value::Scalar { .. }) => {
            format!("{name}: {{image: alpine:3, run: {}}}", scalar(node)?)
        }
        ("params", Value::List(_) | Value::Scalar { .. }) => {
            format!(
                "params: {{{}: {{type: string}}}}",
                items(node)?.split(',').next()?
            )
        }
        ("parameter", Value::Scalar { text, plain }) => {
            let kind = match &**text {
                "true" | "false" if *plain => "boolean",
                text if *plain && text.parse::<i64>().is_ok() => "integer",
                text if *plain && text.parse::<f64>().is_ok() => "number",
                _ => "string",
            };
            format!("{name}: {{type: {kind}, default: {}}}", scalar(node)?)
        }
        ("parameter", Value::Null) => format!("{name}: {{type: string}}"),
        ("secrets" | "needs" | "pools" | "run_on", Value::Map(fields)) => {
            let names = fields
                .iter()
                .take(SHOWN)
                .map(|(key, _)| key.text.to_string());
            format!("{kind}: [{}]", names.collect::<Vec<_>>().join(", "))
        }
        ("run", Value::List(_)) => return Some(
            "write one script, its lines below `run: |`; a program with its arguments is `command`"
                .to_owned(),
        ),
        ("shell", Value::Scalar { .. }) => "shell: [bash, -euo, pipefail, -c]".to_owned(),
        ("build", Value::List(_)) => "build: .".to_owned(),
        ("the image", Value::Map(_)) => "image: alpine:3".to_owned(),
        ("metrics", _) => "metrics: metrics.json".to_owned(),
        (_, Value::Scalar { text, plain: false })
            if text.parse::<f64>().is_ok() || matches!(&**text, "true" | "false") =>
        {
            return Some(format!("write {} without quotes", shortened(text)));
        }
        _ => return None,
    };
    Some(format!("write `{form}`"))
}

/// The most items that are written out.
const SHOWN: usize = 3;

/// A scalar as it can be written within braces.
fn scalar(node: &Node) -> Option<String> {
    let Value::Scalar { text, .. } = &node.value else {
        return None;
    };
    Some(quoted(text))
}

fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let short = shortened(text).to_string();
    if !short.is_empty() && short.chars().all(is_plain) {
        short
    } else {
        format!("\"{}\"", short.replace('"', "'").replace('\n', " "))
    }
}

/// The texts of a scalar, or the first of a list.
fn texts(node: &Node) -> Vec<&str> {
    match &node.value {
        Value::Scalar { text, .. } => vec![text],
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Scalar { text, .. } => Some(&**text),
                _ => None,
            })
            .take(SHOWN)
            .collect(),
        Value::Null | Value::Map(_) => Vec::new(),
    }
}

fn items(node: &Node) -> Option<String> {
    let items: Vec<String> = texts(node).into_iter().map(quoted).collect();
    (!items.is_empty()).then(|| items.join(", "))
}

/// `a: x, b: y`, of a list of texts.
fn pairs(node: &Node, pair: impl Fn(&str) -> (String, String)) -> Option<String> {
    let pairs: Vec<String> = texts(node)
        .into_iter()
        .map(|text| {
            let (name, value) = pair(text);
            format!("{name}: {}", quoted(&value))
        })
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(", "))
}

/// `NAME=VALUE`, or a name alone.
fn variable(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, "…"));
    (shortened(name.trim()).to_string(), value.trim().to_owned())
}

/// A name that an output or input may have.
fn word(text: &str) -> String {
    let word: String = shortened(text)
        .to_string()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .collect::<String>()
        .to_ascii_lowercase();
    if word.is_empty() {
        "NAME".to_owned()
    } else {
        word
    }
}

/// `auc > 0.8` as a rule of a gate.
fn rule(text: &str) -> Option<String> {
    let (metric, rest) = text.split_once(['<', '>'])?;
    let bound = if text.contains('>') { "min" } else { "max" };
    let number: f64 = rest.trim_start_matches('=').trim().parse().ok()?;
    let metric = metric.trim();
    // As an expression elsewhere would name it.
    let metric = metric.strip_prefix("metrics.").unwrap_or(metric);
    Some(format!("{{metric: {}, {bound}: {number}}}", quoted(metric)))
}
