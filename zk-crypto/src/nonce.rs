//! Random bytes for nonces: SPEC.md, section 5.

use std::cell::RefCell;

use chacha20::{
    ChaCha12,
    cipher::{KeyIvInit, StreamCipher},
};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, fork::Process, suite::SUFFIX};

/// 85 nonces: enough to pay for the system call, few enough to bound what a restored snapshot could repeat.
const BUFFER: usize = 85 * SUFFIX;

thread_local! {
    static RANDOM: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// Random bytes of one thread that nobody has used yet.
struct Buffer {
    bytes: [u8; BUFFER],
    used: usize,
    /// Where the bytes were drawn; none before the first draw.
    process: Option<Process>,
}

/// Draws 12 bytes that no other call gets, in this or in any other process.
#[inline]
pub(crate) fn draw(out: &mut [u8; SUFFIX]) -> Result<(), Error> {
    // At the end of a thread its buffer may be gone already: then ask the system.
    RANDOM.try_with(|random| random.borrow_mut().draw(out)).unwrap_or_else(|_| fill(out))
}

/// Draws bytes from the operating system, past any buffer.
pub(crate) fn fresh<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

impl Buffer {
    const fn new() -> Self {
        Self { bytes: [0; BUFFER], used: BUFFER, process: None }
    }

    #[inline]
    fn draw(&mut self, out: &mut [u8; SUFFIX]) -> Result<(), Error> {
        // SECURITY: a forked child has its parent's bytes in memory and must not use them.
        if self.used >= BUFFER || !self.process.as_ref().is_some_and(Process::is_current) {
            self.refill()?;
        }
        *out = *self.bytes.get(self.used..).and_then(<[u8]>::first_chunk).ok_or_else(no_random)?;
        self.used += SUFFIX;
        Ok(())
    }

    /// Draws a seed from the operating system and stretches it, which is cheaper than drawing all.
    #[cold]
    fn refill(&mut self) -> Result<(), Error> {
        // INVARIANT: marked as used before the calls, so that a failure leaves nothing to draw.
        self.used = BUFFER;
        let process = Process::current()?;
        let mut seed = Zeroizing::new([0; 32]);
        fill(&mut *seed)?;
        self.bytes.fill(0);
        ChaCha12::new((&*seed).into(), &[0; 12].into()).apply_keystream(&mut self.bytes);
        (self.used, self.process) = (0, Some(process));
        Ok(())
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|e| no_random().with_source(e.to_string()))
}

fn no_random() -> Error {
    Error::new(ErrorKind::Unavailable, "the operating system gives no random bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn draw() -> [u8; SUFFIX] {
        let mut out = [0; SUFFIX];
        super::draw(&mut out).unwrap();
        out
    }

    #[test]
    fn draws_do_not_repeat_across_threads() {
        let draw_many = || (0..10_000).map(|_| draw()).collect::<Vec<_>>();
        let drawn: Vec<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(draw_many)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 40_000);
        // No position of the twelve bytes is constant: a stretch that was cut would leave zeros.
        for at in 0..SUFFIX {
            assert!(drawn.iter().map(|d| d[at]).collect::<HashSet<_>>().len() == 256);
        }
    }

    #[test]
    fn bytes_of_another_process_are_not_used() {
        let mut buffer = Buffer::new();
        let (mut first, mut second) = ([0; SUFFIX], [0; SUFFIX]);
        buffer.draw(&mut first).unwrap();
        let before = buffer.bytes;
        assert_eq!(before[..SUFFIX], first);
        // What a child finds: the memory of its parent, made elsewhere. A real fork is in `tests/nonces.rs`.
        buffer.process = None;
        buffer.draw(&mut second).unwrap();
        assert!(!before.chunks(SUFFIX).any(|drawn| drawn == second));
    }
}
