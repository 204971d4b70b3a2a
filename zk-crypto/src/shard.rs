//! State that threads use side by side without sharing a cache line.

use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this share, which costs time and nothing else.
const SHARDS: usize = 8;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// One `T` for each of a few groups of threads.
#[derive(Default)]
pub(crate) struct Sharded<T>([Padded<T>; SHARDS]);

/// Two cache lines, because processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Sharded<T> {
    /// The one of the calling thread.
    #[inline]
    pub(crate) fn local(&self) -> &T {
        let [first, ..] = &self.0;
        let Padded(local) = SHARD.with(|shard| self.0.get(*shard)).unwrap_or(first);
        local
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_thread_keeps_its_own() {
        let sharded: Sharded<AtomicUsize> = Sharded::default();
        let address = || std::ptr::from_ref(sharded.local()) as usize;
        assert_eq!(address(), address());
        let addresses: HashSet<usize> =
            std::thread::scope(|s| (0..SHARDS).map(|_| s.spawn(address).join().unwrap()).collect());
        // Tests in other threads take numbers too, so that not every shard need be among them.
        assert!(addresses.len() > 1, "threads do not all share");
        assert!(addresses.iter().all(|a| a % 128 == 0));
    }
}
