//! The local backend keeps the laws, and its file resists what happens to files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::*;
use secrecy::SecretString;
use zk_kms::{Context, DataKey, ErrorKind, Kms, LocalKms, OpenConfig, PassphraseCost, open, testing};

const PASSPHRASE: &str = "correct horse battery staple";

/// One test for each law, over a ring in memory and a ring in a file.
macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test] async fn $law() {
                testing::$law(&LocalKms::ephemeral("memory").unwrap()).await.unwrap();
            })*
        }
        mod file {
            use super::*;
            $(#[tokio::test] async fn $law() {
                let ring = Ring::new();
                testing::$law(&ring.open()).await.unwrap();
            })*
        }
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
async fn old_versions_still_unwrap() {
    let memory = LocalKms::ephemeral("memory").unwrap();
    testing::old_versions_still_unwrap(&memory, || async { memory.rotate().map(drop) }).await.unwrap();
    let ring = Ring::new();
    let file = ring.open();
    testing::old_versions_still_unwrap(&file, || async { file.rotate().map(drop) }).await.unwrap();
}

#[tokio::test]
async fn keys_are_separate() {
    let (a, b) = (LocalKms::ephemeral("a").unwrap(), LocalKms::ephemeral("b").unwrap());
    testing::keys_are_separate(&a, &b).await.unwrap();
    testing::keys_are_separate(&a, &LocalKms::ephemeral("a").unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_file_survives_its_process() {
    let ring = Ring::new();
    let (key, context) = (DataKey::generate().unwrap(), Context::new().with("scope", "a").unwrap());
    let wrapped = ring.open().wrap_key(&key, &context).await.unwrap();
    ring.open().rotate().unwrap();
    let later = ring.open();
    assert_eq!(later.unwrap_key(&wrapped, &context).await.unwrap(), key);
    assert_eq!(later.wrap_key(&key, &context).await.unwrap().version().as_str(), "2");
}

#[tokio::test]
async fn a_version_made_elsewhere_is_found() {
    let ring = Ring::new();
    let (here, elsewhere) = (ring.open(), ring.open());
    elsewhere.rotate().unwrap();
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = elsewhere.wrap_key(&key, &context).await.unwrap();
    assert_eq!(here.unwrap_key(&wrapped, &context).await.unwrap(), key);
}

#[tokio::test]
async fn an_older_file_put_back_is_not_rotated() {
    let ring = Ring::new();
    let path = ring.path.clone();
    let kms = ring.open();
    let first = fs::read(&path).unwrap();
    kms.rotate().unwrap();
    let second = fs::read(&path).unwrap();
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();

    fs::write(&path, &first).unwrap();
    assert_eq!(kms.rotate().unwrap_err().kind(), ErrorKind::Conflict);
    kms.reload().unwrap();
    assert_eq!(fs::read(&path).unwrap(), first, "nothing was written");
    // Another process, which has not seen version 2, makes its own, and a third: numbers alone do not tell.
    let stranger = ring.open();
    stranger.rotate().unwrap();
    assert_eq!(kms.rotate().unwrap_err().kind(), ErrorKind::Conflict);
    stranger.rotate().unwrap();
    assert_eq!(kms.rotate().unwrap_err().kind(), ErrorKind::Conflict);
    let error = kms.reload().unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && !error.is_transient(), "{error}");
    assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key, "nothing was forgotten");

    fs::write(&path, &second).unwrap();
    assert_eq!(kms.rotate().unwrap().as_str(), "3");
    assert_eq!(ring.open().unwrap_key(&wrapped, &context).await.unwrap(), key);
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_not_found() {
    let kms = LocalKms::ephemeral("a").unwrap();
    let wrapped = kms.wrap_key(&DataKey::generate().unwrap(), &Context::new()).await.unwrap();
    let other = |version: &str| {
        let version = zk_kms::KeyVersion::new(version).unwrap();
        zk_kms::WrappedKey::new(kms.uri().clone(), version, wrapped.bytes().to_vec()).unwrap()
    };
    let kind = |w: zk_kms::WrappedKey| {
        let kms = &kms;
        async move { kms.unwrap_key(&w, &Context::new()).await.unwrap_err().kind() }
    };
    assert_eq!(kind(other("9")).await, ErrorKind::NotFound);
    // One spelling for each version: these are not version 1.
    assert_eq!(kind(other("01")).await, ErrorKind::Invalid);
    assert_eq!(kind(other("+1")).await, ErrorKind::Invalid);
}

#[test]
fn concurrent_rotations_lose_nothing() {
    let ring = Arc::new(Ring::new());
    let shared = Arc::new(ring.open());
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (ring, shared) = (&ring, &shared);
            scope.spawn(move || {
                let own = ring.open();
                for _ in 0..5 {
                    if i % 2 == 0 { own.rotate() } else { shared.rotate() }.unwrap();
                }
            });
        }
    });
    assert_eq!(ring.open().rotate().unwrap().as_str(), "22");
    let left: Vec<_> = fs::read_dir(ring.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the ring and its lock stay: {left:?}");
}

#[test]
fn concurrent_rotations_in_memory_lose_nothing() {
    let kms = LocalKms::ephemeral("memory").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(kms.rotate().unwrap())));
        }
    });
    assert_eq!(kms.rotate().unwrap().as_str(), "202");
}

#[test]
fn a_wrong_passphrase_is_invalid() {
    let ring = Ring::new();
    let error = LocalKms::open(&ring.path, &"wrong".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("the passphrase is wrong"));
    let empty = LocalKms::create(ring.dir.path().join("b"), "b", &"".into(), cheap()).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_new_passphrase_keeps_the_versions() {
    let ring = Ring::new();
    let running = ring.open();
    running.rotate().unwrap();
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = running.wrap_key(&key, &context).await.unwrap();
    let change =
        |from: &str, to: &str| LocalKms::change_passphrase(&ring.path, &from.into(), &to.into(), cheap());
    let before = fs::read(&ring.path).unwrap();
    assert_eq!(change("wrong", "new").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(change(PASSPHRASE, "").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(fs::read(&ring.path).unwrap(), before, "a refusal changes nothing");
    change(PASSPHRASE, "new").unwrap();
    assert_eq!(fs::metadata(&ring.path).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(LocalKms::open(&ring.path, &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::Invalid);
    let again = LocalKms::open(&ring.path, &"new".into()).unwrap();
    assert_eq!(again.unwrap_key(&wrapped, &context).await.unwrap(), key);
    // Who has it open goes on with what it knows, and writes nothing under the old passphrase.
    assert_eq!(running.unwrap_key(&wrapped, &context).await.unwrap(), key);
    let error = running.rotate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(again.rotate().unwrap().as_str(), "3");
    let missing = ring.dir.path().join("missing");
    let error =
        LocalKms::change_passphrase(&missing, &PASSPHRASE.into(), &"new".into(), cheap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(ring.dir.path()).unwrap().count(), 2, "the ring and its lock");
}

#[test]
fn a_file_open_to_others_is_denied() {
    let ring = Ring::new();
    for mode in [0o644, 0o640, 0o606, 0o660, 0o601] {
        fs::set_permissions(&ring.path, fs::Permissions::from_mode(mode)).unwrap();
        let error = LocalKms::open(&ring.path, &PASSPHRASE.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().ends_with(&format!("run `chmod 600 {}`", ring.path.display())));
    }
    fs::set_permissions(&ring.path, fs::Permissions::from_mode(0o400)).unwrap();
    ring.open();
}

#[test]
fn links_pipes_and_directories_are_denied() {
    let ring = Ring::new();
    let link = ring.dir.path().join("link");
    symlink(&ring.path, &link).unwrap();
    assert_eq!(LocalKms::open(&link, &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(LocalKms::open(ring.dir.path(), &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::Denied);
    let missing = ring.dir.path().join("missing");
    assert_eq!(LocalKms::open(&missing, &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn creating_never_replaces() {
    let ring = Ring::new();
    let before = fs::read(&ring.path).unwrap();
    let error = LocalKms::create(&ring.path, "other", &PASSPHRASE.into(), cheap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(fs::read(&ring.path).unwrap(), before);
    assert_eq!(fs::metadata(&ring.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn absurd_costs_are_refused_before_they_are_paid() {
    let ring = Ring::new();
    let text = fs::read_to_string(&ring.path).unwrap();
    for (from, to) in [
        ("\"memory_kib\":64", "\"memory_kib\":4294967295"),
        ("\"passes\":1", "\"passes\":4000000000"),
        ("\"lanes\":1", "\"lanes\":16777215"),
        ("\"lanes\":1", "\"lanes\":0"),
    ] {
        assert!(text.contains(from));
        fs::write(&ring.path, text.replace(from, to)).unwrap();
        let started = std::time::Instant::now();
        assert_eq!(LocalKms::open(&ring.path, &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(started.elapsed().as_secs() < 2);
    }
}

#[test]
fn a_later_format_says_so() {
    let ring = Ring::new();
    let text = fs::read_to_string(&ring.path).unwrap();
    fs::write(&ring.path, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    assert_eq!(LocalKms::open(&ring.path, &PASSPHRASE.into()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn opening_by_uri_checks_the_name() {
    let ring = Ring::new();
    let config = OpenConfig::new().key_ring(&ring.path, PASSPHRASE.into());
    let kind = |error: zk_kms::Error| error.kind();
    let uri = "local:orders".parse().unwrap();
    assert_eq!(open(&uri, &config).await.unwrap().uri(), &uri);
    let other = "local:other".parse().unwrap();
    assert_eq!(open(&other, &config).await.map_err(kind).unwrap_err(), ErrorKind::Invalid);
    assert_eq!(open(&uri, &OpenConfig::new()).await.map_err(kind).unwrap_err(), ErrorKind::Invalid);
    assert!(!format!("{config:?}").contains(PASSPHRASE));
    let several = "any-of:orders".parse().unwrap();
    assert_eq!(open(&several, &config).await.map_err(kind).unwrap_err(), ErrorKind::Unsupported);
}

#[test]
fn nothing_prints_the_passphrase_or_keys() {
    let ring = Ring::new();
    let shown = format!("{:?}", ring.open());
    assert!(!shown.contains(PASSPHRASE) && !shown.contains("salt"), "{shown}");
    assert!(!fs::read_to_string(&ring.path).unwrap().contains("\"key\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any changed byte, any cut and any added byte is an error, and never a panic.
    #[test]
    fn a_damaged_file_is_refused(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
        let ring = Ring::shared();
        let good = fs::read(&ring.path).unwrap();
        let copy = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile().unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(copy.path(), bytes).unwrap();
            LocalKms::open(copy.path(), &PASSPHRASE.into()).is_err()
        };
        prop_assert!(!refused(&good));
        let mut flipped = good.clone();
        flipped[at.index(good.len())] ^= flip;
        prop_assert!(refused(&flipped));
        prop_assert!(refused(&good[..cut.index(good.len())]));
        prop_assert!(refused(&[good.as_slice(), &[flip]].concat()));
    }
}

/// A key ring file in a directory of its own.
struct Ring {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Ring {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.keyring");
        LocalKms::create(&path, "orders", &SecretString::from(PASSPHRASE), cheap()).unwrap();
        Self { dir, path }
    }

    fn shared() -> &'static Self {
        static SHARED: std::sync::LazyLock<Ring> = std::sync::LazyLock::new(Ring::new);
        &SHARED
    }

    fn open(&self) -> LocalKms {
        open_at(&self.path)
    }
}

fn open_at(path: &Path) -> LocalKms {
    LocalKms::open(path, &PASSPHRASE.into()).unwrap()
}

fn cheap() -> PassphraseCost {
    PassphraseCost::new(64, 1, 1).unwrap()
}

/// Who can open the lock can hold it for ever.
#[test]
fn a_lock_that_others_reach_is_refused() {
    let ring = Ring::new();
    let kms = ring.open();
    kms.rotate().unwrap();
    let lock = PathBuf::from(format!("{}.lock", ring.path.display()));
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let error = kms.rotate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert!(kms.rotate().is_err());
    fs::remove_dir(&lock).unwrap();
    kms.rotate().unwrap();
}
