//! The ciphers of AWS-LC. Same names and same bytes as `rust_crypto`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::{R20, hchacha};
use zeroize::{Zeroize, Zeroizing};

use super::SUFFIX;
use crate::sealed::{NONCE, TAG};

/// AES-256-GCM under one key. AWS-LC wipes what it frees.
pub(crate) struct Gcm(LessSafeKey);

/// XChaCha20-Poly1305 under one key: ChaCha20-Poly1305 of AWS-LC under a key that HChaCha20 derives for each message.
pub(crate) struct XChaCha(Zeroizing<[u8; 32]>);

impl Gcm {
    /// Sets a key up; `None` without memory.
    pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
        cipher(&AES_256_GCM, key).map(Self)
    }

    /// Seals `text` into `out`, which has exactly the room for ciphertext and tag; `None` only without that room or for a
    /// text beyond the cipher's limit, and then `out` is for the caller to wipe.
    #[inline]
    pub(crate) fn seal(&self, nonce: &[u8; SUFFIX], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<()> {
        seal(&self.0, *nonce, aad, text, out)
    }

    /// Opens ciphertext and tag into `out`, which has exactly the room for the text; `None` without that room or when the
    /// tag is wrong, and then `out` is for the caller to wipe.
    #[inline]
    pub(crate) fn open(&self, nonce: &[u8; SUFFIX], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        open(&self.0, *nonce, aad, sealed, out)
    }
}

impl XChaCha {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// As [`Gcm::seal`].
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<()> {
        let (cipher, nonce) = self.message(nonce)?;
        seal(&cipher, nonce, aad, text, out)
    }

    /// As [`Gcm::open`].
    pub(crate) fn open(&self, nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        let (cipher, nonce) = self.message(nonce)?;
        open(&cipher, nonce, aad, sealed, out)
    }

    /// The cipher and nonce of one message: draft-irtf-cfrg-xchacha-03, section 2.3.
    fn message(&self, nonce: &[u8; NONCE]) -> Option<(LessSafeKey, [u8; SUFFIX])> {
        let (first, last) = nonce.split_first_chunk::<16>()?;
        let mut derived: [u8; 32] = hchacha::<R20>((&*self.0).into(), first.into()).into();
        let cipher = cipher(&CHACHA20_POLY1305, &derived);
        derived.zeroize();
        let mut short = [0; SUFFIX];
        short.last_chunk_mut::<8>()?.copy_from_slice(last);
        Some((cipher?, short))
    }
}

pub(super) fn cipher(algorithm: &'static Algorithm, key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

#[inline]
pub(super) fn seal(
    cipher: &LessSafeKey,
    nonce: [u8; SUFFIX],
    aad: &[u8],
    text: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let (sealed, tag) = out.split_last_chunk_mut::<TAG>()?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher.seal_out_of_place_scatter(nonce, Aad::from(aad), text, sealed, &[], tag).ok()
}

#[inline]
pub(super) fn open(
    cipher: &LessSafeKey,
    nonce: [u8; SUFFIX],
    aad: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher.open_separate_gather(nonce, Aad::from(aad), sealed, tag, out).ok()
}
