//! A key store that shows the keys of some scopes only.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use zk_kms::WrappedKey;

use super::{KeyRecord, KeyState, KeyStore};
use crate::{Error, ErrorKind, KeyId, Scope};

/// Another store, as far as a service may use it: the scopes that its manifest declares.
///
/// A guard against a service's own mistakes, such as a tenant taken from a request: it stands before the KMS is asked, and in
/// the process that it restrains. What holds against a process that was taken over is the KMS's own permission
/// and the key table's.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use zk_crypto::{ErrorKind, KeyStore, MemoryKeyStore, Scope, ScopedKeyStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_crypto::Error> {
/// let store = ScopedKeyStore::new(Arc::new(MemoryKeyStore::default()), ["billing", "tenant:*"])?;
/// assert!(store.active(&Scope::tenant("7f9c")?).await?.is_none());
/// let refused = store.active(&Scope::new("payroll")?).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
/// # Ok(()) }
/// ```
pub struct ScopedKeyStore {
    store: Arc<dyn KeyStore>,
    allowed: Vec<Allowed>,
}

/// A scope, or all that begin alike.
enum Allowed {
    Scope(Scope),
    Prefix(Box<str>),
}

impl Allowed {
    fn covers(&self, scope: &Scope) -> bool {
        match self {
            Self::Scope(allowed) => allowed == scope,
            Self::Prefix(prefix) => scope.as_str().starts_with(&**prefix),
        }
    }
}

impl ScopedKeyStore {
    /// Restricts `store` to scopes: each in full, or a beginning followed by `*`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a text that is neither.
    pub fn new<'a>(
        store: Arc<dyn KeyStore>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let allowed = |scope: &'a str| match scope.strip_suffix('*') {
            // What is left has to be the beginning of a scope.
            Some(prefix) if Scope::new(&format!("{prefix}x")).is_ok() && !prefix.contains('*') => {
                Ok(Allowed::Prefix(prefix.into()))
            }
            None if !scope.contains('*') => Scope::new(scope).map(Allowed::Scope),
            _ => Err(Error::invalid("an allowed scope is a scope, or the beginning of some followed by `*`")),
        };
        let allowed = scopes.into_iter().map(allowed).collect::<Result<_, _>>()?;
        Ok(Self { store, allowed })
    }

    fn check(&self, scope: &Scope) -> Result<(), Error> {
        if self.allows(scope) {
            return Ok(());
        }
        let message = format!("this service may not use the keys of `{scope}`: declare the scope for it");
        Err(Error::new(ErrorKind::Denied, message))
    }

    fn allows(&self, scope: &Scope) -> bool {
        self.allowed.iter().any(|allowed| allowed.covers(scope))
    }

    async fn check_id(&self, id: KeyId) -> Result<(), Error> {
        self.by_id(id).await.map(drop)
    }
}

#[async_trait]
impl KeyStore for ScopedKeyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        self.check(&record.scope)?;
        self.store.insert(record).await
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        self.check(scope)?;
        self.store.active(scope).await
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        let record = self.store.by_id(id).await?;
        record.as_ref().map_or(Ok(()), |record| self.check(&record.scope))?;
        Ok(record)
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        scope.map_or(Ok(()), |scope| self.check(scope))?;
        let mut records = self.store.list(scope).await?;
        records.retain(|record| self.allows(&record.scope));
        Ok(records)
    }

    async fn list_each(&self) -> Result<Vec<Result<KeyRecord, Error>>, Error> {
        let mut records = self.store.list_each().await?;
        // Whose a record is that cannot be read is not known: its error stays, so that nobody takes the others for all.
        records.retain(|record| record.as_ref().map_or(true, |record| self.allows(&record.scope)));
        Ok(records)
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.check_id(id).await?;
        self.store.replace_wrapped(id, old, new).await
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        self.check_id(id).await?;
        self.store.set_state(id, from, to).await
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.check_id(id).await?;
        self.store.destroy(id).await
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        self.check(scope)?;
        self.store.set_minimum(scope, from, to).await
    }
}

impl fmt::Debug for ScopedKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, allowed } = self;
        f.debug_struct("ScopedKeyStore").field("store", store).field("allowed", allowed).finish()
    }
}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "{scope}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}
