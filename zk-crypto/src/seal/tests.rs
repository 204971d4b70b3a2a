//! What sealing must not forget.

use zk_kms::DataKey;

use super::*;

fn key() -> OpenedKey {
    OpenedKey::new(Scope::new("tenant:7").unwrap(), &DataKey::generate().unwrap()).unwrap()
}

/// SPEC.md, section 4, written a second time and plainly.
fn specified(suite: Suite, key: &OpenedKey, context: &Context) -> Vec<u8> {
    let mut aad = [&[suite as u8], key.id.as_bytes().as_slice()].concat();
    key.scope.encode(&mut aad);
    aad.extend_from_slice(context.as_bytes());
    aad
}

#[test]
fn associated_data_of_any_length_is_that_of_the_specification() {
    let key = key();
    for len in 0..2 * SHORT {
        let context = Context::column("t".repeat(len), "c").row("1").version(1);
        let mut aad = AssociatedData::default();
        let aad = aad.write(Suite::Xaes256Gcm, &key, &context);
        assert_eq!(aad, specified(Suite::Xaes256Gcm, &key, &context), "a table of {len} bytes");
    }
}

#[test]
fn a_buffer_that_held_anything_is_a_sealed_value() {
    let (key, context) = (key(), Context::column("t", "c"));
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let mut out = vec![7; 500];
        for len in [0, 1000, 20, 443] {
            let text = vec![b'v'; len];
            write(&key, suite, &context, &text, Duration::ZERO, &mut out).unwrap();
            let sealed = Sealed::parse(&out).unwrap();
            assert_eq!((sealed.suite(), out.len()), (suite, len + OVERHEAD));
            assert_eq!(*crate::open::open(&key, &key.scope, &context, &sealed).unwrap(), text);
        }
    }
}

#[tokio::test]
async fn after_a_failure_the_buffer_is_empty() {
    let kms = Arc::new(zk_kms::LocalKms::ephemeral("test").unwrap());
    let store = Arc::new(crate::MemoryKeyStore::new());
    let encryptor = crate::Encryptor::new(kms, store, crate::EncryptorConfig::default()).unwrap();
    let (scope, context) = (Scope::new("tenant:7").unwrap(), Context::purpose("test"));
    encryptor.create_key(&scope).await.unwrap();
    let (sealer, mut out) = (encryptor.sealer(&scope).await.unwrap(), Vec::new());
    sealer.seal_into(&context, b"text", &mut out).unwrap();
    let error = sealer.seal_into(&context, &vec![0; MAX_PLAINTEXT + 1], &mut out).unwrap_err();
    assert_eq!((error.kind(), out.len()), (ErrorKind::Invalid, 0));
}
