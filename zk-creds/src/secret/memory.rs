//! Secrets in this process, for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::store::errors;
use super::{Document, Documents, Revision, SecretName};
use crate::error::Error;

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemorySecrets {
    documents: Mutex<BTreeMap<SecretName, Entry>>,
}

struct Entry {
    revision: Revision,
    bytes: Zeroizing<Vec<u8>>,
}

impl MemorySecrets {
    /// A panic elsewhere leaves the map whole: every change is one call.
    fn documents(&self) -> MutexGuard<'_, BTreeMap<SecretName, Entry>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Documents for MemorySecrets {
    async fn load(&self, name: &SecretName) -> Result<Option<(Document, Revision)>, Error> {
        let documents = self.documents();
        let Some(entry) = documents.get(name) else { return Ok(None) };
        Ok(Some((Document::from_bytes(&entry.bytes)?, entry.revision)))
    }

    async fn save(
        &self,
        name: &SecretName,
        document: &Document,
        expected: Option<&Revision>,
    ) -> Result<(), Error> {
        let bytes = document.to_bytes()?;
        let mut documents = self.documents();
        let revision = match (documents.get(name), expected) {
            (None, None) => Revision::new(1),
            (Some(_), None) => return Err(errors::exists(name)),
            (Some(entry), Some(expected)) if entry.revision == *expected => {
                Revision::new(expected.number().wrapping_add(1))
            }
            _ => return Err(errors::changed(name)),
        };
        documents.insert(name.clone(), Entry { revision, bytes });
        Ok(())
    }

    async fn remove(&self, name: &SecretName, expected: &Revision) -> Result<(), Error> {
        let mut documents = self.documents();
        match documents.get(name) {
            Some(entry) if entry.revision == *expected => drop(documents.remove(name)),
            _ => return Err(errors::changed(name)),
        }
        Ok(())
    }
}

impl fmt::Debug for MemorySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySecrets").finish_non_exhaustive()
    }
}
