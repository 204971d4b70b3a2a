//! Any JSON gives a document that can be printed and checked, or diagnostics. Run: `fuzz/run 60 policy_json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_fuzz::tables;
use zk_policy::{Document, check};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Document::from_json(bytes) {
        assert_eq!(Document::parse(&document.to_string()).as_ref(), Ok(&document));
        if let Ok(policy) = check(&document, tables()) {
            let _ = policy.access_matrix();
        }
    }
});
