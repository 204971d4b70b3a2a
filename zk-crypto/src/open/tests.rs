//! Properties of sealing and opening, for both suites.

use std::time::Duration;

use proptest::prelude::*;
use zk_kms::DataKey;

use super::*;
use crate::{ErrorKind, OVERHEAD, seal::seal};

fn key(scope: &str) -> OpenedKey {
    OpenedKey::new(Scope::new(scope).unwrap(), &DataKey::generate().unwrap()).unwrap()
}

fn suites() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::Xaes256Gcm), Just(Suite::XChaCha20Poly1305)]
}

fn contexts() -> impl Strategy<Value = Context> {
    ("[a-z.]{0,12}", "[a-z]{0,8}", prop::option::of("[0-9]{1,4}")).prop_map(|(table, column, row)| {
        let context = Context::column(table, column);
        if let Some(row) = row { context.row(row) } else { context }
    })
}

/// A changed value fails with the one error and its one text, whether in parsing or in opening.
fn refused(key: &OpenedKey, scope: &Scope, context: &Context, bytes: &[u8]) -> bool {
    match Sealed::parse(bytes).and_then(|sealed| open(key, scope, context, &sealed)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::Open && error.to_string() == Error::open().to_string(),
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(suite in suites(), context in contexts(), text in prop::collection::vec(any::<u8>(), 0..2000)) {
        let key = key("a");
        let sealed = seal(&key, suite, &context, &text, Duration::ZERO).unwrap();
        prop_assert_eq!(sealed.as_bytes().len(), text.len() + OVERHEAD);
        prop_assert_eq!(Sealed::parse(sealed.as_bytes()).unwrap(), sealed.clone());
        prop_assert_eq!(&*open(&key, &key.scope, &context, &sealed).unwrap(), &text);
        if text.len() >= 16 {
            prop_assert!(!sealed.as_bytes().windows(16).any(|w| w == &text[..16]));
        }
    }

    #[test]
    fn nothing_else_opens(
        suite in suites(), context in contexts(), other in contexts(),
        text in prop::collection::vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(), flip in 1u8.., extra in any::<u8>(),
    ) {
        let key = key("a");
        let sealed = seal(&key, suite, &context, &text, Duration::ZERO).unwrap();
        let good = sealed.as_bytes();
        let mut flipped = good.to_vec();
        flipped[at.index(good.len())] ^= flip;
        prop_assert!(refused(&key, &key.scope, &context, &flipped), "a changed byte");
        prop_assert!(refused(&key, &key.scope, &context, &good[..at.index(good.len())]), "a cut");
        prop_assert!(refused(&key, &key.scope, &context, &[good, &[extra]].concat()), "an extension");
        prop_assert!(context == other || refused(&key, &key.scope, &other, good), "another context");
        prop_assert!(refused(&key, &Scope::new("b").unwrap(), &context, good), "another scope");
        prop_assert!(refused(&self::key("a"), &key.scope, &context, good), "another key");
    }
}

#[test]
fn every_byte_counts() {
    let (key, context) = (key("a"), Context::column("t", "c"));
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let sealed = seal(&key, suite, &context, b"seventeen bytes..", Duration::ZERO).unwrap();
        for at in 0..sealed.as_bytes().len() {
            for bit in 0..8 {
                let mut bytes = sealed.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(refused(&key, &key.scope, &context, &bytes), "bit {bit} of byte {at}");
            }
        }
    }
}

/// The key id and scope are in the associated data too, not only compared.
#[test]
fn the_same_key_under_another_scope_does_not_open() {
    let data_key = DataKey::generate().unwrap();
    let a = OpenedKey::new(Scope::new("a").unwrap(), &data_key).unwrap();
    let b = OpenedKey::new(Scope::new("b").unwrap(), &data_key).unwrap();
    let sealed = seal(&a, Suite::default(), &Context::default(), b"x", Duration::ZERO).unwrap();
    assert_eq!(a.id, b.id);
    assert!(open(&a, &a.scope, &Context::default(), &sealed).is_ok());
    assert!(refused(&b, &b.scope, &Context::default(), sealed.as_bytes()));
}

#[test]
fn a_buffer_is_used_again() {
    let (key, context) = (key("a"), Context::column("t", "c"));
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let mut text = Plaintext::new();
        for len in [5, 100, 40, 100, 0, 3000, 17] {
            let (value, before) = (vec![b'v'; len], (text.0.as_ptr(), text.0.capacity()));
            let sealed = seal(&key, suite, &context, &value, Duration::ZERO).unwrap();
            open_into(&key, &key.scope, &context, &sealed, &mut text).unwrap();
            assert_eq!(*text, value);
            assert!(len > before.1 || (text.0.as_ptr(), text.0.capacity()) == before, "another buffer");
        }
    }
}

#[test]
fn too_long_is_refused() {
    let long = vec![0; crate::MAX_PLAINTEXT + 1];
    let error = seal(&key("a"), Suite::default(), &Context::default(), &long, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// What another program in another language sealed by SPEC.md: see `tests/python/cross_check.py`.
#[test]
fn vectors() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../tests/vectors/sealed-v1.json")).unwrap();
    assert!(vectors.len() >= 36);
    for vector in vectors {
        let data_key = DataKey::from_slice(&hex(&vector.data_key)).unwrap();
        let key = OpenedKey::new(Scope::new(&vector.scope).unwrap(), &data_key).unwrap();
        let (context, sealed) = (vector.context.into(), hex(&vector.sealed));
        if vector.opens {
            let opened = open(&key, &key.scope, &context, &Sealed::parse(&sealed).unwrap());
            assert_eq!(*opened.unwrap(), hex(&vector.plaintext), "{}", vector.name);
        } else {
            assert!(refused(&key, &key.scope, &context, &sealed), "{}", vector.name);
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    opens: bool,
    data_key: String,
    scope: String,
    context: Fields,
    plaintext: String,
    sealed: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    table: Option<String>,
    column: Option<String>,
    tenant: Option<String>,
    row: Option<String>,
    purpose: Option<String>,
    version: Option<u64>,
}

impl From<Fields> for Context {
    fn from(fields: Fields) -> Self {
        let Fields { table, column, tenant, row, purpose, version } = fields;
        let mut context = match (table, column) {
            (Some(table), Some(column)) => Self::column(table, column),
            _ => Self::default(),
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
        if let Some(version) = version { context.version(version) } else { context }
    }
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}
