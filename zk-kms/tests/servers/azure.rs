//! The backend of Azure Key Vault on our fake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::{
    fake::Fake,
    kms::{KeyService, Place},
};
use zk_kms::{
    AsymmetricKms, AzureKeyPair, Context, DataKey, Error, ErrorKind, KeySpec, KeyUri, Kms, OpenConfig,
    PinnedKms, PublicKey,
    testing::{Gap, Harness, pinned},
};

use crate::admin::{self, Silence, done, name};

/// How laws about wrapping fail: nobody was asked.
const WRAPS_HERE: &str = "wrapping was accepted";

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

    /// Who still has a public key, of a service that does not show it: the law about wrapping meets what wraps here, and
    /// what asks the service is asked here.
    async fn pinned_from_before(
        &self,
        uri: &KeyUri,
        config: &OpenConfig,
        says: ErrorKind,
    ) -> Result<Arc<dyn Kms>, Error> {
        let pair = Arc::new(AzureKeyPair::open(uri, config)?);
        let error = pair.public_key().await.unwrap_err();
        assert_eq!(error.kind(), says, "{error}");
        let der = self.pair().await.public_key().await?.der().to_vec();
        let kms = PinnedKms::new(pair, PublicKey::rsa_oaep_256(uri.clone(), 1.into(), &der)?)?;
        let wrapped = kms.wrap_key(&DataKey::generate()?, &Context::new()).await?;
        let error = kms.unwrap_key(&wrapped, &Context::new()).await.unwrap_err();
        assert_eq!(error.kind(), says, "{error}");
        assert_eq!(kms.status().await.unwrap_err().kind(), says);
        Ok(Arc::new(kms))
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
                "the version stayed the same",
                "a pinned pair stays; the laws of key pairs show its rotation",
            ),
            Gap::new(
                "disabled_key_is_refused",
                WRAPS_HERE,
                "wrapping is local: only unwrapping sees that a pair is disabled",
            ),
            Gap::new(
                "missing_key_is_not_found",
                WRAPS_HERE,
                "wrapping is local: fetching the public key says NotFound",
            ),
            Gap::new(
                "refusal_is_denied",
                WRAPS_HERE,
                "wrapping is local: fetching and unwrapping say Denied",
            ),
            Gap::new(
                "stalled_service_meets_the_deadline",
                "a stalled service was accepted",
                "wrapping is local; fetching meets its deadline",
            ),
        ]
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(pinned(self.pair().await).await?))
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        done(self.service.rotate(kms.uri().as_str()))
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        done(self.service.set_enabled(kms.uri().as_str(), false))
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        done(self.service.set_enabled(kms.uri().as_str(), true))
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        self.pinned_from_before(&self.uri("missing"), &self.config(), ErrorKind::NotFound).await
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let another = self.config().bearer_token("another".into());
        self.pinned_from_before(self.pair().await.uri(), &another, ErrorKind::Denied).await
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = self.config().endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        self.pinned_from_before(&self.uri("any"), &config, ErrorKind::Unavailable).await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
