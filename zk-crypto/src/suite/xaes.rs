//! XAES-256-GCM, <https://c2sp.org/XAES-256-GCM>, split where its cost is: a key derived from the first half of the
//! nonce, which a sealer keeps, and one AES-256-GCM call for each message.

use aes::{
    Aes256, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use aes_gcm::{AeadInOut, Aes256Gcm};
use zeroize::{Zeroize, Zeroizing};

use crate::sealed::TAG;

/// The length of the half of the nonce that derives a key.
pub(crate) const PREFIX: usize = 12;
/// The length of the half that is the nonce of AES-256-GCM.
pub(crate) const SUFFIX: usize = 12;

/// An XAES-256-GCM key.
pub(crate) struct Xaes {
    cipher: Aes256,
    /// The CMAC subkey, NIST SP 800-38B section 6.1.
    k1: Zeroizing<[u8; 16]>,
}

/// The AES-256-GCM key of one prefix.
pub(crate) struct Subkey(Aes256Gcm);

impl Xaes {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256::new(key.into());
        let mut l = Block::default();
        cipher.encrypt_block(&mut l);
        let doubled = u128::from_be_bytes(l.into());
        // Without a branch: the first bit of L is secret.
        let k1 = (doubled << 1) ^ ((doubled >> 127) * 0x87);
        l.zeroize();
        Self { cipher, k1: Zeroizing::new(k1.to_be_bytes()) }
    }

    /// Derives the key of a prefix: NIST SP 800-108r1 section 4.1 with CMAC, counters 1 and 2, label `X`.
    pub(crate) fn subkey(&self, prefix: &[u8; PREFIX]) -> Subkey {
        let mut key = Zeroizing::new([0; 32]);
        for (counter, half) in (1..).zip(key.chunks_exact_mut(16)) {
            let message = [0, counter, b'X', 0].into_iter().chain(*prefix);
            let mut block = Block::default();
            for ((out, message), k1) in block.iter_mut().zip(message).zip(*self.k1) {
                *out = message ^ k1;
            }
            self.cipher.encrypt_block(&mut block);
            half.copy_from_slice(&block);
            block.zeroize();
        }
        Subkey(Aes256Gcm::new((&*key).into()))
    }
}

impl Subkey {
    /// Seals in place, returning the tag; `None` only for a text beyond AES-GCM's limit.
    pub(crate) fn seal(&self, suffix: &[u8; SUFFIX], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(suffix.into(), aad, text.into()).ok().map(Into::into)
    }

    /// Opens in place; `None` when the tag is wrong.
    pub(crate) fn open(
        &self,
        suffix: &[u8; SUFFIX],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Option<()> {
        self.0.decrypt_inout_detached(suffix.into(), aad, text.into(), tag.into()).ok()
    }
}
