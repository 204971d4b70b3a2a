//! Tokens of blind indexes that another program made by SPEC.md, section 9: see `tests/python/cross_check.py`.

use serde::Deserialize;
use zk_crypto::{Hazard, IndexSpec, Normalizer, Scope, SlowHash};

use crate::{hex, world};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    label: String,
    data_key: String,
    generation: u32,
    table: String,
    name: String,
    kind: Vec<serde_json::Value>,
    bits: u16,
    parts: Vec<String>,
    slow: Option<[u32; 2]>,
    value: Vec<String>,
    tokens: Vec<String>,
}

#[tokio::test]
async fn tokens_of_blind_indexes() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("index-v1.json")).unwrap();
    assert_eq!(vectors.len(), 23);
    let scope = Scope::new("vectors").unwrap();
    for vector in vectors {
        let (whole, spec) = spec(&vector);
        let index = spec.accept(Hazard::EqualityVisible).accept(Hazard::Substrings).plan().unwrap();
        let key_scope = index.key_scope(&scope).unwrap();
        let encryptor = world::encryptor(&hex(&vector.data_key), &key_scope, vector.generation).await;
        let indexer = index.indexer(&encryptor, &scope).await.unwrap();
        let tokens = if whole {
            let value: Vec<&str> = vector.value.iter().map(String::as_str).collect();
            vec![indexer.token(&value).unwrap()]
        } else {
            indexer.tokens(&vector.value[0]).unwrap()
        };
        let tokens: Vec<String> = tokens.iter().map(|token| format!("{token:x}")).collect();
        assert_eq!(tokens, vector.tokens, "{}", vector.label);
    }
}

/// The declaration, and whether its tokens are of whole values.
fn spec(vector: &Vector) -> (bool, IndexSpec) {
    let length = |at: usize| u8::try_from(vector.kind[at].as_u64().unwrap()).unwrap();
    let (table, name) = (vector.table.as_str(), vector.name.as_str());
    let (whole, spec) = match vector.kind[0].as_str() {
        Some("filter") => (true, IndexSpec::filter(table, name, 1000)),
        Some("unique") => (true, IndexSpec::unique(table, name)),
        Some("prefix") => (false, IndexSpec::prefix(table, name, length(1)..=length(2))),
        Some("ngram") => (false, IndexSpec::ngrams(table, name, length(1))),
        other => panic!("{}: a kind {other:?}", vector.label),
    };
    let parts = vector.parts.iter().map(|part| match part.as_str() {
        "exact" => Normalizer::Exact,
        "text" => Normalizer::Text,
        "case_fold" => Normalizer::CaseFold,
        "digits" => Normalizer::Digits,
        "email" => Normalizer::Email,
        other => panic!("{}: a normalizer {other}", vector.label),
    });
    let spec = spec.parts(parts).bits(vector.bits);
    match vector.slow {
        Some([memory, passes]) => (whole, spec.slow(SlowHash::new(memory, passes).unwrap())),
        None => (whole, spec),
    }
}
