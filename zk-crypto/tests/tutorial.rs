//! The tutorial of the manual, run on a real server: every block of code of `docs/src/tutorial-sealing.md` stands here, in
//! its order, and what the chapter says of it is asserted.
#![cfg(all(feature = "index", feature = "postgres", feature = "recipient"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    error::Error,
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use testkit::Database;
use zk_crypto::{
    Column, Context, Encryptor, EncryptorConfig, ErrorKind, IndexSpec, Kem, Migration, Normalizer,
    PostgresKeyStore, RecipientKey, Reseal, Scope, Sealed, SlowHash, WriteOnly, retire_key,
    stream::StreamHeader,
};
use zk_kms::{LocalKms, PassphraseCost};

#[tokio::test]
async fn the_tutorial_holds() {
    let database = Database::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    story(&database, folder.path()).await.unwrap();
}

async fn story(database: &Database, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut client = database.connect().await?;
    let pool = database.pool("postgres", database.cluster().superuser_password());
    let (ring, passphrase) = (folder.join("ring"), "correct horse battery staple".into());
    let cost = PassphraseCost::new(64, 1, 1)?;

    // A key in the KMS, and one for each tenant
    let kms = LocalKms::create(&ring, "crm", &passphrase, cost)?;
    PostgresKeyStore::install(&client).await?;
    let store = PostgresKeyStore::new(pool);
    let encryptor = Encryptor::new(Arc::new(kms), Arc::new(store), EncryptorConfig::default())?;

    let acme = Scope::tenant("acme")?;
    encryptor.ensure_key(&acme).await?;

    // A column
    const IBAN: Column<String> = Column::new("public.customers", "iban");
    const SALARY: Column<i64> = Column::new("public.customers", "salary_sealed");

    let table = "CREATE TABLE customers (id bigint PRIMARY KEY, tenant text NOT NULL, salary bigint,
        iban bytea CHECK (octet_length(iban) >= 57 AND get_byte(iban, 0) IN (1, 2)))";
    client.batch_execute(table).await?;

    let insert = "INSERT INTO customers (id, tenant, salary, iban) VALUES ($1, 'acme', $2, $3)";
    for (id, salary, iban) in
        [(42_i64, 48_000_i64, "DE02120300000000202051"), (43, 51_000, "DE02500105170137075030")]
    {
        let sealed = IBAN.seal(&encryptor, &acme, id, &iban.to_owned()).await?;
        client.execute(insert, &[&id, &salary, &sealed]).await?;
    }

    let row = client.query_one("SELECT iban FROM customers WHERE id = 42", &[]).await?;
    let sealed: Sealed = row.get(0);
    assert_eq!(IBAN.open(&encryptor, &acme, 42, &sealed).await?, "DE02120300000000202051");

    let error = IBAN.open(&encryptor, &acme, 43, &sealed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open);
    assert_eq!(error.to_string(), "the value does not open with this scope, context and key");

    let rows = client.query("SELECT id, iban FROM customers ORDER BY id", &[]).await?;
    let rows: Vec<(i64, Option<Sealed>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let opened = IBAN.open_many(&encryptor, &acme, &rows).await?;
    assert_eq!(opened[1].as_deref(), Some("DE02500105170137075030"));

    // Search
    let spec = || IndexSpec::unique("public.customers", "iban").normalize(Normalizer::CaseFold);
    let index = spec().plan()?;
    println!("{}", index.leakage_report());
    assert!(spec().possible(1_000_000_000).plan().is_err(), "few enough to try all of them");
    assert!(spec().possible(1_000_000_000).slow(SlowHash::default()).plan().is_ok());

    let columns = "ALTER TABLE customers ADD iban_odd bytea UNIQUE, ADD iban_even bytea UNIQUE";
    client.batch_execute(columns).await?;
    index.ensure_key(&encryptor, &acme).await?;
    let indexer = index.indexer(&encryptor, &acme).await?;
    for ((id, _), iban) in rows.iter().zip(&opened) {
        let tokens = indexer.pair(&[iban.as_deref().unwrap_or_default()])?;
        let update = "UPDATE customers SET iban_odd = $2, iban_even = $3 WHERE id = $1";
        client.execute(update, &[id, &tokens.odd, &tokens.even]).await?;
    }

    let wanted = indexer.pair(&["de02500105170137075030"])?;
    let find = "SELECT id FROM customers WHERE iban_odd = $1 OR iban_even = $2";
    let found = client.query_one(find, &[&wanted.odd, &wanted.even]).await?;
    assert_eq!(found.get::<_, i64>(0), 43);

    // A column that is there already
    let migration = Migration::new(("public", "customers"), "id", "salary", "salary_sealed", acme.clone())?
        .only("tenant", "acme");
    migration.prepare(&client).await?;
    assert_eq!(migration.seal(&mut client, &encryptor).await?, 2);
    assert_eq!(migration.verify(&mut client, &encryptor).await?, 2);
    migration.cut_over(&mut client).await?;
    migration.erase(&mut client, &encryptor).await?;

    let row = client.query_one("SELECT salary, salary_sealed FROM customers WHERE id = 42", &[]).await?;
    assert_eq!(row.get::<_, Option<i64>>(0), None);
    assert_eq!(SALARY.open(&encryptor, &acme, 42, &row.get(1)).await?, 48_000);

    // A new key
    let old = encryptor.active_key(&acme).await?;
    encryptor.rotate_key(&acme).await?;
    let job = |column: Column<()>| {
        let scope = acme.clone();
        Reseal::new(("public", "customers"), "id", column.name(), acme.clone())
            .context(move |row| column.context(&scope, row))
    };
    let iban = job(Column::new(IBAN.table(), IBAN.name()));
    let salary = job(Column::new(SALARY.table(), SALARY.name()));
    assert_eq!(iban.run(&mut client, &encryptor).await?, 2);

    let error = retire_key(&mut client, &encryptor, old, &[&iban, &salary]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "two salaries are still under it");
    salary.run(&mut client, &encryptor).await?;
    retire_key(&mut client, &encryptor, old, &[&iban, &salary]).await?;

    // Who only writes
    let auditor = RecipientKey::generate(Kem::XWing)?;
    let writer = WriteOnly::new(acme.clone(), [auditor.recipient().clone()])?;
    let place = Context::purpose("audit").row("2026-11-27/1");
    let entry = writer.seal(&place, b"omar opened customer 42")?;
    assert_eq!(auditor.open(&acme, &place, &entry)?.as_slice(), b"omar opened customer 42");

    // Files
    let place = Context::purpose("export").row("2026-11");
    let mut writer = encryptor.stream_sealer(&acme, &place).await?.writer(Vec::new());
    writer.write_all(&[7; 100_000])?;
    let file = writer.finish()?;

    let mut input = file.as_slice();
    let header = StreamHeader::read_from(&mut input)?;
    let mut text = Vec::new();
    encryptor.stream_opener(&acme, &place, &header).await?.reader(input).read_to_end(&mut text)?;
    assert_eq!(text, [7; 100_000]);

    // Forgetting a tenant
    encryptor.destroy_scope(&acme).await?;
    encryptor.destroy_scope(&index.key_scope(&acme)?).await?;
    let row = client.query_one("SELECT iban FROM customers WHERE id = 42", &[]).await?;
    let error = IBAN.open(&encryptor, &acme, 42, &row.get(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destroyed);
    Ok(())
}

/// Each block of the chapter is here as it stands there, one after the other.
#[test]
fn the_tutorial_shows_what_runs() {
    let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/tutorial-sealing.md");
    let (chapter, code) = (std::fs::read_to_string(chapter).unwrap(), include_str!("tutorial.rs"));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (code, mut at, mut blocks) = (words(code), 0, 0);
    for block in chapter.split("```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').unwrap();
        assert_eq!(kind, "rust", "a block that no test runs");
        let block = words(text);
        let found = code[at..].windows(block.len()).position(|window| window == block);
        at += found.unwrap_or_else(|| panic!("not run, or not in this order:\n{text}")) + block.len();
        blocks += 1;
    }
    assert_eq!(blocks, 19);
}
