//! The backend of AWS on two emulators.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::emulator::{Emulator, Service};
use zk_kms::{
    Error, KeyUri, Kms, OpenConfig,
    testing::{Gap, Harness},
};

use crate::admin::{Silence, field, number, request};

#[derive(Debug)]
pub(crate) struct Aws {
    name: &'static str,
    server: Emulator,
    silence: Silence,
    gaps: Vec<Gap>,
}

impl Aws {
    pub(crate) fn moto() -> Self {
        Self::start(
            "aws on moto 5.2.5",
            Service::Moto,
            vec![
                Gap::new("refusal_is_denied", "moto has no permissions"),
                Gap::new("disabled_key_is_refused", "moto lets a disabled key encrypt"),
                Gap::new(
                    "tampering_is_invalid",
                    "moto begins with the key's id, and refuses callers of unknown ids",
                ),
            ],
        )
    }

    pub(crate) fn ministack() -> Self {
        Self::start(
            "aws on ministack 1.5.33",
            Service::Ministack,
            vec![
                Gap::new("refusal_is_denied", "ministack has no permissions"),
                Gap::new("rewrapping_keeps_the_key", "ministack has no ReEncrypt"),
                Gap::new("tampering_is_invalid", "ministack's ciphertexts are not authenticated"),
            ],
        )
    }

    fn start(name: &'static str, service: Service, gaps: Vec<Gap>) -> Self {
        Self { name, server: Emulator::start(service).unwrap(), silence: Silence::new(), gaps }
    }

    pub(crate) fn admin(&self, operation: &str, body: &str) -> String {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.{operation}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, \
             SignedHeaders=host, Signature=00\r\n"
        );
        let (status, answer) = request(&self.server.url(), "POST", "/", &headers, body);
        assert!(status < 300, "{operation} {body}: {status} {answer}");
        answer
    }

    /// Makes a key and returns its ARN.
    fn make(&self) -> String {
        field(&self.admin("CreateKey", "{}"), "Arn")
    }

    /// The alias of a new key.
    fn alias(&self) -> KeyUri {
        let (arn, alias) = (self.make(), format!("alias/key{}", number()));
        self.admin("CreateAlias", &format!(r#"{{"AliasName":"{alias}","TargetKeyId":"{arn}"}}"#));
        let place = arn.rsplit_once(':').unwrap().0;
        format!("aws-kms://{place}:{alias}").parse().unwrap()
    }

    fn config(&self) -> OpenConfig {
        OpenConfig::new()
            .endpoint(self.server.url())
            .access_key("test", "test".into())
            .timeout(Duration::from_secs(20))
    }

    async fn target(&self, kms: &dyn Kms) -> String {
        kms.status().await.unwrap().version().as_str().to_owned()
    }
}

fn alias_of(kms: &dyn Kms) -> &str {
    kms.uri().as_str().rsplit(':').next().unwrap()
}

#[async_trait]
impl Harness for Aws {
    fn name(&self) -> &str {
        self.name
    }

    fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        zk_kms::open(&self.alias(), &self.config()).await
    }

    /// Points the alias to another key: AWS shows no other rotation.
    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        let (alias, arn) = (alias_of(kms), self.make());
        self.admin("UpdateAlias", &format!(r#"{{"AliasName":"{alias}","TargetKeyId":"{arn}"}}"#));
        Ok(())
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        let id = self.target(kms).await;
        self.admin("DisableKey", &format!(r#"{{"KeyId":"{id}"}}"#));
        Ok(())
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        let id = self.target(kms).await;
        self.admin("EnableKey", &format!(r#"{{"KeyId":"{id}"}}"#));
        Ok(())
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        let arn = self.make();
        let place = arn.rsplit_once(':').unwrap().0;
        let missing = format!("aws-kms://{place}:key/00000000-0000-0000-0000-000000000000");
        zk_kms::open(&missing.parse()?, &self.config()).await
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = self.config().endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        zk_kms::open(&self.alias(), &config).await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
