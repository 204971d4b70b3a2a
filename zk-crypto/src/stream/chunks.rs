//! C2SP chunked encryption, <https://c2sp.org/chunked-encryption>, as Cobblestone-256.

use std::ops::{Deref, DerefMut};

use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error,
    sealed::TAG,
    suite::{Gcm, SUFFIX},
};

pub(super) const SALT: usize = 24;
pub(super) const COMMITMENT: usize = 32;

/// The plaintext of every chunk but the last, which is shorter.
pub(super) const CHUNK: usize = 16 * 1024;
pub(super) const SEALED_CHUNK: usize = CHUNK + TAG;

/// "The message MUST NOT exceed 2^38 chunks".
const MAX_CHUNKS: u64 = 1 << 38;

/// The cipher of one message, for its chunks in any order.
pub(super) struct Chunks {
    cipher: Gcm,
    base_nonce: [u8; SUFFIX],
}

impl Chunks {
    /// "Key derivation": the cipher of a message, and the commitment that stands before it. `None` only without memory.
    pub(super) fn derive(
        input_key: &[u8; 32],
        salt: &[u8; SALT],
        context: &[u8],
    ) -> Option<(Self, [u8; COMMITMENT])> {
        // HKDF-Expand is HMAC, which pads short keys with zeros; the crate asks for a key as long as the hash.
        let mut prk = Zeroizing::new([0; 64]);
        prk.first_chunk_mut::<32>()?.copy_from_slice(input_key);
        let info = [b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0", salt.as_slice(), context];
        let mut okm = Zeroizing::new([0; 32 + SUFFIX + COMMITMENT]);
        Hkdf::<Sha512>::from_prk(&*prk).ok()?.expand_multi_info(&info, &mut *okm).ok()?;
        let (key, rest) = okm.split_first_chunk()?;
        let (base_nonce, commitment) = rest.split_first_chunk()?;
        Some((Self { cipher: Gcm::new(key)?, base_nonce: *base_nonce }, *commitment.first_chunk()?))
    }

    /// Seals chunk `index` into `out`, which has exactly the room.
    pub(super) fn seal(&self, index: u64, text: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let too_long = || Error::invalid("a stream is at most 4 PiB");
        let nonce = self.nonce(index).ok_or_else(too_long)?;
        self.cipher.seal(&nonce, b"", text, out).ok_or_else(too_long)
    }

    /// Opens chunk `index` into `out`, which has exactly the room; `out` is wiped when it does not open.
    pub(super) fn open(&self, index: u64, sealed: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let opened = self.nonce(index).and_then(|nonce| self.cipher.open(&nonce, b"", sealed, out));
        if opened.is_none() {
            // SECURITY: an implementation may have decrypted before it compared the tags.
            out.zeroize();
        }
        opened.ok_or_else(Error::open)
    }

    /// "XOR of the base nonce and the chunk number as a big-endian integer".
    fn nonce(&self, index: u64) -> Option<[u8; SUFFIX]> {
        let mut nonce = self.base_nonce;
        let end = nonce.last_chunk_mut::<8>()?;
        *end = (u64::from_be_bytes(*end) ^ index).to_be_bytes();
        (index < MAX_CHUNKS).then_some(nonce)
    }
}

/// Bytes that are wiped when they are dropped: as a slice, which is many times faster than as a `Vec` or a `Box`.
#[derive(Default)]
pub(super) struct Wiped(Box<[u8]>);

impl Wiped {
    /// So many zeros.
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len].into())
    }
}

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        (*self.0).zeroize();
    }
}

/// Copies as much as there is and has room.
pub(super) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let copied = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..copied), to.get_mut(..copied)) {
        to.copy_from_slice(from);
    }
    copied
}
