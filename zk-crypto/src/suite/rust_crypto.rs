//! The ciphers in Rust, which need no C compiler. Same names and same bytes as `aws_lc`.

use aes_gcm::aead::{AeadInOut, Nonce, inout::InOutBuf};
use aes_gcm::{Aes256Gcm, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;

use super::SUFFIX;
use crate::sealed::{NONCE, TAG};

/// AES-256-GCM under one key, wiped on drop.
pub(crate) struct Gcm(Aes256Gcm);

/// XChaCha20-Poly1305 under one key, wiped on drop.
pub(crate) struct XChaCha(XChaCha20Poly1305);

impl Gcm {
    /// Never `None`: the other implementation can be without memory.
    pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
        Some(Self(Aes256Gcm::new(key.into())))
    }

    /// Seals `text` into `out`, which has exactly the room for ciphertext and tag; `None` only without that room or for a
    /// text beyond the cipher's limit, and then `out` is for the caller to wipe.
    pub(crate) fn seal(&self, nonce: &[u8; SUFFIX], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<()> {
        seal(&self.0, nonce.into(), aad, text, out)
    }

    /// Opens ciphertext and tag into `out`, which has exactly the room for the text; `None` without that room or when the
    /// tag is wrong, and then `out` is for the caller to wipe.
    pub(crate) fn open(&self, nonce: &[u8; SUFFIX], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        open(&self.0, nonce.into(), aad, sealed, out)
    }
}

impl XChaCha {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// As [`Gcm::seal`].
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<()> {
        seal(&self.0, nonce.into(), aad, text, out)
    }

    /// As [`Gcm::open`].
    pub(crate) fn open(&self, nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        open(&self.0, nonce.into(), aad, sealed, out)
    }
}

pub(super) fn seal<C: AeadInOut>(
    cipher: &C,
    nonce: &Nonce<C>,
    aad: &[u8],
    text: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let (sealed, place) = out.split_last_chunk_mut::<TAG>()?;
    let tag = cipher.encrypt_inout_detached(nonce, aad, InOutBuf::new(text, sealed).ok()?).ok()?;
    place.copy_from_slice(&tag);
    Some(())
}

pub(super) fn open<C: AeadInOut>(
    cipher: &C,
    nonce: &Nonce<C>,
    aad: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
    let both = InOutBuf::new(sealed, out).ok()?;
    cipher.decrypt_inout_detached(nonce, aad, both, tag.as_slice().try_into().ok()?).ok()
}
