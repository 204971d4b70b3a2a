//! From a sealed value to its plaintext.

use zeroize::Zeroizing;

use crate::{
    Context, Error, Scope, Sealed, Suite,
    opened::OpenedKey,
    seal::associated_data,
    suite::{PREFIX, xchacha_open},
};

/// Opens under an opened key. Every failure is the same error.
pub(crate) fn open(
    key: &OpenedKey,
    scope: &Scope,
    context: &Context,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    // SECURITY: the scope a caller names must be the scope the key was made for, before any cryptography.
    if key.id != sealed.key_id() || key.scope != *scope {
        return Err(Error::open());
    }
    let (nonce, ciphertext, tag) = sealed.parts().ok_or_else(Error::open)?;
    let aad = associated_data(sealed.suite(), &key.id, scope, context);
    // Wiped when it is dropped, also on failure.
    let mut text = Zeroizing::new(ciphertext.to_vec());
    let opened = match sealed.suite() {
        Suite::Xaes256Gcm => nonce.split_first_chunk::<PREFIX>().and_then(|(prefix, suffix)| {
            key.ciphers.xaes.subkey(prefix).open(suffix.try_into().ok()?, &aad, &mut text, tag)
        }),
        Suite::XChaCha20Poly1305 => xchacha_open(&key.ciphers.xchacha, nonce, &aad, &mut text, tag),
    };
    opened.ok_or_else(Error::open)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
