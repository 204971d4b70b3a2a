//! The laws of key pairs on the services that have some.

use std::sync::Arc;

use testkit::kms::{KeyService, Place};
use zk_kms::{AsymmetricKms, AwsKeyPair, testing};

use crate::{
    admin::{config, done, name},
    azure::Azure,
    google::Google,
};

#[tokio::test]
async fn azure_on_our_fake() {
    let azure = Azure::fake();
    check(azure.pair().await, azure.pair().await).await;
    rotate(&azure.service, azure.pair().await).await;
}

#[tokio::test]
async fn gcp_on_our_fake() {
    let google = Google::fake();
    check(google.pair(), google.pair()).await;
    rotate(&google.service, google.pair()).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_on_ministack() {
    let ministack = KeyService::start(Place::Ministack).unwrap();
    let pair = || async {
        let uri = ministack.make_pair(&name()).unwrap().parse().unwrap();
        Arc::new(AwsKeyPair::open(&uri, &config(&ministack)).await.unwrap())
    };
    check(pair().await, pair().await).await;
    rotate(&ministack, pair().await).await;
}

async fn rotate(service: &KeyService, pair: Arc<dyn AsymmetricKms>) {
    let uri = pair.uri().to_string();
    testing::old_pairs_still_unwrap(pair, || async { done(service.rotate(&uri)) }).await.unwrap();
}

/// The laws that need no administrator.
async fn check(pair: Arc<dyn AsymmetricKms>, other: Arc<dyn AsymmetricKms>) {
    testing::public_key_alone_wraps(Arc::clone(&pair)).await.unwrap();
    testing::only_its_blocks_decrypt(Arc::clone(&pair), other).await.unwrap();
    testing::version_is_bound(pair).await.unwrap();
}
