//! What does sealing and opening one value cost, beside the cipher alone, beside what one writes by hand, and beside others?

use std::{hint::black_box, pin::pin, sync::Arc, task};

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use rand::Rng;
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, MemoryKeyStore, OVERHEAD, Plaintext, Scope, Sealer, Suite,
};
use zk_kms::LocalKms;

use crate::{Table, print_scaling};

/// The key of what is written by hand.
pub const KEY: [u8; 32] = [7; 32];
/// Its associated data.
pub const AAD: [u8; 32] = [9; 32];

/// Sealing and opening, as both sides of one peer.
pub struct Peer {
    pub name: &'static str,
    pub seal: Box<dyn Fn(&str) -> Sealed>,
}

/// What opens a value that was sealed before, and says how long its text is.
pub type Sealed = Box<dyn Fn() -> usize>;

/// Prints the tables, with rows for the peers.
pub fn run(peers: &[Peer]) {
    println!("ciphers of zk-crypto: {}", if cfg!(feature = "aws-lc") { "AWS-LC" } else { "Rust" });
    let ours = Ours::new(Suite::Xaes256Gcm);
    let xchacha = Ours::new(Suite::XChaCha20Poly1305);
    for len in [64, 1024, 65_536, 1 << 20] {
        sealing(len, &ours, &xchacha, peers);
        opening(len, &ours, &xchacha, peers);
    }
    scaling(&ours);
}

const SEAL: &str = "zk-crypto, Sealer::seal (new buffer)";
const SEAL_INTO: &str = "zk-crypto, Sealer::seal_into (used buffer)";
const OPEN: &str = "zk-crypto, Encryptor::open (new buffer, wiped)";
const OPEN_INTO: &str = "zk-crypto, Encryptor::open_into (used buffer)";
const NEW: &str = "aws-lc-rs alone, into a new buffer";
const NEW_WIPED: &str = "aws-lc-rs alone, into a new buffer, wiped";
const USED: &str = "aws-lc-rs alone, into a used buffer";
const IN_PLACE: &str = "aws-lc-rs alone, in place";

fn sealing(len: usize, ours: &Ours, xchacha: &Ours, peers: &[Peer]) {
    let words = "x".repeat(len);
    let text = words.as_bytes().to_vec();
    let key = aws_lc();
    let (mut out, mut used) = (Vec::new(), vec![0; len + 16]);
    let mut table = Table::new(format!("Seal {len} bytes"), len);
    table.row("REF: AES-256-GCM of aws-lc-rs by hand (new buffer)", || by_hand(&key, &text));
    table.row(SEAL, || ours.sealer.seal(&ours.context, &text).unwrap());
    table.row(SEAL_INTO, || ours.sealer.seal_into(&ours.context, &text, black_box(&mut out)).unwrap());
    table.row("zk-crypto, Encryptor::seal (new buffer)", || {
        now(ours.encryptor.seal(&ours.scope, &ours.context, &text)).unwrap()
    });
    table.row("zk-crypto, Sealer::seal, XChaCha20-Poly1305", || {
        xchacha.sealer.seal(&xchacha.context, &text).unwrap()
    });
    let (mut buffer, aws) = (text.clone(), aws_lc());
    table.row(IN_PLACE, move || {
        aws.seal_in_place_separate_tag(nonce(), Aad::from(AAD), black_box(&mut buffer)).unwrap()
    });
    table.row(USED, || seal_out_of_place(&key, &text, black_box(&mut used)));
    table.row(NEW, || {
        let mut out = vec![0; len + 16];
        seal_out_of_place(&key, &text, &mut out);
        out
    });
    let (mut buffer, ring) = (text.clone(), ring());
    table.row("ring alone, in place", move || {
        let nonce = ring::aead::Nonce::assume_unique_for_key([1; 12]);
        ring.seal_in_place_separate_tag(nonce, ring::aead::Aad::from(AAD), &mut buffer).unwrap()
    });
    let (mut buffer, rust) = (text.clone(), Aes256Gcm::new(&KEY.into()));
    table.row("RustCrypto AES-256-GCM alone, in place", move || {
        rust.encrypt_inout_detached(&[1; 12].into(), &AAD, buffer.as_mut_slice().into()).unwrap()
    });
    for peer in peers {
        table.row(peer.name, || (peer.seal)(&words));
    }
    table.compare(SEAL, NEW);
    table.compare(SEAL_INTO, USED);
    table.print();
}

fn opening(len: usize, ours: &Ours, xchacha: &Ours, peers: &[Peer]) {
    let text = vec![5; len];
    let key = aws_lc();
    let by_hand = by_hand(&key, &text);
    let sealed = ours.sealer.seal(&ours.context, &text).unwrap();
    let other = xchacha.sealer.seal(&xchacha.context, &text).unwrap();
    assert_eq!(sealed.as_bytes().len(), len + OVERHEAD);
    let (mut opened, mut used, (alone, tag)) = (Plaintext::new(), text.clone(), alone(&key, &text));
    let open = |out: &mut [u8]| {
        key.open_separate_gather(nonce(), Aad::from(AAD), &alone, tag.as_ref(), out).unwrap();
    };
    let mut table = Table::new(format!("Open {len} bytes"), len);
    table.row("REF: AES-256-GCM of aws-lc-rs by hand (new buffer)", || {
        let (nonce, rest) = by_hand.split_first_chunk::<12>().unwrap();
        let mut out = rest.to_vec();
        let len = key.open_in_place(Nonce::from(nonce), Aad::from(AAD), &mut out).unwrap().len();
        out.truncate(len);
        out
    });
    table.row(OPEN, || now(ours.encryptor.open(&ours.scope, &ours.context, &sealed)).unwrap());
    table.row(OPEN_INTO, || {
        let text = black_box(&mut opened);
        now(ours.encryptor.open_into(&ours.scope, &ours.context, &sealed, text)).unwrap();
    });
    table.row("zk-crypto, Encryptor::open, XChaCha20-Poly1305", || {
        now(xchacha.encryptor.open(&xchacha.scope, &xchacha.context, &other)).unwrap()
    });
    table.row(USED, || open(black_box(&mut used)));
    table.row(NEW, || {
        let mut out = vec![0; len];
        open(&mut out);
        out
    });
    table.row(NEW_WIPED, || {
        let mut out = vec![0; len];
        open(black_box(&mut out));
        out.fill(0);
        out
    });
    let words = "x".repeat(len);
    for peer in peers {
        let open = (peer.seal)(&words);
        assert_eq!(open(), len, "{}", peer.name);
        table.row(peer.name, open);
    }
    table.compare(OPEN, NEW_WIPED);
    table.compare(OPEN, NEW);
    table.compare(OPEN_INTO, USED);
    table.print();
}

fn scaling(ours: &Ours) {
    let text = [5; 64];
    let key = aws_lc();
    let sealed = ours.sealer.seal(&ours.context, &text).unwrap();
    print_scaling(
        "Two threads, 64 bytes",
        &[
            ("REF: AES-256-GCM of aws-lc-rs by hand", &|| drop(black_box(by_hand(&key, &text)))),
            ("zk-crypto, Sealer::seal", &|| drop(black_box(ours.sealer.seal(&ours.context, &text).unwrap()))),
            ("zk-crypto, Encryptor::seal", &|| {
                drop(black_box(now(ours.encryptor.seal(&ours.scope, &ours.context, &text)).unwrap()));
            }),
            ("zk-crypto, Encryptor::open", &|| {
                drop(black_box(now(ours.encryptor.open(&ours.scope, &ours.context, &sealed)).unwrap()));
            }),
        ],
    );
}

/// An encryptor with the key of one scope in its cache.
struct Ours {
    encryptor: Encryptor,
    sealer: Sealer,
    scope: Scope,
    context: Context,
}

impl Ours {
    fn new(suite: Suite) -> Self {
        let kms = Arc::new(LocalKms::ephemeral("bench").unwrap());
        let config = EncryptorConfig::default().suite(suite);
        let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), config).unwrap();
        let scope = Scope::tenant("7f9c").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(encryptor.create_key(&scope)).unwrap();
        let sealer = runtime.block_on(encryptor.sealer(&scope)).unwrap();
        Self { encryptor, sealer, scope, context: Context::column("public.customers", "ssn").row("42") }
    }
}

/// Polls a future that has nothing to wait for, as with every key in the cache: where it stands, as `.await` does.
#[inline(always)]
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut task::Context::from_waker(task::Waker::noop())) {
        task::Poll::Ready(output) => output,
        task::Poll::Pending => panic!("the key is not in the cache"),
    }
}

/// What a careful user writes: a shared key, a random nonce of 96 bits, one output buffer, 32 bytes of associated data.
fn by_hand(key: &LessSafeKey, text: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    rand::rng().fill_bytes(&mut nonce);
    let mut out = Vec::with_capacity(12 + text.len() + 16);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(text);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(AAD), &mut out[12..]).unwrap();
    out.extend_from_slice(tag.as_ref());
    out
}

/// AES-256-GCM of AWS-LC.
fn aws_lc() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).unwrap())
}

/// Into ciphertext and tag.
fn seal_out_of_place(key: &LessSafeKey, text: &[u8], out: &mut [u8]) {
    let (sealed, tag) = out.split_at_mut(text.len());
    key.seal_out_of_place_scatter(nonce(), Aad::from(AAD), text, sealed, &[], tag).unwrap();
}

/// Ciphertext and tag.
fn alone(key: &LessSafeKey, text: &[u8]) -> (Vec<u8>, Tag) {
    let mut sealed = text.to_vec();
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(AAD), &mut sealed).unwrap();
    (sealed, tag)
}

fn ring() -> ring::aead::LessSafeKey {
    ring::aead::LessSafeKey::new(ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, &KEY).unwrap())
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([1; 12])
}
