//! A key store that dies with its process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use zk_kms::WrappedKey;

use super::{KeyRecord, KeyState, KeyStore, check_new, check_states, conflict};
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
    records: Mutex<BTreeMap<(Scope, u32), KeyRecord>>,
}

impl MemoryKeyStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<(Scope, u32), KeyRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        id: KeyId,
        change: impl FnOnce(&mut KeyRecord) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut records = self.records();
        change(records.values_mut().find(|r| r.id == id).ok_or_else(|| conflict("there is no such key"))?)
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        check_new(record)?;
        let mut records = self.records();
        let newest = records.keys().filter(|(s, _)| *s == record.scope).map(|(_, g)| *g).max().unwrap_or(0);
        if newest.checked_add(1) != Some(record.generation) {
            return Err(conflict("the generation is not the next of its scope"));
        }
        if records.values().any(|r| r.id == record.id) {
            return Err(conflict("the key id exists"));
        }
        let same_scope = records.values_mut().filter(|r| r.scope == record.scope);
        for former in same_scope.filter(|r| r.state == KeyState::Active) {
            former.state = KeyState::Retiring;
        }
        records.insert((record.scope.clone(), record.generation), record.clone());
        Ok(())
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        let records = self.records();
        Ok(records.values().find(|r| r.scope == *scope && r.state == KeyState::Active).cloned())
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(self.records().values().find(|r| r.id == id).cloned())
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        let records = self.records();
        Ok(records.values().filter(|r| scope.is_none_or(|s| *s == r.scope)).cloned().collect())
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.change(id, |record| {
            if record.wrapped.as_ref() != Some(old) {
                return Err(conflict("the key was wrapped again or destroyed by somebody else"));
            }
            record.wrapped = Some(new.clone());
            Ok(())
        })
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        check_states(from, to)?;
        let mut records = self.records();
        let scope = records.values().find(|r| r.id == id).map(|r| r.scope.clone());
        let others = records.values().filter(|r| r.id != id && Some(&r.scope) == scope.as_ref());
        let taken = to == KeyState::Active && others.into_iter().any(|r| r.state == KeyState::Active);
        match records.values_mut().find(|r| r.id == id) {
            Some(record) if record.state == from && !taken => record.state = to,
            _ => return Err(conflict("the key is not in the expected state, or another one is active")),
        }
        Ok(())
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.change(id, |record| {
            (record.state, record.wrapped) = (KeyState::Destroyed, None);
            Ok(())
        })
    }
}
