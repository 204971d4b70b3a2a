//! What fails without a service shows no secret either: key rings, several members, tokens, configuration.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::Duration,
};

use zk_kms::{
    AnyOf, AsymmetricKms, Context, DataKey, Error, ErrorKind, Kms, LocalKeyPair, LocalKms, OpenConfig,
    PassphraseCost, PinnedKms, VaultKms, VaultToken, WrappedKey,
    layers::{AuditEntry, Auditor, Guard},
    open,
    testing::pinned,
};

use crate::captured::{Captured, SECRET, TOKEN};

const PASSPHRASE: &str = "MARKED-PASSPHRASE";

#[tokio::test]
async fn nothing_that_fails_here_shows_a_secret() {
    let (captured, _logging) = Captured::logging(tracing::Level::TRACE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.keyring");
    let cost = PassphraseCost::new(64, 1, 1).unwrap();
    captured.debug(&LocalKms::create(&path, "orders", &PASSPHRASE.into(), cost).unwrap());
    let pairs = folder.path().join("escrow.keyring");
    captured.debug(&LocalKeyPair::create(&pairs, "escrow", &PASSPHRASE.into(), cost).unwrap());

    key_ring_files(&captured, &path, cost);
    captured.failed(LocalKeyPair::open(&pairs, &"MARKED-other".into()));
    captured.failed(LocalKeyPair::open(&path, &PASSPHRASE.into()));
    captured.failed(LocalKeyPair::create(&pairs, "escrow", &PASSPHRASE.into(), cost));

    let guard = Guard { auditor: Some(Arc::new(Audited(captured.clone()))), ..Guard::default() };
    let ring = Arc::new(LocalKms::open(&path, &PASSPHRASE.into()).unwrap());
    wrapped_keys(&captured, guard.around(ring)).await;
    wrapped_keys(&captured, guard.around(pinned_pair(&pairs).await)).await;
    several(&captured, &guard, &path).await;
    tokens_and_configuration(&captured, &path).await;

    assert!(captured.text().contains("a call failed"), "the log of the layers is here");
    assert!(captured.text().contains("AuditEntry"), "and so is the audit");
    captured.check();
}

/// Everything that can be wrong with a file and its passphrase.
fn key_ring_files(captured: &Captured, path: &Path, cost: PassphraseCost) {
    let (right, wrong) = (PASSPHRASE.into(), "MARKED-other".into());
    captured.failed(LocalKms::open(path, &wrong));
    captured.failed(LocalKms::create(path, "orders", &right, cost));
    captured.failed(LocalKms::create(path.with_extension("new"), "orders", &"".into(), cost));
    captured.failed(LocalKms::open(path.with_extension("none"), &right));
    captured.failed(LocalKms::change_passphrase(path, &wrong, &right, cost));
    captured.failed(LocalKms::change_passphrase(path, &right, &"".into(), cost));
    let other = path.with_extension("other");
    let good = fs::read_to_string(path).unwrap();
    let (header, body) = good.split_once('\n').unwrap();
    for damaged in [
        String::new(),
        "MARKED".to_owned(),
        format!("{{\"MARKED\":1}}\n{body}"),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"memory_kib\":64", "\"memory_kib\":4294967295"),
        good.replace("zk-keyring", "MARKED"),
        format!("{header}\nMARKED\n"),
        format!("{header}\n{}\n", &body[..body.len() / 2]),
        format!("{header}\n{}", "MARKED".repeat(200_000)),
    ] {
        fs::write(&other, damaged).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        captured.failed(LocalKms::open(&other, &right));
    }
    fs::write(&other, &good).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    captured.failed(LocalKms::open(&other, &right));
    let link = path.with_extension("link");
    symlink(path, &link).unwrap();
    captured.failed(LocalKms::open(&link, &right));

    // An older copy put back, and another passphrase, below an open ring.
    let kms = LocalKms::open(path, &right).unwrap();
    kms.rotate().unwrap();
    let newest = fs::read(path).unwrap();
    fs::write(path, &good).unwrap();
    captured.failed(kms.rotate());
    fs::write(path, newest).unwrap();
    LocalKms::change_passphrase(path, &right, &wrong, cost).unwrap();
    captured.failed(kms.reload());
    LocalKms::change_passphrase(path, &wrong, &right, cost).unwrap();
    captured.debug(&kms);
}

/// Everything that can be wrong with a wrapped key.
async fn wrapped_keys(captured: &Captured, kms: Arc<dyn Kms>) {
    let (key, context) = (DataKey::from_slice(SECRET).unwrap(), Context::new());
    captured.debug(&key);
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    let other = Context::new().with("scope", "b").unwrap();
    captured.failed(kms.unwrap_key(&wrapped, &other).await);
    captured.failed(kms.rewrap_key(&wrapped, &other, &context).await);
    let (uri, version) = (wrapped.uri(), wrapped.version());
    let mut changed = wrapped.bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    for wrong in [
        WrappedKey::new(uri.clone(), version.clone(), changed),
        WrappedKey::new(uri.clone(), version.clone(), SECRET.to_vec()),
        WrappedKey::new(uri.clone(), 9.into(), wrapped.bytes().to_vec()),
        WrappedKey::new("local:another".parse().unwrap(), version.clone(), wrapped.bytes().to_vec()),
    ] {
        captured.failed(kms.unwrap_key(&wrong.unwrap(), &context).await);
    }
    captured.failed(WrappedKey::from_bytes(SECRET));
    captured.failed(DataKey::from_slice(&SECRET[1..]));
}

/// Members that are away, refuse, or are not the right ones: their errors are the causes of the whole's.
async fn several(captured: &Captured, guard: &Guard, path: &Path) {
    let ring: Arc<dyn Kms> = Arc::new(LocalKms::open(path, &PASSPHRASE.into()).unwrap());
    let uri = "vault-transit://vault/transit/k".parse().unwrap();
    let nobody = OpenConfig::new().endpoint("http://127.0.0.1:1").timeout(Duration::from_millis(300));
    let away: Arc<dyn Kms> = Arc::new(VaultKms::new(&uri, VaultToken::new(TOKEN.into()), &nobody).unwrap());
    wrapped_keys(captured, guard.around(AnyOf::new("orders", [Arc::clone(&ring)]).unwrap())).await;

    let both = AnyOf::new("orders", [Arc::clone(&away), Arc::clone(&ring)]).unwrap();
    captured.debug(&both);
    let (key, context) = (DataKey::from_slice(SECRET).unwrap(), Context::new());
    captured.failed(both.wrap_key(&key, &context).await);
    captured.failed(both.status().await);
    let one = both.require(1).unwrap();
    let wrapped = one.wrap_key(&key, &context).await.unwrap();
    captured.failed(one.repair(&wrapped, &context).await);
    captured.failed(one.rewrap_key(&wrapped, &Context::new().with("a", "b").unwrap(), &context).await);
    captured.failed(AnyOf::new("orders", [away]).unwrap().unwrap_key(&wrapped, &context).await);
    captured.failed(AnyOf::new("orders", [Arc::clone(&ring), ring]));
}

async fn tokens_and_configuration(captured: &Captured, path: &Path) {
    let config = OpenConfig::new()
        .key_ring(path, PASSPHRASE.into())
        .bearer_token(TOKEN.into())
        .access_key("id", TOKEN.into());
    captured.debug(&config);
    let uri = "local:another".parse().unwrap();
    captured.failed(open(&uri, &config).await);
    captured.failed(
        open(&"local:orders".parse().unwrap(), &config.clone().key_ring(path, "MARKED".into())).await,
    );

    let uri = "vault-transit://vault/transit/k".parse().unwrap();
    let nobody = config.endpoint("http://127.0.0.1:1").timeout(Duration::from_millis(300));
    let file = path.with_extension("token");
    let uses = async |token: VaultToken| {
        captured.debug(&token);
        let kms = VaultKms::new(&uri, token, &nobody).unwrap();
        captured.debug(&kms);
        captured.failed(kms.wrap_key(&DataKey::from_slice(SECRET).unwrap(), &Context::new()).await);
    };
    uses(VaultToken::new(format!("{TOKEN}\r\nx-other: 1").into())).await;
    uses(VaultToken::new(TOKEN.into())).await;
    for (text, mode) in [
        (TOKEN.as_bytes().to_vec(), 0o600),
        (TOKEN.as_bytes().to_vec(), 0o644),
        ([TOKEN.as_bytes(), &[0xff]].concat(), 0o600),
        (TOKEN.repeat(10_000).into_bytes(), 0o600),
        (format!("{TOKEN}\n{TOKEN}").into_bytes(), 0o600),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        uses(VaultToken::file(&file)).await;
    }
}

async fn pinned_pair(path: &Path) -> PinnedKms {
    let pair = Arc::new(LocalKeyPair::open(path, &PASSPHRASE.into()).unwrap());
    let error = pair.decrypt(&1.into(), SECRET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    pinned(pair).await.unwrap()
}

impl Captured {
    /// Keeps what a call that has to fail said.
    fn failed<T>(&self, result: Result<T, Error>) {
        match result {
            Err(error) => self.error(&error),
            Ok(_) => panic!("it went well"),
        }
    }
}

/// What an audit shows.
struct Audited(Captured);

impl std::fmt::Debug for Audited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audited")
    }
}

impl Auditor for Audited {
    fn record(&self, entry: AuditEntry<'_>) {
        self.0.debug(&entry);
    }
}
