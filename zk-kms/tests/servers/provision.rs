//! Provisioning: what is there is read, held against what is wanted, and repaired or refused.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::kms::{KeyService, Place};
use zk_kms::{Context, DataKey, Error, ErrorKind, KeySpec, KeyUri, Kms, Provisioned};

use crate::admin::{config, name};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::test]
async fn on_googles_fake() {
    let google = KeyService::start(Place::FakeGoogle).unwrap();
    let uri = repairs(&google, &["tags", "rotation"]).await;
    let key = google.call("GET", uri.name(), &Value::Null).unwrap();
    assert_eq!(key["labels"], json!({ "team": "sales", "env": "test" }));
    assert_eq!(key["rotationPeriod"], "31536000s");
    refuses_what_is_disabled(&google).await;
    refuses(&google, &google.make_pair(&name()).unwrap()).await;
    let made = at_once(&google).await;
    assert_eq!(made.iter().filter(|made| made.created()).count(), 1, "one of them made it");
}

#[tokio::test]
async fn on_azures_fake() {
    const VERSION: &str = "api-version=7.4";
    let azure = KeyService::start(Place::FakeAzure).unwrap();
    let uri = repairs(&azure, &["tags"]).await;
    let called = called(&uri);
    let key = azure.call("GET", &format!("keys/{called}?{VERSION}"), &Value::Null).unwrap();
    assert_eq!(key["tags"], json!({ "team": "sales", "env": "test" }));
    refuses_what_is_disabled(&azure).await;
    let signs = name();
    let body = json!({ "kty": "RSA", "key_ops": ["sign", "verify"] });
    azure.call("POST", &format!("keys/{signs}/create?{VERSION}"), &body).unwrap();
    refuses(&azure, &azure.uri(&signs)).await;

    // Each may have made a version; the newest counts, and there is one key.
    let uri = at_once(&azure).await.first().unwrap().uri().clone();
    let kms = testing_pair(&azure, &uri).await;
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    assert_eq!(testing_pair(&azure, &uri).await.unwrap_key(&wrapped, &context).await.unwrap(), key);
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn on_openbao() {
    let bao = KeyService::start(Place::OpenBao).unwrap();
    let uri = repairs(&bao, &["rotation"]).await;
    let key = bao.call("GET", &format!("transit/keys/{}", called(&uri)), &Value::Null).unwrap();
    assert_eq!(key["data"]["auto_rotate_period"], YEAR.as_secs());
    refuses_what_is_disabled(&bao).await;
    for wrong in [
        json!({ "type": "aes256-gcm96" }),
        json!({ "type": "aes128-gcm96", "derived": true }),
        json!({ "type": "chacha20-poly1305", "derived": true }),
        json!({ "type": "ed25519", "derived": true }),
        json!({ "type": "rsa-3072" }),
        json!({ "type": "aes256-gcm96", "derived": true, "convergent_encryption": true }),
    ] {
        let name = name();
        bao.call("POST", &format!("transit/keys/{name}"), &wrong).unwrap();
        let uri = bao.uri(&name);
        refuses(&bao, &uri).await;
        let kms = zk_kms::open(&uri.parse().unwrap(), &config(&bao)).await.unwrap();
        let error = kms.wrap_key(&DataKey::generate().unwrap(), &Context::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{wrong}: {error}");
    }
    let often = KeySpec::new().rotate_every(Duration::from_secs(60));
    let error = ensure(&bao, &bao.uri("often").parse().unwrap(), &often).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    at_once(&bao).await;
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn on_moto() {
    let moto = KeyService::start(Place::Moto).unwrap();
    let uri = repairs(&moto, &["tags", "rotation"]).await;
    let found = moto.call("DescribeKey", "", &json!({ "KeyId": uri.name() })).unwrap();
    let id = json!({ "KeyId": found["KeyMetadata"]["KeyId"] });
    let tags = moto.call("ListResourceTags", "", &id).unwrap();
    let tag = |name, value| json!({ "TagKey": name, "TagValue": value });
    for tag in [tag("team", "sales"), tag("env", "test")] {
        assert!(tags["Tags"].as_array().unwrap().contains(&tag), "{tags}");
    }
    refuses_what_is_disabled(&moto).await;

    let before = enabled_keys(&moto);
    let made = at_once(&moto).await;
    assert_eq!(made.iter().filter(|made| made.created()).count(), 1, "one of them made it");
    assert_eq!(enabled_keys(&moto), before + 1, "those that were made in vain are to be deleted");
}

#[tokio::test]
#[ignore = "needs the Python environment: ./dev test"]
async fn on_ministack() {
    let ministack = KeyService::start(Place::Ministack).unwrap();
    refuses(&ministack, &ministack.make_pair(&name()).unwrap()).await;
}

/// Makes a key, finds it again, and sets what was not asked for at first: tags beside others, and a rotation.
async fn repairs(service: &KeyService, able: &[&str]) -> KeyUri {
    let uri: KeyUri = service.uri(&name()).parse().unwrap();
    let first = KeySpec::new().tag("team", "orders");
    let made = ensure(service, &uri, &first).await.unwrap();
    assert!(made.created() && made.repaired().is_empty(), "{made:?}");
    let again = ensure(service, &uri, &first).await.unwrap();
    assert!(!again.created() && again.repaired().is_empty(), "{again:?}");

    let more = KeySpec::new().tag("team", "sales").tag("env", "test").rotate_every(YEAR);
    let repaired = ensure(service, &uri, &more).await.unwrap();
    assert!(!repaired.created());
    assert_eq!(repaired.repaired(), able, "{repaired:?}");
    let done: Vec<&str> = repaired.repaired().iter().chain(repaired.ignored()).copied().collect();
    assert!(done.contains(&"tags") && done.contains(&"rotation"), "repaired or told: {repaired:?}");
    // What it does not speak of stays.
    for spec in [&more, &KeySpec::new().tag("env", "test"), &KeySpec::new()] {
        let again = ensure(service, &uri, spec).await.unwrap();
        assert!(again.repaired().is_empty(), "{again:?}");
    }
    uri
}

/// A key of another kind is not taken for the one that is wanted.
async fn refuses(service: &KeyService, uri: &str) {
    let error = ensure(service, &uri.parse().unwrap(), &KeySpec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(uri), "{error}");
}

async fn refuses_what_is_disabled(service: &KeyService) {
    let uri: KeyUri = service.uri(&name()).parse().unwrap();
    ensure(service, &uri, &KeySpec::new()).await.unwrap();
    service.set_enabled(uri.as_str(), false).unwrap();
    let error = ensure(service, &uri, &KeySpec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled, "{error}");
}

/// Several processes provision the same key at the same time: all succeed.
async fn at_once(service: &KeyService) -> Vec<Provisioned> {
    let uri: KeyUri = service.uri(&name()).parse().unwrap();
    let spec = KeySpec::new().tag("team", "orders");
    let (a, b, c) = tokio::join!(
        ensure(service, &uri, &spec),
        ensure(service, &uri, &spec),
        ensure(service, &uri, &spec)
    );
    vec![a.unwrap(), b.unwrap(), c.unwrap()]
}

async fn ensure(service: &KeyService, uri: &KeyUri, spec: &KeySpec) -> Result<Provisioned, Error> {
    zk_kms::ensure_key(uri, &config(service), spec).await
}

async fn testing_pair(azure: &KeyService, uri: &KeyUri) -> impl Kms {
    let pair = zk_kms::AzureKeyPair::open(uri, &config(azure)).unwrap();
    zk_kms::testing::pinned(std::sync::Arc::new(pair)).await.unwrap()
}

fn enabled_keys(moto: &KeyService) -> usize {
    let keys = moto.call("ListKeys", "", &json!({})).unwrap();
    let ids = keys["Keys"].as_array().unwrap().iter().map(|key| json!({ "KeyId": key["KeyId"] }));
    let described = ids.map(|id| moto.call("DescribeKey", "", &id).unwrap());
    described.filter(|key| key["KeyMetadata"]["KeyState"] == "Enabled").count()
}

fn called(uri: &KeyUri) -> &str {
    uri.name().rsplit('/').next().unwrap()
}
