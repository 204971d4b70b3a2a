//! Data keys in memory: bounded, read without a lock, fetched once.

mod flights;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use self::flights::Flights;
use crate::{Error, KeyId, Scope, encryptor::EncryptorConfig, opened::OpenedKey, shard::Sharded};

/// The keys one encryptor holds. Readers load a snapshot; writers replace it.
pub(crate) struct Cache {
    snapshot: ArcSwap<Snapshot>,
    flights: Flights,
    /// How often keys were forgotten: a load that began before must not bring them back.
    forgotten: AtomicU64,
    max_entries: usize,
}

/// What a caller looks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The key that seals for a scope.
    Active(Scope),
    /// The key that sealed a value. With the scope, so that what one scope does not get says nothing to another.
    Id(KeyId, Scope),
}

/// A key in the cache, with what is left of its bounds. Dropping the last reference wipes the key.
pub(crate) struct Entry {
    pub(crate) key: OpenedKey,
    /// When it may not be used any more.
    end: Duration,
    /// Whether anybody used it since it was fetched.
    used: AtomicBool,
    messages: Allowance,
    bytes: Allowance,
    portions: Sharded<Portion>,
}

/// Two maps, so that readers look up by reference and build no [`Wanted`].
#[derive(Default, Clone)]
pub(crate) struct Snapshot {
    active: HashMap<Scope, Slot, Hashed>,
    by_id: HashMap<KeyId, Slot, Hashed>,
    /// How many entries were ever added: the number beside an entry says which came first.
    added: u64,
}

type Slot = (u64, Arc<Entry>);
type Hashed = BuildHasherDefault<AlreadyHashed>;

/// Takes the first eight bytes for the hash: a scope brings a keyed hash of its text, and an id is one. Only ids that
/// were checked against their key are ever stored, so nobody chooses ones that collide.
#[derive(Default)]
struct AlreadyHashed(u64);

/// A count down that many threads share.
struct Allowance {
    used: AtomicU64,
    limit: u64,
}

/// What a group of threads has taken from the allowances and not used yet: messages above [`BYTES`], bytes below.
#[derive(Default)]
struct Portion(AtomicU64);

const BYTES: u32 = 40;

impl Cache {
    pub(crate) fn new(config: &EncryptorConfig) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            flights: Flights::new(config.max_entries, config.failure_age),
            forgotten: AtomicU64::new(0),
            max_entries: config.max_entries,
        }
    }

    /// Returns a key that may still be used, or fetches it: once, however many ask at the same time.
    pub(crate) async fn fetch<F>(&self, wanted: Wanted, now: Duration, load: F) -> Result<Arc<Entry>, Error>
    where
        F: AsyncFnOnce() -> Result<Entry, Error>,
    {
        let found = || self.fresh(&wanted, now);
        match found() {
            Some(entry) => Ok(entry),
            None => {
                self.flights
                    .board(&wanted, now, found, async || self.load_and_keep(&wanted, now, load).await)
                    .await
            }
        }
    }

    /// Fetches a key that is here once more, and drops it when it may not be used any longer. While it fails for another
    /// reason the key stays, until its age ends.
    pub(crate) async fn refresh<F>(&self, wanted: &Wanted, now: Duration, load: F) -> Result<(), Error>
    where
        F: AsyncFnOnce() -> Result<Entry, Error>,
    {
        let result = self.load_and_keep(wanted, now, load).await;
        if let Err(error) = &result
            && !error.is_transient()
        {
            self.forget(|other, _| other == wanted);
        }
        result.map(drop)
    }

    /// What was used and ends before `end`: active keys first, because fetching one also refreshes its id. What ended already
    /// is wiped.
    pub(crate) fn ending(&self, now: Duration, end: Duration) -> Vec<Wanted> {
        self.retain(|_, entry| entry.is_young(now));
        let snapshot = self.snapshot.load();
        let ending = |entry: &Entry| entry.end <= end && entry.used.load(Ordering::Relaxed);
        let active = snapshot.active.iter().filter(|(_, (_, entry))| ending(entry));
        let active: Vec<_> =
            active.map(|(scope, (_, entry))| (Wanted::Active(scope.clone()), entry.key.id)).collect();
        let ids = snapshot
            .by_id
            .iter()
            .filter(|(id, (_, entry))| ending(entry) && !active.iter().any(|(_, active)| active == *id));
        let ids: Vec<_> = ids.map(|(id, (_, entry))| Wanted::Id(*id, entry.key.scope.clone())).collect();
        active.into_iter().map(|(wanted, _)| wanted).chain(ids).collect()
    }

    /// Drops every key that `matches` holds for, and what is being fetched now, and what was not found.
    pub(crate) fn forget(&self, matches: impl Fn(&Wanted, &OpenedKey) -> bool) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.retain(|wanted, entry| !matches(wanted, &entry.key));
        self.flights.forget_failures();
    }

    fn retain(&self, keep: impl Fn(&Wanted, &Entry) -> bool) {
        self.snapshot.rcu(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            next.retain(&keep);
            next
        });
    }

    /// What is here now, read without a lock and without a count that threads share. Not to be held for long.
    #[inline]
    pub(crate) fn load(&self) -> impl Deref<Target = Arc<Snapshot>> {
        self.snapshot.load()
    }

    fn fresh(&self, wanted: &Wanted, now: Duration) -> Option<Arc<Entry>> {
        let snapshot = self.snapshot.load();
        let entry = match wanted {
            Wanted::Active(scope) => snapshot.active(scope).filter(|entry| entry.is_fresh(now)),
            Wanted::Id(id, _) => snapshot.by_id(*id, now),
        };
        entry.map(Arc::clone)
    }

    async fn load_and_keep<F>(&self, wanted: &Wanted, now: Duration, load: F) -> Result<Arc<Entry>, Error>
    where
        F: AsyncFnOnce() -> Result<Entry, Error>,
    {
        let before = self.forgotten.load(Ordering::SeqCst);
        load().await.map(|entry| self.keep(wanted, Arc::new(entry), before, now))
    }

    fn keep(&self, wanted: &Wanted, entry: Arc<Entry>, before: u64, now: Duration) -> Arc<Entry> {
        self.snapshot.rcu(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            // Keys whose age has ended are wiped here, not only when they are asked for again.
            next.retain(|_, entry| entry.is_young(now));
            // SECURITY: a key that was destroyed while we fetched it must not come back. Checked inside the loop: a
            // forget between the check and the swap makes the swap run again.
            if self.forgotten.load(Ordering::SeqCst) == before {
                if let Wanted::Active(_) = wanted {
                    next.add(Wanted::Id(entry.key.id, entry.key.scope.clone()), &entry);
                }
                next.add(wanted.clone(), &entry);
                next.shrink(self.max_entries);
            }
            next
        });
        entry
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, failures) = (self.snapshot.load().len(), self.flights.failures());
        write!(f, "Cache({entries} entries, {failures} failures)")
    }
}

impl Snapshot {
    /// The key that seals for a scope, for who takes from its allowance.
    #[inline]
    pub(crate) fn active(&self, scope: &Scope) -> Option<&Arc<Entry>> {
        self.active.get(scope).map(|(_, entry)| entry)
    }

    /// A key that opens.
    #[inline]
    pub(crate) fn by_id(&self, id: KeyId, now: Duration) -> Option<&Arc<Entry>> {
        self.by_id.get(&id).map(|(_, entry)| entry).filter(|entry| entry.is_young(now) && entry.is_used())
    }

    fn len(&self) -> usize {
        self.active.len() + self.by_id.len()
    }

    fn retain(&mut self, keep: impl Fn(&Wanted, &Entry) -> bool) {
        self.active.retain(|scope, (_, entry)| keep(&Wanted::Active(scope.clone()), entry));
        self.by_id.retain(|id, (_, entry)| keep(&Wanted::Id(*id, entry.key.scope.clone()), entry));
    }

    fn add(&mut self, wanted: Wanted, entry: &Arc<Entry>) {
        self.added += 1;
        let slot = (self.added, Arc::clone(entry));
        match wanted {
            Wanted::Active(scope) => drop(self.active.insert(scope, slot)),
            Wanted::Id(id, _) => drop(self.by_id.insert(id, slot)),
        }
    }

    /// Drops the entries that were added first until the rest fits.
    fn shrink(&mut self, max_entries: usize) {
        let surplus = self.len().saturating_sub(max_entries);
        let slots = self.active.values().chain(self.by_id.values());
        let mut ages: Vec<u64> = slots.map(|(added, _)| *added).collect();
        ages.sort_unstable();
        if let Some(last) = surplus.checked_sub(1).and_then(|i| ages.get(i)) {
            self.active.retain(|_, (added, _)| *added > *last);
            self.by_id.retain(|_, (added, _)| *added > *last);
        }
    }
}

impl Entry {
    pub(crate) fn new(key: OpenedKey, loaded: Duration, config: &EncryptorConfig) -> Self {
        Self {
            key,
            end: loaded.saturating_add(config.max_age),
            used: AtomicBool::new(false),
            messages: Allowance::new(config.max_messages),
            bytes: Allowance::new(config.max_bytes),
            portions: Sharded::default(),
        }
    }

    /// Counts one message; false when the key must be fetched again first.
    #[inline]
    pub(crate) fn take(&self, len: usize, now: Duration) -> bool {
        let len = len as u64;
        self.is_young(now) && self.is_used() && (self.portions.local().take(len) || self.take_portion(len))
    }

    #[cold]
    fn take_portion(&self, len: u64) -> bool {
        // Threads take so much at once that they rarely meet, and so little that at most one part in 32 of an allowance
        // lies unused with others when it ends.
        let messages = (self.messages.limit / 256).clamp(1, 1 << 16);
        let bytes = (self.bytes.limit / 256).clamp(1, 1 << 30).max(len);
        let local = self.portions.local();
        let (mut left_messages, mut left_bytes) = local.drain();
        if left_messages == 0 {
            if !self.messages.take(messages) {
                return false;
            }
            left_messages = messages;
        }
        if left_bytes < len {
            if !self.bytes.take(bytes - left_bytes) {
                return false;
            }
            left_bytes = bytes;
        }
        local.fill(left_messages - 1, left_bytes - len);
        true
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.is_young(now) && self.messages.is_left() && self.bytes.is_left()
    }

    /// Notes that it is; written once, so that threads do not wait for each other.
    #[inline]
    fn is_used(&self) -> bool {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        true
    }

    fn is_young(&self, now: Duration) -> bool {
        now < self.end
    }
}

impl Allowance {
    fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    /// Takes `amount` if anything is left; the last one may pass the limit.
    fn take(&self, amount: u64) -> bool {
        self.used.fetch_add(amount, Ordering::Relaxed) < self.limit
    }

    fn is_left(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }
}

impl Portion {
    /// Takes one message of `len` bytes; false when they are not there, or another thread is faster.
    #[inline]
    fn take(&self, len: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        let (messages, bytes) = Self::split(left);
        // INVARIANT: taken before it is used, and by one thread only.
        messages > 0
            && bytes >= len
            && self
                .0
                .compare_exchange(left, left - (1 << BYTES) - len, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes all that is left: messages and bytes.
    fn drain(&self) -> (u64, u64) {
        Self::split(self.0.swap(0, Ordering::Relaxed))
    }

    fn fill(&self, messages: u64, bytes: u64) {
        self.0.store(messages << BYTES | bytes, Ordering::Relaxed);
    }

    fn split(left: u64) -> (u64, u64) {
        (left >> BYTES, left & ((1 << BYTES) - 1))
    }
}

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// The length of an id, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
