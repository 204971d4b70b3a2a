//! The life of data keys: made, rotated, wrapped again, disabled, destroyed.

use zk_kms::{DataKey, KeyVersion};

use super::{Encryptor, all, no_key};
use crate::{Error, ErrorKind, KeyId, KeyRecord, KeyState, Scope, cache::Wanted};

/// What [`Encryptor::rewrap_keys`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewrapped {
    /// Keys that are not destroyed.
    pub total: usize,
    /// Keys wrapped again under the current version.
    pub rewrapped: usize,
    /// Keys that were under the current version already.
    pub current: usize,
    /// Keys that somebody else changed meanwhile: run again to see whether they are current.
    pub conflicts: usize,
    /// Keys under another key-encryption key, which this encryptor's KMS cannot unwrap.
    pub foreign: usize,
    /// Keys that stay as they are, because their record is broken or the KMS does not unwrap them.
    pub failed: usize,
}

/// Which of the numbers a key adds to.
type Count = fn(&mut Rewrapped) -> &mut usize;

/// How many keys are wrapped again at the same time.
const AT_ONCE: usize = 8;
/// How many of the keys that failed an error names.
const NAMED: usize = 10;

impl Encryptor {
    /// Makes the first data key of a scope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the scope has keys already; otherwise what the KMS or the store says.
    pub async fn create_key(&self, scope: &Scope) -> Result<KeyId, Error> {
        self.insert_key(scope, 1).await
    }

    /// Makes the first data key of a scope unless it has an active one, and returns the active one's id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] when the scope has keys and none is active: [`Encryptor::rotate_key`] adds one. It is not
    /// done here, because somebody disabled or destroyed the last one on purpose.
    pub async fn ensure_key(&self, scope: &Scope) -> Result<KeyId, Error> {
        if let Some(record) = self.store.active(scope).await? {
            return Ok(record.id);
        }
        match self.create_key(scope).await {
            // Somebody else made it first, or there are keys and none is active.
            Err(error) if error.kind() == ErrorKind::Conflict => self.active_key(scope).await,
            result => result,
        }
    }

    /// Adds a generation that seals from now on; the former key still opens. The data stays as it is: see `Reseal`.
    ///
    /// Other processes seal under the former key until its age in their cache ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] when the scope has no key at all; [`ErrorKind::Conflict`] when somebody else rotates at the
    /// same time; otherwise what the KMS or the store says.
    pub async fn rotate_key(&self, scope: &Scope) -> Result<KeyId, Error> {
        let records = self.store.list(Some(scope)).await?;
        let newest = records.iter().map(|r| r.generation).max().ok_or_else(|| no_key(scope))?;
        let next =
            newest.checked_add(1).ok_or_else(|| Error::invalid("the scope has no more generations"))?;
        self.insert_key(scope, next).await
    }

    /// Asks the key store, not the cache, which key seals for a scope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] when none does.
    pub async fn active_key(&self, scope: &Scope) -> Result<KeyId, Error> {
        Ok(self.store.active(scope).await?.ok_or_else(|| no_key(scope))?.id)
    }

    /// Returns the records of a scope's keys, oldest first.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn keys(&self, scope: &Scope) -> Result<Vec<KeyRecord>, Error> {
        self.store.list(Some(scope)).await
    }

    /// Wraps every data key again that is not under the current version of the KEK: the second half of rotating a KEK.
    ///
    /// No data row is touched. It can be stopped and run again at any time, in many processes. Eight keys are on their way at
    /// a time, each with two requests to the KMS; `progress` is called after each. A key that cannot be wrapped again keeps none
    /// of the others from it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] after all keys were tried, naming those that failed: a record that is none, a key that the KMS
    /// does not know, or one that it wrapped as another key, which is tried before it replaces the former copy. What the KMS
    /// or the store says when it is not about one key, that it is away, or refuses: the others of the same eight are finished,
    /// and no more are begun. Keys that were wrapped again stay so.
    pub async fn rewrap_keys<P>(&self, mut progress: P) -> Result<Rewrapped, Error>
    where
        P: FnMut(&Rewrapped) + Send,
    {
        let status = self.kms.status().await.map_err(|e| Error::kms("cannot rewrap keys", e))?;
        let records = self.store.list_each().await?;
        let lives = |r: &Result<KeyRecord, Error>| r.as_ref().map_or(true, |r| r.wrapped.is_some());
        let living: Vec<_> = records.into_iter().filter(lives).collect();
        let mut done = Rewrapped { total: living.len(), ..Rewrapped::default() };
        let (mut living, mut failures, mut outage) = (living.into_iter(), Vec::new(), None);
        while living.len() > 0 {
            let rewrap = async |record: Result<_, _>| self.rewrap(&record?, status.version()).await;
            for rewrapped in all(living.by_ref().take(AT_ONCE).map(rewrap)).await {
                match rewrapped {
                    Ok(count) => *count(&mut done) += 1,
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        done.failed += 1;
                        failures.push(error);
                    }
                    Err(error) => {
                        outage.get_or_insert(error);
                        continue;
                    }
                }
                progress(&done);
            }
            if let Some(error) = outage {
                return Err(error);
            }
        }
        failed(&failures, &done).map_or(Ok(done), Err)
    }

    /// Wraps one key again, if it is to be. Returns what counts it.
    async fn rewrap(&self, record: &KeyRecord, current: &KeyVersion) -> Result<Count, Error> {
        let Some(wrapped) = &record.wrapped else { return Ok(|done| &mut done.current) };
        if wrapped.uri() != self.kms.uri() {
            return Ok(|done| &mut done.foreign);
        }
        if wrapped.version() == current {
            return Ok(|done| &mut done.current);
        }
        let context = wrapping_context(&record.scope, record.generation, record.id)?;
        let cannot = |e| Error::kms(&format!("cannot rewrap data key {}", record.id), e);
        let again = self.kms.rewrap_key(wrapped, &context, &context).await.map_err(cannot)?;
        // SECURITY: it replaces the only copy. Whatever the KMS made of it, it must be this key.
        let unwrapped = self.kms.unwrap_key(&again, &context).await.map_err(cannot)?;
        if KeyId::of(&unwrapped)? != record.id {
            let text = format!("data key {} was wrapped again as another key", record.id);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        match self.store.replace_wrapped(record.id, wrapped, &again).await {
            Ok(()) => Ok(|done| &mut done.rewrapped),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(|done| &mut done.conflicts),
            Err(error) => Err(error),
        }
    }

    /// Stops a key from sealing and opening, until [`Encryptor::enable_key`].
    ///
    /// This encryptor forgets it at once; others when its age in their cache ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when there is no such key, it is destroyed, or somebody else changed it.
    pub async fn disable_key(&self, id: KeyId) -> Result<(), Error> {
        let state = self.state(id).await?;
        if state != KeyState::Disabled {
            self.store.set_state(id, state, KeyState::Disabled).await?;
        }
        self.forget_key(id);
        Ok(())
    }

    /// Lets a disabled key open values again. It does not seal: [`Encryptor::rotate_key`] makes a key that does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the key is not disabled.
    pub async fn enable_key(&self, id: KeyId) -> Result<(), Error> {
        self.store.set_state(id, KeyState::Disabled, KeyState::Retiring).await?;
        self.forget_key(id);
        Ok(())
    }

    /// Raises the smallest generation of a scope that opens: what older keys sealed does not open from then on, here at once
    /// and elsewhere when the age of keys in the cache ends.
    ///
    /// It stops values that somebody kept from before a rotation, and nothing is destroyed: an operator who moves the minimum
    /// back with [`KeyStore::set_minimum`](crate::KeyStore::set_minimum) opens them again. Seal every row again first:
    /// `retire_below` (feature `postgres`) counts them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the minimum is higher already, the active key is of an older generation, or somebody else
    /// moves the minimum at the same time.
    pub async fn raise_minimum(&self, scope: &Scope, generation: u32) -> Result<(), Error> {
        let minimum = self.store.active(scope).await?.ok_or_else(|| no_key(scope))?.minimum;
        if generation < minimum {
            let text = format!("the minimum generation of `{scope}` is {minimum} already");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        self.store.set_minimum(scope, minimum, generation).await?;
        self.cache.forget(|_, key| key.scope == *scope);
        Ok(())
    }

    /// Destroys a key and with it everything it sealed. This cannot be undone.
    ///
    /// Backups of the key store still hold the wrapped key; only destroying the KEK or those backups ends that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when there is no such key.
    pub async fn destroy_key(&self, id: KeyId) -> Result<(), Error> {
        self.store.destroy(id).await?;
        self.forget_key(id);
        Ok(())
    }

    /// Destroys every key of a scope and with them its data (crypto-shredding). Returns how many keys there were.
    ///
    /// # Errors
    ///
    /// What the store says; call it again after a failure.
    pub async fn destroy_scope(&self, scope: &Scope) -> Result<usize, Error> {
        let mut destroyed = 0;
        // Again and again, for keys that somebody rotates in meanwhile.
        loop {
            let records = self.store.list(Some(scope)).await?;
            let left: Vec<_> = records.iter().filter(|r| r.state != KeyState::Destroyed).collect();
            if left.is_empty() {
                self.cache.forget(|_, key| key.scope == *scope);
                return Ok(destroyed);
            }
            for record in left {
                self.store.destroy(record.id).await?;
                destroyed += 1;
            }
        }
    }

    /// Forgets the active key of a scope if it is another one than `active`.
    #[cfg(feature = "postgres")]
    pub(crate) fn expect_active(&self, scope: &Scope, active: KeyId) {
        self.cache.forget(|wanted, key| *wanted == Wanted::Active(scope.clone()) && key.id != active);
    }

    /// The time of this encryptor's clock.
    #[cfg(feature = "postgres")]
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.config.clock.elapsed()
    }

    /// The clock, and how long a key may be used without asking the key store again.
    #[cfg(feature = "index")]
    pub(crate) fn ages(&self) -> (std::sync::Arc<dyn crate::clock::Clock>, std::time::Duration) {
        (std::sync::Arc::clone(&self.config.clock), self.config.max_age)
    }

    /// The roots of index keys, with their generations: the active one first, then those being retired, newest first.
    #[cfg(feature = "index")]
    pub(crate) async fn index_roots(
        &self,
        scope: &Scope,
    ) -> Result<Vec<(u32, zeroize::Zeroizing<[u8; 32]>)>, Error> {
        let mut records = self.store.list(Some(scope)).await?;
        records.retain(|r| r.scope == *scope && r.generation >= r.minimum);
        records.retain(|r| matches!(r.state, KeyState::Active | KeyState::Retiring));
        records.sort_by_key(|r| (r.state != KeyState::Active, std::cmp::Reverse(r.generation)));
        if records.first().is_none_or(|r| r.state != KeyState::Active) {
            return Err(no_key(scope));
        }
        let mut roots = Vec::with_capacity(records.len());
        for record in records {
            let load = async || self.unwrap(&record).await;
            let entry = self
                .cache
                .fetch(Wanted::Id(record.id, scope.clone()), self.config.clock.elapsed(), load)
                .await?;
            // SECURITY: the cache answers by key id; the scope must be the one that was asked for.
            if entry.key.scope != *scope {
                return Err(Error::new(ErrorKind::Corrupt, "the key store gave another scope's key"));
            }
            roots.push((record.generation, entry.key.index_root.clone()));
        }
        Ok(roots)
    }

    async fn insert_key(&self, scope: &Scope, generation: u32) -> Result<KeyId, Error> {
        let cannot = |e| Error::kms(&format!("cannot make a data key for `{scope}`"), e);
        let key = DataKey::generate().map_err(cannot)?;
        let id = KeyId::of(&key)?;
        let wrapped =
            self.kms.wrap_key(&key, &wrapping_context(scope, generation, id)?).await.map_err(cannot)?;
        let created_at = self.config.clock.now();
        self.store.insert(&KeyRecord::new(id, scope.clone(), generation, wrapped, created_at)).await?;
        self.cache.forget(|wanted, _| *wanted == Wanted::Active(scope.clone()));
        Ok(id)
    }

    async fn state(&self, id: KeyId) -> Result<KeyState, Error> {
        let missing = || Error::new(ErrorKind::Conflict, format!("there is no data key {id}"));
        Ok(self.store.by_id(id).await?.ok_or_else(missing)?.state)
    }

    fn forget_key(&self, id: KeyId) {
        self.cache.forget(|_, key| key.id == id);
    }
}

/// One error of those that were about single keys, with the cause of the first.
fn failed(failures: &[Error], done: &Rewrapped) -> Option<Error> {
    let named: Vec<String> = failures.iter().take(NAMED).map(Error::to_string).collect();
    let more = failures.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    let Rewrapped { total, failed, .. } = done;
    let text = format!("{failed} of {total} data keys were not wrapped again: {}{more}", named.join("; "));
    let cause = std::error::Error::source(failures.first()?).map(ToString::to_string);
    let error = Error::new(ErrorKind::Corrupt, text);
    Some(match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    })
}

/// SPEC.md, section 3: what a wrapped data key is bound to.
pub(super) fn wrapping_context(scope: &Scope, generation: u32, id: KeyId) -> Result<zk_kms::Context, Error> {
    zk_kms::Context::new()
        .with("scope", scope.as_str())
        .and_then(|c| c.with("generation", generation.to_string()))
        .and_then(|c| c.with("key", id.to_string()))
        .map_err(|e| Error::kms("cannot name the key", e))
}
