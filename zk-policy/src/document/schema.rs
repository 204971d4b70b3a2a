//! The JSON Schema of documents, for editors and studios: a file beside the manual that follows the types.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Document;

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn generated() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    schema["title"] = "A policy of zk-policy".into();
    schema
}

fn corpus() -> Vec<(PathBuf, Value)> {
    let paths = fs::read_dir(in_crate("tests/corpus")).unwrap().map(|entry| entry.unwrap().path());
    let json = |path: PathBuf| {
        let document = Document::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        (path, serde_json::to_value(&document).unwrap())
    };
    paths.filter(|path| path.extension().is_some_and(|e| e == "policy")).map(json).collect()
}

/// `INSTA_UPDATE=always` writes the file anew, as it does with snapshots.
#[test]
fn the_file_is_that_of_the_types() {
    let file = in_crate("../docs/src/policy.schema.json");
    let wanted = serde_json::to_string_pretty(&generated()).unwrap() + "\n";
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(&file, &wanted).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), wanted, "{} is stale", file.display());
}

#[test]
fn every_policy_of_the_corpus_follows_the_schema() {
    let schema = generated();
    for (path, json) in corpus() {
        assert!(is_valid(&json, &schema, &schema), "{}", path.display());
    }
}

/// What is not read is not valid either, whichever part of a document is spoilt.
#[test]
fn the_schema_refuses_what_is_not_read() {
    let (schema, mut refused) = (generated(), 0);
    for (path, json) in corpus() {
        for place in places(&json, String::new()) {
            for spoil in [spoil_type, spoil_object] {
                let mut spoilt = json.clone();
                spoil(spoilt.pointer_mut(&place).unwrap());
                if serde_json::from_value::<Document>(spoilt.clone()).is_err() {
                    refused += 1;
                    assert!(!is_valid(&spoilt, &schema, &schema), "{} at {place}", path.display());
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Validates as JSON Schema 2020-12 does, for the keywords that the schema uses; any other ends the test.
fn is_valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == true };
    let list = |argument: &Value| argument.as_array().unwrap().clone();
    keywords.iter().all(|(keyword, argument)| match keyword.as_str() {
        "$ref" => {
            is_valid(value, root.pointer(argument.as_str().unwrap().trim_start_matches('#')).unwrap(), root)
        }
        "type" if argument.is_array() => {
            list(argument).iter().any(|ty| has_type(value, ty.as_str().unwrap()))
        }
        "type" => has_type(value, argument.as_str().unwrap()),
        "const" => value == argument,
        "enum" => list(argument).contains(value),
        "anyOf" => list(argument).iter().any(|part| is_valid(value, part, root)),
        "oneOf" => list(argument).iter().filter(|part| is_valid(value, part, root)).count() == 1,
        "minimum" => value.as_i64().is_none_or(|number| number >= argument.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|number| number <= argument.as_i64().unwrap()),
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(item, argument, root)))
        }
        "required" => value
            .as_object()
            .is_none_or(|o| list(argument).iter().all(|key| o.contains_key(key.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|o| {
            o.iter().all(|(key, inner)| argument.get(key).is_none_or(|schema| is_valid(inner, schema, root)))
        }),
        "additionalProperties" => {
            assert_eq!(argument, false);
            let known = |key: &String| schema.pointer("/properties").is_some_and(|p| p.get(key).is_some());
            value.as_object().is_none_or(|o| o.keys().all(known))
        }
        "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
        other => panic!("the test does not know `{other}`"),
    })
}

fn has_type(value: &Value, ty: &str) -> bool {
    match ty {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the test does not know the type `{other}`"),
    }
}

/// Pointers to every value within a value (RFC 6901; no key of a document needs escaping).
fn places(value: &Value, here: String) -> Vec<String> {
    let mut found: Vec<String> = match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, inner)| places(inner, format!("{here}/{key}"))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, inner)| places(inner, format!("{here}/{at}"))).collect()
        }
        _ => Vec::new(),
    };
    found.push(here);
    found
}

fn spoil_type(value: &mut Value) {
    *value = if value.is_array() { Value::from(1) } else { Value::from(vec![1]) };
}

fn spoil_object(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.insert("surprise".to_owned(), Value::Null);
    }
}
