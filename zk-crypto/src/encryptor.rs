//! What applications call: seal and open for a scope, with keys fetched as needed.

mod config;
mod keys;

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use zk_kms::Kms;

pub use self::{config::EncryptorConfig, keys::Rewrapped};
use crate::{
    Context, Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore, Plaintext, Scope, Sealed, Sealer,
    cache::{Cache, Entry, Wanted},
    open::{open, open_into},
    opened::OpenedKey,
    seal::seal,
    suite,
};

/// Seals and opens values with data keys that a KMS wraps and a key store keeps.
///
/// One encryptor serves a whole process: share it in an `Arc`. It caches opened data keys, so that sealing and opening
/// stay in memory; the bounds of the cache are in [`EncryptorConfig`]. When the KMS or the key store is away, cached
/// keys serve until their age ends, and then calls fail with [`ErrorKind::Unavailable`].
///
/// A key that another process disables or destroys is served here until its age in the cache ends.
#[derive(Debug)]
pub struct Encryptor {
    kms: Arc<dyn Kms>,
    store: Arc<dyn KeyStore>,
    config: EncryptorConfig,
    cache: Cache,
}

impl Encryptor {
    /// Makes an encryptor, after checking the ciphers against published vectors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] when the ciphers of this build fail the check.
    pub fn new(kms: Arc<dyn Kms>, store: Arc<dyn KeyStore>, config: EncryptorConfig) -> Result<Self, Error> {
        suite::known_answers()?;
        let cache = Cache::new(&config);
        Ok(Self { kms, store, config, cache })
    }

    /// Seals a value for a place, under the active key of the scope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] when the scope has no active key: [`Encryptor::create_key`] makes one;
    /// [`ErrorKind::Unavailable`] when the key is not cached and the KMS or the store is away; [`ErrorKind::Invalid`]
    /// for a value that is too long; otherwise what the KMS or the store says.
    pub async fn seal(&self, scope: &Scope, context: &Context, plaintext: &[u8]) -> Result<Sealed, Error> {
        let now = self.config.clock.elapsed();
        // Without a reference count, which threads would wait for. The block ends before anything is awaited.
        {
            let cached = self.cache.load();
            if let Some(entry) = cached.active(scope)
                && entry.take(plaintext.len(), now)
            {
                return seal(&entry.key, self.config.suite, context, plaintext, now);
            }
        }
        // Boxed, so that the future of the common case stays small.
        Box::pin(self.sealer(scope)).await?.seal(context, plaintext)
    }

    /// Opens a value that was sealed for this scope and place.
    ///
    /// The plaintext is wiped when it is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`] when it does not open, for whatever reason; [`ErrorKind::Disabled`] when its key is, or is below
    /// the minimum generation; [`ErrorKind::Destroyed`] when its key is; [`ErrorKind::Unavailable`] when the key is not cached and the KMS or the
    /// store is away.
    pub async fn open(&self, scope: &Scope, context: &Context, sealed: &Sealed) -> Result<Plaintext, Error> {
        let now = self.config.clock.elapsed();
        {
            let cached = self.cache.load();
            if let Some(entry) = cached.by_id(sealed.key_id(), now) {
                return open(&entry.key, scope, context, sealed);
            }
        }
        let entry = Box::pin(self.opener(scope, sealed.key_id())).await?;
        open(&entry.key, scope, context, sealed)
    }

    /// Opens a value into a buffer that is there: many values, one after the other, without an allocation for each, and
    /// long ones without filling new memory first and wiping it afterwards.
    ///
    /// What `text` held is overwritten or wiped; after a failure it is empty. It is wiped when it is dropped.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
    /// use zk_crypto::Plaintext;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kms = Arc::new(zk_kms::LocalKms::ephemeral("demo")?);
    /// # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
    /// # let (scope, place) = (Scope::tenant("7f9c")?, Context::purpose("demo"));
    /// # encryptor.ensure_key(&scope).await?;
    /// let values =
    ///     [encryptor.seal(&scope, &place, b"first").await?, encryptor.seal(&scope, &place, b"second").await?];
    /// let mut text = Plaintext::new();
    /// for (sealed, expected) in values.iter().zip(["first", "second"]) {
    ///     encryptor.open_into(&scope, &place, sealed, &mut text).await?;
    ///     assert_eq!(text.as_slice(), expected.as_bytes());
    /// }
    /// let elsewhere = Context::purpose("elsewhere");
    /// assert!(encryptor.open_into(&scope, &elsewhere, &values[0], &mut text).await.is_err());
    /// assert!(text.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Encryptor::open`].
    pub async fn open_into(
        &self,
        scope: &Scope,
        context: &Context,
        sealed: &Sealed,
        text: &mut Plaintext,
    ) -> Result<(), Error> {
        let opened = self.try_open_into(scope, context, sealed, text).await;
        if opened.is_err() {
            // SECURITY: whatever the failure left there, and the value that was opened before.
            *text = Plaintext::new();
        }
        opened
    }

    #[inline]
    async fn try_open_into(
        &self,
        scope: &Scope,
        context: &Context,
        sealed: &Sealed,
        text: &mut Plaintext,
    ) -> Result<(), Error> {
        let now = self.config.clock.elapsed();
        {
            let cached = self.cache.load();
            if let Some(entry) = cached.by_id(sealed.key_id(), now) {
                return open_into(&entry.key, scope, context, sealed, text);
            }
        }
        let entry = Box::pin(self.opener(scope, sealed.key_id())).await?;
        open_into(&entry.key, scope, context, sealed, text)
    }

    /// Seals many values of one scope, in their order.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`]; on the first failure nothing is returned.
    pub async fn seal_many(&self, scope: &Scope, values: &[(Context, &[u8])]) -> Result<Vec<Sealed>, Error> {
        let mut sealer = self.sealer(scope).await?;
        let mut sealed = Vec::with_capacity(values.len());
        for (context, plaintext) in values {
            let value = match sealer.seal(context, plaintext) {
                Err(error) if error.kind() == ErrorKind::NoKey => {
                    sealer = self.sealer(scope).await?;
                    sealer.seal(context, plaintext)?
                }
                result => result?,
            };
            sealed.push(value);
        }
        Ok(sealed)
    }

    /// Opens many values of one scope, in their order; each distinct key is fetched at most once, all at the same time.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::open`]; on the first failure nothing is returned.
    pub async fn open_many(
        &self,
        scope: &Scope,
        values: &[(Context, Sealed)],
    ) -> Result<Vec<Plaintext>, Error> {
        let mut ids: Vec<KeyId> = values.iter().map(|(_, sealed)| sealed.key_id()).collect();
        ids.sort_unstable();
        ids.dedup();
        let fetched = all(ids.iter().map(|id| self.opener(scope, *id))).await;
        let mut entries = HashMap::new();
        for (id, entry) in ids.into_iter().zip(fetched) {
            entries.insert(id, entry?);
        }
        let open_one = |(context, sealed): &(Context, Sealed)| {
            let entry = entries.get(&sealed.key_id()).ok_or_else(Error::open)?;
            open(&entry.key, scope, context, sealed)
        };
        values.iter().map(open_one).collect()
    }

    /// Fetches the keys again that were used and whose age in the cache ends within `ahead`, so that nobody has to wait for
    /// the KMS when it does. Call it from a timer. Returns how many there were.
    ///
    /// Keys that nobody used meanwhile are left to end, and keys that another process has disabled, destroyed or replaced are
    /// noticed here.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use zk_crypto::{Encryptor, EncryptorConfig, MemoryKeyStore};
    /// # async fn f(encryptor: Arc<Encryptor>) {
    /// // Keys live for 5 minutes: look every 20 seconds for those that have less than one left.
    /// loop {
    ///     tokio::time::sleep(Duration::from_secs(20)).await;
    ///     if let Err(error) = encryptor.refresh(Duration::from_secs(60)).await {
    ///         eprintln!("keys are not refreshed: {error}");
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The first failure, after all keys were tried. Keys that the KMS or the store could not give serve until their age ends.
    pub async fn refresh(&self, ahead: Duration) -> Result<usize, Error> {
        let now = self.config.clock.elapsed();
        let ending = self.cache.ending(now, now.saturating_add(ahead));
        let done = all(ending.iter().map(|wanted| {
            self.cache.refresh(wanted, now, async || match wanted {
                Wanted::Active(scope) => self.load_active(scope).await,
                Wanted::Id(id, scope) => self.load(*id, scope).await,
            })
        }))
        .await;
        done.into_iter().collect::<Result<Vec<()>, Error>>().map(|done| done.len())
    }

    /// Returns a sealer that does not wait, for hot loops.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::seal`].
    pub async fn sealer(&self, scope: &Scope) -> Result<Sealer, Error> {
        let (wanted, now) = (Wanted::Active(scope.clone()), self.config.clock.elapsed());
        let entry = self.cache.fetch(wanted, now, async || self.load_active(scope).await).await?;
        Ok(Sealer::new(entry, self.config.suite, Arc::clone(&self.config.clock)))
    }

    /// The key that an id names.
    pub(crate) async fn opener(&self, scope: &Scope, id: KeyId) -> Result<Arc<Entry>, Error> {
        let now = self.config.clock.elapsed();
        self.cache.fetch(Wanted::Id(id, scope.clone()), now, async || self.load(id, scope).await).await
    }

    async fn load_active(&self, scope: &Scope) -> Result<Entry, Error> {
        let record = self.store.active(scope).await?.ok_or_else(|| no_key(scope))?;
        // SECURITY: checked before it is cached; nobody asks again afterwards.
        if record.scope != *scope {
            let text = format!("the key store gave `{scope}` another scope's key");
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        self.unwrap(&record).await
    }

    async fn load(&self, id: KeyId, scope: &Scope) -> Result<Entry, Error> {
        // An id nobody knows is one more way of not opening: the bytes may come from anywhere.
        let record = self.store.by_id(id).await?.ok_or_else(Error::open)?;
        if record.scope != *scope {
            return Err(Error::open());
        }
        self.unwrap(&record).await
    }

    /// Unwraps a record's key and checks that it is the key the record names.
    async fn unwrap(&self, record: &KeyRecord) -> Result<Entry, Error> {
        let wrapped = match (&record.wrapped, record.state) {
            (Some(wrapped), KeyState::Active | KeyState::Retiring) => wrapped,
            (_, KeyState::Disabled) => {
                return Err(Error::new(ErrorKind::Disabled, format!("data key {} is disabled", record.id)));
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Destroyed,
                    format!("data key {} was destroyed", record.id),
                ));
            }
        };
        if record.generation < record.minimum {
            let text = format!("data key {} is below the minimum generation of its scope", record.id);
            return Err(Error::new(ErrorKind::Disabled, text));
        }
        // Taken before the call, so that a slow KMS shortens the time in the cache instead of extending it.
        let loaded = self.config.clock.elapsed();
        let context = keys::wrapping_context(&record.scope, record.generation, record.id)?;
        let key = self
            .kms
            .unwrap_key(wrapped, &context)
            .await
            .map_err(|e| Error::kms(&format!("cannot unwrap data key {}", record.id), e))?;
        let key = OpenedKey::new(record.scope.clone(), &key)?;
        // SECURITY: the commitment. A key store that swaps keys is noticed here, whatever the KMS accepted.
        if key.id != record.id {
            let text = format!("data key {} is not the key its record names", record.id);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(Entry::new(key, loaded, &self.config))
    }
}

/// Waits for all of them at the same time.
pub(crate) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in waiting.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

pub(crate) fn no_key(scope: &Scope) -> Error {
    Error::new(
        ErrorKind::NoKey,
        format!("scope `{scope}` has no active data key; make one with Encryptor::create_key or rotate_key"),
    )
}
