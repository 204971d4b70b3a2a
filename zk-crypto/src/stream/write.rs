//! Sealing a stream as it is written.

use std::{
    fmt,
    io::{self, Write},
};

use zeroize::Zeroize;

use super::{
    StreamSealer,
    chunks::{CHUNK, Chunks, SEALED_CHUNK},
};
use crate::{Error, ErrorKind, fork::Process};

/// Seals what is written to it: see [`StreamSealer::writer`](super::StreamSealer::writer).
///
/// It holds one chunk. [`StreamWriter::finish`] writes the last one; a writer that is dropped before leaves a stream that
/// does not open to its end.
#[must_use = "a stream that is not finished does not open to its end"]
pub struct StreamWriter<W> {
    inner: W,
    sealing: Sealing,
}

/// A chunk on its way: first text, then sealed and waiting to be written. Without any reading or writing of its own.
pub(super) struct Sealing {
    chunks: Chunks,
    process: Process,
    index: u64,
    bytes: Vec<u8>,
    /// How much of `bytes` is sealed, or is the header, and how much of that is written.
    ready: usize,
    written: usize,
    finished: bool,
}

impl<W: Write> StreamWriter<W> {
    pub(super) fn new(sealer: StreamSealer, inner: W) -> Self {
        Self { inner, sealing: Sealing::new(sealer) }
    }

    /// Writes the last chunk, flushes, and gives the inner writer back.
    ///
    /// # Errors
    ///
    /// What the inner writer says; the stream is then not complete.
    pub fn finish(mut self) -> io::Result<W> {
        self.drain()?;
        self.sealing.finish()?;
        self.drain()?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn drain(&mut self) -> io::Result<()> {
        while let pending @ [_, ..] = self.sealing.pending() {
            match self.inner.write(pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sealing.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for StreamWriter<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.drain()?;
        Ok(self.sealing.take(text)?)
    }

    /// Writes what is sealed. A chunk that is not full stays: only the last one may be short.
    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.inner.flush()
    }
}

impl Sealing {
    pub(super) fn new(sealer: StreamSealer) -> Self {
        let StreamSealer { header, chunks, process } = sealer;
        let mut bytes = Vec::with_capacity(SEALED_CHUNK);
        bytes.extend_from_slice(&header.to_bytes());
        let ready = bytes.len();
        Self { chunks, process, index: 0, bytes, ready, written: 0, finished: false }
    }

    /// What waits to be written. While there is some, nothing more is taken.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..self.ready).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written >= self.ready {
            self.bytes.clear();
            (self.ready, self.written) = (0, 0);
        }
    }

    /// Takes as much text as the chunk has room for, and seals the chunk when it is full.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<usize, Error> {
        if self.finished {
            return Err(Error::invalid("the stream is finished"));
        }
        let room = CHUNK.saturating_sub(self.bytes.len());
        let taken = text.get(..room).unwrap_or(text);
        self.bytes.extend_from_slice(taken);
        if self.bytes.len() == CHUNK {
            self.seal()?;
        }
        Ok(taken.len())
    }

    /// Seals the last chunk. Once only.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if !self.finished {
            self.seal()?;
            self.finished = true;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        // SECURITY: parent and child would go on under the same nonces.
        if !self.process.is_current() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "a stream is sealed in the process that began it; this is a forked child",
            ));
        }
        self.chunks.seal(self.index, &mut self.bytes, 0)?;
        self.index += 1;
        self.ready = self.bytes.len();
        Ok(())
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

impl<W> fmt::Debug for StreamWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter").field("chunks", &self.sealing.index).finish_non_exhaustive()
    }
}
