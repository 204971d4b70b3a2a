//! XAES-256-GCM, <https://c2sp.org/XAES-256-GCM>, split where its cost is: a key derived from the first half of the
//! nonce, which a sealer keeps, and one AES-256-GCM call for each message.

use aes::{
    Aes256, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use zeroize::{Zeroize, Zeroizing};

use super::Gcm;

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

    /// Derives the cipher of a prefix: NIST SP 800-108r1 section 4.1 with CMAC, counters 1 and 2, label `X`. `None` only
    /// without memory.
    pub(crate) fn subkey(&self, prefix: &[u8; PREFIX]) -> Option<Gcm> {
        Gcm::new(&self.derive(prefix))
    }

    /// The bytes of the key of a prefix.
    pub(super) fn derive(&self, prefix: &[u8; PREFIX]) -> Zeroizing<[u8; 32]> {
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
        key
    }
}
