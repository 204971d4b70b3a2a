//! Any text is a token that shows its kind, or an error. Run: `fuzz/run 60 token`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_creds::Token;

fuzz_target!(|text: &str| {
    if let Ok(token) = Token::parse(text) {
        assert!(text.starts_with(&format!("zk_{}_", token.kind())));
    }
});
