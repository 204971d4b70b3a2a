//! What is measured of sealing: our encryptor, and what one writes by hand.

use std::{pin::pin, sync::Arc, task};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand::Rng;
use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, Sealer, Suite};
use zk_kms::LocalKms;

/// The key of what is written by hand.
pub const KEY: [u8; 32] = [7; 32];
/// Its associated data.
pub const AAD: [u8; 32] = [9; 32];

/// An encryptor with the key of one scope in its cache.
pub struct Ours {
    pub encryptor: Encryptor,
    pub sealer: Sealer,
    pub scope: Scope,
    pub context: Context,
}

impl Ours {
    pub fn new(suite: Suite) -> Self {
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
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut task::Context::from_waker(task::Waker::noop())) {
        task::Poll::Ready(output) => output,
        task::Poll::Pending => panic!("the key is not in the cache"),
    }
}

/// What a careful user writes: a shared key, a random nonce of 96 bits, one output buffer, 32 bytes of associated data.
pub fn by_hand(key: &LessSafeKey, text: &[u8]) -> Vec<u8> {
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
pub fn aws_lc() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).unwrap())
}
