//! From plaintext to a sealed value.

use std::{fmt, sync::Arc, time::Duration};

use zeroize::Zeroize;

use crate::{
    Context, Error, ErrorKind, KeyId, MAX_PLAINTEXT, OVERHEAD, Scope, Sealed, Suite,
    cache::Entry,
    clock::Clock,
    nonce::draw,
    opened::OpenedKey,
    sealed::{HEADER, NONCE},
    stream::StreamSealer,
    suite::PREFIX,
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

    /// Seals one value for a place into a buffer that is there: many values, one after the other, without an allocation
    /// for each, and long ones without filling new memory first.
    ///
    /// Afterwards `out` holds the bytes of the sealed value and nothing else; after a failure it is empty.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope, Sealed};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kms = Arc::new(zk_kms::LocalKms::ephemeral("demo")?);
    /// # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
    /// # let scope = Scope::tenant("7f9c")?;
    /// # encryptor.ensure_key(&scope).await?;
    /// let (sealer, mut buffer) = (encryptor.sealer(&scope).await?, Vec::new());
    /// for (row, text) in [("1", "first"), ("2", "second")] {
    ///     let place = Context::column("public.notes", "body").row(row);
    ///     sealer.seal_into(&place, text.as_bytes(), &mut buffer)?;
    ///     let sealed = Sealed::parse(&buffer)?; // or written to where it is kept
    ///     assert_eq!(encryptor.open(&scope, &place, &sealed).await?.as_slice(), text.as_bytes());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sealer::seal`].
    pub fn seal_into(&self, context: &Context, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let sealed = self
            .take(plaintext.len())
            .and_then(|now| write(&self.entry.key, self.suite, context, plaintext, now, out));
        if sealed.is_err() {
            // Also what was there before: a caller who overlooks the error must not store an older value.
            out.zeroize();
        }
        sealed
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

/// Seals under an opened key.
pub(crate) fn seal(
    key: &OpenedKey,
    suite: Suite,
    context: &Context,
    plaintext: &[u8],
    now: Duration,
) -> Result<Sealed, Error> {
    // Exactly as long as the result: the one allocation.
    let mut out = Vec::with_capacity(plaintext.len().min(MAX_PLAINTEXT) + OVERHEAD);
    match write(key, suite, context, plaintext, now, &mut out) {
        Ok(()) => Ok(Sealed::assemble(out)),
        Err(error) => {
            // SECURITY: a cipher that refused may have left plaintext in the buffer.
            out.zeroize();
            Err(error)
        }
    }
}

/// Makes `out` the bytes of a sealed value: SPEC.md, sections 1, 4 and 5. After a failure it is for the caller to wipe.
fn write(
    key: &OpenedKey,
    suite: Suite,
    context: &Context,
    plaintext: &[u8],
    now: Duration,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::invalid(format!("a value is at most {MAX_PLAINTEXT} bytes")));
    }
    let mut aad = AssociatedData::default();
    let aad = aad.write(suite, key, context);
    // From one buffer to the other: to fill what is new with zeros takes half as long as to copy the text there, and what
    // was there before is not filled again.
    out.resize(plaintext.len() + OVERHEAD, 0);
    let Some((header, sealed)) = out.split_first_chunk_mut::<HEADER>() else { return Err(too_long()) };
    let (start, nonce) = header.split_at_mut(HEADER - NONCE);
    if let Some((first, id)) = start.split_first_mut() {
        *first = suite as u8;
        id.copy_from_slice(key.id.as_bytes());
    }
    let ([first, last], _) = nonce.as_chunks_mut::<PREFIX>() else { return Err(too_long()) };
    draw(last)?;
    let sealed = match suite {
        Suite::Xaes256Gcm => key.prefix(plaintext.len(), now)?.as_ref().and_then(|prefix| {
            *first = prefix.bytes;
            prefix.cipher.seal(last, aad, plaintext, sealed)
        }),
        Suite::XChaCha20Poly1305 => {
            draw(first)?;
            let nonce = nonce.first_chunk().ok_or_else(too_long)?;
            key.ciphers.xchacha.seal(nonce, aad, plaintext, sealed)
        }
    };
    sealed.ok_or_else(too_long)
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
