//! Sealing a stream as it is written.

use std::{
    fmt,
    io::{self, Write},
};

use super::{
    StreamSealer,
    chunks::{CHUNK, Chunks, SEALED_CHUNK, Wiped, copy},
};
use crate::{Error, fork::Process, sealed::TAG};

/// Seals what is written to it: see [`StreamSealer::writer`](super::StreamSealer::writer).
///
/// It holds one chunk as text and one sealed. [`StreamWriter::finish`] writes the last one; a writer that is dropped before
/// leaves a stream that does not open to its end.
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
    /// Room for a chunk that comes in pieces, none before the first one, and how much of it is there: less than a chunk.
    text: Wiped,
    filled: usize,
    /// The header or a sealed chunk, and how much of it is written.
    sealed: Vec<u8>,
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
        let mut sealed = Vec::with_capacity(SEALED_CHUNK);
        sealed.extend_from_slice(&header.to_bytes());
        Self {
            chunks,
            process,
            index: 0,
            text: Wiped::default(),
            filled: 0,
            sealed,
            written: 0,
            finished: false,
        }
    }

    /// What waits to be written. While there is some, nothing more is taken.
    pub(super) fn pending(&self) -> &[u8] {
        self.sealed.get(self.written..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
    }

    /// Takes as much text as the chunk has room for, and seals the chunk when it is full.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<usize, Error> {
        if self.finished {
            return Err(Error::invalid("the stream is finished"));
        }
        // A whole chunk is sealed from where it is.
        if let Some(chunk) = text.get(..CHUNK)
            && self.filled == 0
        {
            self.seal(chunk)?;
            return Ok(CHUNK);
        }
        if self.text.is_empty() {
            self.text = Wiped::new(CHUNK);
        }
        let taken = copy(text, self.text.get_mut(self.filled..).unwrap_or_default());
        self.filled += taken;
        if self.filled == CHUNK {
            self.seal_text()?;
        }
        Ok(taken)
    }

    /// Seals the last chunk. Once only.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if !self.finished {
            self.seal_text()?;
            self.finished = true;
        }
        Ok(())
    }

    fn seal_text(&mut self) -> Result<(), Error> {
        let text = std::mem::take(&mut self.text);
        let sealed = self.seal(text.get(..self.filled).unwrap_or_default());
        self.text = text;
        if sealed.is_ok() {
            self.filled = 0;
        }
        sealed
    }

    fn seal(&mut self, text: &[u8]) -> Result<(), Error> {
        // SECURITY: parent and child would go on under the same nonces.
        self.process.must_be_current()?;
        // INVARIANT: what was sealed before is written. The buffer keeps it, so as not to be filled with zeros again, and
        // nobody sees it: after a failure there is nothing to write.
        self.sealed.resize(text.len() + TAG, 0);
        self.written = self.sealed.len();
        self.chunks.seal(self.index, text, &mut self.sealed)?;
        self.written = 0;
        self.index += 1;
        Ok(())
    }
}

impl<W> fmt::Debug for StreamWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter").field("chunks", &self.sealing.index).finish_non_exhaustive()
    }
}
