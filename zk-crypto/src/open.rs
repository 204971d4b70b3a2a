//! From a sealed value to its plaintext.

use std::{fmt, ops::Deref};

use zeroize::{Zeroize, Zeroizing};

use crate::{
    Context, Error, Scope, Sealed, Suite, opened::OpenedKey, seal::AssociatedData, sealed::TAG, suite::PREFIX,
};

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
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    /// Gives the bytes away without copying them, still to be wiped.
    #[must_use]
    pub fn into_zeroizing(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut self.0))
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
        // As a slice, which is wiped many times faster than a `Vec`. INVARIANT: there is nothing to wipe behind its end,
        // because the bytes are written once and never grow.
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
    // SECURITY: the scope a caller names must be the scope the key was made for, before any cryptography.
    if key.id != sealed.key_id() || key.scope != *scope {
        return Err(Error::open());
    }
    let (nonce, ciphertext) = sealed.parts().ok_or_else(Error::open)?;
    let mut aad = AssociatedData::default();
    let aad = aad.write(sealed.suite(), key, context);
    // Wiped when it is dropped, also on failure.
    let mut text = Plaintext(Vec::with_capacity(ciphertext.len().saturating_sub(TAG)));
    let opened = match sealed.suite() {
        Suite::Xaes256Gcm => {
            let ([prefix, suffix], _) = nonce.as_chunks::<PREFIX>() else { return Err(Error::open()) };
            match key.known(prefix) {
                Some(cipher) => cipher.open(suffix, aad, ciphertext, &mut text.0),
                None => key.with_unknown(prefix, |cipher| cipher.open(suffix, aad, ciphertext, &mut text.0)),
            }
        }
        Suite::XChaCha20Poly1305 => key.ciphers.xchacha.open(nonce, aad, ciphertext, &mut text.0),
    };
    opened.ok_or_else(Error::open)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
