//! Checks a value against a schema of the document. It knows the keywords that the document uses, and fails on
//! others, so that none is ignored.

use serde_json::{Map, Value};

/// The parts of a value that the schema does not describe; empty where it conforms.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

/// A schema and all schemas that it is composed of.
fn parts<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let target = schema["$ref"]
        .as_str()
        .map(|name| document.pointer(name.trim_start_matches('#')).unwrap());
    let all_of = schema["allOf"].as_array().into_iter().flatten();
    let below = target.into_iter().chain(all_of);
    let mut all = vec![schema];
    all.extend(below.flat_map(|part| parts(document, part)));
    all
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let parts = parts(document, schema);
    for part in &parts {
        check_part(document, part, value, at, found);
    }
    let described: Vec<&Map<String, Value>> = parts
        .iter()
        .filter_map(|part| part["properties"].as_object())
        .collect();
    let is_open = parts
        .iter()
        .any(|part| part["additionalProperties"].is_object());
    let is_choice = ["oneOf", "anyOf"]
        .iter()
        .any(|word| schema.get(word).is_some());
    if described.is_empty() || is_open || is_choice {
        return;
    }
    for name in value.as_object().into_iter().flat_map(Map::keys) {
        if !described
            .iter()
            .any(|properties| properties.contains_key(name))
        {
            found.push(format!("{at}.{name}: it is not described"));
        }
    }
}

/// The same for the keywords of one part itself.
fn check_part(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for word in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[word].as_array() {
            let fits = choices
                .iter()
                .any(|choice| faults(document, choice, value).is_empty());
            if !fits {
                found.push(format!("{at}: none of {word} fits {value}"));
            }
        }
    }
    if let Some(kinds) = schema.get("type")
        && !kinds_of(kinds).any(|kind| is_a(kind, value))
    {
        found.push(format!("{at}: {value} is not {kinds}"));
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{at}: {value} is none of {words:?}"));
    }
    if let Some(members) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap();
            if !members.contains_key(name) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        let properties = schema["properties"].as_object();
        for (name, member) in members {
            let described = properties.and_then(|properties| properties.get(name));
            let at = format!("{at}.{name}");
            match (described, &schema["additionalProperties"]) {
                (Some(described), _) => check(document, described, member, &at, found),
                (None, Value::Object(_)) => {
                    check(
                        document,
                        &schema["additionalProperties"],
                        member,
                        &at,
                        found,
                    );
                }
                (None, _) => {}
            }
        }
    }
    if let (Some(items), Some(described)) = (value.as_array(), schema.get("items")) {
        for (place, item) in items.iter().enumerate() {
            check(document, described, item, &format!("{at}[{place}]"), found);
        }
    }
}

fn kinds_of(kinds: &Value) -> impl Iterator<Item = &str> {
    let one = kinds.as_str();
    let many = kinds.as_array().into_iter().flatten();
    one.into_iter().chain(many.filter_map(Value::as_str))
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document has a type `{other}`"),
    }
}

#[test]
fn what_is_not_described_is_found() {
    let document = serde_json::json!({"components": {"schemas": {"E": {
        "type": "object", "required": ["code"],
        "properties": {"code": {"type": "string"}, "help": {"type": ["string", "null"]}}
    }}}});
    let schema = serde_json::json!({"$ref": "#/components/schemas/E"});
    let of = |value: Value| faults(&document, &schema, &value);
    assert!(of(serde_json::json!({"code": "x", "help": null})).is_empty());
    for bad in [
        serde_json::json!({"code": 1}),
        serde_json::json!({"help": "x"}),
        serde_json::json!({"code": "x", "more": 1}),
        serde_json::json!([]),
    ] {
        assert_eq!(of(bad.clone()).len(), 1, "{bad}");
    }
}
