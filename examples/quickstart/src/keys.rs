//! Data keys for each tenant, under a key ring that stands for a key-management service.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use zk_crypto::{Access, Encryptor, EncryptorConfig, PostgresKeyStore, Scope};
use zk_kms::{Kms, LocalKms, PassphraseCost};

use crate::world::{TENANT_1, TENANT_2, World};
use crate::{Result, narrate};

/// The role with which services read wrapped data keys.
pub const KEY_READER: &str = "crm_keys";

pub struct Keys {
    pub ring: PathBuf,
    pub passphrase: SecretString,
    pub kms: Arc<LocalKms>,
    /// The deployer's: it may create and rotate keys.
    pub encryptor: Encryptor,
}

pub async fn create(world: &World) -> Result<Keys> {
    narrate::step("Create data keys under a local key-management service");
    let ring = world.folder().join("crm.keyring");
    let passphrase = SecretString::from(testkit::unique_name("passphrase"));
    let kms = Arc::new(LocalKms::create(&ring, "crm", &passphrase, PassphraseCost::default())?);
    PostgresKeyStore::install(&world.deployer).await?;
    world.deployer.batch_execute(&format!("CREATE ROLE {KEY_READER} NOLOGIN")).await?;
    PostgresKeyStore::grant(&world.deployer, KEY_READER, Access::Read).await?;
    let store = PostgresKeyStore::new(world.database.pool(World::DEPLOYER, &world.deployer_password));
    let encryptor = Encryptor::new(kms.clone(), Arc::new(store), EncryptorConfig::default())?;
    for tenant in [TENANT_1, TENANT_2] {
        encryptor.create_key(&Scope::tenant(tenant)?).await?;
    }
    narrate::holds(format!("one data key for each tenant, wrapped by {}", kms.uri()));
    Ok(Keys { ring, passphrase, kms, encryptor })
}
