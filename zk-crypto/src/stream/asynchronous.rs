//! Streams over tokio's readers and writers.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{StreamSealer, chunks::Chunks, read::Opening, write::Sealing};

/// As [`StreamReader`](super::StreamReader), for tokio.
pub struct AsyncStreamReader<R> {
    inner: R,
    opening: Opening,
}

/// As [`StreamWriter`](super::StreamWriter), for tokio: shutting it down writes the last chunk.
#[must_use = "a stream that is not shut down does not open to its end"]
pub struct AsyncStreamWriter<W> {
    inner: W,
    sealing: Sealing,
}

impl<R> AsyncStreamReader<R> {
    pub(super) fn new(chunks: Chunks, inner: R) -> Self {
        Self { inner, opening: Opening::new(chunks) }
    }
}

impl<W> AsyncStreamWriter<W> {
    pub(super) fn new(sealer: StreamSealer, inner: W) -> Self {
        Self { inner, sealing: Sealing::new(sealer) }
    }

    /// Gives the inner writer back. Shut this one down first.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for AsyncStreamReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, opening } = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(given) = opening.give(out.initialize_unfilled())? {
                out.advance(given);
                return Poll::Ready(Ok(()));
            }
            let mut space = ReadBuf::new(opening.space());
            ready!(Pin::new(&mut *inner).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            opening.filled(read);
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncStreamWriter<W> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let pending @ [_, ..] = self.sealing.pending() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealing.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for AsyncStreamWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        Poll::Ready(Ok(self.sealing.take(text)?))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.sealing.finish()?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<R> fmt::Debug for AsyncStreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncStreamReader").finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for AsyncStreamWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncStreamWriter").finish_non_exhaustive()
    }
}
