//! A key store that dies with its process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use zk_kms::WrappedKey;

use super::{KeyRecord, KeyState, KeyStore, records::Records};
use crate::{Error, KeyId, Scope};

/// A key store in memory: for tests and demonstrations. What is sealed with its keys dies with it.
///
/// ```
/// use zk_crypto::{KeyStore, MemoryKeyStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_crypto::Error> {
/// assert!(MemoryKeyStore::new().list(None).await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    records: Mutex<Records>,
}

impl MemoryKeyStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        self.records().insert(record)
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        Ok(self.records().active(scope).cloned())
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(self.records().by_id(id).cloned())
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        Ok(self.records().list(scope))
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.records().replace_wrapped(id, old, new)
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        self.records().set_state(id, from, to)
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.records().destroy(id)
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        self.records().set_minimum(scope, from, to)
    }
}
