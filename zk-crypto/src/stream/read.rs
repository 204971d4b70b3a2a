//! Opening a stream as it is read.

use std::{
    fmt,
    io::{self, Read},
};

use super::chunks::{CHUNK, Chunks, SEALED_CHUNK, Wiped, copy};
use crate::{Error, sealed::TAG};

/// Opens what it reads: see [`StreamOpener::reader`](super::StreamOpener::reader).
///
/// It holds one chunk sealed and one as text, and gives out nothing before it is authenticated. After a failure it fails again.
/// A chunk is opened where the caller wants it if there is room for all of its 16 KiB, which saves a copy: read into more.
pub struct StreamReader<R> {
    inner: R,
    opening: Opening,
}

/// A chunk on its way: first sealed, then text. Without any reading of its own.
pub(super) struct Opening {
    chunks: Chunks,
    index: u64,
    sealed: Box<[u8]>,
    /// Room for a chunk whose reader takes less at once; none before the first one.
    text: Wiped,
    state: State,
}

enum State {
    /// So much of the sealed chunk is here.
    Sealed(usize),
    /// All of it is; whether it is the last chunk.
    Whole {
        sealed: usize,
        last: bool,
    },
    /// The text of the chunk is authenticated, and not given out yet from there to there.
    Text {
        from: usize,
        to: usize,
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
                Ok(read) => self.opening.filled(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Opening {
    pub(super) fn new(chunks: Chunks) -> Self {
        let sealed = vec![0; SEALED_CHUNK].into();
        Self { chunks, index: 0, sealed, text: Wiped::default(), state: State::Sealed(0) }
    }

    /// Gives authenticated text: 0 bytes at the end of the stream, `None` when more has to be read first.
    pub(super) fn give(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error> {
        if let State::Whole { sealed, last } = self.state {
            let opened = self.open(sealed, last, out);
            if opened.is_err() {
                self.state = State::Failed;
            }
            if let Some(given) = opened? {
                return Ok(Some(given));
            }
        }
        match self.state {
            State::Sealed(_) | State::Whole { .. } => Ok(None),
            State::End => Ok(Some(0)),
            State::Failed => Err(Error::open()),
            State::Text { from, to, last } => {
                let given = copy(self.text.get(from..to).unwrap_or_default(), out);
                let from = from + given;
                self.state = if from < to { State::Text { from, to, last } } else { State::after(last) };
                Ok(Some(given))
            }
        }
    }

    /// Opens a chunk: where the caller wants it, and says how long it is, or into the text if there is too little room.
    fn open(&mut self, sealed: usize, last: bool, out: &mut [u8]) -> Result<Option<usize>, Error> {
        let sealed = self.sealed.get(..sealed).unwrap_or_default();
        let len = sealed.len().checked_sub(TAG).ok_or_else(Error::open)?;
        let given = match out.get_mut(..len) {
            Some(out) => {
                self.chunks.open(self.index, sealed, out)?;
                self.state = State::after(last);
                Some(len)
            }
            None => {
                if self.text.is_empty() {
                    self.text = Wiped::new(CHUNK);
                }
                self.chunks.open(self.index, sealed, self.text.get_mut(..len).unwrap_or_default())?;
                self.state = State::Text { from: 0, to: len, last };
                None
            }
        };
        self.index += 1;
        Ok(given)
    }

    /// Where sealed bytes go. It is empty only when [`Self::give`] has something to say.
    pub(super) fn space(&mut self) -> &mut [u8] {
        match self.state {
            State::Sealed(filled) => self.sealed.get_mut(filled..).unwrap_or_default(),
            _ => &mut [],
        }
    }

    /// Takes note that so many bytes were put into the space; none means that there are no more.
    pub(super) fn filled(&mut self, read: usize) {
        let State::Sealed(before) = self.state else { return };
        let sealed = before + read;
        // INVARIANT: a full chunk is never the last one, and a short one always is; so an input that ends after a full
        // chunk, where there is nothing to open, was cut.
        let last = read == 0;
        self.state = if last || sealed >= SEALED_CHUNK {
            State::Whole { sealed, last }
        } else {
            State::Sealed(sealed)
        };
    }
}

impl State {
    fn after(last: bool) -> Self {
        if last { Self::End } else { Self::Sealed(0) }
    }
}

impl<R> fmt::Debug for StreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("chunks", &self.opening.index).finish_non_exhaustive()
    }
}
