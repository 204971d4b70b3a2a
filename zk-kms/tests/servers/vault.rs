//! Vault's backend on OpenBao, the real server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::emulator::{Emulator, Service};
use zk_kms::{
    Error, KeySpec, KeyUri, Kms, OpenConfig, VaultKms, VaultToken,
    testing::{Gap, Harness},
};

use crate::admin::{Silence, field, number, request};

#[derive(Debug)]
pub(crate) struct OpenBao {
    server: Emulator,
    silence: Silence,
}

impl OpenBao {
    pub(crate) fn start() -> Self {
        let server = Emulator::start(Service::OpenBao).unwrap();
        let bao = Self { server, silence: Silence::new() };
        bao.admin("POST", "sys/mounts/transit", r#"{"type":"transit"}"#);
        bao
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> String {
        let token = format!("X-Vault-Token: {}\r\n", self.server.token());
        let (status, answer) = request(&self.server.url(), method, &format!("/v1/{path}"), &token, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// A token that may do nothing.
    fn powerless(&self) -> String {
        self.admin(
            "PUT",
            "sys/policies/acl/nothing",
            r#"{"policy":"path \"sys/health\" { capabilities = [\"read\"] }"}"#,
        );
        let answer =
            self.admin("POST", "auth/token/create", r#"{"policies":["nothing"],"no_default_policy":true}"#);
        field(&answer, "client_token")
    }

    pub(crate) fn kms(&self, name: &str) -> VaultKms {
        self.with(name, self.server.token(), &self.server.url())
    }

    pub(crate) fn with(&self, name: &str, token: &str, endpoint: &str) -> VaultKms {
        let config = OpenConfig::new().endpoint(endpoint).timeout(Duration::from_millis(700));
        VaultKms::new(&uri(name), VaultToken::new(token.into()), &config).unwrap()
    }
}

fn uri(name: &str) -> KeyUri {
    format!("vault-transit://vault.internal:8200/transit/{name}").parse().unwrap()
}

fn name_of(kms: &dyn Kms) -> String {
    kms.uri().as_str().rsplit('/').next().unwrap().to_owned()
}

#[async_trait]
impl Harness for OpenBao {
    fn name(&self) -> &str {
        "vault on OpenBao 2.7.2"
    }

    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let kms = self.kms(&format!("key{}", number()));
        kms.ensure_key(&KeySpec::new()).await?;
        Ok(Arc::new(kms))
    }

    async fn rotate(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.admin("POST", &format!("transit/keys/{}/rotate", name_of(kms)), "{}");
        Ok(())
    }

    async fn disable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.admin("DELETE", &format!("transit/keys/{}/soft-delete", name_of(kms)), "");
        Ok(())
    }

    async fn enable(&self, kms: &dyn Kms) -> Result<(), Error> {
        self.admin("POST", &format!("transit/keys/{}/soft-delete-restore", name_of(kms)), "{}");
        Ok(())
    }

    async fn missing(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(self.kms("missing")))
    }

    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let kms = self.key().await?;
        Ok(Arc::new(self.with(&name_of(&kms), &self.powerless(), &self.server.url())))
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(self.with("any", "token", &self.silence.url())))
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
