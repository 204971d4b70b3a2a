//! Whole streams on several threads: the same bytes, within a bound of memory.

use std::{
    io::{self, Read, Write},
    num::NonZeroUsize,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::{
    StreamOpener, StreamSealer,
    chunks::{CHUNK, Chunks, SEALED_CHUNK, Wiped},
};
use crate::{Error, fork::Process, sealed::TAG};

/// How many chunks a thread works on at once: so many that waiting for each other costs little, and so few that they stay
/// in the processor's cache.
const BATCH: usize = 16;

impl StreamSealer {
    /// Seals all that `from` gives into `to`, on so many threads, and returns how many bytes of text there were.
    ///
    /// The bytes are those that [`StreamSealer::writer`] would write. Each thread holds half a MiB; reading and writing are
    /// done by one thread at a time, in order.
    ///
    /// # Errors
    ///
    /// What `from` and `to` say, and what [`StreamWriter`](super::StreamWriter) says; the stream is then not complete.
    ///
    /// # Panics
    ///
    /// When the reader or the writer does.
    pub fn copy<R, W>(self, from: R, mut to: W, threads: NonZeroUsize) -> io::Result<u64>
    where
        R: Read + Send,
        W: Write + Send,
    {
        to.write_all(&self.header.to_bytes())?;
        let Self { header: _, chunks, process } = self;
        pump(from, to, threads, CHUNK, |batch| seal(&chunks, &process, batch)).map(|(read, _)| read)
    }
}

impl StreamOpener {
    /// Opens all that `from` gives after the header into `to`, on so many threads, and returns how many bytes of text there
    /// were.
    ///
    /// As with [`StreamOpener::reader`], nothing is written before it is authenticated, and what was written counts only
    /// when there was no error. Each thread holds half a MiB.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when the stream was changed or cut, after what comes before the change was written; and
    /// what `from` and `to` say.
    ///
    /// # Panics
    ///
    /// When the reader or the writer does.
    pub fn copy<R, W>(self, from: R, to: W, threads: NonZeroUsize) -> io::Result<u64>
    where
        R: Read + Send,
        W: Write + Send,
    {
        let Self { chunks } = self;
        pump(from, to, threads, SEALED_CHUNK, |batch| open(&chunks, batch)).map(|(_, written)| written)
    }
}

/// Some chunks on their way, each batch as long as the others but for the last.
struct Batch {
    number: u64,
    /// One of input and output is text.
    input: Wiped,
    filled: usize,
    output: Wiped,
    /// So much of the output is there.
    done: usize,
    /// Whether the input ended within it: then the last of its chunks is the last of the stream.
    last: bool,
}

fn seal(chunks: &Chunks, process: &Process, batch: &mut Batch) -> Result<(), Error> {
    process.must_be_current()?;
    // INVARIANT: the last chunk is always shorter than the others, and maybe empty.
    let (full, rest) = batch.input.get(..batch.filled).unwrap_or_default().as_chunks::<CHUNK>();
    let texts = full.iter().map(<[u8; CHUNK]>::as_slice).chain(batch.last.then_some(rest));
    let mut free = &mut *batch.output;
    for (index, text) in (batch.number * BATCH as u64..).zip(texts) {
        let (room, rest) = free.split_at_mut_checked(text.len() + TAG).ok_or_else(Error::open)?;
        chunks.seal(index, text, room)?;
        (batch.done, free) = (batch.done + room.len(), rest);
    }
    Ok(())
}

fn open(chunks: &Chunks, batch: &mut Batch) -> Result<(), Error> {
    // As above: an input that ends without a short chunk was cut, and then `rest` is nothing that opens.
    let (full, rest) = batch.input.get(..batch.filled).unwrap_or_default().as_chunks::<SEALED_CHUNK>();
    let chunks_of_batch = full.iter().map(<[u8; SEALED_CHUNK]>::as_slice).chain(batch.last.then_some(rest));
    let mut free = &mut *batch.output;
    for (index, sealed) in (batch.number * BATCH as u64..).zip(chunks_of_batch) {
        let room = sealed.len().checked_sub(TAG).and_then(|len| free.split_at_mut_checked(len));
        let (room, rest) = room.ok_or_else(Error::open)?;
        chunks.open(index, sealed, room)?;
        (batch.done, free) = (batch.done + room.len(), rest);
    }
    Ok(())
}

/// Reads batches of chunks of `size` bytes, works on them side by side, and writes them in their order. Returns how much
/// was read and written.
fn pump<R, W, F>(from: R, to: W, threads: NonZeroUsize, size: usize, work: F) -> io::Result<(u64, u64)>
where
    R: Read + Send,
    W: Write + Send,
    F: Fn(&mut Batch) -> Result<(), Error> + Sync,
{
    let source = Mutex::new(Source { from, next: 0, read: 0, ended: false });
    let (sink, turn) = (Mutex::new(Sink { to, next: 0, written: 0, failed: None }), Condvar::new());
    let run = || {
        let _release = ReleaseOnPanic(|| {
            lock(&sink).failed.get_or_insert_with(|| io::Error::other("another thread panicked"));
            turn.notify_all();
        });
        let mut batch = Batch::new(size);
        loop {
            let Some(filled) = lock(&source).fill(&mut batch) else { return };
            let done = filled.and_then(|()| Ok(work(&mut batch)?));
            let waiting =
                turn.wait_while(lock(&sink), |sink| sink.failed.is_none() && sink.next != batch.number);
            let mut sink = waiting.unwrap_or_else(PoisonError::into_inner);
            if sink.failed.is_none() {
                sink.write(&batch, done);
            }
            turn.notify_all();
            if sink.failed.is_some() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(run);
        }
        run();
    });
    let read = source.into_inner().unwrap_or_else(PoisonError::into_inner).read;
    let Sink { mut to, written, failed, .. } = sink.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed {
        Some(error) => Err(error),
        None => to.flush().map(|()| (read, written)),
    }
}

/// Where batches come from, one after the other.
struct Source<R> {
    from: R,
    next: u64,
    read: u64,
    ended: bool,
}

/// Where batches go, in their order.
struct Sink<W> {
    to: W,
    next: u64,
    written: u64,
    failed: Option<io::Error>,
}

impl Batch {
    fn new(size: usize) -> Self {
        let input = Wiped::new(BATCH * size);
        let output = Wiped::new(BATCH * SEALED_CHUNK);
        Self { number: 0, input, filled: 0, output, done: 0, last: false }
    }
}

impl<R: Read> Source<R> {
    /// Fills a batch; `None` after the last one.
    fn fill(&mut self, batch: &mut Batch) -> Option<io::Result<()>> {
        if self.ended {
            return None;
        }
        (batch.number, batch.filled, batch.done, batch.last) = (self.next, 0, 0, false);
        self.next += 1;
        while let Some(space @ [_, ..]) = batch.input.get_mut(batch.filled..) {
            match self.from.read(space) {
                Ok(0) => {
                    (self.ended, batch.last) = (true, true);
                    break;
                }
                Ok(read) => {
                    batch.filled += read;
                    self.read += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        Some(Ok(()))
    }
}

impl<W: Write> Sink<W> {
    /// Writes what there is of a batch, and keeps the first failure.
    fn write(&mut self, batch: &Batch, done: io::Result<()>) {
        let written = self.to.write_all(batch.output.get(..batch.done).unwrap_or_default());
        self.written += batch.done as u64;
        self.next += 1;
        self.failed = written.and(done).err();
    }
}

/// Without this, threads would wait for ever for the turn of one that panicked.
struct ReleaseOnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for ReleaseOnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
