//! The backend of AWS on two emulators.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use testkit::kms::{KeyService, Place};
use zk_kms::{
    Context, DataKey, Error, ErrorKind, KeySpec, Kms, OpenConfig,
    testing::{Gap, Harness},
};

use crate::admin::{Silence, as_login, config, done, name};

#[derive(Debug)]
pub(crate) struct Aws {
    name: &'static str,
    service: KeyService,
    silence: Silence,
    gaps: Vec<Gap>,
}

impl Aws {
    pub(crate) fn moto() -> Self {
        Self::start(
            "aws on moto 5.2.5",
            Place::Moto,
            vec![
                Gap::not_applicable(
                    "refusal_is_denied",
                    "moto refuses everybody or nobody; the manual's policies are tested apart",
                ),
                Gap::new(
                    "disabled_key_is_refused",
                    "wrapping was accepted",
                    "moto lets a disabled key encrypt",
                ),
                Gap::new(
                    "tampering_is_invalid",
                    "a change in byte 0 gave Denied, not Invalid",
                    "moto begins with the key's id, and refuses callers of unknown ids",
                ),
            ],
        )
    }

    pub(crate) fn ministack() -> Self {
        Self::start(
            "aws on ministack 1.5.33",
            Place::Ministack,
            vec![
                Gap::not_applicable("refusal_is_denied", "ministack has no permissions"),
                Gap::new(
                    "rewrapping_keeps_the_key",
                    "rewrap failed with Invalid",
                    "ministack has no ReEncrypt",
                ),
                Gap::new(
                    "tampering_is_invalid",
                    "a change in byte 0 was accepted",
                    "ministack's ciphertexts are not authenticated",
                ),
            ],
        )
    }

    fn start(name: &'static str, place: Place, gaps: Vec<Gap>) -> Self {
        Self { name, service: KeyService::start(place).unwrap(), silence: Silence::new(), gaps }
    }
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
        let (uri, config) = (self.service.uri(&name()).parse()?, config(&self.service));
        zk_kms::ensure_key(&uri, &config, &KeySpec::new()).await?;
        zk_kms::open(&uri, &config).await
    }

    /// Points the alias to another key: AWS shows no other rotation.
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
        let missing =
            self.service.uri("none").replace("alias/none", "key/00000000-0000-0000-0000-000000000000");
        zk_kms::open(&missing.parse()?, &config(&self.service)).await
    }

    async fn stalled(&self) -> Result<Arc<dyn Kms>, Error> {
        let config = config(&self.service).endpoint(self.silence.url()).timeout(Duration::from_millis(700));
        zk_kms::open(&self.service.uri("any").parse()?, &config).await
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// moto enforces the actions of policies, not their resources, and has one action for AWS' two of `ReEncrypt`.
fn in_the_manual(mark: &str) -> serde_json::Value {
    let manual = include_str!("../../../docs/src/kms-aws.md");
    let (_, after) = manual.split_once(mark).unwrap();
    let policy = after.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    let mut policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        statement["Resource"] = "*".into();
        let actions = statement["Action"].as_array_mut().unwrap();
        actions.retain(|action| action != "kms:ReEncryptTo");
        actions
            .iter_mut()
            .filter(|action| *action == "kms:ReEncryptFrom")
            .for_each(|from| *from = "kms:ReEncrypt".into());
    }
    policy
}

/// Every policy with one action less, and the action.
fn without_each(policy: &serde_json::Value) -> Vec<(String, serde_json::Value)> {
    let mut less = Vec::new();
    for (s, statement) in policy["Statement"].as_array().unwrap().iter().enumerate() {
        for (a, action) in statement["Action"].as_array().unwrap().iter().enumerate() {
            let mut policy = policy.clone();
            policy["Statement"][s]["Action"].as_array_mut().unwrap().remove(a);
            policy["Statement"]
                .as_array_mut()
                .unwrap()
                .retain(|s| !s["Action"].as_array().unwrap().is_empty());
            less.push((action.as_str().unwrap().to_owned(), policy));
        }
    }
    less
}

/// What a caller with a policy may do, while moto looks at policies.
async fn with_policy<T>(
    moto: &Aws,
    policy: &serde_json::Value,
    work: impl AsyncFnOnce(OpenConfig) -> Result<T, Error>,
) -> Result<T, Error> {
    let login = moto.service.log_in_with(&policy.to_string()).unwrap();
    moto.service.enforce(true).unwrap();
    let done = work(as_login(config(&moto.service), login)).await;
    moto.service.enforce(false).unwrap();
    done
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_a_service_suffices_and_no_action_is_spare() {
    let (moto, policy) = (Aws::moto(), in_the_manual("<!-- the policy of a service -->"));
    let uses_a_key = async |policy: serde_json::Value| {
        let uri = moto.key().await?.uri().clone();
        let work = async |config| {
            let kms = zk_kms::open(&uri, &config).await?;
            let (key, context) = (DataKey::generate()?, Context::new());
            let wrapped = kms.wrap_key(&key, &context).await?;
            kms.unwrap_key(&wrapped, &context).await?;
            kms.rewrap_key(&wrapped, &context, &context).await?;
            kms.status().await.map(drop)
        };
        with_policy(&moto, &policy, work).await
    };
    uses_a_key(policy.clone()).await.unwrap();
    for (action, less) in without_each(&policy) {
        let error = uses_a_key(less).await.expect_err(&action);
        assert_eq!(error.kind(), ErrorKind::Denied, "without {action}: {error}");
    }
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_who_provisions_suffices() {
    let (moto, policy) = (Aws::moto(), in_the_manual("<!-- the policy of who provisions -->"));
    let provisions = async |policy: serde_json::Value| {
        let uri = moto.service.uri(&name()).parse()?;
        let work = async |config| {
            let spec = KeySpec::new().rotate_every(Duration::from_secs(365 * 86_400)).tag("team", "orders");
            let made = zk_kms::ensure_key(&uri, &config, &spec).await?;
            assert!(made.created());
            assert!(!zk_kms::ensure_key(&uri, &config, &spec).await?.created());
            Ok(())
        };
        with_policy(&moto, &policy, work).await
    };
    provisions(policy.clone()).await.unwrap();
    for (action, less) in without_each(&policy) {
        // moto asks for nothing to tag a key that is being made, and no race is lost here, which would delete a key.
        if ["kms:TagResource", "kms:ScheduleKeyDeletion"].contains(&action.as_str()) {
            provisions(less).await.unwrap();
            continue;
        }
        let error = provisions(less).await.expect_err(&action);
        assert_eq!(error.kind(), ErrorKind::Denied, "without {action}: {error}");
    }
}
