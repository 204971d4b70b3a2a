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
