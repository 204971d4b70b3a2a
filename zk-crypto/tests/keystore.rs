//! Every key store keeps the same laws, PostgreSQL on a real server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

#[cfg(unix)]
use zk_crypto::FileKeyStore;
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, ErrorKind, KeyState, KeyStore, MemoryKeyStore, Scope,
    ScopedKeyStore, testing,
};
use zk_kms::LocalKms;

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test] async fn $law() {
                testing::$law(&MemoryKeyStore::new()).await.unwrap();
            })*
        }
        mod scoped {
            use super::*;
            $(#[tokio::test] async fn $law() {
                let store = ScopedKeyStore::new(Arc::new(MemoryKeyStore::new()), ["*"]).unwrap();
                testing::$law(&store).await.unwrap();
            })*
        }
        #[cfg(unix)]
        mod file {
            use super::*;
            $(#[tokio::test] async fn $law() {
                let folder = tempfile::tempdir().unwrap();
                let store = FileKeyStore::create(folder.path().join("keys")).unwrap();
                testing::$law(&store).await.unwrap();
            })*
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $law() {
                let (_database, store) = server::store().await;
                testing::$law(&store).await.unwrap();
            })*
        }
    };
}

laws!(
    a_minimum_holds_for_its_scope,
    records_come_back,
    rotation_retires_the_former_key,
    generations_are_consecutive,
    rewrapping_compares,
    states_compare,
    one_key_is_active,
    destroying_wipes,
);

/// What a service may not use, it cannot open, list, rotate or destroy, and no KMS is asked.
#[tokio::test]
async fn keys_of_other_scopes_are_refused() {
    let kms = Arc::new(LocalKms::ephemeral("k").unwrap());
    let whole: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::new());
    let owner = Encryptor::new(kms.clone(), whole.clone(), EncryptorConfig::default()).unwrap();
    let [tenant, payroll] = ["tenant:7", "payroll"].map(|scope| Scope::new(scope).unwrap());
    let (ours, theirs) =
        (owner.create_key(&tenant).await.unwrap(), owner.create_key(&payroll).await.unwrap());
    let place = Context::purpose("test");
    let sealed = owner.seal(&payroll, &place, b"x").await.unwrap();

    let store = Arc::new(ScopedKeyStore::new(whole.clone(), ["billing", "tenant:*"]).unwrap());
    let service = Encryptor::new(kms, store.clone(), EncryptorConfig::default()).unwrap();
    service.seal(&tenant, &place, b"x").await.unwrap();
    for refused in [
        service.seal(&payroll, &place, b"x").await.map(drop),
        service.open(&payroll, &place, &sealed).await.map(drop),
        service.open(&tenant, &place, &sealed).await.map(drop),
        service.create_key(&payroll).await.map(drop),
        store.destroy(theirs).await,
        store.set_state(theirs, KeyState::Active, KeyState::Disabled).await,
        store.set_minimum(&payroll, 0, 1).await,
        store.list(Some(&payroll)).await.map(drop),
        store.by_id(theirs).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    }
    let listed: Vec<_> = store.list(None).await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(listed, [ours]);
    let listed: Vec<_> = store.list_each().await.unwrap().into_iter().map(|each| each.unwrap().id).collect();
    assert_eq!(listed, [ours]);
    assert_eq!(whole.list(None).await.unwrap().len(), 2);
    for wrong in ["", "a b", "a*b", "**", "tenant:*x"] {
        let refused = ScopedKeyStore::new(whole.clone(), [wrong]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{wrong}");
    }
}

#[cfg(feature = "postgres")]
mod server {
    use std::sync::Arc;

    use zk_crypto::{
        Access, Encryptor, EncryptorConfig, ErrorKind, JobControl, KeyState, KeyStore, PostgresKeyStore,
        Scope, ScopedKeyStore,
    };
    use zk_kms::LocalKms;

    pub(crate) async fn store() -> (testkit::Database, PostgresKeyStore) {
        let database = testkit::Database::create().await.unwrap();
        let client = database.connect().await.unwrap();
        PostgresKeyStore::install(&client).await.unwrap();
        let superuser = database.superuser();
        let password = String::from_utf8(superuser.get_password().unwrap().to_vec()).unwrap();
        let store = PostgresKeyStore::new(database.pool(superuser.get_user().unwrap(), &password));
        (database, store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn installing_is_idempotent_and_concurrent() {
        let database = testkit::Database::create().await.unwrap();
        let (a, b) = (database.connect().await.unwrap(), database.connect().await.unwrap());
        let (first, second) = tokio::join!(PostgresKeyStore::install(&a), PostgresKeyStore::install(&b));
        first.unwrap();
        second.unwrap();
        PostgresKeyStore::install(&a).await.unwrap();
    }

    /// Whoever can write the table can break a row: the keys in the others are wrapped again all the same.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_broken_row_keeps_no_other_key_from_being_wrapped_again() {
        let (database, store) = store().await;
        let store: Arc<dyn KeyStore> = Arc::new(store);
        let kms = Arc::new(LocalKms::ephemeral("k").unwrap());
        let encryptor = Encryptor::new(kms.clone(), store.clone(), EncryptorConfig::default()).unwrap();
        let mut ids = Vec::new();
        for scope in ["a", "b", "c"] {
            ids.push(encryptor.create_key(&Scope::new(scope).unwrap()).await.unwrap());
        }
        let client = database.connect().await.unwrap();
        let broken = "UPDATE zk.data_keys SET wrapped = '\\x00' WHERE scope = 'a'";
        client.execute(broken, &[]).await.unwrap();
        kms.rotate().unwrap();
        assert_eq!(store.list(None).await.unwrap_err().kind(), ErrorKind::Corrupt);
        let scoped: Arc<dyn KeyStore> = Arc::new(ScopedKeyStore::new(store, ["b"]).unwrap());
        let only_b = Encryptor::new(kms, scoped, EncryptorConfig::default()).unwrap();
        for (encryptor, counts) in [(&only_b, (2, 1, 0, 1)), (&encryptor, (3, 1, 1, 1))] {
            let mut done = zk_crypto::Rewrapped::default();
            let error = encryptor.rewrap_keys(|so_far| done = *so_far).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(&ids[0].to_string()), "{error}");
            assert_eq!((done.total, done.rewrapped, done.current, done.failed), counts);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn concurrent_rotations_have_one_winner_each() {
        let (_database, store) = store().await;
        let store = Arc::new(store);
        let kms = Arc::new(LocalKms::ephemeral("k").unwrap());
        let scope = Scope::new("s").unwrap();
        let make =
            || Arc::new(Encryptor::new(kms.clone(), store.clone(), EncryptorConfig::default()).unwrap());
        make().create_key(&scope).await.unwrap();
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                let (encryptor, scope) = (make(), scope.clone());
                tokio::spawn(async move { encryptor.rotate_key(&scope).await })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(
                    error.kind(),
                    ErrorKind::Conflict,
                    "{error} {:?}",
                    std::error::Error::source(&error)
                ),
            }
        }
        let keys = store.list(Some(&scope)).await.unwrap();
        assert_eq!(keys.iter().map(|k| k.generation).collect::<Vec<_>>(), (1..=won + 1).collect::<Vec<_>>());
        assert_eq!(keys.iter().filter(|k| k.state == KeyState::Active).count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn roles_get_what_they_were_given() {
        let (database, owner) = store().await;
        let kms = Arc::new(LocalKms::ephemeral("k").unwrap());
        let scope = Scope::new("s").unwrap();
        Encryptor::new(kms, Arc::new(owner), EncryptorConfig::default())
            .unwrap()
            .create_key(&scope)
            .await
            .unwrap();
        let client = database.connect().await.unwrap();
        // A name that only survives with quotes.
        for (suffix, access, may_write) in
            [("\"r; --", Some(Access::Read), false), ("w", Some(Access::Write), true), ("n", None, false)]
        {
            let role = testkit::unique_name("Role") + suffix;
            let quoted = format!("\"{}\"", role.replace('"', "\"\""));
            client
                .batch_execute(&format!("CREATE ROLE {quoted} LOGIN PASSWORD 'correct-horse'"))
                .await
                .unwrap();
            if let Some(access) = access {
                PostgresKeyStore::grant(&client, &role, access).await.unwrap();
            }
            let store = PostgresKeyStore::new(database.pool(&role, "correct-horse"));
            let read = store.active(&scope).await;
            if access.is_none() {
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Denied);
                continue;
            }
            let id = read.unwrap().unwrap().id;
            let write = store.set_state(id, KeyState::Active, KeyState::Active).await;
            assert_eq!(write.is_ok(), may_write);
            assert!(may_write || write.unwrap_err().kind() == ErrorKind::Denied);
            let direct = database.connect_as(&role, "correct-horse").await.unwrap();
            assert!(direct.execute("DELETE FROM zk.data_keys", &[]).await.is_err());
        }
    }

    /// The owner of a table chooses the triggers that run as whoever writes to it.
    #[tokio::test(flavor = "multi_thread")]
    async fn tables_of_a_stranger_are_refused() {
        let database = testkit::Database::create().await.unwrap();
        let client = database.connect().await.unwrap();
        let [stranger, group] = ["stranger", "group"].map(testkit::unique_name);
        let roles = format!("CREATE ROLE {stranger} LOGIN; CREATE ROLE {group}");
        client.batch_execute(&roles).await.unwrap();
        let schema = format!("CREATE SCHEMA zk AUTHORIZATION {stranger}");
        client.batch_execute(&schema).await.unwrap();
        for refused in [PostgresKeyStore::install(&client).await, JobControl::install(&client).await] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(&stranger), "{error}");
        }
        let ours = "ALTER SCHEMA zk OWNER TO postgres; DROP TABLE zk.data_keys, zk.key_minimums, zk.jobs";
        client.batch_execute(ours).await.unwrap();
        PostgresKeyStore::install(&client).await.unwrap();
        let table = format!("ALTER TABLE zk.key_minimums OWNER TO {stranger}");
        client.batch_execute(&table).await.unwrap();
        assert_eq!(PostgresKeyStore::install(&client).await.unwrap_err().kind(), ErrorKind::Denied);
        JobControl::install(&client).await.unwrap();

        // A role that nobody can log in as belongs to those who may be it.
        let member = testkit::unique_name("member");
        let give = format!(
            "CREATE ROLE {member} LOGIN PASSWORD 'correct-horse' IN ROLE {group};
             GRANT CREATE ON DATABASE {} TO {group};
             ALTER SCHEMA zk OWNER TO {group}; ALTER TABLE zk.data_keys OWNER TO {group};
             ALTER TABLE zk.key_minimums OWNER TO {group}",
            database.name()
        );
        client.batch_execute(&give).await.unwrap();
        let client = database.connect_as(&member, "correct-horse").await.unwrap();
        PostgresKeyStore::install(&client).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_that_cannot_be_sent_is_the_callers_mistake() {
        let (database, _store) = store().await;
        let client = database.connect().await.unwrap();
        let error = PostgresKeyStore::grant(&client, "a\0b", Access::Read).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("NUL"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_missing_table_says_what_to_call() {
        let database = testkit::Database::create().await.unwrap();
        let superuser = database.superuser();
        let password = String::from_utf8(superuser.get_password().unwrap().to_vec()).unwrap();
        let store = PostgresKeyStore::new(database.pool(superuser.get_user().unwrap(), &password));
        let error = store.list(None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("PostgresKeyStore::install"));
        assert!(!format!("{store:?}{error:?}").contains(&password));
    }
}
