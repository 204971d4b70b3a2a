//! Nothing that this crate gives out prints a secret: every public type, made of secrets that are known here, is shown, and
//! none of them is found in it. A type that is added to the crate has to be added here.
#![cfg(all(
    unix,
    feature = "index",
    feature = "postgres",
    feature = "recipient",
    feature = "serde",
    feature = "tokio"
))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fmt::Debug, io::Write, sync::Arc, time::SystemTime};

use data_encoding::{BASE64, HEXLOWER};
use hkdf::Hkdf;
use sha2::Sha256;
use zk_crypto::{
    Access, AfterFailure, Column, Context, Encryptor, EncryptorConfig, ErrorKind, FileKeyStore, Hazard,
    IndexSpec, JobControl, Json, Kem, KeyId, KeyRecord, KeyState, KeyStore, KmsWriter, MemoryKeyStore,
    Migration, Normalizer, PostgresKeyStore, RecipientKey, Reindex, Reseal, Rewrapped, Scope, ScopedKeyStore,
    SlowHash, Suite, WriteOnly, clock::SystemClock, testing::ManualClock,
};
use zk_kms::{DataKey, Kms, LocalKms};

const TEXT: &[u8] = b"a text that nobody may see";
const PASSWORD: &str = "a password for the database";
const CLAIM: &str = "a claim of the session";

/// Types that nobody outside of the crate can make: numbers, states and names.
const NOT_MADE_HERE: [&str; 3] = ["JobStatus", "Progress", "Broken"];
/// Traits and constants.
const NOT_SHOWN: [&str; 6] = ["Value", "KeyStore", "Kms", "JobSession", "ReadAt", "Clock"];

#[tokio::test]
async fn no_public_type_shows_a_secret() {
    let (shown, secrets) = world().await;
    for (name, text) in &shown {
        assert!(!text.is_empty());
        for (what, secret) in &secrets {
            for form in forms(secret) {
                assert!(!text.contains(&form), "{name} shows {what}: {text}");
            }
        }
    }
    let missing: Vec<String> = public_types()
        .into_iter()
        .filter(|name| !shown.contains_key(name.as_str()))
        .filter(|name| !NOT_MADE_HERE.contains(&name.as_str()) && !NOT_SHOWN.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "public types that this test does not show: {missing:?}");
    assert!(shown.len() > 45, "{} types", shown.len());
}

/// A secret as text, hexadecimal, base64, and as Rust prints bytes: the beginning of each is enough to be found.
fn forms(secret: &[u8]) -> Vec<String> {
    let numbers: Vec<String> = secret.iter().take(8).map(u8::to_string).collect();
    let mut forms = vec![
        HEXLOWER.encode(&secret[..8]),
        HEXLOWER.encode(&secret[..8]).to_uppercase(),
        BASE64.encode(&secret[..9]),
        numbers.join(", "),
    ];
    forms.extend(std::str::from_utf8(secret).map(str::to_owned));
    forms
}

/// What the crate exports with a name that begins as types do.
fn public_types() -> Vec<String> {
    let sources = [
        include_str!("../src/lib.rs"),
        include_str!("../src/stream.rs"),
        include_str!("../src/testing.rs"),
        include_str!("../src/clock.rs"),
    ];
    let mut names = Vec::new();
    for source in sources {
        for exported in source.split("\npub use ").skip(1).map(|rest| rest.split_once(';').unwrap().0) {
            names.extend(exported.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
        for kind in ["\npub struct ", "\npub enum "] {
            let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
            names.extend(source.split(kind).skip(1).map(name));
        }
    }
    names.retain(|name| name.chars().next().is_some_and(char::is_uppercase));
    names.retain(|name| name.chars().any(char::is_lowercase));
    names
}

type Shown = BTreeMap<&'static str, String>;
type Secrets = Vec<(&'static str, Vec<u8>)>;

async fn world() -> (Shown, Secrets) {
    let (data_key, index_key) = ([0xd1; 32], [0xe2; 32]);
    let derived = |key: &[u8], info: &[u8]| {
        let mut out = vec![0; 32];
        Hkdf::<Sha256>::new(Some(b"zk-crypto v1"), key).expand(info, &mut out).unwrap();
        out
    };
    let secret_key = RecipientKey::generate(Kem::X25519).unwrap();
    let secrets = vec![
        ("the plaintext", TEXT.to_vec()),
        ("the password", PASSWORD.as_bytes().to_vec()),
        ("the claim", CLAIM.as_bytes().to_vec()),
        ("the data key", data_key.to_vec()),
        ("the key of the index", index_key.to_vec()),
        ("the first sealing key", derived(&data_key, b"seal\x01")),
        ("the second sealing key", derived(&data_key, b"seal\x02")),
        ("the key of streams", derived(&data_key, b"stream")),
        ("the root of the index", derived(&index_key, b"index")),
        ("the private key", secret_key.to_bytes().to_vec()),
    ];

    let mut shown = Shown::new();
    let mut show = |name, value: &dyn Debug| drop(shown.insert(name, format!("{value:?} {value:#?}")));
    let scope = Scope::tenant("7").unwrap();
    let index = IndexSpec::unique("public.people", "name");
    show("IndexSpec", &index);
    let index = index.plan().unwrap();
    let (kms, store) = (Arc::new(LocalKms::ephemeral("secrets").unwrap()), Arc::new(MemoryKeyStore::new()));
    for (key, scope) in [(data_key, scope.clone()), (index_key, index.key_scope(&scope).unwrap())] {
        let record = record(&kms, &key, scope).await;
        show("WrappedKey", record.wrapped.as_ref().unwrap());
        show("KeyRecord", &record);
        store.insert(&record).await.unwrap();
    }
    show("MemoryKeyStore", &store);
    show("ScopedKeyStore", &ScopedKeyStore::new(store.clone(), ["tenant:*"]).unwrap());
    let config = EncryptorConfig::default();
    show("EncryptorConfig", &config);
    let encryptor = Encryptor::new(kms.clone(), store.clone(), config).unwrap();
    let place = Context::column("public.people", "name").row("1");
    let sealed = encryptor.seal(&scope, &place, TEXT).await.unwrap();
    let opened = encryptor.open(&scope, &place, &sealed).await.unwrap();
    assert_eq!(*opened, TEXT);
    show("Plaintext", &opened);
    show("Sealed", &sealed);
    let error = encryptor.open(&scope, &Context::default(), &sealed).await.unwrap_err();
    show("Error", &error);
    show("ErrorKind", &error.kind());
    show("KeyId", &sealed.key_id());
    show("Context", &place);
    show("Scope", &scope);
    show("Suite", &Suite::default());
    show("KeyState", &KeyState::Active);
    show("Rewrapped", &Rewrapped::default());
    show("Column", &Column::<String>::new("public.people", "name"));
    show("Json", &Json(std::str::from_utf8(TEXT).unwrap()));
    show("Sealer", &encryptor.sealer(&scope).await.unwrap());
    show("SystemClock", &SystemClock::new());
    show("ManualClock", &ManualClock::new());

    streams(&encryptor, &scope, &place, &mut show).await;

    let indexer = index.indexer(&encryptor, &scope).await.unwrap();
    let text = std::str::from_utf8(TEXT).unwrap();
    show("BlindIndex", &index);
    show("Leakage", &index.leakage_report());
    show("Hazard", &Hazard::Guessable);
    show("Normalizer", &Normalizer::Email);
    show("SlowHash", &SlowHash::default());
    show("Token", &indexer.token(&[text]).unwrap());
    show("TokenPair", &indexer.pair(&[text]).unwrap());
    show("Indexer", &indexer);

    let writer = WriteOnly::new(scope.clone(), [secret_key.recipient().clone()]).unwrap();
    let portable = writer.seal(&place, TEXT).unwrap();
    assert_eq!(*secret_key.open(&scope, &place, &portable).unwrap(), TEXT);
    show("Portable", &portable);
    show("WriteOnly", &writer);
    show("KmsWriter", &KmsWriter::new(scope.clone(), [kms as Arc<dyn Kms>]).unwrap());
    show("Kem", &Kem::XWing);
    show("Recipient", secret_key.recipient());
    show("RecipientKey", &secret_key);

    let mut database = tokio_postgres::Config::new();
    database.user("somebody").password(PASSWORD).host("127.0.0.1");
    let manager = deadpool_postgres::Manager::new(database, tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).build().unwrap();
    show("PostgresKeyStore", &PostgresKeyStore::new(pool));
    show("Access", &Access::Write);
    let table = ("public", "people");
    let claims = [("zk.user", CLAIM)];
    show("Reseal", &Reseal::new(table, "id", "name", scope.clone()).settings(claims));
    let reindex = Reindex::filter(table, "id", "name", "token", &index, scope.clone());
    show("Reindex", &reindex.only("owner", CLAIM).settings(claims));
    let migration = Migration::new(table, "id", "plain", "name", scope.clone()).unwrap();
    show("Migration", &migration.only("owner", CLAIM).settings(claims));
    show("JobControl", &JobControl::new("a job").unwrap());
    show("AfterFailure", &AfterFailure::Skip);
    let folder = tempfile::tempdir().unwrap();
    show("FileKeyStore", &FileKeyStore::create(folder.path().join("keys")).unwrap());
    show("Encryptor", &encryptor);
    // A failure of the other side, with what it says behind ours.
    let error = encryptor.open(&Scope::new("other").unwrap(), &place, &sealed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open);
    show("Error of another scope", &error);
    (shown, secrets)
}

async fn streams(
    encryptor: &Encryptor,
    scope: &Scope,
    place: &Context,
    show: &mut impl FnMut(&'static str, &dyn Debug),
) {
    let sealer = encryptor.stream_sealer(scope, place).await.unwrap();
    show("StreamHeader", sealer.header());
    show("StreamSealer", &sealer);
    let mut writer = sealer.writer(Vec::new());
    writer.write_all(TEXT).unwrap();
    show("StreamWriter", &writer);
    let sealed = writer.finish().unwrap();
    let header = zk_crypto::stream::StreamHeader::read_from(sealed.as_slice()).unwrap();
    let opener = async || encryptor.stream_opener(scope, place, &header).await.unwrap();
    show("StreamOpener", &opener().await);
    let body = &sealed[zk_crypto::stream::StreamHeader::LEN..];
    let mut reader = opener().await.reader(body);
    std::io::Read::read(&mut reader, &mut [0; 8]).unwrap();
    show("StreamReader", &reader);
    show("StreamAt", &opener().await.at(sealed.as_slice()).unwrap());
    show("AsyncStreamReader", &opener().await.async_reader(body));
    let sealer = encryptor.stream_sealer(scope, place).await.unwrap();
    show("AsyncStreamWriter", &sealer.async_writer(Vec::new()));
}

async fn record(kms: &LocalKms, key: &[u8], scope: Scope) -> KeyRecord {
    let key = DataKey::from_slice(key).unwrap();
    let id = KeyId::of(&key).unwrap();
    let context = zk_kms::Context::new()
        .with("scope", scope.as_str())
        .and_then(|context| context.with("generation", "1"))
        .and_then(|context| context.with("key", id.to_string()))
        .unwrap();
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    KeyRecord::new(id, scope, 1, wrapped, SystemTime::UNIX_EPOCH)
}
