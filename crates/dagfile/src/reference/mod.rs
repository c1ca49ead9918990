//! `docs/dag-file.md`: the lists of keys in it are made from the schema, and a test runs
//! everything else that it shows.
//!
//! `UPDATE_DOCS=1 cargo test -p trainyard-dagfile reference` writes the lists, from the table of keys in
//! [`crate::document`]. The message about a wrong value is the reader's answer to it.

mod base;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::base::{Base, base};
use crate::document::{FORMS, Form, FormKey};
use crate::{json_schema, parse, render};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(docs().join(name)).unwrap()
}

/// The maps that have a section.
fn sections() -> impl Iterator<Item = &'static Form> {
    FORMS.iter().copied().filter(|form| !form.title.is_empty())
}

/// A map as the schema describes it.
fn described(form: &Form) -> Value {
    let mut schema = json_schema();
    match form.name {
        "Dag" => schema,
        name => schema["$defs"][name].take(),
    }
}

fn text(described: &Value) -> String {
    let text = described["description"].as_str().unwrap_or_default();
    text.replace('\n', " ")
}

/// The type of a value, in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return named(name.rsplit('/').next().unwrap());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let choices: Vec<String> = choices
            .iter()
            .filter(|choice| choice["type"] != "null")
            .map(kind)
            .collect();
        return choices.join(", or ");
    }
    let word = match &schema["type"] {
        Value::Array(words) => words.iter().find(|word| *word != "null").unwrap(),
        word => word,
    };
    match word.as_str().unwrap() {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => match kind(&schema["items"]).as_str() {
            "text" => "list of texts".to_owned(),
            items => format!("list of {items}"),
        },
        "object" => match &schema["additionalProperties"] {
            Value::Object(_) => {
                format!("map of names to {}", kind(&schema["additionalProperties"]))
            }
            _ => "map without keys".to_owned(),
        },
        other => panic!("{other}"),
    }
}

/// A type of the schema: words, one of several, or a map with a section of its own.
fn named(name: &str) -> String {
    let schema = json_schema();
    let form = &schema["$defs"][name];
    if let Some(words) = form["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap()))
            .collect();
        return words.join(", ");
    }
    if name.starts_with("OneOrMany") {
        return format!("{}, or a list of these", kind(&form["anyOf"][0]));
    }
    if let Some(section) = sections().find(|section| section.name == name) {
        let anchor = section
            .title
            .to_lowercase()
            .replace(' ', "-")
            .replace('`', "");
        return format!("[map](#{anchor})");
    }
    match name {
        "Duration" => "[duration](#durations-sizes-and-names)".to_owned(),
        "Size" => "[size](#durations-sizes-and-names)".to_owned(),
        "Expression" => "[expression](#expressions)".to_owned(),
        "Scalar" => "text, number, `true` or `false`".to_owned(),
        _ => kind(form),
    }
}

/// A whole file in which a map has these keys.
fn file(map: &str, says: &str) -> String {
    let Base { file, keys } = base(map);
    let keys: Vec<&str> = keys
        .iter()
        .filter(|(key, not_with, _)| {
            let has = |key: &str| says.contains(&format!("{key}:"));
            !has(key) && !not_with.iter().any(|other| has(other))
        })
        .map(|(_, _, text)| *text)
        .chain([says])
        .collect();
    file.replace('…', &keys.join(", "))
}

/// The reader's answer to a wrong value: the message, and what to do.
fn fault(map: &str, wrong: &str) -> String {
    let file = file(map, wrong);
    let found = parse("dags/retrain.yaml", &file).diagnostics;
    let [fault] = &*found else {
        panic!(
            "`{wrong}` of {map} has {} faults: {found:#?}\n{file}",
            found.len()
        );
    };
    match &fault.help {
        Some(help) => format!("{} ({help})", fault.message),
        None => fault.message.clone(),
    }
}

/// The list of a map's keys.
fn list(form: &Form) -> String {
    let mut page = String::new();
    let schema = described(form);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for FormKey {
        name, documented, ..
    } in form.keys
    {
        let Some(documented) = documented else {
            continue;
        };
        let key = &schema["properties"][name];
        let default = match documented.default {
            _ if required.iter().any(|required| required == name) => "; required".to_owned(),
            "" => ". Default: none".to_owned(),
            default => format!(". Default: {default}"),
        };
        let (right, wrong) = (documented.right, documented.wrong);
        let fault = fault(form.name, wrong);
        let _ = write!(
            page,
            "\n**`{name}`**: {}\n\n- Type: {}{default}\n- Example: `{right}`\n- Refused: `{wrong}`, with: {fault}\n",
            text(key),
            kind(key),
        );
    }
    let reserved = form.keys.iter().filter(|key| !key.is_supported());
    let reserved: Vec<String> = reserved.map(|key| format!("`{}`", key.name)).collect();
    if !reserved.is_empty() {
        let _ = write!(
            page,
            "\nReserved for later, and refused as \"not supported yet\": {}.\n",
            reserved.join(", ")
        );
    }
    page
}

/// The page with its lists as the schema has them.
fn with_lists(page: &str) -> String {
    let mut new = page.to_owned();
    for form in sections() {
        let map = form.name;
        let start = format!("<!-- keys of {map} -->\n");
        let from = new
            .find(&start)
            .unwrap_or_else(|| panic!("no list of {map}"))
            + start.len();
        let end = from
            + new[from..]
                .find("\n<!-- end -->")
                .expect("the end of the list");
        new.replace_range(from..end, list(form).trim_end());
    }
    new
}

#[test]
fn the_reference_lists_every_key_as_the_schema_and_the_reader_have_it() {
    let now = page("dag-file.md");
    let new = with_lists(&now);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(docs().join("dag-file.md"), &new).unwrap();
        return;
    }
    for (now, new) in now.lines().zip(new.lines()) {
        let how = "UPDATE_DOCS=1 cargo test -p trainyard-dagfile reference";
        assert_eq!(now, new, "docs/dag-file.md is not up to date; run: {how}");
    }
    assert_eq!(now.len(), new.len());
}

#[test]
fn every_key_has_an_example_that_is_right() {
    for form in sections() {
        for key in form.keys {
            let Some(documented) = &key.documented else {
                continue;
            };
            assert!(documented.right.contains(key.name), "{key:?}");
            assert!(documented.wrong.contains(key.name), "{key:?}");
            let file = file(form.name, documented.right);
            let parsed = parse("dags/retrain.yaml", &file);
            let shown = render("dags/retrain.yaml", &file, &parsed.diagnostics, false);
            assert!(parsed.dag.is_some(), "{shown}");
        }
    }
}

/// The code blocks of a page that are in this language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    page.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

#[test]
fn every_dag_file_in_the_documentation_is_valid() {
    let mut count = 0;
    for name in [
        "dag-file.md",
        "coming-from.md",
        "troubleshooting.md",
        "../README.md",
    ] {
        let page = page(name);
        for block in blocks(&page, "yaml") {
            let parsed = parse("dags/retrain.yaml", block);
            let shown = render(name, block, &parsed.diagnostics, false);
            assert!(parsed.dag.is_some(), "{shown}");
            count += 1;
        }
    }
    assert!(count >= 6, "{count} files");
}

/// The first cells of a table's rows: the code in them, up to a line without a row.
fn cells(page: &str, head: &str) -> Vec<String> {
    let (_, table) = page
        .split_once(head)
        .unwrap_or_else(|| panic!("no table {head}"));
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.split('`')
                .nth(1)
                .unwrap_or_default()
                .replace("\\|", "|")
        })
        .collect()
}

#[test]
fn the_reference_names_every_function_and_every_word_of_the_expressions() {
    let page = page("dag-file.md");
    // The messages list every condition that exists.
    let listed = |condition: &str| {
        let file = format!(
            "stages: {{work: {{image: alpine:3}}, b: {{image: alpine:3, needs: [work], run_on: [always], if: '{condition}'}}}}"
        );
        let found = parse("dags/a.yaml", &file).diagnostics;
        let help = found[0].help.clone().unwrap();
        let words = help
            .trim_start_matches("there is ")
            .trim_start_matches("it is one of ");
        let words = words.replace(" and ", ", ").replace(" or ", ", ");
        words
            .split(", ")
            .map(|word| word.trim_matches('`').to_owned())
            .collect::<Vec<_>>()
    };
    let functions = cells(&page, "| function |");
    let called = |name: &String| {
        functions
            .iter()
            .any(|cell| cell.contains(&format!("{name}(")))
    };
    for name in [listed("zzzzzzzzz(1)"), listed("\"a\".zzzzzzzzz(1)")].concat() {
        assert!(called(&name), "`{name}` is not in {functions:?}");
    }
    let kinds = cells(&page, "| `cause.kind` | the run");
    assert_eq!(kinds, listed("cause.kind == \"zzzzzzzzz\""));
    let outcomes = cells(&page, "| outcome |");
    assert_eq!(outcomes, listed("stages.work.outcome == \"zzzzzzzzz\""));
}

#[test]
fn the_expressions_in_the_reference_are_valid() {
    let page = page("dag-file.md");
    let expressions = [
        cells(&page, "| operator |"),
        cells(&page, "| function |"),
        cells(&page, "| value |"),
    ]
    .concat();
    assert!(expressions.len() >= 15, "{expressions:?}");
    for expression in expressions {
        let file = format!(
            "params:
  epochs: {{type: integer, default: 10}}
  rate: {{type: number, default: 0.1}}
  full: {{type: boolean, default: false}}
  optimizer: {{type: string, default: sgd}}
stages:
  train: {{image: alpine:3, metrics: metrics.json}}
  next:
    image: alpine:3
    needs: [train]
    run_on: [always]
    env: {{VALUE: '${{{{ {expression} }}}}'}}
"
        );
        let parsed = parse("dags/a.yaml", &file);
        let shown = render("dags/a.yaml", &file, &parsed.diagnostics, false);
        assert!(parsed.dag.is_some(), "{shown}");
    }
}
