//! The policies of `tests/corpus`, each of which every test that speaks of the corpus goes through.

use std::fs;
use std::path::{Path, PathBuf};

use zk_policy::Schema;

/// The tables that the policies speak of.
pub(crate) const TABLES: &str = include_str!("../corpus/schema.sql");

/// The same tables for who has no server: what one says of them, which `steps.rs` compares.
pub(crate) const SCHEMA: &str = include_str!("../corpus/schema.json");

pub(crate) fn schema() -> Schema {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The files of the corpus, in the order of their names.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "policy")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The texts of the policies, each renamed to `name`, so that one follows another on the same database.
pub(crate) fn renamed(name: &str) -> Vec<String> {
    let rename = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let (head, rest) = text.split_once('\n').unwrap();
        assert!(head.starts_with("policy "), "a file of the corpus begins with the policy's name");
        format!("policy {name}\n{rest}")
    };
    files().into_iter().map(rename).collect()
}
