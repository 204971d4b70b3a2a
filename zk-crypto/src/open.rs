//! From a sealed value to its plaintext.

use std::{fmt, ops::Deref};

use zeroize::{Zeroize, Zeroizing};

use crate::{Context, Error, Scope, Sealed, Suite, opened::OpenedKey, seal::AssociatedData, sealed::TAG};

/// What was sealed, wiped when it is dropped.
///
/// It reads like a `Vec<u8>` and does not print itself. Whoever copies the bytes wipes the copy.
///
/// ```
/// # use std::sync::Arc;
/// # use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let kms = Arc::new(zk_kms::LocalKms::ephemeral("demo")?);
/// # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
/// # let (scope, place) = (Scope::tenant("7f9c")?, Context::purpose("demo"));
/// # encryptor.ensure_key(&scope).await?;
/// let sealed = encryptor.seal(&scope, &place, b"078-05-1120").await?;
/// let opened = encryptor.open(&scope, &place, &sealed).await?;
/// assert_eq!(opened.as_slice(), b"078-05-1120");
/// assert_eq!(format!("{opened:?}"), "Plaintext([redacted])");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Plaintext(
    /// INVARIANT: behind its end there is nothing to wipe, because it never grows beyond its capacity, and what becomes
    /// shorter is wiped.
    Vec<u8>,
);

impl Plaintext {
    /// Makes an empty one, for [`Encryptor::open_into`](crate::Encryptor::open_into).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the bytes away without copying them, still to be wiped.
    #[must_use]
    pub fn into_zeroizing(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut self.0))
    }

    /// Room for exactly so many bytes, which hold anything.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if len > self.0.capacity() {
            // SECURITY: the old buffer is wiped here; to let it grow would leave its text in memory.
            *self = Self(Vec::with_capacity(len));
        }
        self.0.get_mut(len..).unwrap_or_default().zeroize();
        self.0.resize(len, 0);
        &mut self.0
    }
}

impl Deref for Plaintext {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl AsRef<[u8]> for Plaintext {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext([redacted])")
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        // As a slice, which is wiped many times faster than a `Vec`.
        self.0.as_mut_slice().zeroize();
    }
}

/// Opens under an opened key. Every failure is the same error.
pub(crate) fn open(
    key: &OpenedKey,
    scope: &Scope,
    context: &Context,
    sealed: &Sealed,
) -> Result<Plaintext, Error> {
    let mut text = Plaintext::new();
    // Wiped when it is dropped, also on failure.
    open_into(key, scope, context, sealed, &mut text).map(|()| text)
}

/// As [`open`], into a buffer that is there. After a failure it is for the caller to wipe.
pub(crate) fn open_into(
    key: &OpenedKey,
    scope: &Scope,
    context: &Context,
    sealed: &Sealed,
    text: &mut Plaintext,
) -> Result<(), Error> {
    // SECURITY: the scope a caller names must be the scope the key was made for, before any cryptography.
    if key.id != sealed.key_id() || key.scope != *scope {
        return Err(Error::open());
    }
    let (nonce, ciphertext) = sealed.parts().ok_or_else(Error::open)?;
    let out = text.room(ciphertext.len().saturating_sub(TAG));
    let mut aad = AssociatedData::default();
    let aad = aad.write(sealed.suite(), key, context);
    let opened = match sealed.suite() {
        Suite::Xaes256Gcm => key.opening(nonce, |cipher, suffix| cipher.open(suffix, aad, ciphertext, out)),
        Suite::XChaCha20Poly1305 => key.ciphers.xchacha.open(nonce, aad, ciphertext, out),
    };
    opened.ok_or_else(Error::open)
}

#[cfg(test)]
mod tests;
