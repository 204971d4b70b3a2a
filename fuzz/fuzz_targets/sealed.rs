//! Any bytes are a well-formed sealed value that writes back to the same bytes, or an error. Run: `cargo fuzz run sealed`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_crypto::Sealed;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.as_bytes(), bytes);
    }
});
