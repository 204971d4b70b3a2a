//! Search and UNIQUE on sealed columns, on a real server, also while the key of the index rotates.
#![cfg(all(feature = "index", feature = "postgres"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_postgres::{Client, error::SqlState};
use zk_crypto::{
    AfterFailure, BlindIndex, Column, Encryptor, EncryptorConfig, ErrorKind, Hazard, IndexSpec, Indexer,
    MemoryKeyStore, Normalizer, Reindex, Scope, Sealed, testing::ManualClock,
};
use zk_kms::LocalKms;

const EMAIL: Column<String> = Column::new("public.people", "email");
const CITIES: [&str; 12] =
    ["Aachen", "Bern", "Cork", "Delft", "Essen", "Faro", "Graz", "Hull", "Imola", "Jena", "Kiel", "Łódź"];

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_finds_its_rows_during_rotation() {
    let world = World::new().await;
    let index =
        IndexSpec::filter("public.people", "city", 12).normalize(Normalizer::CaseFold).plan().unwrap();
    index.ensure_key(&world.encryptor, &world.scope).await.unwrap();
    let write = async |indexer: &Indexer, ids: std::ops::Range<i64>| {
        for id in ids {
            let city = CITIES[usize::try_from(id).unwrap() % 12];
            let token = indexer.token(&[city]).unwrap();
            let sql = "INSERT INTO people (id, city, city_token) VALUES ($1, $2, $3)";
            world.client.execute(sql, &[&id, &city, &token]).await.unwrap();
        }
    };
    let found = async |indexer: &Indexer, city: &str| -> (BTreeSet<i64>, i64) {
        let tokens = indexer.query(&[city]).unwrap();
        let sql = "SELECT id, city FROM people WHERE city_token = ANY ($1)";
        let rows = world.client.query(sql, &[&tokens]).await.unwrap();
        let count = i64::try_from(rows.len()).unwrap();
        let same = rows.iter().filter(|row| row.get::<_, String>(1).to_lowercase() == city.to_lowercase());
        (same.map(|row| row.get(0)).collect(), count)
    };
    let before = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    write(&before, 0..60).await;
    world.encryptor.rotate_key(&index.key_scope(&world.scope).unwrap()).await.unwrap();
    let during = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    write(&during, 60..120).await;
    let mut seen = 0;
    for (at, city) in CITIES.iter().enumerate() {
        let (same, count) = found(&during, &city.to_uppercase()).await;
        let expected = (0..120).filter(|id| usize::try_from(*id).unwrap() % 12 == at).collect();
        assert_eq!(same, expected, "{city}");
        seen += count;
    }
    assert!(seen > 120, "2 bits for 12 cities: some share a token");
    let plan = world.client.batch_execute("SET enable_seqscan = off").await;
    plan.unwrap();
    let tokens = during.query(&["Bern"]).unwrap();
    let sql = "EXPLAIN SELECT id FROM people WHERE city_token = ANY ($1)";
    let plan = world.client.query(sql, &[&tokens]).await;
    let plan: Vec<String> = plan.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan.join("\n").contains("people_city"), "a B-tree serves: {plan:?}");
}

/// Writers that know of the rotation and writers that do not, and rows of before, after and in between.
#[tokio::test(flavor = "multi_thread")]
async fn unique_holds_at_every_moment_of_a_rotation() {
    let world = World::new().await;
    let index = world.unique().await;
    let key_scope = index.key_scope(&world.scope).unwrap();
    let before = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    world.insert(&before, 1, "ann@example.org").await.unwrap();
    let refused = async |indexer: &Indexer, id, email| {
        let error = world.insert(indexer, id, email).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION), "{email}");
    };
    refused(&before, 2, "Ann@Example.ORG").await;

    let old = world.encryptor.active_key(&key_scope).await.unwrap();
    world.encryptor.rotate_key(&key_scope).await.unwrap();
    let during = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    refused(&during, 2, "ann@example.org").await;
    world.insert(&during, 3, "mei@example.org").await.unwrap();
    refused(&before, 4, "mei@example.org").await;
    world.insert(&before, 5, "zoe@example.org").await.unwrap();
    refused(&during, 6, "ZOE@example.org").await;
    for email in ["ann@example.org", "mei@example.org", "zoe@example.org"] {
        assert_eq!(world.find(&during, email).await, 1, "{email}");
    }

    // The rows of before get their new token; then the old version ends.
    for (id, email) in [(1i64, "ann@example.org"), (5, "zoe@example.org")] {
        let pair = during.pair(&[email]).unwrap();
        let sql = "UPDATE people SET email_even = $2 WHERE id = $1";
        world.client.execute(sql, &[&id, &pair.even]).await.unwrap();
    }
    world.encryptor.destroy_key(old).await.unwrap();
    let after = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    assert_eq!(after.pair(&["x@y"]).unwrap().odd, None);
    world.client.batch_execute("UPDATE people SET email_odd = NULL").await.unwrap();
    for (id, email) in [(7, "ann@example.org"), (8, "mei@example.org"), (9, "zoe@example.org")] {
        refused(&after, id, email).await;
        assert_eq!(world.find(&after, email).await, 1, "{email}");
    }
}

/// The job gives rows their tokens while the application writes and duplicates are tried; killed, and finished by another.
#[tokio::test(flavor = "multi_thread")]
async fn reindexing_keeps_search_and_unique() {
    let world = World::new().await;
    let index = world.unique().await;
    let key_scope = index.key_scope(&world.scope).unwrap();
    let before = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    for id in 0..60 {
        world.insert(&before, id, &format!("{id}@example.org")).await.unwrap();
    }
    let old = world.encryptor.active_key(&key_scope).await.unwrap();
    world.encryptor.rotate_key(&key_scope).await.unwrap();
    let during = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    let columns = ["email_odd", "email_even"];
    let job = Reindex::unique(("public", "people"), "id", "email", columns, &index, world.scope.clone())
        .batch_size(7);
    for millis in [0, 3, 6] {
        let mut client = world.database.connect().await.unwrap();
        let run = job.run(&mut client, &world.encryptor);
        drop(tokio::time::timeout(Duration::from_millis(millis), run).await);
        for id in [0, 30, 59] {
            let email = format!("{id}@EXAMPLE.org");
            assert_eq!(world.find(&during, &email).await, 1, "{email}");
            assert!(world.insert(&during, 1000, &email).await.is_err(), "{email}");
        }
    }
    let mut client = world.database.connect().await.unwrap();
    job.run(&mut client, &world.encryptor).await.unwrap();
    assert_eq!(job.remaining(&mut client, &world.encryptor).await.unwrap(), 0);
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 0, "nothing is done twice");
    world.encryptor.destroy_key(old).await.unwrap();
    client.batch_execute("UPDATE people SET email_odd = NULL").await.unwrap();
    let after = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    for id in 0..60 {
        assert_eq!(world.find(&after, &format!("{id}@example.org")).await, 1);
        assert!(world.insert(&after, 1000, &format!("{id}@example.org")).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_are_found_during_rotation() {
    let world = World::new().await;
    let index = IndexSpec::ngrams("public.people", "city", 3)
        .normalize(Normalizer::CaseFold)
        .accept(Hazard::Substrings)
        .plan()
        .unwrap();
    index.ensure_key(&world.encryptor, &world.scope).await.unwrap();
    let mut indexer = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    for (id, city) in (0i64..).zip(CITIES) {
        if id == 6 {
            world.encryptor.rotate_key(&index.key_scope(&world.scope).unwrap()).await.unwrap();
            indexer = index.indexer(&world.encryptor, &world.scope).await.unwrap();
        }
        let tokens = indexer.tokens(city).unwrap();
        let sql = "INSERT INTO people (id, city, pieces) VALUES ($1, $2, $3)";
        world.client.execute(sql, &[&id, &city, &tokens]).await.unwrap();
    }
    let found = async |needle: &str| -> Vec<String> {
        let tokens = indexer.query_tokens(needle).unwrap();
        let sql = "SELECT city FROM people WHERE pieces @> $1 OR pieces @> $2 ORDER BY id";
        let rows = world.client.query(sql, &[&tokens[0], &tokens[1]]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(found("ACH").await, ["Aachen"]);
    assert_eq!(found("łódź").await, ["Łódź"]);
    assert_eq!(found("elf").await, ["Delft"]);
    assert!(found("xyz").await.is_empty());
}

/// Names that are not those of a key and of a sealed column are errors, and bytes that are no sealed value a broken row.
#[tokio::test]
async fn a_job_over_other_columns_says_so() {
    let world = World::new().await;
    let index = world.unique().await;
    let mut client = world.database.connect().await.unwrap();
    let rows = "INSERT INTO people (id, email, city) VALUES (1, '\\x0102', 'Aachen'), (2, NULL, NULL);
                CREATE TABLE keyless (id bigint, email bytea, token bytea);
                INSERT INTO keyless VALUES (NULL, '\\x0102', NULL)";
    client.batch_execute(rows).await.unwrap();
    let job = |table, sealed| {
        Reindex::filter(("public", table), "id", sealed, "token", &index, world.scope.clone())
    };
    client.batch_execute("ALTER TABLE people ADD token bytea").await.unwrap();
    for (table, sealed) in [("people", "city"), ("keyless", "email")] {
        let error = job(table, sealed).run(&mut client, &world.encryptor).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{table}.{sealed}: {error}");
    }
    let error = job("people", "email").run(&mut client, &world.encryptor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open);
    let job = job("people", "email").on_failure(|row, _| {
        assert_eq!(row, "1");
        AfterFailure::Skip
    });
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 0);
}

#[tokio::test]
async fn two_scopes_have_nothing_in_common_unless_it_is_declared() {
    let world = World::new().await;
    let other = Scope::tenant("b").unwrap();
    let unique = || IndexSpec::unique("public.people", "email").normalize(Normalizer::Email);
    let own = unique().plan().unwrap();
    let shared = unique().shared(Scope::new("everybody").unwrap()).plan().unwrap();
    for (index, equal) in [(own, false), (shared, true)] {
        let mut tokens = Vec::new();
        for scope in [&world.scope, &other] {
            index.ensure_key(&world.encryptor, scope).await.unwrap();
            let indexer = index.indexer(&world.encryptor, scope).await.unwrap();
            tokens.push(indexer.token(&["ann@example.org"]).unwrap());
        }
        assert_eq!(tokens[0] == tokens[1], equal);
    }
}

/// A dump, the KMS and the rest of the key store are not enough once the keys of the index are destroyed.
#[tokio::test]
async fn destroyed_keys_make_no_tokens() {
    let world = World::new().await;
    let index = world.unique().await;
    let key_scope = index.key_scope(&world.scope).unwrap();
    assert_eq!(world.encryptor.destroy_scope(&key_scope).await.unwrap(), 1);
    let error = index.indexer(&world.encryptor, &world.scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoKey);
    let error = index.ensure_key(&world.encryptor, &world.scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoKey, "not made again behind somebody's back");
}

#[tokio::test]
async fn an_indexer_ends_with_the_age_of_its_keys() {
    let world = World::new().await;
    let index = world.unique().await;
    let indexer = index.indexer(&world.encryptor, &world.scope).await.unwrap();
    world.clock.advance(Duration::from_secs(299));
    assert!(indexer.token(&["a@b"]).is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(indexer.token(&["a@b"]).unwrap_err().kind(), ErrorKind::NoKey);
    assert!(index.indexer(&world.encryptor, &world.scope).await.unwrap().token(&["a@b"]).is_ok());
}

struct World {
    encryptor: Encryptor,
    clock: Arc<ManualClock>,
    scope: Scope,
    client: Client,
    database: testkit::Database,
}

impl World {
    async fn new() -> Self {
        let kms = Arc::new(LocalKms::ephemeral("test").unwrap());
        let clock = Arc::new(ManualClock::default());
        let config = EncryptorConfig::default().clock(clock.clone());
        let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), config).unwrap();
        let scope = Scope::tenant("a").unwrap();
        encryptor.create_key(&scope).await.unwrap();
        let database = testkit::Database::create().await.unwrap();
        let client = database.connect().await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE people (
                     id bigint PRIMARY KEY,
                     email bytea, email_odd bytea UNIQUE, email_even bytea UNIQUE,
                     city text, city_token bytea, pieces bytea[]);
                 CREATE INDEX people_city ON people (city_token);
                 CREATE INDEX people_pieces ON people USING gin (pieces)",
            )
            .await
            .unwrap();
        Self { encryptor, clock, scope, client, database }
    }

    async fn unique(&self) -> BlindIndex {
        let index = IndexSpec::unique("public.people", "email").normalize(Normalizer::Email).plan().unwrap();
        index.ensure_key(&self.encryptor, &self.scope).await.unwrap();
        index
    }

    async fn insert(&self, indexer: &Indexer, id: i64, email: &str) -> Result<u64, tokio_postgres::Error> {
        let sealed = EMAIL.seal(&self.encryptor, &self.scope, id, &email.to_owned()).await.unwrap();
        let tokens = indexer.pair(&[email]).unwrap();
        let sql = "INSERT INTO people (id, email, email_odd, email_even) VALUES ($1, $2, $3, $4)";
        self.client.execute(sql, &[&id, &sealed, &tokens.odd, &tokens.even]).await
    }

    /// How many rows a search finds, all of which open to what was searched for.
    async fn find(&self, indexer: &Indexer, email: &str) -> usize {
        let tokens = indexer.pair(&[email]).unwrap();
        let sql = "SELECT id, email FROM people WHERE email_odd = $1 OR email_even = $2";
        let rows = self.client.query(sql, &[&tokens.odd, &tokens.even]).await.unwrap();
        let rows: Vec<(i64, Option<Sealed>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let opened = EMAIL.open_many(&self.encryptor, &self.scope, &rows).await.unwrap();
        assert!(opened.iter().flatten().all(|found| found.eq_ignore_ascii_case(email)));
        opened.len()
    }
}
