//! The backend of Azure Key Vault on our fake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::{
    fake::Fake,
    kms::{KeyService, Place},
};
use zk_kms::{
    AsymmetricKms, AzureKeyPair, Error, ErrorKind, KeySpec, KeyUri, Kms, OpenConfig,
    testing::{Gap, Harness, pinned},
};

use crate::admin::{self, Silence, done, name};

#[derive(Debug)]
pub(crate) struct Azure {
    pub(crate) service: KeyService,
    silence: Silence,
}

impl Azure {
    pub(crate) fn fake() -> Self {
        Self { service: KeyService::start(Place::FakeAzure).unwrap(), silence: Silence::new() }
    }

    /// The fake itself, to be disturbed.
    pub(crate) fn server(&self) -> &Fake {
        self.service.fake().unwrap()
    }

    pub(crate) fn config(&self) -> OpenConfig {
        admin::config(&self.service)
    }

    pub(crate) fn uri(&self, name: &str) -> KeyUri {
        self.service.uri(name).parse().unwrap()
    }

    pub(crate) async fn pair(&self) -> Arc<AzureKeyPair> {
        let uri = self.uri(&name());
        zk_kms::ensure_key(&uri, &self.config(), &KeySpec::new()).await.unwrap();
        Arc::new(AzureKeyPair::open(&uri, &self.config()).unwrap())
    }
}

#[async_trait]
impl Harness for Azure {
    fn name(&self) -> &str {
        "azure on testkit's fake"
    }

    fn gaps(&self) -> Vec<Gap> {
        vec![
            Gap::new(
                "old_versions_still_unwrap",
                "a pinned pair stays; the laws of key pairs show its rotation",
            ),
            Gap::new(
                "disabled_key_is_refused",
                "wrapping is local: only unwrapping sees that a pair is disabled",
            ),
            Gap::new(
                "missing_key_is_not_found",
                "there is no public key to wrap with: fetching says NotFound",
            ),
            Gap::new("refusal_is_denied", "wrapping is local: fetching and unwrapping say Denied"),
            Gap::new("stalled_service_meets_the_deadline", "wrapping is local; fetching meets its deadline"),
        ]
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(pinned(self.pair().await).await?))
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        done(self.service.set_enabled(kms.uri().as_str(), false))
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        done(self.service.set_enabled(kms.uri().as_str(), true))
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        let pair = AzureKeyPair::open(&self.uri("missing"), &self.config())?;
        let error = pair.public_key().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        Err(error)
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let pair = self.pair().await;
        let other = AzureKeyPair::open(pair.uri(), &self.config().bearer_token("another".into()))?;
        let error = other.public_key().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        Err(error)
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = self.config().endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        let error = AzureKeyPair::open(&self.uri("any"), &config)?.public_key().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        Err(error)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
