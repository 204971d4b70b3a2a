//! The JSON Schema of documents, for editors and studios: a file beside the manual that follows the types.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::json_schema::{is_valid, spoilt};

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
        assert!(is_valid(&json, &schema), "{}", path.display());
    }
}

/// What is not read is not valid either, whichever part of a document is spoilt.
#[test]
fn the_schema_refuses_what_is_not_read() {
    let (schema, mut refused) = (generated(), 0);
    for (path, json) in corpus() {
        for (place, spoilt) in spoilt(&json) {
            if serde_json::from_value::<Document>(spoilt.clone()).is_err() {
                refused += 1;
                assert!(!is_valid(&spoilt, &schema), "{} at {place}", path.display());
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
