//! What opening checks beyond the cipher. Its properties are in `tests/properties.rs`.

use std::time::Duration;

use zk_kms::DataKey;

use super::*;
use crate::{ErrorKind, seal::seal};

fn key(scope: &str) -> OpenedKey {
    OpenedKey::new(Scope::new(scope).unwrap(), &DataKey::generate().unwrap()).unwrap()
}

/// A changed value fails with the one error and its one text, whether in parsing or in opening.
fn refused(key: &OpenedKey, scope: &Scope, context: &Context, bytes: &[u8]) -> bool {
    match Sealed::parse(bytes).and_then(|sealed| open(key, scope, context, &sealed)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::Open && error.to_string() == Error::open().to_string(),
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
