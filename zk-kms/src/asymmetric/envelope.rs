//! How a key is wrapped for a public key and bound to a context.
//!
//! ```text
//! 0x01 ‖ RSA-OAEP-256(one-time key, 32 bytes) ‖ XChaCha20-Poly1305(data key, 32 bytes) ‖ tag 16
//! ```
//!
//! RSA-OAEP has no associated data, and the services take no label. So a key that is used once is encrypted, and the data
//! key is sealed under it; URI, version, the RSA ciphertext and the context are the associated data of that. The nonce is
//! zero, because the one-time key seals one message.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use super::PublicKey;
use crate::{Context, DataKey, Error, KeyUri, KeyVersion, WrappedKey, key::put};

const FORMAT: u8 = 0x01;
const LABEL: &[u8] = b"zk-kms rsa-oaep-256 wrap v1";
const SEALED: usize = DataKey::LEN + 16;

/// The bytes of a wrapped key taken apart.
pub(crate) struct Envelope<'a> {
    wrapped: &'a WrappedKey,
    /// The one-time key, encrypted with RSA-OAEP-256.
    pub(crate) encrypted: &'a [u8],
    sealed: &'a [u8],
}

/// Wraps a key for a public key.
pub(super) fn wrap(
    public: &PublicKey,
    rsa: &OaepPublicEncryptingKey,
    key: &DataKey,
    context: &Context,
) -> Result<WrappedKey, Error> {
    let one_time = DataKey::generate()?;
    let mut encrypted = vec![0; rsa.ciphertext_size()];
    let encrypted = rsa
        .encrypt(&OAEP_SHA256_MGF1SHA256, one_time.expose(), &mut encrypted, None)
        .map_err(|_| Error::invalid("nothing can be encrypted for this public key"))?;
    let aad = associated_data(public.uri(), public.version(), encrypted, context);
    let sealed = cipher(&one_time)
        .encrypt(&XNonce::default(), Payload { msg: key.expose(), aad: &aad })
        .map_err(|_| Error::invalid("the key and its context are too long to wrap"))?;
    let bytes = [&[FORMAT], &*encrypted, &sealed].concat();
    WrappedKey::new(public.uri().clone(), public.version().clone(), bytes)
}

impl<'a> Envelope<'a> {
    pub(crate) fn parse(wrapped: &'a WrappedKey) -> Result<Self, Error> {
        let rest = wrapped.bytes().strip_prefix(&[FORMAT]).ok_or_else(Error::cannot_unwrap)?;
        let (encrypted, sealed) = rest.split_last_chunk::<SEALED>().ok_or_else(Error::cannot_unwrap)?;
        Ok(Self { wrapped, encrypted, sealed })
    }

    pub(super) fn open(&self, one_time: &DataKey, context: &Context) -> Result<DataKey, Error> {
        let aad = associated_data(self.wrapped.uri(), self.wrapped.version(), self.encrypted, context);
        let key = cipher(one_time)
            .decrypt(&XNonce::default(), Payload { msg: self.sealed, aad: &aad })
            .map_err(|_| Error::cannot_unwrap())?;
        DataKey::from_slice(&Zeroizing::new(key)).map_err(|_| Error::cannot_unwrap())
    }
}

fn associated_data(uri: &KeyUri, version: &KeyVersion, encrypted: &[u8], context: &Context) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in [LABEL, uri.as_str().as_bytes(), version.as_str().as_bytes(), encrypted, &context.encode()] {
        put(&mut aad, part);
    }
    aad
}

fn cipher(one_time: &DataKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(one_time.expose().into())
}
