//! What sealing must not repeat or forget.

use std::collections::HashSet;

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
fn nonces_never_repeat() {
    const EACH: usize = 50_000;
    let (key, context) = (key(), Context::purpose("test"));
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let nonces = || {
            let seal_one = |_| {
                let sealed = seal(&key, suite, &context, b"", Duration::ZERO).unwrap();
                *sealed.parts().unwrap().0
            };
            (0..EACH).map(seal_one).collect::<Vec<_>>()
        };
        let all: HashSet<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(nonces)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(all.len(), 4 * EACH);
    }
}
