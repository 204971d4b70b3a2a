//! From plaintext to a sealed value.

use std::{fmt, sync::Arc};

use crate::{
    Context, Error, ErrorKind, KeyId, MAX_PLAINTEXT, OVERHEAD, Scope, Sealed, Suite,
    cache::Entry,
    clock::Clock,
    nonce::draw,
    opened::OpenedKey,
    sealed::{HEADER, NONCE},
    suite::{PREFIX, xchacha_seal},
};

/// Seals values of one scope without waiting for anything: for hot loops.
///
/// It comes from [`Encryptor::sealer`](crate::Encryptor::sealer) and serves as long as the key may stay in the cache;
/// after that it fails with [`ErrorKind::NoKey`], so that a key that was disabled or replaced is not used forever.
#[derive(Clone)]
pub struct Sealer {
    entry: Arc<Entry>,
    suite: Suite,
    clock: Arc<dyn Clock>,
}

impl Sealer {
    pub(crate) fn new(entry: Arc<Entry>, suite: Suite, clock: Arc<dyn Clock>) -> Self {
        Self { entry, suite, clock }
    }

    /// Seals one value for a place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for more than [`MAX_PLAINTEXT`] bytes; [`ErrorKind::NoKey`] when the sealer has become too
    /// old or has sealed too much: ask the encryptor for another; [`ErrorKind::Unavailable`] without random bytes.
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Result<Sealed, Error> {
        let now = self.clock.elapsed();
        if !self.entry.take(plaintext.len(), now) {
            return Err(Error::new(
                ErrorKind::NoKey,
                format!(
                    "this sealer of `{}` has reached its end; ask Encryptor::sealer for another",
                    self.scope()
                ),
            ));
        }
        seal(&self.entry.key, self.suite, context, plaintext, now)
    }

    /// Returns the scope whose key seals.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.entry.key.scope
    }

    /// Returns the id of the key that seals.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.entry.key.id
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, suite, clock: _ } = self;
        f.debug_struct("Sealer").field("key", &entry.key).field("suite", suite).finish_non_exhaustive()
    }
}

/// Seals under an opened key: SPEC.md, sections 1, 4 and 5.
pub(crate) fn seal(
    key: &OpenedKey,
    suite: Suite,
    context: &Context,
    plaintext: &[u8],
    now: std::time::Duration,
) -> Result<Sealed, Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::invalid(format!("a value is at most {MAX_PLAINTEXT} bytes")));
    }
    let pid = std::process::id();
    let aad = associated_data(suite, &key.id, &key.scope, context);
    // Exactly as long as the result: the one allocation of the output.
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
    out.push(suite as u8);
    out.extend_from_slice(key.id.as_bytes());
    let tag = match suite {
        Suite::Xaes256Gcm => {
            let prefix = key.prefix(plaintext.len(), pid, now)?;
            let suffix = draw(pid)?;
            out.extend_from_slice(&prefix.bytes);
            out.extend_from_slice(&suffix);
            let text = append(&mut out, plaintext);
            prefix.subkey.seal(&suffix, &aad, text)
        }
        Suite::XChaCha20Poly1305 => {
            let mut nonce = [0; NONCE];
            for half in nonce.chunks_exact_mut(PREFIX) {
                half.copy_from_slice(&draw(pid)?);
            }
            out.extend_from_slice(&nonce);
            let text = append(&mut out, plaintext);
            xchacha_seal(&key.ciphers.xchacha, &nonce, &aad, text)
        }
    };
    let Some(tag) = tag else {
        // SECURITY: a cipher that refused may have left plaintext in the buffer.
        zeroize::Zeroize::zeroize(&mut out);
        return Err(Error::invalid("the value or its context is too long"));
    };
    out.extend_from_slice(&tag);
    Sealed::from_vec(out)
}

/// The associated data of a value: SPEC.md, section 4.
pub(crate) fn associated_data(suite: Suite, id: &KeyId, scope: &Scope, context: &Context) -> Vec<u8> {
    let mut aad = Vec::with_capacity(192);
    aad.push(suite as u8);
    aad.extend_from_slice(id.as_bytes());
    context.encode(scope, &mut aad);
    aad
}

fn append<'a>(out: &'a mut Vec<u8>, plaintext: &[u8]) -> &'a mut [u8] {
    out.extend_from_slice(plaintext);
    out.get_mut(HEADER..).unwrap_or_default()
}
