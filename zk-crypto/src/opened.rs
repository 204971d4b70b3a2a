//! A data key in memory, ready to seal and open.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use zk_kms::DataKey;

use crate::{
    Error, KeyId, Scope,
    nonce::fresh,
    suite::{Ciphers, PREFIX, Subkey},
};

/// SPEC.md, section 5: how much one prefix seals.
const MAX_UNITS: u64 = 1 << 20;
const UNIT: u64 = 1 << 16;
const MAX_AGE: Duration = Duration::from_secs(3600);

/// A data key that was unwrapped and checked against its id. The ciphers wipe themselves on drop.
pub(crate) struct OpenedKey {
    pub(crate) id: KeyId,
    pub(crate) scope: Scope,
    pub(crate) ciphers: Ciphers,
    prefix: ArcSwapOption<Prefix>,
}

/// The first half of a nonce, and the key derived from it, which many messages share.
pub(crate) struct Prefix {
    pub(crate) bytes: [u8; PREFIX],
    pub(crate) subkey: Subkey,
    pid: u32,
    since: Duration,
    units: AtomicU64,
}

impl OpenedKey {
    pub(crate) fn new(scope: Scope, key: &DataKey) -> Result<Self, Error> {
        let ciphers = Ciphers::new(key)?;
        Ok(Self { id: KeyId::of(key)?, scope, ciphers, prefix: ArcSwapOption::empty() })
    }

    /// Returns the prefix for one message of `len` bytes, a new one when the old one is spent, old or another process's.
    pub(crate) fn prefix(&self, len: usize, pid: u32, now: Duration) -> Result<Arc<Prefix>, Error> {
        if let Some(prefix) = &*self.prefix.load()
            && prefix.take(len, pid, now)
        {
            return Ok(Arc::clone(prefix));
        }
        // Two threads may both come here and draw: each then uses its own prefix, which is as good.
        let bytes = fresh()?;
        let subkey = self.ciphers.xaes.subkey(&bytes);
        let prefix = Arc::new(Prefix { bytes, subkey, pid, since: now, units: AtomicU64::new(units(len)) });
        self.prefix.store(Some(Arc::clone(&prefix)));
        Ok(prefix)
    }
}

impl Prefix {
    /// Takes the units for one message, if this prefix may seal it.
    fn take(&self, len: usize, pid: u32, now: Duration) -> bool {
        self.pid == pid
            && now.saturating_sub(self.since) < MAX_AGE
            // INVARIANT: taken before they are used, so that threads together never pass the limit.
            && self.units.fetch_add(units(len), Ordering::Relaxed) < MAX_UNITS
    }
}

fn units(len: usize) -> u64 {
    1 + len as u64 / UNIT
}

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, scope, ciphers: _, prefix: _ } = self;
        f.debug_struct("OpenedKey").field("id", id).field("scope", scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OpenedKey {
        OpenedKey::new(Scope::new("s").unwrap(), &DataKey::generate().unwrap()).unwrap()
    }

    fn bytes(key: &OpenedKey, len: usize, pid: u32, secs: u64) -> [u8; PREFIX] {
        key.prefix(len, pid, Duration::from_secs(secs)).unwrap().bytes
    }

    #[test]
    fn a_prefix_is_kept_within_its_bounds() {
        let key = key();
        let first = bytes(&key, 10, 1, 0);
        assert_eq!(first, bytes(&key, 10, 1, 3599));
        assert_ne!(first, bytes(&key, 10, 1, 3600), "renewed by age");
        let second = bytes(&key, 10, 1, 3600);
        assert_ne!(second, bytes(&key, 10, 2, 3600), "renewed in another process");
    }

    #[test]
    fn a_prefix_is_renewed_after_its_messages() {
        let key = key();
        let first = bytes(&key, 0, 1, 0);
        for _ in 1..MAX_UNITS {
            assert!(key.prefix(0, 1, Duration::ZERO).unwrap().bytes == first);
        }
        assert_ne!(first, bytes(&key, 0, 1, 0));
    }

    #[test]
    fn a_prefix_is_renewed_after_its_bytes() {
        let key = key();
        let long = 64 * 1024 * 1024;
        let first = bytes(&key, long, 1, 0);
        let same = (1..).take_while(|_| bytes(&key, long, 1, 0) == first).count();
        assert!((1000..=1024).contains(&same), "{same} messages of 64 MiB under one prefix");
    }
}
