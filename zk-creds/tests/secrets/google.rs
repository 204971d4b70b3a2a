//! Google Secret Manager: testkit's fake, and drongo with what it does not have.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use testkit::emulator::{Emulator, Service};
use testkit::fake::{Cloud, Fake, Fault};
use zk_creds::ErrorKind;
use zk_creds::secret::{Endpoint, GoogleSecrets, SecretName, SecretStore, Secrets, Stage};
use zk_kms::testing::Gap;

use crate::harness;

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_of_google_keeps_the_laws() {
    let google = Fake::start(Cloud::Google).unwrap();
    harness::run("fake of Google Secret Manager", &store(&google.url()), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn drongo_keeps_the_laws_but_for_its_gaps() {
    let drongo = Emulator::start(Service::Drongo).unwrap();
    harness::run("drongo", &store(&drongo.url()), &DRONGO).await;
}

/// It accepts aliases and keeps none, so that no stage is ever found again.
const NO_ALIASES: &str = "drongo keeps no aliases";
const DRONGO: [Gap; 12] = [
    Gap::new("what_is_written_is_read", "reading the current version failed with Missing", NO_ALIASES),
    Gap::new("names_are_separate", "stage failed with Missing", NO_ALIASES),
    Gap::new("replacing_keeps_the_previous", "put failed with Missing", NO_ALIASES),
    Gap::new("a_changed_secret_is_not_changed_again", "a second creation was accepted", NO_ALIASES),
    Gap::new("a_staged_version_waits", "stage failed with Missing", NO_ALIASES),
    Gap::new("one_version_is_pending", "stage failed with Missing", NO_ALIASES),
    Gap::new("promoting_switches", "stage failed with Missing", NO_ALIASES),
    Gap::new("promoting_back_restores", "put failed with Missing", NO_ALIASES),
    Gap::new("of_two_writers_one_wins", "two calls won: create", NO_ALIASES),
    Gap::new("a_deleted_secret_is_gone_until_it_is_recovered", "put failed with Missing", NO_ALIASES),
    Gap::new("a_purged_secret_is_gone", "stage failed with Missing", NO_ALIASES),
    Gap::new("errors_and_debug_carry_no_secret", "read failed with Missing", NO_ALIASES),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn a_write_that_drongo_loses_is_an_error() {
    let drongo = Emulator::start(Service::Drongo).unwrap();
    let secrets = Secrets::new(Arc::new(store(&drongo.url())));
    let error = secrets.create(&SecretName::new("key").unwrap(), &"one".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_a_kind_and_none_shows_a_secret() {
    let google = Fake::start(Cloud::Google).unwrap();
    let endpoint = Endpoint::new(&google.url()).unwrap().with_timeout(Duration::from_millis(500));
    let token = Arc::new(SecretString::from("marked-token"));
    let store = GoogleSecrets::new(&endpoint, "project", token).unwrap();
    let name = SecretName::new("key").unwrap();
    store.create(&name, &"marked-value".into()).await.unwrap();
    for (fault, kind) in [
        (Fault::Cut, ErrorKind::Unavailable),
        (Fault::LostAnswer, ErrorKind::Unavailable),
        (Fault::CutAnswer, ErrorKind::Unavailable),
        (Fault::Delay(Duration::from_secs(5)), ErrorKind::Unavailable),
        (Fault::Throttled { retry_after: 1 }, ErrorKind::Unavailable),
        (Fault::Failing(500), ErrorKind::Unavailable),
        (Fault::Failing(503), ErrorKind::Unavailable),
        (Fault::Denied, ErrorKind::Denied),
        (Fault::ExpiredToken, ErrorKind::Denied),
        (Fault::WrongChecksum, ErrorKind::Unavailable),
        (Fault::WrongBytes, ErrorKind::Unavailable),
        (Fault::Oversized(2 << 20), ErrorKind::Unavailable),
        (Fault::TruncatedJson, ErrorKind::Unavailable),
        (Fault::WrongContentType, ErrorKind::Unavailable),
        (Fault::Redirect("http://127.0.0.1:9/".into()), ErrorKind::Untrusted),
    ] {
        google.inject("access", 1, fault.clone());
        let error = store.read(&name, Stage::Current).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(!format!("{error:?} {store:?}").contains("marked"), "{error:?}");
    }
    assert!(store.read(&name, Stage::Current).await.unwrap().has_value(&"marked-value".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_does_not_follow_a_redirect() {
    let (google, thief) = (Fake::start(Cloud::Google).unwrap(), Fake::start(Cloud::Google).unwrap());
    google.inject("*", 1, Fault::Redirect(thief.url()));
    let error = store(&google.url()).versions(&SecretName::new("key").unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), thief.requests("*")), (ErrorKind::Untrusted, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_answer_the_versions_tell() {
    let google = Fake::start(Cloud::Google).unwrap();
    let secrets = Secrets::new(Arc::new(store(&google.url())));
    let name = SecretName::new("key").unwrap();
    let first = secrets.create(&name, &"one".into()).await.unwrap();
    google.inject("PATCH secrets", 1, Fault::LostAnswer);
    let error = secrets.put(&name, &"two".into(), &first).await.unwrap_err();
    assert!(error.is_transient());
    let versions = secrets.versions(&name).await.unwrap();
    assert_eq!(versions.previous, Some(first.clone()));
    assert_eq!(secrets.put(&name, &"two".into(), &first).await.unwrap_err().kind(), ErrorKind::Stale);
    assert!(secrets.read(&name, Stage::Current).await.unwrap().has_value(&"two".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_was_interrupted_is_gone_on_with() {
    let google = Fake::start(Cloud::Google).unwrap();
    let (store, name) = (store(&google.url()), SecretName::new("key").unwrap());
    google.inject("addVersion", 1, Fault::Cut);
    store.create(&name, &"one".into()).await.unwrap_err();
    assert_eq!(store.read(&name, Stage::Current).await.unwrap_err().kind(), ErrorKind::Missing);
    store.create(&name, &"two".into()).await.unwrap();
    assert!(store.read(&name, Stage::Current).await.unwrap().has_value(&"two".into()));
}

fn store(url: &str) -> GoogleSecrets {
    GoogleSecrets::new(&Endpoint::new(url).unwrap(), "project", Arc::new(SecretString::from("token")))
        .unwrap()
}
