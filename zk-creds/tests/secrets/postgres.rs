//! Sealed secrets on a real server.

use std::sync::Arc;

use testkit::Database;
use zk_creds::ErrorKind;
use zk_creds::secret::{PostgresSecrets, SecretName, SecretStore, Stage};
use zk_crypto::{Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
use zk_kms::LocalKms;

use crate::harness;

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_laws() {
    let (_database, store) = store().await;
    harness::run("PostgreSQL", &store, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_shows_no_secret() {
    let (database, store) = store().await;
    let name = SecretName::new("key").unwrap();
    let marked = "marked-9f1c";
    let first = store.create(&name, &marked.into()).await.unwrap();
    store.put(&name, &marked.into(), &first).await.unwrap();
    store.stage(&name, &marked.into()).await.unwrap();
    let client = database.connect().await.unwrap();
    let row = client
        .query_one(
            "SELECT count(*), bool_or(position($1::bytea IN sealed) > 0) FROM zk.secrets",
            &[&marked.as_bytes()],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (1, false));
    assert!(!database.cluster().log().contains(marked), "the server's log shows the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_opens_nowhere_else_and_at_no_other_revision() {
    let (database, store) = store().await;
    let (a, b) = (SecretName::new("a").unwrap(), SecretName::new("b").unwrap());
    store.create(&a, &"one".into()).await.unwrap();
    store.create(&b, &"two".into()).await.unwrap();
    for damage in [
        "UPDATE zk.secrets b SET revision = a.revision, sealed = a.sealed FROM zk.secrets a WHERE a.name = 'a' AND b.name = 'b'",
        "UPDATE zk.secrets SET revision = revision + 1 WHERE name = 'b'",
        "UPDATE zk.secrets SET sealed = set_byte(sealed, 50, get_byte(sealed, 50) # 1) WHERE name = 'b'",
        "UPDATE zk.secrets SET sealed = ''",
    ] {
        database.execute(damage).await.unwrap();
        assert_eq!(store.read(&b, Stage::Current).await.unwrap_err().kind(), ErrorKind::Corrupt, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_trigger_is_not_used() {
    let (database, store) = store().await;
    let name = SecretName::new("key").unwrap();
    let trap = "CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER trap BEFORE INSERT ON zk.secrets FOR EACH ROW EXECUTE FUNCTION public.trap()";
    database.execute(trap).await.unwrap();
    assert_eq!(store.create(&name, &"one".into()).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_without_a_key_says_what_to_do() {
    let (_database, store) = store_with(false).await;
    let error = store.create(&SecretName::new("key").unwrap(), &"one".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert!(error.to_string().contains("ensure_key"));
}

async fn store() -> (Database, PostgresSecrets) {
    store_with(true).await
}

async fn store_with(key: bool) -> (Database, PostgresSecrets) {
    let database = Database::create().await.unwrap();
    let mut client = database.connect().await.unwrap();
    PostgresSecrets::install(&mut client).await.unwrap();
    PostgresSecrets::install(&mut client).await.unwrap();
    let superuser = database.superuser();
    let password = String::from_utf8(superuser.get_password().unwrap().to_vec()).unwrap();
    let pool = database.pool(superuser.get_user().unwrap(), &password);
    let kms = Arc::new(LocalKms::ephemeral("secrets").unwrap());
    let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default()).unwrap();
    let scope = Scope::new("secrets").unwrap();
    if key {
        encryptor.ensure_key(&scope).await.unwrap();
    }
    (database, PostgresSecrets::new(pool, Arc::new(encryptor), scope))
}
