//! The services that can run on this machine.

use std::{path::Path, time::Duration};

use testkit::kms::{KeyService, Login, Place};
use zk_kms::{
    AsymmetricKms, AzureKeyPair, KeySpec, LocalKms, OpenConfig, PassphraseCost, Service, ensure_key,
};

use crate::Result;

/// What stands for which service.
pub const HERE: [(&str, Place); 4] = [
    ("Vault: OpenBao, the real server", Place::OpenBao),
    ("AWS KMS: moto, an emulator", Place::Moto),
    ("Google Cloud KMS: our fake", Place::FakeGoogle),
    ("Azure Key Vault: our fake, a key pair", Place::FakeAzure),
];

/// A key ring in a file.
pub fn key_ring(folder: &Path) -> Result<(String, OpenConfig)> {
    let path = folder.join("orders.keyring");
    // Cheap to guess, because nothing of it is kept. Elsewhere leave the cost at its default.
    LocalKms::create(&path, "orders", &"correct horse".into(), PassphraseCost::new(64, 1, 1)?)?;
    Ok(("local:orders".to_owned(), OpenConfig::new().key_ring(path, "correct horse".into())))
}

/// Makes a key in a service, as whoever provisions does, and returns what the application is given.
pub async fn provision(service: &KeyService) -> Result<(String, OpenConfig)> {
    let uri = service.uri("orders");
    // A fake makes its key pair here and now, which takes seconds on a busy machine.
    let mut config = OpenConfig::new().endpoint(service.endpoint()).timeout(Duration::from_secs(60));
    config = match service.login() {
        Login::Token(token) => config.bearer_token(token.into()),
        Login::AccessKey(id, secret) => config.access_key(id, secret.into()),
    };
    if let Some(authority) = service.authority() {
        config = config.certificate_authorities(authority);
    }
    let key = uri.parse()?;
    ensure_key(&key, &config, &KeySpec::new()).await?;
    if key.service() == Service::AzureKeyVault {
        // Once, by somebody who checks it; from then on it is configuration.
        let public_key = AzureKeyPair::open(&key, &config)?.public_key().await?;
        config = config.fingerprint(public_key.fingerprint().to_string());
    }
    Ok((uri, config))
}
