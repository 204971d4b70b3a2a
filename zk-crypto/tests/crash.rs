//! A process that is killed while it changes a key file loses nothing that it was told is kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fork::Fork;
use rustix::process::{Pid, Signal, kill_process};
use zk_crypto::{Encryptor, EncryptorConfig, FileKeyStore, KeyState, KeyStore, Scope};
use zk_kms::LocalKms;

const KILLS: usize = 40;

// The only test of this file, so that no other thread of it runs while the process forks.
#[test]
fn a_killed_writer_leaves_the_old_or_the_new_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (path, told) = (folder.path().join("keys"), folder.path().join("told"));
    FileKeyStore::create(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let kms = Arc::new(LocalKms::ephemeral("crash").unwrap());
    let encryptor = || {
        let store = Arc::new(FileKeyStore::open(&path).unwrap());
        Encryptor::new(kms.clone(), store, EncryptorConfig::default()).unwrap()
    };
    let scope = Scope::new("s").unwrap();
    runtime.block_on(encryptor().create_key(&scope)).unwrap();
    let mut most = 1;
    for kill in 0..KILLS {
        match fork::fork().unwrap() {
            Fork::Child => rotate_for_ever(&encryptor(), &scope, &told),
            Fork::Parent(child) => {
                // Until it has begun, and then so long that the kill falls into another step each time.
                let before = told_keys(&told);
                let start = Instant::now();
                while told_keys(&told) == before && start.elapsed() < Duration::from_secs(60) {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_micros(137 * kill as u64));
                kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
                fork::waitpid(child).ok();
            }
        }
        let told = told_keys(&told);
        let keys = runtime.block_on(FileKeyStore::open(&path).unwrap().list(None)).unwrap();
        // What was told is there; at most the change that the kill came into is there untold.
        assert!(
            (told..=told + 1 + kill).contains(&(keys.len() - 1)),
            "{told} told, {} there",
            keys.len() - 1
        );
        assert!(keys.len() > most, "it went on");
        most = keys.len();
        assert_eq!(keys.iter().filter(|k| k.state == KeyState::Active).count(), 1);
        // Neither the lock nor what was half written stops the next one.
        runtime.block_on(encryptor().rewrap_keys(|_| ())).unwrap();
    }
}

/// In the child: it says of each key that it was made.
fn rotate_for_ever(encryptor: &Encryptor, scope: &Scope, told: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut told = OpenOptions::new().create(true).append(true).mode(0o600).open(told).unwrap();
    loop {
        if runtime.block_on(encryptor.rotate_key(scope)).is_err() || told.write_all(b".").is_err() {
            process::exit(1);
        }
    }
}

fn told_keys(told: &Path) -> usize {
    std::fs::metadata(told).map_or(0, |m| usize::try_from(m.len()).unwrap())
}
