//! Azure Key Vault: testkit's fake.

use std::sync::Arc;

use secrecy::SecretString;
use testkit::fake::{Cloud, Fake, Fault};
use zk_creds::ErrorKind;
use zk_creds::secret::{AzureSecrets, Endpoint, SecretName, SecretStore, Stage};
use zk_kms::testing::Gap;

use crate::harness;

/// Key Vault's own, and so its fake's.
const GAPS: [Gap; 1] =
    [Gap::at_times("of_two_writers_one_wins", "two calls won", "Key Vault has no compare-and-set")];

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_of_azure_keeps_the_laws_but_for_key_vaults_gap() {
    let azure = Fake::start(Cloud::Azure).unwrap();
    harness::run("fake of Azure Key Vault", &store(&azure), &GAPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_was_interrupted_reads_as_done() {
    let azure = Fake::start(Cloud::Azure).unwrap();
    let (store, name) = (store(&azure), SecretName::new("key").unwrap());
    let first = store.create(&name, &"one".into()).await.unwrap();
    let second = store.stage(&name, &"two".into()).await.unwrap();
    azure.inject("PATCH secrets", 1, Fault::Cut);
    assert!(store.promote(&name, &second, &first).await.unwrap_err().is_transient());
    let versions = store.versions(&name).await.unwrap();
    assert_eq!((versions.current, versions.pending, versions.previous), (second, None, Some(first)));
    store.stage(&name, &"three".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_and_another_authority_are_refused() {
    let azure = Fake::start(Cloud::Azure).unwrap();
    let (store, name) = (store(&azure), SecretName::new("key").unwrap());
    store.create(&name, &"one".into()).await.unwrap();
    azure.require_token("another");
    assert_eq!(store.read(&name, Stage::Current).await.unwrap_err().kind(), ErrorKind::Denied);
    let stranger = Endpoint::new(&azure.url()).unwrap().trusting(testkit::Authority::new("x").unwrap().pem());
    let store = AzureSecrets::new(&stranger, Arc::new(SecretString::from("another"))).unwrap();
    assert_eq!(store.read(&name, Stage::Current).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_another_tool_set_is_read_and_replaced() {
    let azure = Fake::start(Cloud::Azure).unwrap();
    let certificate = reqwest::Certificate::from_pem(azure.authority().pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap();
    let url = format!("{}/secrets/key?api-version=7.4", azure.url());
    let set = client.put(url).bearer_auth(azure.token().unwrap()).body(r#"{"value": "one"}"#);
    assert!(set.send().await.unwrap().status().is_success());
    let (store, name) = (store(&azure), SecretName::new("key").unwrap());
    let first = store.read(&name, Stage::Current).await.unwrap();
    store.put(&name, &"two".into(), first.version()).await.unwrap();
    assert!(store.read(&name, Stage::Previous).await.unwrap().has_value(&"one".into()));
}

fn store(azure: &Fake) -> AzureSecrets {
    let endpoint = Endpoint::new(&azure.url()).unwrap().trusting(azure.authority().pem());
    AzureSecrets::new(&endpoint, Arc::new(SecretString::from(azure.token().unwrap()))).unwrap()
}
