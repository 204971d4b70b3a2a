//! Any text is a valid manifest or a list of mistakes with their places. Run: `fuzz/run 60 manifest`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_creds::Manifest;

fuzz_target!(|text: &str| match Manifest::from_json(text) {
    Ok(manifest) => assert!(manifest.validate().is_ok()),
    Err(mistakes) => {
        assert!(mistakes.iter().count() > 0);
        for mistake in mistakes.iter() {
            assert!(mistake.span.clone().is_some_and(|span| text.get(span).is_some()), "{mistake:?}");
        }
        drop(mistakes.to_lines("manifest", text));
    }
});
