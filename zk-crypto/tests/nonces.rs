//! No nonce is used twice: not by threads, not by processes, and not by forked children, which have their parent's memory.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashSet, fs, io::Write as _, panic, process, sync::Arc, thread};

use fork::Fork;
use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, Sealer, Suite};
use zk_kms::LocalKms;

const NONCE: std::ops::Range<usize> = 17..41;

// The only test of this file, so that no other thread of it runs while the process forks.
#[test]
fn nonces_never_repeat() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let sealer = runtime.block_on(sealer(suite));
        let mut seen: HashSet<Vec<u8>> = nonces(&sealer).into_iter().collect();
        // Several children of one parent, each with a child of its own: all have the same memory.
        let mut files = Vec::new();
        for child in 0..3 {
            let file =
                std::env::temp_dir().join(format!("zk-crypto-fork-{}-{suite:?}-{child}", process::id()));
            in_a_child(|| {
                fs::write(file.with_extension("child"), nonces(&sealer).concat()).unwrap();
                in_a_child(|| {
                    fs::write(file.with_extension("grandchild"), nonces(&sealer).concat()).unwrap()
                });
            });
            files.extend([file.with_extension("child"), file.with_extension("grandchild")]);
        }
        let mut all = nonces(&sealer);
        for file in files {
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(file).unwrap();
            all.extend(bytes.chunks(NONCE.len()).map(<[u8]>::to_vec));
        }
        assert_eq!(all.len(), 7 * nonces(&sealer).len());
        for nonce in all {
            assert!(seen.insert(nonce), "a nonce was used twice");
        }
        if suite == Suite::Xaes256Gcm {
            let prefixes: HashSet<&[u8]> = seen.iter().map(|nonce| &nonce[..12]).collect();
            // Each group of threads has its own; which group a new thread joins is not said.
            assert!((7..=7 * 8).contains(&prefixes.len()), "at least one prefix for each process");
        }
        a_stream_stays_in_its_process(&sealer);
    }
}

/// Parent and child would go on under the same nonces.
fn a_stream_stays_in_its_process(sealer: &Sealer) {
    let mut writer = sealer.stream(&Context::purpose("fork")).unwrap().writer(Vec::new());
    writer.write_all(&[1; 20_000]).unwrap();
    in_a_child(|| assert!(writer.write_all(&[2; 20_000]).is_err()));
    writer.write_all(&[3; 20_000]).unwrap();
    writer.finish().unwrap();
}

/// More nonces than a thread draws at once, but an odd number, so that the next process finds a buffer half used.
fn nonces(sealer: &Sealer) -> Vec<Vec<u8>> {
    let nonce =
        |_| sealer.seal(&Context::purpose("fork"), b"").unwrap().as_bytes().get(NONCE).unwrap().to_vec();
    let mut nonces: Vec<_> = (0..101).map(nonce).collect();
    // And another thread beside this one, which ends before the next fork.
    nonces.extend(thread::scope(|s| s.spawn(|| (0..101).map(nonce).collect::<Vec<_>>()).join().unwrap()));
    nonces
}

/// Runs `child` in a forked process and waits for it.
fn in_a_child(child: impl FnOnce()) {
    match fork::fork().unwrap() {
        Fork::Parent(pid) => assert_eq!(fork::waitpid(pid).unwrap(), 0, "the child failed"),
        // The child must not return into the test runner.
        Fork::Child => process::exit(i32::from(panic::catch_unwind(panic::AssertUnwindSafe(child)).is_err())),
    }
}

async fn sealer(suite: Suite) -> Sealer {
    let kms = Arc::new(LocalKms::ephemeral("fork").unwrap());
    let config = EncryptorConfig::default().suite(suite);
    let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), config).unwrap();
    let scope = Scope::tenant("7").unwrap();
    encryptor.create_key(&scope).await.unwrap();
    encryptor.sealer(&scope).await.unwrap()
}
