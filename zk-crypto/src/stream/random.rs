//! Opening parts of a stream in any order.

use std::{fmt, fs::File, io};

use super::{
    StreamHeader,
    chunks::{CHUNK, Chunks, SEALED_CHUNK, Wiped, copy},
};
use crate::{Error, sealed::TAG};

/// Bytes that can be read at any place, by many threads at once: files, and bytes in memory.
pub trait ReadAt {
    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when there are too few, and whatever else stops it.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns how many bytes there are.
    ///
    /// # Errors
    ///
    /// Whatever stops it.
    fn size(&self) -> io::Result<u64>;
}

/// Opens parts of a stream: see [`StreamOpener::at`](super::StreamOpener::at).
///
/// Each call opens the chunks it touches, and keeps nothing. It can be shared by threads.
pub struct StreamAt<S> {
    source: S,
    chunks: Chunks,
    /// How many chunks are before the last one.
    full: u64,
    len: u64,
}

impl<S: ReadAt> StreamAt<S> {
    pub(super) fn new(chunks: Chunks, source: S) -> io::Result<Self> {
        let sealed = source.size()?.checked_sub(StreamHeader::LEN as u64).ok_or_else(Error::open)?;
        let full = sealed / SEALED_CHUNK as u64;
        let last = sealed % SEALED_CHUNK as u64;
        let short = last.checked_sub(TAG as u64).ok_or_else(Error::open)?;
        let at = Self { source, chunks, full, len: full * CHUNK as u64 + short };
        // SECURITY: the length is what the file system says until the last chunk opens at its number.
        drop(at.chunk(full)?);
        Ok(at)
    }

    /// Returns the length of the plaintext, which is authenticated.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Reads plaintext from `offset` on, and returns how much: less than `out` has room for only at the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when a chunk that it touches does not open, and what the source says; `out` then holds
    /// nothing of that chunk.
    pub fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = out.get_mut(done..) {
            let position = offset.saturating_add(done as u64);
            if position >= self.len {
                break;
            }
            let text = self.chunk(position / CHUNK as u64)?;
            let within = usize::try_from(position % CHUNK as u64).unwrap_or(CHUNK);
            done += copy(text.get(within..).unwrap_or_default(), rest);
        }
        Ok(done)
    }

    /// The text of a chunk.
    fn chunk(&self, index: u64) -> io::Result<Wiped> {
        let len =
            if index < self.full { CHUNK } else { usize::try_from(self.len % CHUNK as u64).unwrap_or(CHUNK) };
        let mut sealed = vec![0; len + TAG];
        let offset = StreamHeader::LEN as u64 + index * SEALED_CHUNK as u64;
        self.source.read_exact_at(&mut sealed, offset)?;
        let mut text = Wiped::new(len);
        self.chunks.open(index, &sealed, &mut text)?;
        Ok(text)
    }
}

impl<S> fmt::Debug for StreamAt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamAt").field("size", &self.len).finish_non_exhaustive()
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(out, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let bytes = from.and_then(|from| from.get(..out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for File {
    #[cfg(unix)]
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !out.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(self, out, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out = out.get_mut(read..).unwrap_or_default();
            offset += read as u64;
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
