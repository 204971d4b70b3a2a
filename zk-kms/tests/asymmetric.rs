//! Key pairs keep the laws of a KMS and their own, and a public key that was exchanged is noticed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use zk_kms::{
    AsymmetricKms, Context, DataKey, ErrorKind, Kms, LocalKeyPair, LocalKms, PassphraseCost, PinnedKms,
    PublicKey, WrappedKey, testing,
};

/// Generating 3072 bits takes a while: one pair serves all tests that do not rotate it.
static SERVICE: LazyLock<Arc<dyn AsymmetricKms>> = LazyLock::new(new_service);

fn new_service() -> Arc<dyn AsymmetricKms> {
    Arc::new(LocalKeyPair::ephemeral("pair").unwrap())
}

async fn pinned() -> PinnedKms {
    testing::pinned(SERVICE.clone()).await.unwrap()
}

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        $(#[tokio::test] async fn $law() {
            testing::$law(&pinned().await).await.unwrap();
        })*
    };
}

laws!(
    round_trip,
    wrapping_twice_differs,
    context_is_bound,
    tampering_is_invalid,
    truncation_is_invalid,
    wrapped_key_names_its_key,
    rewrapping_keeps_the_key,
    errors_and_debug_carry_no_secret,
);

#[tokio::test]
async fn public_key_alone_wraps() {
    testing::public_key_alone_wraps(SERVICE.clone()).await.unwrap();
}

#[tokio::test]
async fn only_its_blocks_decrypt() {
    testing::only_its_blocks_decrypt(SERVICE.clone(), new_service()).await.unwrap();
}

#[tokio::test]
async fn version_is_bound() {
    testing::version_is_bound(SERVICE.clone()).await.unwrap();
}

#[tokio::test]
async fn keys_are_separate() {
    let other = testing::pinned(new_service()).await.unwrap();
    testing::keys_are_separate(&pinned().await, &other).await.unwrap();
    testing::keys_are_separate(&pinned().await, &LocalKms::ephemeral("pair").unwrap()).await.unwrap();
}

#[tokio::test]
async fn old_pairs_still_unwrap() {
    let pair = Arc::new(LocalKeyPair::ephemeral("pair").unwrap());
    testing::old_pairs_still_unwrap(pair.clone(), || async { pair.rotate().map(drop) }).await.unwrap();
}

/// Somebody between us and the service shows a key of their own.
#[tokio::test]
async fn an_exchanged_public_key_is_refused() {
    let expected = SERVICE.public_key().await.unwrap().fingerprint();
    let impostor = new_service();
    let error = PinnedKms::fetch(impostor.clone(), &expected).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&expected.to_string()));

    let elsewhere = LocalKeyPair::ephemeral("elsewhere").unwrap().public_key().await.unwrap();
    assert_eq!(PinnedKms::new(SERVICE.clone(), elsewhere).unwrap_err().kind(), ErrorKind::Invalid);
}

/// The one-time key of one wrapped key does not open the data key of another.
#[tokio::test]
async fn halves_of_two_wrapped_keys_do_not_fit() {
    let (kms, context) = (pinned().await, Context::new());
    let wrap = async || kms.wrap_key(&DataKey::generate().unwrap(), &context).await.unwrap();
    let (one, two) = (wrap().await, wrap().await);
    let cut = one.bytes().len() - 48;
    let mixed = [&one.bytes()[..cut], &two.bytes()[cut..]].concat();
    let mixed = WrappedKey::new(one.uri().clone(), one.version().clone(), mixed).unwrap();
    assert_eq!(kms.unwrap_key(&mixed, &context).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_pair_is_told_from_a_secret_key() {
    assert!(pinned().await.capabilities().wraps_with_public_key());
    assert!(!LocalKms::ephemeral("k").unwrap().capabilities().wraps_with_public_key());
}

#[tokio::test]
async fn a_file_of_pairs_survives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let (path, passphrase) = (dir.path().join("escrow.keys"), "correct horse".into());
    let cheap = PassphraseCost::new(64, 1, 1).unwrap();
    let pair = LocalKeyPair::create(&path, "escrow", &passphrase, cheap).unwrap();
    let public_key = pair.public_key().await.unwrap();
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = public_key.wrap_key(&key, &context).unwrap();
    pair.rotate().unwrap();

    let later: Arc<dyn AsymmetricKms> = Arc::new(LocalKeyPair::open(&path, &passphrase).unwrap());
    assert_eq!(later.public_key().await.unwrap().version().as_str(), "2");
    let kms = PinnedKms::new(later, public_key).unwrap();
    assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);

    // A file of pairs is no file of keys, and the other way round.
    assert_eq!(LocalKms::open(&path, &passphrase).unwrap_err().kind(), ErrorKind::Invalid);
    let ring = dir.path().join("ring");
    LocalKms::create(&ring, "escrow", &passphrase, cheap).unwrap();
    assert_eq!(LocalKeyPair::open(&ring, &passphrase).unwrap_err().kind(), ErrorKind::Invalid);
}

/// Under another passphrase the pairs are the same, and the old one opens nothing.
#[cfg(unix)]
#[tokio::test]
async fn a_file_of_pairs_changes_its_passphrase() {
    let (dir, cost) = (tempfile::tempdir().unwrap(), zk_kms::PassphraseCost::new(64, 1, 1).unwrap());
    let path = dir.path().join("escrow.keyring");
    let pair = LocalKeyPair::create(&path, "escrow", &"one".into(), cost).unwrap();
    let (fingerprint, context) = (pair.public_key().await.unwrap().fingerprint(), Context::new());
    let key = DataKey::generate().unwrap();
    let wrapped = pair.public_key().await.unwrap().wrap_key(&key, &context).unwrap();

    let wrong = LocalKeyPair::change_passphrase(&path, &"two".into(), &"three".into(), cost).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid, "{wrong}");
    LocalKeyPair::change_passphrase(&path, &"one".into(), &"two".into(), cost).unwrap();
    assert_eq!(LocalKeyPair::open(&path, &"one".into()).unwrap_err().kind(), ErrorKind::Invalid);
    let again: Arc<dyn AsymmetricKms> = Arc::new(LocalKeyPair::open(&path, &"two".into()).unwrap());
    let kms = PinnedKms::fetch(again, &fingerprint).await.unwrap();
    assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);
    // Who has the file open goes on with what is in memory, and cannot write under the old passphrase.
    assert_eq!(pair.rotate().unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn damaged_public_keys_are_refused() {
    let bytes = SERVICE.public_key().await.unwrap().to_bytes();
    for len in 0..bytes.len() {
        assert!(PublicKey::from_bytes(&bytes[..len]).is_err());
    }
    assert!(PublicKey::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(read) = PublicKey::from_bytes(&changed) {
            assert_eq!(read.to_bytes(), changed, "byte {at}: one encoding for each public key");
        }
    }
}
