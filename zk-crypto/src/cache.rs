//! Data keys in memory: bounded, read without a lock, fetched once.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{Error, KeyId, Scope, encryptor::EncryptorConfig, opened::OpenedKey};

/// The keys one encryptor holds. Readers load a snapshot; writers replace it.
pub(crate) struct Cache {
    snapshot: ArcSwap<Snapshot>,
    flights: Mutex<HashMap<Wanted, Arc<async_lock::Mutex<()>>>>,
    /// How often keys were forgotten: a load that began before must not bring them back.
    forgotten: AtomicU64,
    max_entries: usize,
}

/// What a caller looks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The key that seals for a scope.
    Active(Scope),
    /// The key that sealed a value.
    Id(KeyId),
}

/// A key in the cache, with what is left of its bounds. Dropping the last reference wipes the key.
pub(crate) struct Entry {
    pub(crate) key: OpenedKey,
    loaded: Duration,
    max_age: Duration,
    messages: Allowance,
    bytes: Allowance,
}

#[derive(Default, Clone)]
struct Snapshot {
    entries: HashMap<Wanted, (u64, Arc<Entry>)>,
    /// How many entries were ever added: the number beside an entry says which came first.
    added: u64,
}

/// A count down that many threads share.
struct Allowance {
    used: AtomicU64,
    limit: u64,
}

impl Cache {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            flights: Mutex::default(),
            forgotten: AtomicU64::new(0),
            max_entries,
        }
    }

    /// Returns a key that may still be used, or fetches it: once, however many ask at the same time.
    pub(crate) async fn fetch<F>(&self, wanted: Wanted, now: Duration, load: F) -> Result<Arc<Entry>, Error>
    where
        F: AsyncFnOnce() -> Result<Entry, Error>,
    {
        if let Some(entry) = self.fresh(&wanted, now) {
            return Ok(entry);
        }
        let flight = self.flight(&wanted);
        let _alone = flight.lock().await;
        // Whoever was first has fetched it for us.
        if let Some(entry) = self.fresh(&wanted, now) {
            return Ok(entry);
        }
        let before = self.forgotten.load(Ordering::SeqCst);
        let loaded = load().await;
        let result = loaded.map(|entry| self.keep(&wanted, Arc::new(entry), before, now));
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&wanted);
        result
    }

    /// Drops every key that `matches` holds for, and what is being fetched now.
    pub(crate) fn forget(&self, matches: impl Fn(&Wanted, &OpenedKey) -> bool) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.snapshot.rcu(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            next.entries.retain(|wanted, (_, entry)| !matches(wanted, &entry.key));
            next
        });
    }

    fn fresh(&self, wanted: &Wanted, now: Duration) -> Option<Arc<Entry>> {
        let snapshot = self.snapshot.load();
        let (_, entry) = snapshot.entries.get(wanted)?;
        entry.is_fresh(now).then(|| Arc::clone(entry))
    }

    fn flight(&self, wanted: &Wanted) -> Arc<async_lock::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry(wanted.clone()).or_default())
    }

    fn keep(&self, wanted: &Wanted, entry: Arc<Entry>, before: u64, now: Duration) -> Arc<Entry> {
        self.snapshot.rcu(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            // Keys whose age has ended are wiped here, not only when they are asked for again.
            next.entries.retain(|_, (_, entry)| entry.is_young(now));
            // SECURITY: a key that was destroyed while we fetched it must not come back. Checked inside the loop: a
            // forget between the check and the swap makes the swap run again.
            if self.forgotten.load(Ordering::SeqCst) == before {
                if let Wanted::Active(_) = wanted {
                    next.add(Wanted::Id(entry.key.id), &entry);
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
        write!(f, "Cache({} entries)", self.snapshot.load().entries.len())
    }
}

impl Snapshot {
    fn add(&mut self, wanted: Wanted, entry: &Arc<Entry>) {
        self.added += 1;
        self.entries.insert(wanted, (self.added, Arc::clone(entry)));
    }

    /// Drops the entries that were added first until the rest fits.
    fn shrink(&mut self, max_entries: usize) {
        while self.entries.len() > max_entries {
            let oldest = self.entries.iter().min_by_key(|(_, (added, _))| *added).map(|(w, _)| w.clone());
            match oldest {
                Some(wanted) => self.entries.remove(&wanted),
                None => return,
            };
        }
    }
}

impl Entry {
    pub(crate) fn new(key: OpenedKey, loaded: Duration, config: &EncryptorConfig) -> Self {
        Self {
            key,
            loaded,
            max_age: config.max_age,
            messages: Allowance::new(config.max_messages),
            bytes: Allowance::new(config.max_bytes),
        }
    }

    /// Counts one message; false when the key must be fetched again first.
    pub(crate) fn take(&self, len: usize, now: Duration) -> bool {
        self.is_young(now) && self.messages.take(1) && self.bytes.take(len as u64)
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.is_young(now) && self.messages.is_left() && self.bytes.is_left()
    }

    fn is_young(&self, now: Duration) -> bool {
        now.saturating_sub(self.loaded) < self.max_age
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
