//! The backend of Google Cloud KMS on an emulator and on our fake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::{
    emulator::{Emulator, Service},
    fake::{Cloud, Fake},
};
use zk_kms::{
    Error, ErrorKind, KeySpec, KeyUri, Kms, OpenConfig,
    testing::{Gap, Harness},
};

use crate::admin::{Silence, number, request};

/// Something that answers as Google, and where.
#[derive(Debug)]
pub(crate) struct Google {
    name: &'static str,
    url: String,
    fake: Option<Fake>,
    _server: Option<Emulator>,
    silence: Silence,
    gaps: Vec<Gap>,
}

impl Google {
    pub(crate) fn drongo() -> Self {
        let server = Emulator::start(Service::Drongo).unwrap();
        Self {
            name: "gcp on drongo 0.8.0",
            url: server.url(),
            fake: None,
            _server: Some(server),
            silence: Silence::new(),
            gaps: vec![
                Gap::new("tampering_is_invalid", "drongo does not encrypt"),
                Gap::new("truncation_is_invalid", "drongo does not encrypt"),
                Gap::new("wrapping_twice_differs", "drongo does not encrypt"),
                Gap::new("old_versions_still_unwrap", "drongo has one version of each key"),
                Gap::new("disabled_key_is_refused", "drongo has no states"),
                Gap::new("refusal_is_denied", "drongo has no permissions"),
            ],
        }
    }

    pub(crate) fn fake() -> Self {
        let fake = Fake::start(Cloud::Google).unwrap();
        fake.require_token("token");
        Self {
            name: "gcp on testkit's fake",
            url: fake.url(),
            fake: Some(fake),
            _server: None,
            silence: Silence::new(),
            gaps: Vec::new(),
        }
    }

    /// The fake itself, to be disturbed.
    pub(crate) fn server(&self) -> &Fake {
        self.fake.as_ref().unwrap()
    }

    pub(crate) fn config(&self) -> OpenConfig {
        OpenConfig::new().endpoint(&self.url).bearer_token("token".into()).timeout(Duration::from_secs(20))
    }

    pub(crate) fn uri(name: &str) -> KeyUri {
        format!("gcp-kms://projects/p/locations/global/keyRings/r/cryptoKeys/{name}").parse().unwrap()
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) {
        let headers = "Authorization: Bearer token\r\nContent-Type: application/json\r\n";
        let (status, answer) = request(&self.url, method, &format!("/v1/{path}"), headers, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
    }

    async fn set_state(&self, kms: &dyn Kms, state: &str) {
        let (key, version) = (kms.uri().name().to_owned(), kms.status().await.unwrap());
        let path = format!("{key}/cryptoKeyVersions/{}?updateMask=state", version.version());
        self.admin("PATCH", &path, &format!(r#"{{"state":"{state}"}}"#));
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
        let uri = Self::uri(&format!("key{}", number()));
        zk_kms::ensure_key(&uri, &self.config(), &KeySpec::new()).await?;
        zk_kms::open(&uri, &self.config()).await
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        if self.fake.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "no versions"));
        }
        let key = kms.uri().name();
        self.admin("POST", &format!("{key}/cryptoKeyVersions"), "{}");
        self.admin("POST", &format!("{key}:updatePrimaryVersion"), r#"{"cryptoKeyVersionId":"2"}"#);
        Ok(())
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        if self.fake.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "no states"));
        }
        self.set_state(kms, "DISABLED").await;
        Ok(())
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.set_state(kms, "ENABLED").await;
        Ok(())
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        zk_kms::open(&Self::uri("missing"), &self.config()).await
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let key = self.key().await?;
        zk_kms::open(key.uri(), &self.config().bearer_token("another".into())).await
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = self.config().endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        zk_kms::open(&Self::uri("any"), &config).await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
