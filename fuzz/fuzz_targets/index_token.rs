//! Any bytes are a token that writes back to the same bytes, or an error; any text normalizes to its own spelling, or is an
//! error. Run: `fuzz/run 60 index_token`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_crypto::{Normalizer, Token};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = Token::parse(bytes) {
        assert_eq!(token.as_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for normalizer in
        [Normalizer::Exact, Normalizer::Text, Normalizer::CaseFold, Normalizer::Digits, Normalizer::Email]
    {
        if let Ok(once) = normalizer.apply(text) {
            assert_eq!(normalizer.apply(&once).ok(), Some(once));
        }
    }
});
