//! Typed columns through an encryptor, and through a real table.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use zk_crypto::{Column, Encryptor, EncryptorConfig, ErrorKind, MemoryKeyStore, Scope};
use zk_kms::LocalKms;

const NAME: Column<String> = Column::new("public.people", "name");
const ALIAS: Column<String> = Column::new("public.people", "alias");
const SALARY: Column<i32> = Column::new("public.people", "salary");

async fn world() -> (Encryptor, Scope, Scope) {
    let kms = Arc::new(LocalKms::ephemeral("test").unwrap());
    let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default()).unwrap();
    let scopes = (Scope::tenant("a").unwrap(), Scope::tenant("b").unwrap());
    encryptor.create_key(&scopes.0).await.unwrap();
    encryptor.create_key(&scopes.1).await.unwrap();
    (encryptor, scopes.0, scopes.1)
}

#[tokio::test]
async fn a_value_opens_in_its_own_place_only() {
    let (encryptor, a, b) = world().await;
    let sealed = NAME.seal(&encryptor, &a, 1, &"Zoë".to_owned()).await.unwrap();
    assert_eq!(NAME.open(&encryptor, &a, "1", &sealed).await.unwrap(), "Zoë");
    for refused in [
        NAME.open(&encryptor, &a, 2, &sealed).await,
        NAME.open(&encryptor, &b, 1, &sealed).await,
        ALIAS.open(&encryptor, &a, 1, &sealed).await,
        Column::new("public.dogs", "name").open(&encryptor, &a, 1, &sealed).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Open);
    }
}

/// The tenant is in the context too, not only in the choice of the key.
#[tokio::test]
async fn the_scope_is_the_tenant_of_the_context() {
    let (encryptor, a, b) = world().await;
    assert_ne!(NAME.context(&a, 1), NAME.context(&b, 1));
    let sealed = encryptor.seal(&a, &NAME.context(&b, 1), b"x").await.unwrap();
    assert_eq!(NAME.open(&encryptor, &a, 1, &sealed).await.unwrap_err().kind(), ErrorKind::Open);
}

#[tokio::test]
async fn another_type_is_not_taken_for_the_value() {
    let (encryptor, a, _) = world().await;
    let as_text: Column<String> = Column::new("public.people", "salary");
    let sealed = as_text.seal(&encryptor, &a, 1, &"much".to_owned()).await.unwrap();
    let error = SALARY.open(&encryptor, &a, 1, &sealed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!error.to_string().contains("much"));
}

#[tokio::test]
async fn a_result_set_opens_in_one_batch_under_many_keys() {
    let (encryptor, a, _) = world().await;
    let mut rows = Vec::new();
    for row in 0..30i32 {
        if row % 10 == 0 {
            encryptor.rotate_key(&a).await.unwrap();
        }
        let sealed = SALARY.seal(&encryptor, &a, row, &(row * 1000)).await.unwrap();
        rows.push((row, (row % 7 != 0).then_some(sealed)));
    }
    let opened = SALARY.open_many(&encryptor, &a, &rows).await.unwrap();
    let expected: Vec<_> = (0..30).map(|row| (row % 7 != 0).then_some(row * 1000)).collect();
    assert_eq!(opened, expected);
    let values: Vec<_> = (0..30).map(|row| (row, row)).collect();
    let sealed = SALARY.seal_many(&encryptor, &a, &values).await.unwrap();
    let again: Vec<_> = (0..30).zip(sealed.into_iter().map(Some)).collect();
    assert_eq!(
        SALARY.open_many(&encryptor, &a, &again).await.unwrap(),
        (0..30).map(Some).collect::<Vec<_>>()
    );
    let swapped = [(rows[1].0, rows[2].1.clone())];
    assert_eq!(SALARY.open_many(&encryptor, &a, &swapped).await.unwrap_err().kind(), ErrorKind::Open);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_result_set_of_a_server_opens() {
    let (encryptor, a, _) = world().await;
    let database = testkit::Database::create().await.unwrap();
    let client = database.connect().await.unwrap();
    client.batch_execute("CREATE TABLE people (id bigint PRIMARY KEY, name bytea)").await.unwrap();
    for (id, name) in [(1i64, Some("Ann")), (2, None), (3, Some("Mei"))] {
        let mut sealed = None;
        if let Some(name) = name {
            sealed = Some(NAME.seal(&encryptor, &a, id, &name.to_owned()).await.unwrap());
        }
        client.execute("INSERT INTO people VALUES ($1, $2)", &[&id, &sealed]).await.unwrap();
    }
    let rows = client.query("SELECT id, name FROM people ORDER BY id", &[]).await.unwrap();
    let rows: Vec<(i64, Option<zk_crypto::Sealed>)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let names = NAME.open_many(&encryptor, &a, &rows).await.unwrap();
    assert_eq!(names, [Some("Ann".to_owned()), None, Some("Mei".to_owned())]);
}
