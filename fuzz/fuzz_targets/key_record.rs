//! A key store that is told anything keeps its rules: generations without gaps, one active key at most, destroyed is for
//! good; and each part of a record is read back as it was written. Run: `fuzz/run 60 key_record`.
#![no_main]

use std::{path::PathBuf, sync::LazyLock, time::SystemTime};

use libfuzzer_sys::fuzz_target;
use zk_crypto::{FileKeyStore, KeyId, KeyRecord, KeyState, KeyStore, MemoryKeyStore, Scope};
use zk_fuzz::now;
use zk_kms::{KeyUri, WrappedKey};

const STATES: [KeyState; 4] =
    [KeyState::Active, KeyState::Retiring, KeyState::Disabled, KeyState::Destroyed];

fuzz_target!(|bytes: &[u8]| {
    parts(bytes);
    file(bytes);
    let store = MemoryKeyStore::new();
    for step in bytes.chunks_exact(4).take(64) {
        let [operation, which, one, two] = step else { return };
        let id = KeyId::from_slice(&[*which % 8; 16]).expect("16 bytes");
        let before = now(store.by_id(id)).expect("memory answers");
        let done = match operation % 4 {
            0 => now(store.insert(&record(*which % 8, *one))),
            1 => now(store.set_state(id, STATES[usize::from(one % 4)], STATES[usize::from(two % 4)])),
            2 => now(store.replace_wrapped(id, &wrapped(*one), &wrapped(*two))),
            _ => now(store.destroy(id)),
        };
        let after = now(store.by_id(id)).expect("memory answers");
        assert!(done.is_ok() || before == after, "a refused change changed something");
        if before.is_some_and(|record| record.state == KeyState::Destroyed) {
            assert_eq!(after.map(|record| (record.state, record.wrapped)), Some((KeyState::Destroyed, None)));
        }
        rules(&now(store.list(None)).expect("memory answers"));
    }
});

/// A key file of any content opens and lists what it holds, or is refused.
fn file(bytes: &[u8]) {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("zk-fuzz-{}", std::process::id()));
        FileKeyStore::create(&path).expect("a new file");
        path
    });
    std::fs::write(&*PATH, bytes).expect("a file that takes everything");
    if let Ok(store) = FileKeyStore::open(&*PATH) {
        rules(&now(store.list(None)).expect("what opened lists"));
    }
}

fn parts(bytes: &[u8]) {
    if let Ok(id) = KeyId::from_slice(bytes) {
        assert_eq!(id.as_bytes().as_slice(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scope) = Scope::new(text) {
        assert_eq!(scope.as_str(), text);
    }
    if let Some(state) = KeyState::parse(text) {
        assert_eq!(state.as_str(), text);
    }
}

fn rules(records: &[KeyRecord]) {
    for record in records {
        let scope: Vec<_> = records.iter().filter(|other| other.scope == record.scope).collect();
        assert!(scope.iter().filter(|other| other.state == KeyState::Active).count() <= 1);
        let generations: Vec<u32> = scope.iter().map(|other| other.generation).collect();
        assert_eq!(generations, (1..).take(scope.len()).collect::<Vec<u32>>());
        assert_eq!(record.wrapped.is_none(), record.state == KeyState::Destroyed);
    }
}

fn record(which: u8, one: u8) -> KeyRecord {
    let id = KeyId::from_slice(&[which; 16]).expect("16 bytes");
    let scope = Scope::new(["a", "b"][usize::from(one & 1)]).expect("a scope");
    KeyRecord::new(id, scope, u32::from(one >> 1) % 6, wrapped(one), SystemTime::UNIX_EPOCH)
}

fn wrapped(one: u8) -> WrappedKey {
    let uri = KeyUri::local("fuzz").expect("a URI");
    WrappedKey::new(uri, 1.into(), vec![one % 4; 32]).expect("32 bytes")
}
