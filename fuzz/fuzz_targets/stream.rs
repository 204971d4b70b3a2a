//! Any bytes are a stream's header that writes back to the same bytes, or an error; a stream that was edited in any way
//! gives out a prefix of its text and then an error. Run: `fuzz/run 60 stream`.
#![no_main]

use std::{
    io::Read,
    sync::{Arc, LazyLock},
};

use libfuzzer_sys::fuzz_target;
use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, stream::StreamHeader};
use zk_fuzz::{edited, now};
use zk_kms::LocalKms;

/// Three chunks and a bit.
const LEN: usize = 3 * 16_384 + 100;

struct World {
    encryptor: Encryptor,
    scope: Scope,
    context: Context,
    text: Vec<u8>,
    sealed: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    use std::io::Write;
    let kms = Arc::new(LocalKms::ephemeral("fuzz").expect("a ring"));
    let store = Arc::new(MemoryKeyStore::new());
    let encryptor = Encryptor::new(kms, store, EncryptorConfig::default()).expect("an encryptor");
    let (scope, context) = (Scope::new("s").expect("a scope"), Context::purpose("fuzz"));
    now(encryptor.create_key(&scope)).expect("a key");
    let text: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
    let mut writer = now(encryptor.stream_sealer(&scope, &context)).expect("a stream").writer(Vec::new());
    writer.write_all(&text).expect("memory takes everything");
    let sealed = writer.finish().expect("memory takes everything");
    World { encryptor, scope, context, text, sealed }
});

fuzz_target!(|edits: &[u8]| {
    if let Ok(bytes) = edits.try_into() {
        if let Ok(header) = StreamHeader::parse(bytes) {
            assert_eq!(header.to_bytes(), *bytes);
        }
    }
    let World { encryptor, scope, context, text, sealed } = &*WORLD;
    let changed = edited(sealed, edits);
    let mut input = changed.as_slice();
    let Ok(header) = StreamHeader::read_from(&mut input) else { return };
    let Ok(opener) = now(encryptor.stream_opener(scope, context, &header)) else {
        assert_ne!(changed, *sealed);
        return;
    };
    let mut out = Vec::new();
    let result = opener.reader(input).read_to_end(&mut out);
    assert!(text.starts_with(&out), "text that nobody sealed came out");
    assert_eq!(result.is_ok(), changed == *sealed, "an edited stream was taken for a whole one");
});
