//! The backend of Google Cloud KMS on an emulator and on our fake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::{
    fake::Fake,
    kms::{KeyService, Place},
};
use zk_kms::{
    Error, GcpKeyPair, KeySpec, KeyUri, Kms, OpenConfig,
    testing::{Gap, Harness},
};

use crate::admin::{self, Silence, done, name};

/// Something that answers as Google, and where.
#[derive(Debug)]
pub(crate) struct Google {
    name: &'static str,
    pub(crate) service: KeyService,
    silence: Silence,
    gaps: Vec<Gap>,
}

impl Google {
    pub(crate) fn drongo() -> Self {
        Self::start(
            "gcp on drongo 0.8.0",
            Place::Drongo,
            vec![
                Gap::new(
                    "tampering_is_invalid",
                    "a change in byte 87 gave Unavailable, not Invalid",
                    "drongo does not encrypt: from there on it keeps the key, and breaks when that is no text",
                ),
                Gap::new("truncation_is_invalid", "one byte more was accepted", "drongo does not encrypt"),
                Gap::new("wrapping_twice_differs", "the same bytes came twice", "drongo does not encrypt"),
                Gap::not_applicable("old_versions_still_unwrap", "drongo has one version of each key"),
                Gap::not_applicable("disabled_key_is_refused", "drongo has no states"),
                Gap::new("refusal_is_denied", "wrapping was accepted", "drongo has no permissions"),
            ],
        )
    }

    pub(crate) fn fake() -> Self {
        Self::start("gcp on testkit's fake", Place::FakeGoogle, Vec::new())
    }

    fn start(name: &'static str, place: Place, gaps: Vec<Gap>) -> Self {
        Self { name, service: KeyService::start(place).unwrap(), silence: Silence::new(), gaps }
    }

    /// The fake itself, to be disturbed.
    pub(crate) fn server(&self) -> &Fake {
        self.service.fake().unwrap()
    }

    pub(crate) fn config(&self) -> OpenConfig {
        admin::config(&self.service)
    }

    fn uri(&self, name: &str) -> KeyUri {
        self.service.uri(name).parse().unwrap()
    }

    pub(crate) fn pair(&self) -> Arc<GcpKeyPair> {
        let uri = self.service.make_pair(&name()).unwrap().parse().unwrap();
        Arc::new(GcpKeyPair::open(&uri, &self.config()).unwrap())
    }
}

#[async_trait]
impl Harness for Google {
    fn name(&self) -> &str {
        self.name
    }

    fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let uri = self.uri(&name());
        zk_kms::ensure_key(&uri, &self.config(), &KeySpec::new()).await?;
        zk_kms::open(&uri, &self.config()).await
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
        zk_kms::open(&self.uri("missing"), &self.config()).await
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let key = self.key().await?;
        zk_kms::open(key.uri(), &self.config().bearer_token("another".into())).await
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = self.config().endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        zk_kms::open(&self.uri("any"), &config).await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
