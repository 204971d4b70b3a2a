//! Any text gives a document that prints back to itself and can be formatted, or diagnostics. Run: `fuzz/run 60 policy_text`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_fuzz::tables;
use zk_policy::{Document, check};

fuzz_target!(|text: &str| {
    if let Ok(document) = Document::parse(text) {
        assert_eq!(Document::parse(&document.to_string()).as_ref(), Ok(&document));
        let formatted = Document::format(text).unwrap_or_default();
        assert_eq!(Document::parse(&formatted).as_ref(), Ok(&document));
        assert_eq!(Document::format(&formatted).as_ref(), Ok(&formatted));
        if let Ok(policy) = check(&document, tables()) {
            let _ = policy.access_matrix();
        }
    }
});
