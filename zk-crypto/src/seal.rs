//! From plaintext to a sealed value.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Context, Error, ErrorKind, KeyId, MAX_PLAINTEXT, OVERHEAD, Scope, Sealed, Suite, cache::Entry,
    clock::Clock, nonce::draw, opened::OpenedKey, sealed::NONCE, stream::StreamSealer, suite::PREFIX,
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
        let now = self.take(plaintext.len())?;
        seal(&self.entry.key, self.suite, context, plaintext, now)
    }

    /// Starts a stream for a place: see [`stream`](crate::stream). It counts as one message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] as for [`Sealer::seal`]; [`ErrorKind::Unavailable`] without random bytes.
    pub fn stream(&self, context: &Context) -> Result<StreamSealer, Error> {
        self.take(0)?;
        StreamSealer::new(&self.entry.key, context)
    }

    /// Counts one message, and returns the time.
    #[inline]
    fn take(&self, len: usize) -> Result<Duration, Error> {
        let now = self.clock.elapsed();
        if self.entry.take(len, now) { Ok(now) } else { Err(self.spent()) }
    }

    #[cold]
    fn spent(&self) -> Error {
        let scope = self.scope();
        let text = format!("this sealer of `{scope}` has reached its end; ask Encryptor::sealer for another");
        Error::new(ErrorKind::NoKey, text)
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
    now: Duration,
) -> Result<Sealed, Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::invalid(format!("a value is at most {MAX_PLAINTEXT} bytes")));
    }
    let mut aad = AssociatedData::default();
    let aad = aad.write(suite, key, context);
    let mut nonce = [0; NONCE];
    let ([first, last], _) = nonce.as_chunks_mut::<PREFIX>() else { return Err(too_long()) };
    draw(last)?;
    // Exactly as long as the result: the one allocation.
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
    out.push(suite as u8);
    out.extend_from_slice(key.id.as_bytes());
    let sealed = match suite {
        Suite::Xaes256Gcm => key.prefix(plaintext.len(), now)?.as_ref().and_then(|prefix| {
            out.extend_from_slice(&prefix.bytes);
            out.extend_from_slice(last);
            prefix.cipher.seal(last, aad, plaintext, &mut out)
        }),
        Suite::XChaCha20Poly1305 => {
            draw(first)?;
            out.extend_from_slice(&nonce);
            key.ciphers.xchacha.seal(&nonce, aad, plaintext, &mut out)
        }
    };
    if sealed.is_none() {
        // SECURITY: a cipher that refused may have left plaintext in the buffer.
        zeroize::Zeroize::zeroize(&mut out);
        return Err(too_long());
    }
    Ok(Sealed::assemble(out))
}

#[cold]
fn too_long() -> Error {
    Error::invalid("the value or its context is too long")
}

/// Room for the associated data of a value, SPEC.md section 4: on the stack unless it is long.
pub(crate) struct AssociatedData {
    short: [u8; SHORT],
    long: Vec<u8>,
}

const SHORT: usize = 128;

impl Default for AssociatedData {
    #[inline]
    fn default() -> Self {
        Self { short: [0; SHORT], long: Vec::new() }
    }
}

impl AssociatedData {
    /// Where it is: moved after it was written, it would be copied.
    #[inline]
    pub(crate) fn write(&mut self, suite: Suite, key: &OpenedKey, context: &Context) -> &[u8] {
        let (binding, context) = (key.binding(suite), context.as_bytes());
        let len = binding.len() + context.len();
        let Some((first, rest)) =
            self.short.get_mut(..len).and_then(|s| s.split_at_mut_checked(binding.len()))
        else {
            return self.write_long(binding, context);
        };
        first.copy_from_slice(binding);
        rest.copy_from_slice(context);
        self.short.get(..len).unwrap_or_default()
    }

    #[cold]
    fn write_long(&mut self, binding: &[u8], context: &[u8]) -> &[u8] {
        self.long.extend_from_slice(binding);
        self.long.extend_from_slice(context);
        &self.long
    }
}

#[cfg(test)]
mod tests;
