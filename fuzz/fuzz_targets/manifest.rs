//! Any text is a valid manifest or an error. Run: `fuzz/run 60 manifest`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zk_creds::Manifest;

fuzz_target!(|text: &str| {
    if let Ok(manifest) = Manifest::from_json(text) {
        assert!(manifest.validate().is_ok());
    }
});
