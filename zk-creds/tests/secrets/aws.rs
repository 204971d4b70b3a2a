//! AWS Secrets Manager: moto, with what it does not have, and ministack.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use testkit::emulator::{Emulator, Service};
use testkit::kms::{KeyService, Login, Place};
use zk_creds::ErrorKind;
use zk_creds::secret::{AwsSecrets, SecretName, SecretStore};

use crate::harness;

const MOTO: harness::Gaps<'_> =
    &[("of_two_writers_one_wins", "moto moves a label that another version has without being told to")];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn moto_keeps_the_laws_but_for_its_gaps() {
    let moto = Emulator::start(Service::Moto).unwrap();
    harness::run("moto", &store(&moto), MOTO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn ministack_keeps_the_laws() {
    let ministack = Emulator::start(Service::Ministack).unwrap();
    harness::run("ministack", &store(&ministack), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn an_outage_is_unavailable() {
    let mut moto = Emulator::start(Service::Moto).unwrap();
    let store = store(&moto);
    moto.stop().unwrap();
    let error = store.create(&SecretName::new("key").unwrap(), &"one".into()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_transient(), "{error}");
}

/// moto enforces the actions of policies, not their resources.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_the_manual_suffices_and_no_action_is_spare() {
    let moto = KeyService::start(Place::Moto).unwrap();
    let policy = harness::in_the_manual("<!-- the policy of who keeps secrets in AWS -->");
    let mut policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let statement = &mut policy["Statement"][0];
    statement["Resource"] = "*".into();
    let actions = statement["Action"].as_array().unwrap().clone();
    let with = |policy: &serde_json::Value| {
        moto.enforce(false).unwrap();
        let Login::AccessKey(id, secret) = moto.log_in_with(&policy.to_string()).unwrap() else {
            panic!("AWS has access keys")
        };
        moto.enforce(true).unwrap();
        store_at(&moto.endpoint(), &id, &secret)
    };
    harness::run("moto, with the manual's policy", &with(&policy), MOTO).await;
    for spare in &actions {
        let left: Vec<_> = actions.iter().filter(|action| *action != spare).cloned().collect();
        policy["Statement"][0]["Action"] = left.into();
        let error = harness::does_everything(&with(&policy)).await.expect_err(spare.as_str().unwrap());
        assert_eq!(error.kind(), ErrorKind::Denied, "without {spare}: {error}");
    }
}

fn store(aws: &Emulator) -> AwsSecrets {
    store_at(&aws.url(), "test", "test")
}

fn store_at(url: &str, id: &str, secret: &str) -> AwsSecrets {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    AwsSecrets::new(Client::from_conf(config), "crm").unwrap()
}
