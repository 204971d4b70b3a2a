//! The laws of key pairs on the services that have some.

use std::{sync::Arc, time::Duration};

use testkit::emulator::{Emulator, Service};
use zk_kms::{AsymmetricKms, AwsKeyPair, GcpKeyPair, OpenConfig, testing};

use crate::{admin, azure::Azure, google::Google};

#[tokio::test]
async fn azure_on_our_fake() {
    let azure = Azure::fake();
    check(azure.pair().await, azure.pair().await).await;
    let pair = azure.pair().await;
    let uri = pair.uri().clone();
    let rotate = || async {
        azure.rotate_pair(&uri).await;
        Ok(())
    };
    testing::old_pairs_still_unwrap(pair, rotate).await.unwrap();
}

#[tokio::test]
async fn gcp_on_our_fake() {
    let google = Google::fake();
    google.admin("POST", "projects/p/locations/global/keyRings?keyRingId=r", "{}");
    let pair = |name: &str| {
        let path = format!("projects/p/locations/global/keyRings/r/cryptoKeys?cryptoKeyId={name}");
        let algorithm = r#"{"algorithm":"RSA_DECRYPT_OAEP_2048_SHA256"}"#;
        let body = format!(r#"{{"purpose":"ASYMMETRIC_DECRYPT","versionTemplate":{algorithm}}}"#);
        google.admin("POST", &path, &body);
        Arc::new(GcpKeyPair::open(&Google::uri(name), &google.config()).unwrap())
    };
    check(pair("a"), pair("b")).await;
    let rotated = pair("c");
    let path = format!("{}/cryptoKeyVersions", rotated.uri().name());
    let rotate = || async {
        google.admin("POST", &path, "{}");
        Ok(())
    };
    testing::old_pairs_still_unwrap(rotated, rotate).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn aws_on_ministack() {
    let server = Emulator::start(Service::Ministack).unwrap();
    let config = OpenConfig::new()
        .endpoint(server.url())
        .access_key("test", "test".into())
        .timeout(Duration::from_secs(20));
    let make = || async {
        let headers = "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.CreateKey\r\n\
            Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, \
            SignedHeaders=host, Signature=00\r\n";
        let body = r#"{"KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"RSA_2048"}"#;
        let (status, answer) = admin::request(&server.url(), "POST", "/", headers, body);
        assert_eq!(status, 200, "{answer}");
        let uri = format!("aws-kms://{}", admin::field(&answer, "Arn")).parse().unwrap();
        Arc::new(AwsKeyPair::open(&uri, &config).await.unwrap())
    };
    check(make().await, make().await).await;
}

/// The laws that need no administrator.
async fn check(pair: Arc<dyn AsymmetricKms>, other: Arc<dyn AsymmetricKms>) {
    testing::public_key_alone_wraps(Arc::clone(&pair)).await.unwrap();
    testing::only_its_blocks_decrypt(Arc::clone(&pair), other).await.unwrap();
    testing::version_is_bound(pair).await.unwrap();
}
