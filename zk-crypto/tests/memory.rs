//! However long a stream is, it is sealed and opened in the same memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read},
    sync::Arc,
    thread,
};

use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, stream::StreamHeader};
use zk_kms::LocalKms;

const GIB: u64 = 1 << 30;
const MOST: u64 = 64 << 20;

// The only test of this file: what is measured is the whole process. `cargo bench -p benches --bench stream` does the same
// with 10 GiB.
#[test]
fn a_long_stream_needs_little_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let kms = Arc::new(LocalKms::ephemeral("memory").unwrap());
    let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default()).unwrap();
    let (scope, context) = (Scope::tenant("7").unwrap(), Context::purpose("backup"));
    runtime.block_on(encryptor.create_key(&scope)).unwrap();
    let threads = 2.try_into().unwrap();

    let (mut sealed, pipe) = io::pipe().unwrap();
    let sealer = runtime.block_on(encryptor.stream_sealer(&scope, &context)).unwrap();
    let sealing = thread::spawn(move || sealer.copy(io::repeat(7).take(GIB), pipe, threads).unwrap());
    let header = StreamHeader::read_from(&mut sealed).unwrap();
    let opener = runtime.block_on(encryptor.stream_opener(&scope, &context, &header)).unwrap();
    assert_eq!(opener.copy(sealed, io::sink(), threads).unwrap(), GIB);
    assert_eq!(sealing.join().unwrap(), GIB);

    let peak = peak_memory();
    assert!(peak <= MOST, "{peak} bytes at the peak");
}

/// What the process had resident at most, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
    kib * 1024
}
