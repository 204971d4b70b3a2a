//! A data key in memory, ready to seal and open.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use zeroize::Zeroizing;
use zk_kms::DataKey;

use crate::{
    Error, ErrorKind, KeyId, Scope, Suite,
    fork::Process,
    nonce::fresh,
    sealed::{NONCE, derive},
    shard::Sharded,
    suite::{Ciphers, Gcm, PREFIX, SUFFIX},
};

/// SPEC.md, section 5: how much one prefix seals.
const MAX_UNITS: u64 = 1 << 20;
const UNIT: u64 = 1 << 16;
const MAX_AGE: Duration = Duration::from_secs(3600);

/// How many derived keys are kept for opening, and in how many places one of them may be.
const KNOWN: usize = 64;
const PROBES: usize = 4;

/// A data key that was unwrapped and checked against its id. The ciphers wipe themselves on drop.
pub(crate) struct OpenedKey {
    pub(crate) id: KeyId,
    pub(crate) scope: Scope,
    pub(crate) ciphers: Ciphers,
    /// What the associated data of every value begins with, for each suite.
    bindings: [Box<[u8]>; 2],
    /// SPEC.md, section 11: what the keys of streams are derived from.
    pub(crate) stream: Zeroizing<[u8; 32]>,
    /// For sealing: the prefix of each group of threads.
    prefixes: Sharded<ArcSwapOption<Prefix>>,
    /// For opening: the first prefixes that opened something, near the place their first byte says. They stay as long as
    /// the key, which its age in the cache ends; so reading them needs no count and no lock.
    known: [OnceLock<Box<Known>>; KNOWN],
    /// What the keys of blind indexes are derived from: SPEC.md, section 9.
    #[cfg(feature = "index")]
    pub(crate) index_root: zeroize::Zeroizing<[u8; 32]>,
}

/// The first half of a nonce, and the cipher derived from it, which many messages share.
pub(crate) struct Prefix {
    pub(crate) bytes: [u8; PREFIX],
    pub(crate) cipher: Gcm,
    process: Process,
    since: Duration,
    units: AtomicU64,
}

/// A prefix that sealed something, here or elsewhere.
struct Known {
    bytes: [u8; PREFIX],
    cipher: Gcm,
}

impl OpenedKey {
    pub(crate) fn new(scope: Scope, key: &DataKey) -> Result<Self, Error> {
        let ciphers = Ciphers::new(key)?;
        let id = KeyId::of(key)?;
        let mut stream = Zeroizing::new([0; 32]);
        derive(key, &[b"stream"], &mut *stream)?;
        let binding = |suite: Suite| {
            let mut binding = vec![suite as u8];
            binding.extend_from_slice(id.as_bytes());
            scope.encode(&mut binding);
            binding.into_boxed_slice()
        };
        let bindings = [binding(Suite::Xaes256Gcm), binding(Suite::XChaCha20Poly1305)];
        Ok(Self {
            id,
            scope,
            ciphers,
            bindings,
            stream,
            prefixes: Sharded::default(),
            known: [const { OnceLock::new() }; KNOWN],
            #[cfg(feature = "index")]
            index_root: index_root(key)?,
        })
    }

    /// What the associated data of every value of a suite begins with: SPEC.md, section 4.
    pub(crate) fn binding(&self, suite: Suite) -> &[u8] {
        let [xaes, xchacha] = &self.bindings;
        match suite {
            Suite::Xaes256Gcm => xaes,
            Suite::XChaCha20Poly1305 => xchacha,
        }
    }

    /// The prefix for one message of `len` bytes: a new one when this thread's is spent, old or another process's.
    #[inline]
    pub(crate) fn prefix(&self, len: usize, now: Duration) -> Result<Guard<Option<Arc<Prefix>>>, Error> {
        let local = self.prefixes.local();
        let kept = local.load();
        if kept.as_ref().is_some_and(|prefix| prefix.take(len, now)) {
            return Ok(kept);
        }
        // Two threads may both come here and draw: each then uses its own prefix, which is as good.
        let prefix = Some(Arc::new(self.draw_prefix(len, now)?));
        local.store(prefix.clone());
        Ok(Guard::from_inner(prefix))
    }

    /// Calls `open` with the cipher of a nonce's first half, and with its second half.
    #[inline]
    pub(crate) fn opening(
        &self,
        nonce: &[u8; NONCE],
        open: impl FnOnce(&Gcm, &[u8; SUFFIX]) -> Option<()>,
    ) -> Option<()> {
        let ([prefix, suffix], _) = nonce.as_chunks::<PREFIX>() else { return None };
        match self.known(prefix) {
            Some(cipher) => open(cipher, suffix),
            None => self.with_unknown(prefix, |cipher| open(cipher, suffix)),
        }
    }

    /// The cipher of a prefix that opened something before.
    #[inline]
    fn known(&self, prefix: &[u8; PREFIX]) -> Option<&Gcm> {
        let mut known = self.places(prefix).map_while(OnceLock::get);
        known.find(|known| known.bytes == *prefix).map(|known| &known.cipher)
    }

    /// Calls `open` with the cipher of a prefix that is not known, which it becomes if there is room.
    #[cold]
    fn with_unknown<R>(&self, prefix: &[u8; PREFIX], open: impl FnOnce(&Gcm) -> Option<R>) -> Option<R> {
        let cipher = self.ciphers.xaes.subkey(prefix)?;
        let opened = open(&cipher)?;
        // Only what opened is kept: bytes that somebody made up do not take the places.
        if let Some(free) = self.places(prefix).find(|place| place.get().is_none()) {
            free.get_or_init(|| Box::new(Known { bytes: *prefix, cipher }));
        }
        Some(opened)
    }

    fn places(&self, prefix: &[u8; PREFIX]) -> impl Iterator<Item = &OnceLock<Box<Known>>> {
        let [first, ..] = *prefix;
        let first = usize::from(first);
        (first..first + PROBES).filter_map(|place| self.known.get(place % KNOWN))
    }

    #[cold]
    fn draw_prefix(&self, len: usize, now: Duration) -> Result<Prefix, Error> {
        let process = Process::current()?;
        let bytes = fresh()?;
        let cipher = self
            .ciphers
            .xaes
            .subkey(&bytes)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no memory for a key"))?;
        Ok(Prefix { bytes, cipher, process, since: now, units: AtomicU64::new(units(len)) })
    }
}

impl Prefix {
    /// Takes the units for one message, if this prefix may seal it.
    #[inline]
    fn take(&self, len: usize, now: Duration) -> bool {
        self.process.is_current()
            && now.saturating_sub(self.since) < MAX_AGE
            // INVARIANT: taken before they are used, so that threads together never pass the limit.
            && self.units.fetch_add(units(len), Ordering::Relaxed) < MAX_UNITS
    }
}

#[cfg(feature = "index")]
fn index_root(key: &DataKey) -> Result<zeroize::Zeroizing<[u8; 32]>, Error> {
    let mut root = zeroize::Zeroizing::new([0; 32]);
    crate::sealed::derive(key, &[b"index"], &mut *root)?;
    Ok(root)
}

fn units(len: usize) -> u64 {
    1 + len as u64 / UNIT
}

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, scope, .. } = self;
        f.debug_struct("OpenedKey").field("id", id).field("scope", scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OpenedKey {
        OpenedKey::new(Scope::new("s").unwrap(), &DataKey::generate().unwrap()).unwrap()
    }

    fn bytes(key: &OpenedKey, len: usize, secs: u64) -> [u8; PREFIX] {
        key.prefix(len, Duration::from_secs(secs)).unwrap().as_ref().unwrap().bytes
    }

    #[test]
    fn a_prefix_is_kept_within_its_age() {
        let key = key();
        let first = bytes(&key, 10, 0);
        assert_eq!(first, bytes(&key, 10, 3599));
        assert_ne!(first, bytes(&key, 10, 3600));
    }

    #[test]
    fn a_prefix_is_renewed_after_its_messages() {
        let key = key();
        let first = bytes(&key, 0, 0);
        for _ in 1..MAX_UNITS {
            assert!(bytes(&key, 0, 0) == first);
        }
        assert_ne!(first, bytes(&key, 0, 0));
    }

    #[test]
    fn a_prefix_is_renewed_after_its_bytes() {
        let key = key();
        let long = 64 * 1024 * 1024;
        let first = bytes(&key, long, 0);
        let same = (1..).take_while(|_| bytes(&key, long, 0) == first).count();
        assert!((1000..=1024).contains(&same), "{same} messages of 64 MiB under one prefix");
    }

    #[test]
    fn a_known_prefix_is_derived_once_and_only_after_it_opened() {
        let key = key();
        let known = || key.known.iter().flat_map(OnceLock::get).count();
        assert!(key.with_unknown(&[1; PREFIX], |_| None::<()>).is_none());
        assert_eq!(known(), 0, "what did not open is not kept");
        assert!(key.known(&[1; PREFIX]).is_none());
        key.with_unknown(&[1; PREFIX], |_| Some(())).unwrap();
        assert_eq!(known(), 1);
        assert!(key.known(&[1; PREFIX]).is_some());
    }

    #[test]
    fn known_prefixes_are_told_apart_and_bounded() {
        let key = key();
        let text = |cipher: &Gcm| {
            let mut out = vec![0; 8 + crate::sealed::TAG];
            cipher.seal(&[0; 12], b"", &[0; 8], &mut out).map(|()| out)
        };
        let mut texts = std::collections::HashSet::new();
        // More than there is room for in all, and at each place: they differ in their first and last byte.
        for i in 0..=255 {
            for last in 0..6 {
                let mut prefix = [i; PREFIX];
                prefix[PREFIX - 1] = last;
                assert!(key.known(&prefix).is_none(), "not one of those before");
                let first = key.with_unknown(&prefix, text).unwrap();
                let again = key.known(&prefix).map_or_else(|| key.with_unknown(&prefix, text), text);
                assert_eq!(Some(&first), again.as_ref());
                assert_eq!(Some(&first), key.ciphers.xaes.subkey(&prefix).and_then(|c| text(&c)).as_ref());
                assert!(texts.insert(first));
            }
        }
        assert_eq!(key.known.iter().flat_map(OnceLock::get).count(), KNOWN);
    }
}
