//! An encryptor over one data key that a vector names.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use zk_crypto::{
    Encryptor, EncryptorConfig, Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore, Scope, WrappedKey,
};
use zk_kms::{DataKey, Kms, LocalKms};

/// Wraps the key as SPEC.md, section 3, says, and keeps it as the only one.
pub(crate) async fn encryptor(data_key: &[u8], scope: &Scope, generation: u32) -> Encryptor {
    let kms = Arc::new(LocalKms::ephemeral("vectors").unwrap());
    let data_key = DataKey::from_slice(data_key).unwrap();
    let id = KeyId::of(&data_key).unwrap();
    let context = zk_kms::Context::new()
        .with("scope", scope.as_str())
        .and_then(|context| context.with("generation", generation.to_string()))
        .and_then(|context| context.with("key", id.to_string()))
        .unwrap();
    let wrapped = kms.wrap_key(&data_key, &context).await.unwrap();
    let store = Only(KeyRecord::new(id, scope.clone(), generation, wrapped, SystemTime::UNIX_EPOCH));
    Encryptor::new(kms, Arc::new(store), EncryptorConfig::default()).unwrap()
}

/// A store of one key, which may be of any generation.
#[derive(Debug)]
struct Only(KeyRecord);

#[async_trait]
impl KeyStore for Only {
    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        Ok(Some(self.0.clone()).filter(|record| record.scope == *scope))
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(Some(self.0.clone()).filter(|record| record.id == id))
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        Ok(vec![self.0.clone()].into_iter().filter(|r| scope.is_none_or(|scope| r.scope == *scope)).collect())
    }

    async fn insert(&self, _: &KeyRecord) -> Result<(), Error> {
        fixed()
    }

    async fn replace_wrapped(&self, _: KeyId, _: &WrappedKey, _: &WrappedKey) -> Result<(), Error> {
        fixed()
    }

    async fn set_state(&self, _: KeyId, _: KeyState, _: KeyState) -> Result<(), Error> {
        fixed()
    }

    async fn destroy(&self, _: KeyId) -> Result<(), Error> {
        fixed()
    }

    async fn set_minimum(&self, _: &Scope, _: u32, _: u32) -> Result<(), Error> {
        fixed()
    }
}

fn fixed() -> Result<(), Error> {
    Err(Error::new(ErrorKind::Denied, "this store does not change"))
}
