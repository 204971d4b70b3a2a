//! Sealed values that another program in another language made by SPEC.md, sections 1 to 5: see
//! `tests/python/cross_check.py`.

use serde::Deserialize;
use zk_crypto::{Context, Error, ErrorKind, Scope, Sealed};

use crate::{hex, world};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    outcome: Outcome,
    data_key: String,
    scope: String,
    context: Fields,
    plaintext: String,
    sealed: String,
}

/// How a vector ends: it opens, or this stage is the one that fails.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Opens,
    Parse,
    Open,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    table: Option<String>,
    column: Option<String>,
    tenant: Option<String>,
    row: Option<String>,
    purpose: Option<String>,
    version: Option<u64>,
}

#[tokio::test]
async fn sealed_values() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("sealed-v1.json")).unwrap();
    let count = |outcome| vectors.iter().filter(|vector| vector.outcome == outcome).count();
    assert_eq!([count(Outcome::Opens), count(Outcome::Open), count(Outcome::Parse)], [14, 16, 6]);
    for vector in vectors {
        assert_eq!(outcome(&vector).await, vector.outcome, "{}", vector.name);
    }
}

async fn outcome(vector: &Vector) -> Outcome {
    let sealed = match Sealed::parse(&hex(&vector.sealed)) {
        Ok(sealed) => sealed,
        Err(error) => return the_one_error(&error, Outcome::Parse),
    };
    let scope = Scope::new(&vector.scope).unwrap();
    let encryptor = world::encryptor(&hex(&vector.data_key), &scope, 1).await;
    match encryptor.open(&scope, &context(&vector.context), &sealed).await {
        Ok(opened) => {
            assert_eq!(*opened, hex(&vector.plaintext), "{}", vector.name);
            Outcome::Opens
        }
        Err(error) => the_one_error(&error, Outcome::Open),
    }
}

fn the_one_error(error: &Error, stage: Outcome) -> Outcome {
    assert_eq!(error.kind(), ErrorKind::Open);
    assert_eq!(error.to_string(), "the value does not open with this scope, context and key");
    stage
}

fn context(fields: &Fields) -> Context {
    let Fields { table, column, tenant, row, purpose, version } = fields;
    let mut context = match (table, column) {
        (Some(table), Some(column)) => Context::column(table, column),
        _ => Context::default(),
    };
    if let Some(tenant) = tenant {
        context = context.tenant(tenant);
    }
    if let Some(row) = row {
        context = context.row(row);
    }
    if let Some(purpose) = purpose {
        context = context.with_purpose(purpose);
    }
    if let Some(version) = version { context.version(*version) } else { context }
}
