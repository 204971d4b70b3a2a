//! No nonce is used twice under one key: not by threads, not by separate processes, and not by forked children, which have
//! their parent's memory.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    collections::HashSet,
    env, fs,
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::Arc,
    thread,
};

use fork::Fork;
use zk_crypto::{Context, Encryptor, EncryptorConfig, FileKeyStore, Scope, Sealer, Suite};
use zk_kms::{LocalKms, PassphraseCost};

type Nonce = [u8; 24];

/// What each thread seals: far more than it draws random bytes for at once, and an odd number, so that the next process
/// finds a buffer half used.
const EACH: usize = 8_001;
/// Threads that seal beside the one that starts them.
const BESIDE: usize = 2;
const CHILDREN: usize = 3;
const PROCESSES: usize = 3;
const PASSPHRASE: &str = "correct horse battery staple";
/// Tells a process that this test started which folder holds the keys, and where its nonces go.
const ORDERS: &str = "ZK_NONCES";

// The only test of this file, so that no other thread of it runs while the process forks.
#[test]
fn nonces_never_repeat() {
    if let Ok(file) = env::var(ORDERS) {
        let file = PathBuf::from(file);
        return write(&file, &nonces(&sealer(file.parent().unwrap(), suite_of(&file))));
    }
    let folder = tempfile::tempdir().unwrap();
    make_keys(folder.path());
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        let file = |name: String| folder.path().join(format!("{name}.{}", suite as u8));
        let sealer = sealer(folder.path(), suite);
        let before = nonces(&sealer);
        // At the same time as everything below.
        let started: Vec<_> = (0..PROCESSES).map(|i| file(format!("process-{i}"))).collect();
        let processes: Vec<Child> = started.iter().map(|file| start(file)).collect();
        // Several children of one parent, each with a child of its own: all have the same memory.
        let mut forked = Vec::new();
        for i in 0..CHILDREN {
            let (child, grandchild) = (file(format!("child-{i}")), file(format!("grandchild-{i}")));
            in_a_child(|| {
                write(&child, &nonces(&sealer));
                in_a_child(|| write(&grandchild, &nonces(&sealer)));
            });
            forked.extend([child, grandchild]);
        }
        let after = nonces(&sealer);
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        let elsewhere: Vec<Vec<Nonce>> = started.iter().chain(&forked).map(|file| read(file)).collect();
        let all: Vec<&Vec<Nonce>> = elsewhere.iter().chain([&before, &after]).collect();
        assert!(all.iter().all(|nonces| nonces.len() == (1 + BESIDE) * EACH));
        let distinct: HashSet<&Nonce> = all.iter().flat_map(|nonces| nonces.iter()).collect();
        assert_eq!(distinct.len(), all.len() * (1 + BESIDE) * EACH, "a nonce was used twice");
        if suite == Suite::Xaes256Gcm {
            // Each thread of each process draws one prefix and keeps it: the parent's first thread seals twice, and starts
            // as many others each time. Fewer would mean that a child goes on with its parent's.
            let prefixes: HashSet<&[u8]> = distinct.iter().map(|nonce| &nonce[..12]).collect();
            assert_eq!(prefixes.len(), 1 + 2 * BESIDE + elsewhere.len() * (1 + BESIDE));
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

/// The nonces of this thread, and of some others beside it, which end before the next fork.
fn nonces(sealer: &Sealer) -> Vec<Nonce> {
    let nonce = |_| {
        let sealed = sealer.seal(&Context::purpose("fork"), b"").unwrap();
        sealed.as_bytes()[17..41].try_into().unwrap()
    };
    let seal = || (0..EACH).map(nonce).collect::<Vec<Nonce>>();
    thread::scope(|s| {
        let others: Vec<_> = (0..BESIDE).map(|_| s.spawn(seal)).collect();
        let mut nonces = seal();
        others.into_iter().for_each(|other| nonces.extend(other.join().unwrap()));
        nonces
    })
}

/// Runs `child` in a forked process and waits for it.
fn in_a_child(child: impl FnOnce()) {
    match fork::fork().unwrap() {
        Fork::Parent(pid) => assert_eq!(fork::waitpid(pid).unwrap(), 0, "the child failed"),
        // The child must not return into the test runner.
        Fork::Child => process::exit(i32::from(panic::catch_unwind(panic::AssertUnwindSafe(child)).is_err())),
    }
}

/// Starts this test as a process of its own, which seals under the same keys.
fn start(file: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "nonces_never_repeat", "--nocapture"])
        .env(ORDERS, file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn suite_of(file: &Path) -> Suite {
    let suites = [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305];
    let suite =
        suites.into_iter().find(|suite| file.extension().unwrap() == (*suite as u8).to_string().as_str());
    suite.expect("a file of a suite")
}

fn write(file: &Path, nonces: &[Nonce]) {
    fs::write(file, nonces.concat()).unwrap();
}

fn read(file: &Path) -> Vec<Nonce> {
    let bytes = fs::read(file).unwrap();
    let (nonces, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    nonces.to_vec()
}

/// One data key, in files that every process can open.
fn make_keys(folder: &Path) {
    let cost = PassphraseCost::new(64, 1, 1).unwrap();
    LocalKms::create(folder.join("ring"), "nonces", &PASSPHRASE.into(), cost).unwrap();
    FileKeyStore::create(folder.join("keys")).unwrap();
    block_on(encryptor(folder, Suite::default()).create_key(&scope())).unwrap();
}

fn sealer(folder: &Path, suite: Suite) -> Sealer {
    block_on(encryptor(folder, suite).sealer(&scope())).unwrap()
}

fn encryptor(folder: &Path, suite: Suite) -> Encryptor {
    let kms = LocalKms::open(folder.join("ring"), &PASSPHRASE.into()).unwrap();
    let store = FileKeyStore::open(folder.join("keys")).unwrap();
    Encryptor::new(Arc::new(kms), Arc::new(store), EncryptorConfig::default().suite(suite)).unwrap()
}

fn scope() -> Scope {
    Scope::tenant("7").unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
