//! The application. Nothing here knows which service keeps the key.

use std::{path::Path, sync::Arc};

use zk_crypto::{Context, Encryptor, EncryptorConfig, FileKeyStore, Plaintext, Scope, Sealed};
use zk_kms::{OpenConfig, layers::Guard};

use crate::Result;

/// A process starts: all it is given is the key's URI, and where its wrapped data keys are.
pub async fn start(uri: &str, config: &OpenConfig, keys: &Path) -> Result<Encryptor> {
    let kms = Guard::default().around(zk_kms::open(&uri.parse()?, config).await?);
    let store = FileKeyStore::open(keys)?;
    Ok(Encryptor::new(kms, Arc::new(store), EncryptorConfig::default())?)
}

pub async fn save(encryptor: &Encryptor, ssn: &str, customer: &str) -> Result<Sealed> {
    let (scope, place) = (Scope::tenant("7f9c")?, Context::column("public.customers", "ssn"));
    encryptor.ensure_key(&scope).await?;
    Ok(encryptor.seal(&scope, &place.row(customer), ssn.as_bytes()).await?)
}

pub async fn load(encryptor: &Encryptor, sealed: &Sealed, customer: &str) -> Result<Plaintext> {
    let (scope, place) = (Scope::tenant("7f9c")?, Context::column("public.customers", "ssn"));
    Ok(encryptor.open(&scope, &place.row(customer), sealed).await?)
}
