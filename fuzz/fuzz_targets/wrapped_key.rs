//! Any bytes are a wrapped key that writes back to the same bytes, or an error; so are key URIs. Run:
//! `fuzz/run 60 wrapped_key`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_kms::{KeyUri, WrappedKey};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(wrapped) = WrappedKey::from_bytes(bytes) {
        assert_eq!(wrapped.to_bytes(), bytes);
    }
    if let Ok(uri) = std::str::from_utf8(bytes).map_err(|_| ()).and_then(|t| KeyUri::parse(t).map_err(|_| ()))
    {
        assert_eq!(KeyUri::parse(uri.as_str()).ok(), Some(uri));
    }
});
