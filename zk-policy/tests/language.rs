//! The language: what parses prints back, what is wrong is reported where it is wrong, nothing panics.
#![allow(clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "tests")]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zk_policy::{Diagnostics, Document, Plan, Policy, check};

fn mistakes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

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
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document, "{json}");
        let policy = check(&document, &corpus::schema()).unwrap();
        assert!(!Plan::fresh(&policy).is_empty());
    }
}

/// Each line of a file in `mistakes` ends with `#~` and the codes of the mistakes on it: these and no others.
#[test]
fn diagnostics() {
    for file in mistakes() {
        let source = fs::read_to_string(&file).unwrap();
        let mut expected: Vec<(usize, String)> = Vec::new();
        for (index, line) in source.lines().enumerate() {
            for code in line.split_once("#~").map_or("", |(_, codes)| codes).split_whitespace() {
                expected.push((index + 1, code.to_owned()));
            }
        }
        let mistakes = compile(&source).unwrap_err();
        let mut found: Vec<(usize, String)> = mistakes
            .iter()
            .map(|d| (source[..d.span.range().start].matches('\n').count() + 1, d.code.to_string()))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{}\n{}", file.display(), mistakes.to_lines("policy", &source));
    }
}

#[cfg(feature = "render")]
#[test]
fn a_mistake_is_drawn_over_the_source() {
    let source = "policy crm\nrole agent\nclaim tenant: uuid\ntable customers {\n  tenant tenant_id = claim.tenent\n  \
                  allow agent select\n}\n";
    let drawn = compile(source).unwrap_err().render("crm.policy", source, zk_policy::Colour::Never);
    insta::assert_snapshot!(drawn);
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

#[test]
fn deep_nesting_is_refused() {
    for open in ["(", "not ", "not ("] {
        let source = format!("policy p table t {{ allow r select where {} a", open.repeat(100_000));
        let codes: BTreeSet<String> =
            Document::parse(&source).unwrap_err().iter().map(|d| d.code.to_string()).collect();
        assert!(codes.contains("E104"), "{codes:?}");
    }
}

/// Texts that are long in the worst ways are refused or checked in the time of a long text, and not in its square.
#[test]
fn mistakes_in_great_number_are_cut_short() {
    let many = |f: &dyn Fn(usize) -> String| (0..20_000).map(f).collect::<String>();
    let texts = [
        format!("policy p {}", many(&|n| format!("role r{n} includes q{n} "))),
        format!(
            "policy p role r table customers {{ shared {} }}",
            many(&|n| format!("allow x{n} select where y{n} = 1 "))
        ),
        format!("policy p {}", "~".repeat(1_000_000)),
        format!("policy p role {} includes {}", "a".repeat(500_000), "b".repeat(500_000)),
    ];
    for text in texts {
        let mistakes = compile(&text).unwrap_err();
        assert!((1..=200).contains(&mistakes.len()), "{}", mistakes.len());
    }
}

proptest! {
    #[test]
    fn any_text_gives_a_document_or_diagnostics(text in "\\PC{0,200}") {
        if let Err(diagnostics) = Document::parse(&text) {
            prop_assert!(!diagnostics.is_empty());
        }
    }

    #[test]
    fn any_words_of_the_language_give_a_document_or_diagnostics(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..80),
    ) {
        if let Ok(document) = Document::parse(&words.join(" ")) {
            prop_assert_eq!(Document::parse(&document.to_string()).unwrap(), document);
        }
    }
}

const WORDS: &[&str] = &[
    "policy",
    "role",
    "includes",
    "claim",
    "table",
    "tenant",
    "shared",
    "critical",
    "allow",
    "deny",
    "columns",
    "where",
    "select",
    "insert",
    "update",
    "delete",
    "only",
    "all",
    "except",
    "and",
    "or",
    "not",
    "in",
    "is",
    "null",
    "true",
    "a",
    "b",
    "\"q\"",
    "'t'",
    "7",
    "-3",
    "claim.a",
    "uuid",
    "text[]",
    "{",
    "}",
    "(",
    ")",
    "=",
    "<>",
    "<=",
    ",",
    ".",
    ":",
    "policy p",
    "role a",
    "claim a: uuid",
    "table t { shared",
    "allow a select where a = 1",
];
