//! Where the secrets of the manifest are, and whether they are still the ones that the program was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;
use zk_creds::postgres::{Handover, Login, pool};
use zk_creds::secret::{PostgresSecrets, SecretName, Secrets, Version};
use zk_creds::{Environment, Service};
use zk_crypto::{Encryptor, EncryptorConfig, PostgresKeyStore, Scope};
use zk_kms::{KeyUri, OpenConfig};

use crate::Failure;

const KMS: &str = "ZK_KMS_URI";
const KEY_RING: &str = "ZK_KEY_RING";
const PASSPHRASE: &str = "ZK_KEY_RING_PASSPHRASE";
/// A reading of the store, and one of the key table.
const CONNECTIONS: usize = 2;

/// Opens the store that `--secrets` names: `sealed:<scope>`, rows in the issuer's database.
pub(crate) async fn open(place: &str) -> Result<Secrets, Failure> {
    let scope = place.strip_prefix("sealed:").ok_or("--secrets takes sealed:SCOPE")?;
    let environment = Environment::take(&[KMS, KEY_RING, PASSPHRASE])?;
    let uri: KeyUri = environment.get(KMS)?.expose_secret().parse()?;
    let ring = environment.get(KEY_RING)?.expose_secret().to_owned();
    let config = OpenConfig::new().key_ring(ring, environment.get(PASSPHRASE)?.clone());
    let kms = zk_kms::open(&uri, &config).await?;
    let pool = pool(Arc::new(Handover::new(Login::from_environment()?)), CONNECTIONS)?;
    let keys = Arc::new(PostgresKeyStore::new(pool.clone()));
    let encryptor = Arc::new(Encryptor::new(kms, keys, EncryptorConfig::default())?);
    Ok(Secrets::new(Arc::new(PostgresSecrets::new(pool, encryptor, Scope::new(scope)?))))
}

/// Which version of each secret of a service is current.
pub(crate) type Versions = BTreeMap<String, Version>;

pub(crate) async fn current(secrets: &Secrets, service: &Service) -> Result<Versions, zk_creds::Error> {
    let mut found = BTreeMap::new();
    for name in service.secrets.values() {
        let versions = secrets.versions(&SecretName::new(name)?).await?;
        found.insert(name.clone(), versions.current);
    }
    Ok(found)
}
