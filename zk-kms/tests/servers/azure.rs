//! The backend of Azure Key Vault on our fake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::fake::{Cloud, Fake};
use zk_kms::{
    AsymmetricKms, AzureKeyPair, Error, ErrorKind, KeySpec, KeyUri, Kms, OpenConfig,
    testing::{Gap, Harness, pinned},
};

use crate::admin::{Silence, number};

#[derive(Debug)]
pub(crate) struct Azure {
    pub(crate) fake: Fake,
    silence: Silence,
    admin: reqwest::Client,
}

impl Azure {
    pub(crate) fn fake() -> Self {
        let fake = Fake::start(Cloud::Azure).unwrap();
        let authority = reqwest::Certificate::from_pem(fake.authority().pem().as_bytes()).unwrap();
        let admin = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
        Self { fake, silence: Silence::new(), admin }
    }

    pub(crate) fn config(&self) -> OpenConfig {
        OpenConfig::new()
            .endpoint(self.fake.url())
            .certificate_authorities(self.fake.authority().pem())
            .bearer_token(self.fake.token().unwrap().into())
            .timeout(Duration::from_secs(20))
    }

    pub(crate) fn uri(name: &str) -> KeyUri {
        format!("azure-kv://shop.vault.azure.net/{name}").parse().unwrap()
    }

    pub(crate) async fn pair(&self) -> Arc<AzureKeyPair> {
        let uri = Self::uri(&format!("key{}", number()));
        zk_kms::ensure_key(&uri, &self.config(), &KeySpec::new()).await.unwrap();
        Arc::new(AzureKeyPair::open(&uri, &self.config()).unwrap())
    }

    pub(crate) async fn rotate_pair(&self, uri: &KeyUri) {
        let path = format!("keys/{}/rotate", uri.name().rsplit('/').next().unwrap());
        self.send(self.admin.post(format!("{}/{path}?api-version=7.4", self.fake.url())), "{}").await;
    }

    async fn set_enabled(&self, kms: &dyn Kms, enabled: bool) {
        let name = kms.uri().name().rsplit('/').next().unwrap();
        let url = format!("{}/keys/{name}?api-version=7.4", self.fake.url());
        self.send(self.admin.patch(url), &format!(r#"{{"attributes":{{"enabled":{enabled}}}}}"#)).await;
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: &str) {
        let request =
            request.bearer_auth(self.fake.token().unwrap()).header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
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
        self.set_enabled(kms, false).await;
        Ok(())
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.set_enabled(kms, true).await;
        Ok(())
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        let pair = AzureKeyPair::open(&Self::uri("missing"), &self.config())?;
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
        let error = AzureKeyPair::open(&Self::uri("any"), &config)?.public_key().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        Err(error)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
