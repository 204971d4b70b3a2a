//! How fast is a long stream sealed and opened, on one thread, beside the cipher alone on the same chunks?

use std::{
    io::{Read, Write, pipe, repeat, sink},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Instant,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use benches::Table;
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, Sealer,
    stream::{StreamHeader, StreamOpener},
};
use zk_kms::LocalKms;

const LEN: usize = 1 << 20;
const CHUNK: usize = 16 << 10;
const REF: &str = "REF: aws-lc-rs on chunks of 16 KiB, each copied and then in place";

fn main() {
    println!("ciphers of zk-crypto: {}", if cfg!(feature = "aws-lc") { "AWS-LC" } else { "Rust" });
    let ours = Ours::new();
    // First, because the system tells the most memory that the process ever had.
    little_memory(&ours);
    let text = vec![5; LEN];
    let sealed = ours.seal(&text);

    let mut table = Table::new("Seal a stream of 1 MiB", LEN);
    table.row(REF, || by_hand(&text));
    table.row("zk-crypto, StreamWriter to nowhere", || {
        let mut writer = ours.sealer.stream(&ours.context).unwrap().writer(sink());
        writer.write_all(&text).unwrap();
        writer.finish().unwrap();
    });
    table.compare("zk-crypto, StreamWriter to nowhere", REF);
    table.print();

    let (mut chunks, mut buffer) = (sealed_by_hand(&text), Vec::with_capacity(CHUNK + 16));
    let mut table = Table::new("Open a stream of 1 MiB", LEN);
    table.row(REF, || open_by_hand(&mut chunks, &mut buffer));
    for kib in [64, 4] {
        let (name, sealed) = (format!("zk-crypto, StreamReader in pieces of {kib} KiB"), &sealed);
        let (mut piece, ours) = (vec![0; kib << 10], &ours);
        table.row(name.as_str(), move || {
            let mut reader = ours.opener(sealed).reader(&sealed[StreamHeader::LEN..]);
            while reader.read(&mut piece).unwrap() > 0 {}
        });
        table.compare(name, REF);
    }
    table.print();

    let at = ours.opener(&sealed).at(sealed.as_slice()).unwrap();
    let mut part = vec![0; 4096];
    let mut table = Table::new("Read 4 KiB in the middle of 1 MiB", 4096);
    table.row("zk-crypto, StreamAt::read_at", || at.read_at(&mut part, LEN as u64 / 2).unwrap());
    table.print();

    whole_streams(&ours);
}

/// Sealing and opening a long stream as a whole, on one thread and on two.
fn whole_streams(ours: &Ours) {
    const LONG: usize = 64 << 20;
    let text = vec![5; LONG];
    let mut sealed = Vec::with_capacity(LONG + LONG / 512);
    ours.sealer.stream(&ours.context).unwrap().copy(text.as_slice(), &mut sealed, threads(1)).unwrap();
    let body = &sealed[StreamHeader::LEN..];
    let mut table = Table::new("A whole stream of 64 MiB", LONG);
    for count in [1, 2] {
        let text = text.as_slice();
        table.row(format!("seal, threads: {count}"), move || {
            ours.sealer.stream(&ours.context).unwrap().copy(text, sink(), threads(count)).unwrap()
        });
    }
    for count in [1, 2] {
        let sealed = &sealed;
        table.row(format!("open, threads: {count}"), move || {
            ours.opener(sealed).copy(body, sink(), threads(count)).unwrap()
        });
    }
    for count in [1, 2] {
        let text = text.as_slice();
        table.row(format!("REF on a part for each thread, threads: {count}"), move || {
            thread::scope(|scope| {
                text.chunks(LONG / count).for_each(|part| drop(scope.spawn(|| by_hand(part))));
            });
        });
    }
    for what in ["seal", "open", "REF on a part for each thread"] {
        table.compare(format!("{what}, threads: 2"), format!("{what}, threads: 1"));
    }
    for what in ["seal", "open"] {
        table.compare(format!("{what}, threads: 1"), "REF on a part for each thread, threads: 1");
    }
    table.print();
}

/// Seals and opens 10 GiB through a pipe, and fails when the process ever had more than 64 MiB.
fn little_memory(ours: &Ours) {
    const LONG: u64 = 10 << 30;
    let (mut sealed, pipe) = pipe().unwrap();
    let sealer = ours.sealer.stream(&ours.context).unwrap();
    let start = Instant::now();
    let sealing = thread::spawn(move || sealer.copy(repeat(7).take(LONG), pipe, threads(1)).unwrap());
    let header = StreamHeader::read_from(&mut sealed).unwrap();
    let opener =
        ours.runtime.block_on(ours.encryptor.stream_opener(&ours.scope, &ours.context, &header)).unwrap();
    assert_eq!(opener.copy(sealed, sink(), threads(1)).unwrap(), LONG);
    assert_eq!(sealing.join().unwrap(), LONG);
    let (seconds, peak) = (start.elapsed().as_secs_f64(), peak_memory());
    let speed = LONG as f64 / seconds / 1e9;
    println!("\n### 10 GiB sealed, through a pipe, and opened\n");
    println!("{seconds:.1} s, {speed:.2} GB/s, at most {} MiB resident", peak >> 20);
    assert!(peak <= 64 << 20, "more than 64 MiB");
}

/// What the process had resident at most, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// What the cipher alone costs: each chunk copied to a buffer and sealed there.
fn by_hand(text: &[u8]) {
    let key = key();
    let mut buffer = Vec::with_capacity(CHUNK + 16);
    for (i, chunk) in (0u64..).zip(text.chunks(CHUNK)) {
        buffer.clear();
        buffer.extend_from_slice(chunk);
        key.seal_in_place_append_tag(nonce(i), Aad::empty(), &mut buffer).unwrap();
        std::hint::black_box(&buffer);
    }
}

fn sealed_by_hand(text: &[u8]) -> Vec<Vec<u8>> {
    let seal = |(i, chunk): (u64, &[u8])| {
        let mut sealed = chunk.to_vec();
        key().seal_in_place_append_tag(nonce(i), Aad::empty(), &mut sealed).unwrap();
        sealed
    };
    (0..).zip(text.chunks(CHUNK)).map(seal).collect()
}

fn open_by_hand(chunks: &mut [Vec<u8>], buffer: &mut Vec<u8>) {
    let key = key();
    for (i, chunk) in (0u64..).zip(chunks) {
        buffer.clear();
        buffer.extend_from_slice(chunk);
        std::hint::black_box(key.open_in_place(nonce(i), Aad::empty(), buffer).unwrap());
    }
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap())
}

fn nonce(i: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&i.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// An encryptor with the key of one scope in its cache.
struct Ours {
    encryptor: Encryptor,
    sealer: Sealer,
    scope: Scope,
    context: Context,
    runtime: tokio::runtime::Runtime,
}

impl Ours {
    fn new() -> Self {
        let kms = Arc::new(LocalKms::ephemeral("bench").unwrap());
        let store = Arc::new(MemoryKeyStore::new());
        let encryptor = Encryptor::new(kms, store, EncryptorConfig::default()).unwrap();
        let scope = Scope::tenant("7f9c").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(encryptor.create_key(&scope)).unwrap();
        let sealer = runtime.block_on(encryptor.sealer(&scope)).unwrap();
        Self { encryptor, sealer, scope, context: Context::purpose("backup"), runtime }
    }

    fn seal(&self, text: &[u8]) -> Vec<u8> {
        let mut writer = self.sealer.stream(&self.context).unwrap().writer(Vec::new());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn opener(&self, sealed: &[u8]) -> StreamOpener {
        let header = StreamHeader::read_from(sealed).unwrap();
        let opener = self.encryptor.stream_opener(&self.scope, &self.context, &header);
        self.runtime.block_on(opener).unwrap()
    }
}
