//! Opening a stream as it is read.

use std::{
    fmt,
    io::{self, Read},
};

use super::chunks::{CHUNK, Chunks, SEALED_CHUNK, wipe};
use crate::Error;

/// Opens what it reads: see [`StreamOpener::reader`](super::StreamOpener::reader).
///
/// It holds one chunk sealed and one as text, and gives out nothing before it is authenticated. After a failure it fails again.
pub struct StreamReader<R> {
    inner: R,
    opening: Opening,
}

/// A chunk on its way: first sealed, then text. Without any reading of its own.
pub(super) struct Opening {
    chunks: Chunks,
    index: u64,
    sealed: Box<[u8]>,
    text: Vec<u8>,
    state: State,
}

enum State {
    /// So much of the sealed chunk is here.
    Sealed(usize),
    /// The text from there on is authenticated and not given out yet; whether it is that of the last chunk.
    Text {
        from: usize,
        last: bool,
    },
    End,
    Failed,
}

impl<R: Read> StreamReader<R> {
    pub(super) fn new(chunks: Chunks, inner: R) -> Self {
        Self { inner, opening: Opening::new(chunks) }
    }
}

impl<R: Read> Read for StreamReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(given) = self.opening.give(out)? {
                return Ok(given);
            }
            match self.inner.read(self.opening.space()) {
                Ok(read) => self.opening.filled(read)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Opening {
    pub(super) fn new(chunks: Chunks) -> Self {
        let (sealed, text) = (vec![0; SEALED_CHUNK].into(), Vec::with_capacity(CHUNK));
        Self { chunks, index: 0, sealed, text, state: State::Sealed(0) }
    }

    /// Gives authenticated text: 0 bytes at the end of the stream, `None` when more has to be read first.
    pub(super) fn give(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error> {
        match self.state {
            State::Sealed(_) => Ok(None),
            State::End => Ok(Some(0)),
            State::Failed => Err(Error::open()),
            State::Text { from, last } => {
                let text = self.text.get(from..).unwrap_or_default();
                let given = copy(text, out);
                self.state = match (given == text.len(), last) {
                    (false, _) => State::Text { from: from + given, last },
                    (true, false) => State::Sealed(0),
                    (true, true) => State::End,
                };
                // An empty last chunk: 0 bytes are its end.
                Ok(Some(given))
            }
        }
    }

    /// Where sealed bytes go. It is empty only when [`Self::give`] has something to say.
    pub(super) fn space(&mut self) -> &mut [u8] {
        match self.state {
            State::Sealed(filled) => self.sealed.get_mut(filled..).unwrap_or_default(),
            _ => &mut [],
        }
    }

    /// Takes note that so many bytes were put into the space; none means that there are no more.
    pub(super) fn filled(&mut self, read: usize) -> Result<(), Error> {
        let State::Sealed(before) = self.state else { return Ok(()) };
        let filled = before + read;
        if read > 0 && filled < SEALED_CHUNK {
            self.state = State::Sealed(filled);
            return Ok(());
        }
        // INVARIANT: a full chunk is never the last one, and a short one always is; so an input that ends after a full
        // chunk, where there is nothing to open, was cut.
        let last = read == 0;
        let sealed = self.sealed.get(..filled).unwrap_or_default();
        self.text.clear();
        match self.chunks.open(self.index, sealed, &mut self.text) {
            Ok(()) => {
                self.state = State::Text { from: 0, last };
                self.index += 1;
                Ok(())
            }
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }
}

/// Copies as much as there is and has room.
pub(super) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let copied = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..copied), to.get_mut(..copied)) {
        to.copy_from_slice(from);
    }
    copied
}

impl Drop for Opening {
    fn drop(&mut self) {
        wipe(&mut self.text);
    }
}

impl<R> fmt::Debug for StreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("chunks", &self.opening.index).finish_non_exhaustive()
    }
}
