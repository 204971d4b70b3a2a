//! OpenBao, the real server.

use std::sync::Arc;

use secrecy::SecretString;
use testkit::emulator::{Emulator, Service};
use testkit::kms::{KeyService, Login, Place};
use zk_creds::ErrorKind;
use zk_creds::secret::{Endpoint, SecretName, SecretStore, Stage, VaultSecrets};

use crate::harness;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn openbao_keeps_the_laws() {
    let bao = Emulator::start(Service::OpenBao).unwrap();
    harness::run("OpenBao", &store(&bao, bao.token()), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn other_tools_read_the_current_value() {
    let bao = Emulator::start(Service::OpenBao).unwrap();
    let (store, name) = (store(&bao, bao.token()), SecretName::new("key").unwrap());
    let first = store.create(&name, &"one".into()).await.unwrap();
    let second = store.stage(&name, &"two".into()).await.unwrap();
    let value = || async {
        let url = format!("{}/v1/secret/data/crm/key", bao.url());
        let request = reqwest::Client::new().get(url).header("x-vault-token", bao.token());
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["data"]["data"]["value"].clone()
    };
    assert_eq!(value().await, "one");
    store.promote(&name, &second, &first).await.unwrap();
    assert_eq!(value().await, "two");
    store.delete(&name, &second).await.unwrap();
    assert!(value().await.is_null());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn a_wrong_token_is_denied_and_an_outage_is_unavailable() {
    let mut bao = Emulator::start(Service::OpenBao).unwrap();
    let name = SecretName::new("key").unwrap();
    let refused = store(&bao, "s.wrong").read(&name, Stage::Current).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let store = store(&bao, bao.token());
    bao.stop().unwrap();
    let error = store.create(&name, &"one".into()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_the_manual_suffices_and_no_capability_is_spare() {
    let bao = KeyService::start(Place::OpenBao).unwrap();
    let store = |policy: &str| {
        let Login::Token(token) = bao.log_in_with(policy).unwrap() else { panic!("Vault has tokens") };
        let endpoint = Endpoint::new(&bao.endpoint()).unwrap();
        VaultSecrets::new(&endpoint, "secret", "crm", Arc::new(SecretString::from(token))).unwrap()
    };
    let policy = harness::in_the_manual("<!-- the policy of who keeps secrets in Vault -->");
    harness::run("OpenBao, with the manual's policy", &store(policy), &[]).await;
    for line in policy.lines() {
        let (before, after) = line.split_once('[').unwrap();
        let (capabilities, after) = after.split_once(']').unwrap();
        for spare in capabilities.split(", ") {
            let left: Vec<&str> = capabilities.split(", ").filter(|other| *other != spare).collect();
            let less = policy.replace(line, &format!("{before}[{}]{after}", left.join(", ")));
            let error = harness::does_everything(&store(&less)).await.expect_err(spare);
            assert_eq!(error.kind(), ErrorKind::Denied, "without {spare} in `{line}`: {error}");
        }
    }
    let reads = store("path \"secret/data/crm/*\" { capabilities = [\"read\"] }");
    let name = SecretName::new("key").unwrap();
    store(policy).create(&name, &"one".into()).await.unwrap();
    assert!(reads.read(&name, Stage::Current).await.unwrap().has_value(&"one".into()));
}

#[test]
fn folders_cannot_leave_their_place() {
    let endpoint = Endpoint::new("http://127.0.0.1:8200").unwrap();
    for folder in ["", "..", "a/b", "A", "a%2fb", "a?b"] {
        let token = Arc::new(SecretString::from("t"));
        let error = VaultSecrets::new(&endpoint, "secret", folder, token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{folder}");
    }
}

fn store(bao: &Emulator, token: &str) -> VaultSecrets {
    let endpoint = Endpoint::new(&bao.url()).unwrap();
    // A development server mounts a KV v2 engine at `secret`.
    VaultSecrets::new(&endpoint, "secret", "crm", Arc::new(SecretString::from(token))).unwrap()
}
