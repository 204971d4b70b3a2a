//! Long values, sealed and opened piece by piece: files, backups, exports. SPEC.md, section 11.
//!
//! ```
//! # use std::sync::Arc;
//! # use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
//! use std::io::{Read, Write};
//! use zk_crypto::stream::StreamHeader;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let kms = Arc::new(zk_kms::LocalKms::ephemeral("demo")?);
//! # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
//! # let scope = Scope::tenant("7f9c")?;
//! # encryptor.ensure_key(&scope).await?;
//! let place = Context::purpose("export").row("2026-11");
//! let mut writer = encryptor.stream_sealer(&scope, &place).await?.writer(Vec::new());
//! writer.write_all(&[7; 100_000])?;
//! let file = writer.finish()?; // without this, the stream counts as cut
//!
//! let mut input = file.as_slice();
//! let header = StreamHeader::read_from(&mut input)?;
//! let mut reader = encryptor.stream_opener(&scope, &place, &header).await?.reader(input);
//! let mut text = Vec::new();
//! reader.read_to_end(&mut text)?; // only now is it certain that nothing is missing
//! assert_eq!(text, [7; 100_000]);
//! # Ok(()) }
//! ```
//!
//! A stream is bound to its scope and context as a value is. The reader gives out each chunk of 16 KiB after it is
//! authenticated, and the end of the stream is a chunk too: do not act on what was read before the reader said `Ok(0)`.
//! [`StreamOpener::at`] reads any part of a file without what comes before it. [`StreamSealer::copy`] and
//! [`StreamOpener::copy`] work on a whole stream with several threads.

#[cfg(feature = "tokio")]
mod asynchronous;
mod chunks;
mod parallel;
mod random;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read, Write},
};

use subtle::ConstantTimeEq;

#[cfg(feature = "tokio")]
pub use self::asynchronous::{AsyncStreamReader, AsyncStreamWriter};
use self::chunks::{COMMITMENT, Chunks, SALT};
pub use self::{
    random::{ReadAt, StreamAt},
    read::StreamReader,
    write::StreamWriter,
};
use crate::{Context, Encryptor, Error, KeyId, Scope, fork::Process, nonce::fresh, opened::OpenedKey};

/// The first byte of a stream; sealed values begin with others.
const KIND: u8 = 0x11;

/// The first bytes of a stream: which key opens it, and a commitment to key and context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    key_id: KeyId,
    salt: [u8; SALT],
    commitment: [u8; COMMITMENT],
}

/// The key of one stream that is to be sealed.
pub struct StreamSealer {
    header: StreamHeader,
    chunks: Chunks,
    process: Process,
}

/// The key of one stream that is to be opened: its header fits the scope and the context.
pub struct StreamOpener {
    chunks: Chunks,
}

impl StreamHeader {
    /// The length of a header in bytes.
    pub const LEN: usize = 1 + KeyId::LEN + SALT + COMMITMENT;

    /// Takes the header off a reader, which is then where [`StreamOpener::reader`] starts.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when the bytes are no header, [`io::ErrorKind::UnexpectedEof`] when there are too few,
    /// and what the reader says.
    pub fn read_from(mut reader: impl Read) -> io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        reader.read_exact(&mut bytes)?;
        Ok(Self::parse(&bytes)?)
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](crate::ErrorKind::Open) for another kind of value: the same as when it does not open.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, Error> {
        Self::split(bytes).ok_or_else(Error::open)
    }

    /// Returns the bytes of the header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let Self { key_id, salt, commitment } = self;
        let bytes = [KIND].into_iter().chain(*key_id.as_bytes()).chain(*salt).chain(*commitment);
        let mut header = [0; Self::LEN];
        header.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        header
    }

    /// Returns the id of the data key that sealed the stream.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    fn split(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (key_id, rest) = rest.split_first_chunk::<{ KeyId::LEN }>()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let key_id = KeyId::from_slice(key_id).ok()?;
        let commitment = rest.first_chunk()?;
        (*kind == KIND).then_some(Self { key_id, salt: *salt, commitment: *commitment })
    }
}

impl Encryptor {
    /// Starts a stream under the active key of the scope.
    ///
    /// It counts as one message of the key: each stream has a key of its own.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`].
    pub async fn stream_sealer(&self, scope: &Scope, context: &Context) -> Result<StreamSealer, Error> {
        self.sealer(scope).await?.stream(context)
    }

    /// Prepares to open a stream whose header was read.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::open`].
    pub async fn stream_opener(
        &self,
        scope: &Scope,
        context: &Context,
        header: &StreamHeader,
    ) -> Result<StreamOpener, Error> {
        let entry = self.opener(scope, header.key_id).await?;
        StreamOpener::new(&entry.key, scope, context, header)
    }
}

impl StreamSealer {
    pub(crate) fn new(key: &OpenedKey, context: &Context) -> Result<Self, Error> {
        let (process, salt) = (Process::current()?, fresh()?);
        let (chunks, commitment) = derive(key, &salt, context).ok_or_else(Error::open)?;
        Ok(Self { header: StreamHeader { key_id: key.id, salt, commitment }, chunks, process })
    }

    /// Seals what is written, into `inner`. Finish it, or the stream counts as cut.
    pub fn writer<W: Write>(self, inner: W) -> StreamWriter<W> {
        StreamWriter::new(self, inner)
    }

    /// Seals what is written, into `inner`. Shut it down, or the stream counts as cut.
    #[cfg(feature = "tokio")]
    pub fn async_writer<W: tokio::io::AsyncWrite + Unpin>(self, inner: W) -> AsyncStreamWriter<W> {
        AsyncStreamWriter::new(self, inner)
    }

    /// Returns the header, which the writer writes first.
    #[must_use]
    pub fn header(&self) -> &StreamHeader {
        &self.header
    }
}

impl StreamOpener {
    pub(crate) fn new(
        key: &OpenedKey,
        scope: &Scope,
        context: &Context,
        header: &StreamHeader,
    ) -> Result<Self, Error> {
        if key.id != header.key_id || key.scope != *scope {
            return Err(Error::open());
        }
        let (chunks, commitment) = derive(key, &header.salt, context).ok_or_else(Error::open)?;
        // SECURITY: before any chunk is opened.
        if !bool::from(commitment.ct_eq(&header.commitment)) {
            return Err(Error::open());
        }
        Ok(Self { chunks })
    }

    /// Opens what `inner` gives after the header.
    pub fn reader<R: Read>(self, inner: R) -> StreamReader<R> {
        StreamReader::new(self.chunks, inner)
    }

    /// Opens what `inner` gives after the header.
    #[cfg(feature = "tokio")]
    pub fn async_reader<R: tokio::io::AsyncRead + Unpin>(self, inner: R) -> AsyncStreamReader<R> {
        AsyncStreamReader::new(self.chunks, inner)
    }

    /// Opens parts of `source`, which begins with the header, in any order. The length is authenticated first.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when the stream was cut or its end was changed, and what the source says.
    pub fn at<S: ReadAt>(self, source: S) -> io::Result<StreamAt<S>> {
        StreamAt::new(self.chunks, source)
    }
}

/// SPEC.md, section 11: the keys of a stream are bound to all that a value is bound to.
fn derive(key: &OpenedKey, salt: &[u8; SALT], context: &Context) -> Option<(Chunks, [u8; COMMITMENT])> {
    let mut bound = vec![KIND];
    bound.extend_from_slice(key.id.as_bytes());
    key.scope.encode(&mut bound);
    bound.extend_from_slice(context.as_bytes());
    Chunks::derive(&key.stream, salt, &bound)
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            crate::ErrorKind::Open | crate::ErrorKind::Corrupt => io::ErrorKind::InvalidData,
            crate::ErrorKind::Invalid => io::ErrorKind::InvalidInput,
            crate::ErrorKind::Denied => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl fmt::Debug for StreamSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSealer").field("key", &self.header.key_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamOpener").finish_non_exhaustive()
    }
}
