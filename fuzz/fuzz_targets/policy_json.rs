//! Any JSON gives a document that can be checked and printed, or an error. Run: `cargo fuzz run policy_json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_policy::{Document, Schema, check};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = serde_json::from_slice::<Document>(bytes) {
        let _ = document.to_string();
        let _ = check(&document, &Schema::default());
    }
});
