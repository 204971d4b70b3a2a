//! Random bytes for nonces: SPEC.md, section 5.

use std::cell::RefCell;

use crate::{Error, ErrorKind, suite::SUFFIX};

/// 40 nonces: enough to pay for the system call, few enough to bound what a restored snapshot could repeat.
const BUFFER: usize = 40 * SUFFIX;

thread_local! {
    static RANDOM: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; BUFFER], used: BUFFER, pid: 0 }) };
}

/// Random bytes of one thread that nobody has used yet.
struct Buffer {
    bytes: [u8; BUFFER],
    used: usize,
    pid: u32,
}

/// Draws 12 bytes that no other call gets. `pid` is the process id now.
pub(crate) fn draw(pid: u32) -> Result<[u8; SUFFIX], Error> {
    // At the end of a thread its buffer may be gone already: then ask the system.
    RANDOM.try_with(|random| random.borrow_mut().draw(pid)).unwrap_or_else(|_| fresh())
}

/// Draws bytes from the operating system, past any buffer.
pub(crate) fn fresh<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

impl Buffer {
    fn draw(&mut self, pid: u32) -> Result<[u8; SUFFIX], Error> {
        // SECURITY: a forked child has its parent's bytes in memory and must not use them.
        if self.pid != pid || self.used >= BUFFER {
            // INVARIANT: marked as used before the call, so that a failure leaves nothing to draw.
            self.used = BUFFER;
            fill(&mut self.bytes)?;
            (self.used, self.pid) = (0, pid);
        }
        let drawn = self.bytes.get(self.used..).and_then(<[u8]>::first_chunk).copied();
        self.used += SUFFIX;
        drawn.ok_or_else(no_random)
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
    use super::*;

    #[test]
    fn another_process_id_discards_the_buffer() {
        let mut buffer = Buffer { bytes: [0; BUFFER], used: BUFFER, pid: 0 };
        let first = buffer.draw(1).unwrap();
        let rest = buffer.bytes;
        // What a child sees after fork: the same memory, another process id.
        let mut child = Buffer { bytes: rest, used: buffer.used, pid: buffer.pid };
        let parent_next = buffer.draw(1).unwrap();
        let child_next = child.draw(2).unwrap();
        assert_eq!(parent_next, rest[SUFFIX..2 * SUFFIX]);
        assert_ne!(child_next, parent_next);
        assert_ne!(child_next, first);
        assert_ne!(child.bytes, rest);
    }

    #[test]
    fn draws_do_not_repeat() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            assert!(seen.insert(draw(std::process::id()).unwrap()));
        }
    }
}
