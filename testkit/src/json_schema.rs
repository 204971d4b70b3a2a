//! Whether JSON follows a JSON Schema, for the keywords that ours use, and ways to spoil what does.

use serde_json::Value;

/// Whether `value` follows `schema` as JSON Schema 2020-12 says. A keyword that is not known here is never followed, so
/// that a test of what is valid notices it. Patterns are not matched.
#[must_use]
pub fn is_valid(value: &Value, schema: &Value) -> bool {
    part_is_valid(value, schema, schema)
}

fn part_is_valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == true };
    let list = |argument: &Value| argument.as_array().cloned().unwrap_or_default();
    let number = |argument: &Value| argument.as_i64().unwrap_or_default();
    let length =
        |argument: &Value| argument.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    keywords.iter().all(|(keyword, argument)| match keyword.as_str() {
        "$ref" => {
            let pointer = argument.as_str().unwrap_or_default().trim_start_matches('#');
            root.pointer(pointer).is_some_and(|part| part_is_valid(value, part, root))
        }
        "type" if argument.is_array() => list(argument).iter().any(|ty| has_type(value, ty)),
        "type" => has_type(value, argument),
        "const" => value == argument,
        "enum" => list(argument).contains(value),
        "anyOf" => list(argument).iter().any(|part| part_is_valid(value, part, root)),
        "oneOf" => list(argument).iter().filter(|part| part_is_valid(value, part, root)).count() == 1,
        "minimum" => value.as_i64().is_none_or(|n| n >= number(argument)),
        "maximum" => value.as_i64().is_none_or(|n| n <= number(argument)),
        "minItems" => value.as_array().is_none_or(|items| items.len() >= length(argument)),
        "maxItems" => value.as_array().is_none_or(|items| items.len() <= length(argument)),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= length(argument)),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= length(argument)),
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| part_is_valid(item, argument, root)))
        }
        "required" => value.as_object().is_none_or(|o| {
            list(argument).iter().all(|key| o.contains_key(key.as_str().unwrap_or_default()))
        }),
        "properties" => value.as_object().is_none_or(|o| {
            o.iter()
                .all(|(key, inner)| argument.get(key).is_none_or(|schema| part_is_valid(inner, schema, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|o| {
            let known = |key: &String| schema.pointer("/properties").is_some_and(|p| p.get(key).is_some());
            o.iter().all(|(key, inner)| known(key) || part_is_valid(inner, argument, root))
        }),
        "$schema" | "$defs" | "title" | "description" | "default" | "format" | "pattern" => true,
        _ => false,
    })
}

fn has_type(value: &Value, ty: &Value) -> bool {
    match ty.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}

/// `value` spoilt in one place, in every place: a value of another type, and an object with a field more. Each with the
/// pointer (RFC 6901) to its place.
#[must_use]
pub fn spoilt(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for place in places(value, String::new()) {
        for spoil in [spoil_type, spoil_object] {
            let mut spoilt = value.clone();
            if let Some(part) = spoilt.pointer_mut(&place) {
                spoil(part);
            }
            if spoilt != *value {
                all.push((place.clone(), spoilt));
            }
        }
    }
    all
}

/// Pointers to every value within a value, whose keys need no escaping.
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
