//! The language: what parses prints back, in text and in JSON, and compiles to what a reviewer expects.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;

use std::fs;

use zk_policy::{Diagnostics, Document, Plan, Policy, check};

fn compile(source: &str) -> Result<Policy, Diagnostics> {
    check(&Document::parse(source)?, &corpus::schema())
}

#[test]
fn every_policy_of_the_corpus_prints_what_it_means_in_text_and_json() {
    for file in corpus::files() {
        let document = Document::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        let printed = document.to_string();
        assert_eq!(Document::parse(&printed).unwrap(), document, "{}\n{printed}", file.display());
        assert_eq!(Document::parse(&printed).unwrap().to_string(), printed, "printing is canonical");
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(Document::from_json(json.as_bytes()).unwrap(), document, "{json}");
        let policy = check(&document, &corpus::schema()).unwrap();
        assert!(!Plan::fresh(&policy).is_empty());
    }
}

#[test]
fn the_sql_of_a_policy_is_what_a_reviewer_expects() {
    let source = fs::read_to_string(corpus::files().remove(0)).unwrap();
    insta::assert_snapshot!(Plan::fresh(&compile(&source).unwrap()).to_sql());
}

#[test]
fn the_access_matrix_says_who_may_what() {
    let source = fs::read_to_string(corpus::files().remove(0)).unwrap();
    insta::assert_snapshot!(compile(&source).unwrap().access_matrix());
}
