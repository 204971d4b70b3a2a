//! Any bytes are a value for public keys that writes back to the same bytes, or an error; so are public keys; a made-up key
//! opens nothing. Run: `fuzz/run 60 portable`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use zk_crypto::{Context, Kem, Portable, Recipient, RecipientKey, Scope};

static KEYS: LazyLock<[RecipientKey; 2]> = LazyLock::new(|| {
    [Kem::X25519, Kem::XWing].map(|kem| RecipientKey::from_bytes(kem, &[7; 32]).expect("32 bytes are a key"))
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(recipient) = Recipient::parse(bytes) {
        assert_eq!(recipient.to_bytes(), bytes);
    }
    if let Ok(value) = Portable::parse(bytes) {
        assert_eq!(value.as_bytes(), bytes);
        let scope = Scope::new("s").expect("a scope");
        for key in &*KEYS {
            assert!(key.open(&scope, &Context::default(), &value).is_err());
        }
    }
});
