//! Requests and answers, as the services see them.

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use serde_json::{Value, json};

/// A request with its path taken apart.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// The parts of the path between slashes, decoded; empty parts left out.
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) authorization: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn new(method: &str, path: &str, query: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect(),
            query: query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (percent_decode(name), percent_decode(&value.replace('+', " "))))
                .collect(),
            authorization: None,
            body: Vec::new(),
        }
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization.as_deref()?.strip_prefix("Bearer ")
    }

    /// The body as JSON; an absent body is an empty object.
    pub(super) fn json(&self) -> Option<Value> {
        if self.body.is_empty() { Some(json!({})) } else { serde_json::from_slice(&self.body).ok() }
    }

    pub(super) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// An answer, not yet damaged.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Calls `change` with the name and value of every text in the body.
    pub(super) fn for_each_text(&mut self, mut change: impl FnMut(&str, &mut String)) {
        walk("", &mut self.body, &mut |name, value| {
            if let Value::String(text) = value {
                change(name, text);
            }
        });
    }
}

/// Calls `visit` with every member of every object below `value`.
pub(super) fn walk(name: &str, value: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    visit(name, value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(name, item, visit)),
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, member)| walk(name, member, visit));
        }
        _ => {}
    }
}

/// Reads base64 as proto3 JSON and JOSE do: either alphabet, padded or not.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    [BASE64, BASE64URL, BASE64_NOPAD, BASE64URL_NOPAD].iter().find_map(|e| e.decode(text.as_bytes()).ok())
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        let request = Request::new("GET", "/v1//a%2Fb/c%3Aencrypt/", "$alt=json%3Benum-encoding%3Dint&x=%");
        assert_eq!(request.path, ["v1", "a/b", "c:encrypt"]);
        assert_eq!(request.query["$alt"], "json;enum-encoding=int");
        assert_eq!(request.query["x"], "%");
    }
}
