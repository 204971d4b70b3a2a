//! The ciphers in Rust, which need no C compiler. Same names and same bytes as `aws_lc`.

use aes_gcm::aead::{AeadInOut, Nonce};
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

    /// Seals `out` from `start` on in place and appends the tag; `None` only for a text beyond the cipher's limit, and
    /// then `out` is for the caller to wipe.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; SUFFIX],
        aad: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) -> Option<()> {
        seal(&self.0, nonce.into(), aad, out, start)
    }

    /// Opens in place; `None` when the tag is wrong, and then the text is for the caller to wipe.
    pub(crate) fn open(
        &self,
        nonce: &[u8; SUFFIX],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Option<()> {
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into()).ok()
    }
}

impl XChaCha {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// As [`Gcm::seal`].
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) -> Option<()> {
        seal(&self.0, nonce.into(), aad, out, start)
    }

    /// As [`Gcm::open`].
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Option<()> {
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into()).ok()
    }
}

fn seal<C: AeadInOut>(
    cipher: &C,
    nonce: &Nonce<C>,
    aad: &[u8],
    out: &mut Vec<u8>,
    start: usize,
) -> Option<()> {
    let tag = cipher.encrypt_inout_detached(nonce, aad, out.get_mut(start..)?.into()).ok()?;
    out.extend_from_slice(&tag);
    Some(())
}
