//! Any bytes are a list of wraps, of which nothing opens but what was made, or they are refused; nor does a changed one open
//! though a member would still unwrap. Run: `fuzz/run 60 any_of`.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use zk_fuzz::edited;
use zk_kms::{AnyOf, Context, DataKey, ErrorKind, KeyVersion, Kms, LocalKms, WrappedKey};

struct World {
    runtime: Runtime,
    kms: AnyOf,
    version: KeyVersion,
    key: DataKey,
    wrapped: WrappedKey,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ring = |name| Arc::new(LocalKms::ephemeral(name).expect("a ring")) as Arc<dyn Kms>;
    let kms = AnyOf::new("fuzz", ["one", "two"].map(ring)).expect("two members");
    let key = DataKey::generate().expect("a key");
    let wrapped = runtime.block_on(kms.wrap_key(&key, &Context::new())).expect("rings wrap");
    let version = runtime.block_on(kms.status()).expect("rings have a status").version().clone();
    World { runtime, kms, version, key, wrapped }
});

fuzz_target!(|bytes: &[u8]| {
    let World { version, wrapped, .. } = &*WORLD;
    // As they are, under the version that a list of both members has; and as changes of a good one.
    opens(version, bytes.to_vec());
    opens(version, edited(wrapped.bytes(), bytes));
});

fn opens(version: &KeyVersion, bytes: Vec<u8>) {
    let World { runtime, kms, key, wrapped, .. } = &*WORLD;
    let is_whole = bytes == wrapped.bytes();
    let Ok(changed) = WrappedKey::new(wrapped.uri().clone(), version.clone(), bytes) else { return };
    let missing = kms.missing(&changed).map(|missing| missing.len());
    match runtime.block_on(kms.unwrap_key(&changed, &Context::new())) {
        Ok(opened) => {
            assert!(is_whole && opened == *key && matches!(missing, Ok(0)), "something else opened")
        }
        Err(error) => assert!(!is_whole && error.kind() == ErrorKind::Invalid, "{error}"),
    }
}
