//! Any bytes are a well-formed sealed value that writes back to the same bytes, or an error; a value that was edited in any
//! way does not open. Run: `fuzz/run 60 sealed`.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use zk_crypto::{Context, Encryptor, EncryptorConfig, ErrorKind, MemoryKeyStore, Scope, Sealed, Suite};
use zk_fuzz::{edited, now};
use zk_kms::LocalKms;

struct World {
    encryptor: Encryptor,
    scope: Scope,
    context: Context,
    sealed: [Sealed; 2],
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let kms = Arc::new(LocalKms::ephemeral("fuzz").expect("a ring"));
    let store = Arc::new(MemoryKeyStore::new());
    let made = |suite| {
        Encryptor::new(kms.clone(), store.clone(), EncryptorConfig::default().suite(suite)).expect("an encryptor")
    };
    let (encryptor, other) = (made(Suite::Xaes256Gcm), made(Suite::XChaCha20Poly1305));
    let (scope, context) = (Scope::new("s").expect("a scope"), Context::column("t", "c").row("1"));
    now(encryptor.create_key(&scope)).expect("a key");
    let sealed = [&encryptor, &other].map(|e| now(e.seal(&scope, &context, b"078-05-1120")).expect("sealed"));
    World { encryptor, scope, context, sealed }
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.as_bytes(), bytes);
    }
    let World { encryptor, scope, context, sealed } = &*WORLD;
    for good in sealed {
        let changed = edited(good.as_bytes(), bytes);
        let opened = Sealed::parse(&changed).and_then(|value| now(encryptor.open(scope, context, &value)));
        match opened {
            Ok(_) => assert_eq!(changed, good.as_bytes(), "an edited value opened"),
            // A key id that nobody knows is asked for in the store, and not found there.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Open, "the reason shows"),
        }
    }
});
