//! Vault's backend on OpenBao, the real server.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::kms::{KeyService, Login, Place};
use zk_kms::{
    Error, ErrorKind, KeySpec, KeyUri, Kms, OpenConfig, VaultKms, VaultToken,
    testing::{Gap, Harness, suite},
};

use crate::admin::{Silence, done, name};

#[derive(Debug)]
pub(crate) struct OpenBao {
    service: KeyService,
    silence: Silence,
    /// The policy of those who use keys, for one key; without one they have the root token.
    policy: Option<&'static str>,
}

impl OpenBao {
    pub(crate) fn start() -> Self {
        let service = KeyService::start(Place::OpenBao).unwrap();
        Self { service, silence: Silence::new(), policy: None }
    }

    pub(crate) fn kms(&self, name: &str) -> VaultKms {
        self.with(name, &token(self.service.login()), &self.service.endpoint())
    }

    fn with(&self, name: &str, token: &str, endpoint: &str) -> VaultKms {
        let config = OpenConfig::new().endpoint(endpoint).timeout(Duration::from_millis(700));
        let uri: KeyUri = self.service.uri(name).parse().unwrap();
        VaultKms::new(&uri, VaultToken::new(token.into()), &config).unwrap()
    }

    /// A token that may do with a key what the policy says of `orders`.
    fn token_for(&self, name: &str, policy: &str) -> String {
        token(self.service.log_in_with(&policy.replace("orders", name)).unwrap())
    }
}

fn token(login: Login) -> String {
    let Login::Token(token) = login else { panic!("Vault has tokens") };
    token
}

fn name_of(kms: &dyn Kms) -> String {
    kms.uri().as_str().rsplit('/').next().unwrap().to_owned()
}

#[async_trait]
impl Harness for OpenBao {
    fn name(&self) -> &str {
        match self.policy {
            None => "vault on OpenBao 2.7.2",
            Some(_) => "vault on OpenBao 2.7.2, with the manual's policy",
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    async fn key(&self) -> Result<Arc<dyn Kms>, Error> {
        let name = name();
        let made = self.kms(&name);
        made.ensure_key(&KeySpec::new()).await?;
        Ok(match self.policy {
            None => Arc::new(made),
            Some(policy) => {
                let token = self.token_for(&name, policy);
                Arc::new(self.with(&name, &token, &self.service.endpoint()))
            }
        })
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
        Ok(Arc::new(self.kms("missing")))
    }

    /// A token that may do nothing with keys.
    async fn refused(&self) -> Result<Arc<dyn Kms>, Error> {
        let kms = self.key().await?;
        let nothing = r#"path "sys/health" { capabilities = ["read"] }"#;
        let powerless = token(self.service.log_in_with(nothing).unwrap());
        Ok(Arc::new(self.with(&name_of(&kms), &powerless, &self.service.endpoint())))
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        Ok(Arc::new(self.with("any", "token", &self.silence.url())))
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The policy that the manual gives, as it stands there.
fn in_the_manual(mark: &str) -> &'static str {
    let manual = include_str!("../../../docs/src/kms-vault.md");
    let (_, after) = manual.split_once(mark).unwrap();
    after.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0
}

/// With the policy of the manual every law is kept; and each of its lines is needed.
#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_a_service_suffices_and_no_line_is_spare() {
    let policy = in_the_manual("<!-- the policy of a service -->");
    let bao = OpenBao { policy: Some(policy), ..OpenBao::start() };
    let report = suite(&bao).await;
    assert!(report.is_good(), "\n{report}");

    let lines: Vec<&str> = policy.lines().filter(|line| line.starts_with("path ")).collect();
    assert_eq!(lines.len(), 4, "{policy}");
    for spare in &lines {
        let less = lines.iter().filter(|line| *line != spare).copied().collect::<Vec<_>>().join("\n");
        let error = uses_a_key(&bao, &less).await.expect_err(spare);
        assert_eq!(error.kind(), ErrorKind::Denied, "without `{spare}`: {error}");
    }
    uses_a_key(&bao, &lines.join("\n")).await.unwrap();
}

/// Everything that zk-crypto does with a key.
async fn uses_a_key(bao: &OpenBao, policy: &str) -> Result<(), Error> {
    let name = name();
    bao.kms(&name).ensure_key(&KeySpec::new()).await?;
    let kms = bao.with(&name, &bao.token_for(&name, policy), &bao.service.endpoint());
    let (key, context) = (zk_kms::DataKey::generate()?, zk_kms::Context::new());
    let wrapped = kms.wrap_key(&key, &context).await?;
    kms.unwrap_key(&wrapped, &context).await?;
    kms.rewrap_key(&wrapped, &context, &context).await?;
    kms.status().await.map(drop)
}

/// Who provisions makes and rotates the key with the manual's policy, and cannot without one of its capabilities.
#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_who_provisions_suffices_and_no_capability_is_spare() {
    let policy = in_the_manual("<!-- the policy of who provisions -->");
    let bao = OpenBao::start();
    let provision = async |policy: &str| {
        let name = name();
        let kms = bao.with(&name, &bao.token_for(&name, policy), &bao.service.endpoint());
        let spec = KeySpec::new().rotate_every(Duration::from_secs(86_400));
        kms.ensure_key(&spec).await.map(|made| assert!(made.created()))?;
        kms.ensure_key(&spec).await.map(|made| assert!(!made.created()))
    };
    provision(policy).await.unwrap();
    for line in policy.lines().filter(|line| line.starts_with("path ")) {
        let (before, after) = line.split_once('[').unwrap();
        let (capabilities, after) = after.split_once(']').unwrap();
        for spare in capabilities.split(", ") {
            let left: Vec<&str> = capabilities.split(", ").filter(|other| *other != spare).collect();
            let less = policy.replace(line, &format!("{before}[{}]{after}", left.join(", ")));
            let error = provision(&less).await.expect_err(spare);
            assert_eq!(error.kind(), ErrorKind::Denied, "without {spare} in `{line}`: {error}");
        }
    }
}
