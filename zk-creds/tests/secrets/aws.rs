//! AWS Secrets Manager: moto, with what it does not have, and ministack.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use testkit::emulator::{Emulator, Service};
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

fn store(aws: &Emulator) -> AwsSecrets {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(aws.url())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    AwsSecrets::new(Client::from_conf(config), "crm").unwrap()
}
