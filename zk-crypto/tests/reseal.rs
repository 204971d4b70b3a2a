//! The rotation job on a real server: interrupted, concurrent, and under row-level security.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use tokio_postgres::{Client, Transaction};
use zk_crypto::{
    AfterFailure, Context, Encryptor, EncryptorConfig, Error, ErrorKind, JobSession, KeyId, MemoryKeyStore,
    Reseal, Scope, Sealed,
};
use zk_kms::LocalKms;

#[tokio::test(flavor = "multi_thread")]
async fn every_row_moves_to_the_new_key() {
    let world = World::new(1000).await;
    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    let new = world.encryptor.rotate_key(&world.scope).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let job = world.job().batch_size(300).progress({
        let seen = seen.clone();
        move |p| seen.lock().unwrap().push((p.done, p.total))
    });
    let mut client = world.client().await;
    assert_eq!(job.remaining(&mut client, &world.encryptor).await.unwrap(), [(old, 1000)].into());
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 1000);
    assert_eq!(*seen.lock().unwrap(), [(300, 1000), (600, 1000), (900, 1000), (1000, 1000)]);
    assert!(job.remaining(&mut client, &world.encryptor).await.unwrap().is_empty());
    assert_eq!(world.check().await, vec![(new, 1000)]);
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 0, "nothing is done twice");
    world.encryptor.destroy_key(old).await.unwrap();
    world.check().await;
}

/// The worker dies in the middle, its connection is cut, and another one finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_job_is_finished_by_the_next() {
    let world = Arc::new(World::new(400).await);
    let new = world.encryptor.rotate_key(&world.scope).await.unwrap();
    // Dropped at different points of the job, again and again.
    for millis in [3, 7, 11, 17] {
        let mut client = world.client().await;
        let job = world.job().batch_size(20);
        let run = job.run(&mut client, &world.encryptor);
        drop(tokio::time::timeout(Duration::from_millis(millis), run).await);
        world.check().await;
    }
    // Cut by the server while it works.
    let mut client = world.client().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let batches = Arc::new(AtomicU64::new(0));
    let job = world.job().batch_size(10).progress({
        let batches = batches.clone();
        move |_| {
            batches.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let running = tokio::spawn({
        let world = world.clone();
        async move { job.run(&mut client, &world.encryptor).await }
    });
    while batches.load(SeqCst) < 3 && !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.client().await.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let error = running.await.unwrap().expect_err("the job was finished before it could be cut");
    assert!(error.is_transient(), "{error}");
    world.check().await;

    let mut client = world.client().await;
    assert!(world.job().run(&mut client, &world.encryptor).await.unwrap() > 0);
    assert_eq!(world.check().await, vec![(new, 400)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_share_the_rows() {
    let world = Arc::new(World::new(600).await);
    let new = world.encryptor.rotate_key(&world.scope).await.unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let mut client = world.client().await;
                world.job().batch_size(25).run(&mut client, &world.encryptor).await.unwrap()
            })
        })
        .collect();
    let mut total = 0;
    for worker in workers {
        total += worker.await.unwrap();
    }
    assert_eq!(total, 600, "every row exactly once");
    assert_eq!(world.check().await, vec![(new, 600)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_is_waited_for() {
    let world = World::new(10).await;
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut holder = world.client().await;
    let held = holder.transaction().await.unwrap();
    let changed = world.encryptor.seal(&world.scope, &place("3"), b"changed").await.unwrap();
    held.execute("UPDATE \"Weird \"\"t\" SET ssn = $1 WHERE id = 3", &[&changed]).await.unwrap();
    let mut client = world.client().await;
    let job = world.job();
    let (done, ()) = tokio::join!(job.run(&mut client, &world.encryptor), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held.commit().await.unwrap();
    });
    assert_eq!(done.unwrap(), 9, "the held row was under the new key already");
    let row = client.query_one("SELECT ssn FROM \"Weird \"\"t\" WHERE id = 3", &[]).await.unwrap();
    let opened = world.encryptor.open(&world.scope, &place("3"), &row.get::<_, Sealed>(0)).await.unwrap();
    assert_eq!(*opened, b"changed", "the write of the application won");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_only_reads_is_not_forgotten() {
    let world = World::new(10).await;
    let new = world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut holder = world.client().await;
    let held = holder.transaction().await.unwrap();
    held.execute("SELECT FROM \"Weird \"\"t\" WHERE id = 3 FOR UPDATE", &[]).await.unwrap();
    let mut client = world.client().await;
    let job = world.job();
    let (done, ()) = tokio::join!(job.run(&mut client, &world.encryptor), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.rollback().await.unwrap();
    });
    assert_eq!(done.unwrap(), 10);
    assert_eq!(world.check().await, vec![(new, 10)]);
}

/// The job runs in a process whose cache still holds the key from before the rotation.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_cache_does_not_seal_under_the_old_key() {
    let world = World::new(10).await;
    let job = world.another();
    job.seal(&world.scope, &place("1"), b"warm the cache").await.unwrap();
    let new = world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut client = world.client().await;
    let reseal = world.job();
    let run = tokio::time::timeout(Duration::from_secs(10), reseal.run(&mut client, &job));
    assert_eq!(run.await.expect("the job found the same rows forever").unwrap(), 10);
    assert_eq!(world.check().await, vec![(new, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_value_stops_the_job_and_says_little() {
    let world = World::new(5).await;
    let client = world.client().await;
    client
        .execute(
            "UPDATE \"Weird \"\"t\" SET ssn = (SELECT ssn FROM \"Weird \"\"t\" WHERE id = 1) WHERE id = 2",
            &[],
        )
        .await
        .unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut client = world.client().await;
    let error = world.job().run(&mut client, &world.encryptor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_row_is_named_and_left_behind() {
    let world = World::new(30).await;
    let client = world.client().await;
    let swap =
        "UPDATE \"Weird \"\"t\" SET ssn = (SELECT ssn FROM \"Weird \"\"t\" WHERE id = 1) WHERE id IN (7, 12)";
    client.execute(swap, &[]).await.unwrap();
    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let (named, skipped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let job = world
        .job()
        .batch_size(4)
        .on_failure({
            let named = named.clone();
            move |row, error| {
                named.lock().unwrap().push((row.to_owned(), error.kind()));
                AfterFailure::Skip
            }
        })
        .progress({
            let skipped = skipped.clone();
            move |progress| skipped.store(progress.skipped, SeqCst)
        });
    let mut client = world.client().await;
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 28);
    let expected = ["7", "12"].map(|row| (row.to_owned(), ErrorKind::Open));
    assert_eq!((&*named.lock().unwrap(), skipped.load(SeqCst)), (&expected.to_vec(), 2));
    assert_eq!(job.remaining(&mut client, &world.encryptor).await.unwrap(), [(old, 2)].into());
}

/// Whoever can write the column could otherwise stop a rotation with a few bytes that name the old key.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_sealed_value_are_a_broken_row() {
    let world = World::new(10).await;
    let mut client = world.client().await;
    let spoil =
        "UPDATE \"Weird \"\"t\" SET ssn = CASE id WHEN 3 THEN substr(ssn, 1, 30) ELSE set_byte(ssn, 0, 9) END
                 WHERE id IN (3, 8)";
    client.execute(spoil, &[]).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let error = world.job().run(&mut client, &world.encryptor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Open);
    let named = Arc::new(Mutex::new(Vec::new()));
    // A batch of one: there are batches that hold nothing else.
    let job = world.job().batch_size(1).on_failure({
        let named = named.clone();
        move |row, error| {
            named.lock().unwrap().push((row.to_owned(), error.kind()));
            AfterFailure::Skip
        }
    });
    assert_eq!(job.run(&mut client, &world.encryptor).await.unwrap(), 8);
    let expected = ["3", "8"].map(|row| (row.to_owned(), ErrorKind::Open));
    assert_eq!(*named.lock().unwrap(), expected);
}

/// When the KMS is away every row fails, and none of them is broken.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_not_a_broken_row() {
    let world = World::new(3).await;
    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let other_kms = Arc::new(LocalKms::ephemeral("test").unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let job = world.job().on_failure({
        let asked = asked.clone();
        move |_, _| {
            asked.fetch_add(1, SeqCst);
            AfterFailure::Skip
        }
    });
    let away = Encryptor::new(other_kms, world.store.clone(), EncryptorConfig::default()).unwrap();
    let mut client = world.client().await;
    let error = job.run(&mut client, &away).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Open);
    assert_eq!(asked.load(SeqCst), 0, "no row is blamed");
    assert_eq!(job.remaining(&mut client, &world.encryptor).await.unwrap(), [(old, 3)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_sees_the_settings() {
    let world = World::new(20).await;
    let client = world.client().await;
    let role = testkit::unique_name("job");
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'correct-horse';
             ALTER TABLE \"Weird \"\"t\" ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON \"Weird \"\"t\" USING (tenant = current_setting('zk.tenant', true));
             UPDATE \"Weird \"\"t\" SET tenant = 'b' WHERE id > 15;
             GRANT SELECT (id, ssn, tenant), UPDATE (ssn) ON \"Weird \"\"t\" TO {role}"
        ))
        .await
        .unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut job_client = world.database.connect_as(&role, "correct-horse").await.unwrap();
    assert_eq!(world.job().run(&mut job_client, &world.encryptor).await.unwrap(), 0, "no claim, no rows");
    let claimed = world.job().settings([("zk.tenant", "a")]);
    assert_eq!(claimed.run(&mut job_client, &world.encryptor).await.unwrap(), 15);
    let left = job_client.query_one("SELECT current_setting('zk.tenant', true)", &[]).await.unwrap();
    assert_eq!(
        left.get::<_, Option<String>>(0).unwrap_or_default(),
        "",
        "the claim ended with the transaction"
    );
    assert!(claimed.remaining(&mut job_client, &world.encryptor).await.unwrap().is_empty());
    let mut owner = world.client().await;
    assert_eq!(world.job().remaining(&mut owner, &world.encryptor).await.unwrap().values().sum::<u64>(), 5);
    assert!(!format!("{:?}", world.job().settings([("zk.tenant", "hidden")])).contains("hidden"));
}

/// Claims that hold for one transaction, as zk-policy signs them: made here without a signature.
struct ForOneTransaction {
    made: AtomicU64,
    /// How often before it fails.
    left: u64,
}

const CLAIM: &str = "pg_backend_pid() || '@' || extract(epoch FROM transaction_timestamp())::text";

#[async_trait::async_trait]
impl JobSession for ForOneTransaction {
    async fn begin(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.made.fetch_add(1, SeqCst) >= self.left {
            return Err(Error::new(ErrorKind::Denied, "no claims are left"));
        }
        let set = format!("SELECT set_config('zk.signed', {CLAIM}, true)");
        transaction.execute(&set, &[]).await.unwrap();
        Ok(())
    }
}

/// Every transaction of a job is begun as whoever it is given, also those that count and look for what is left.
#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_has_the_claims_that_are_made_for_it() {
    let world = World::new(20).await;
    let role = testkit::unique_name("job");
    let setup = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'correct-horse';
         ALTER TABLE \"Weird \"\"t\" ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON \"Weird \"\"t\" USING (current_setting('zk.signed', true) = {CLAIM});
         GRANT SELECT (id, ssn), UPDATE (ssn) ON \"Weird \"\"t\" TO {role}"
    );
    world.client().await.batch_execute(&setup).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut client = world.database.connect_as(&role, "correct-horse").await.unwrap();
    assert_eq!(world.job().run(&mut client, &world.encryptor).await.unwrap(), 0, "no claims, no rows");

    let session = |left| Arc::new(ForOneTransaction { made: AtomicU64::new(0), left });
    let few = session(3);
    let error = world.job().session(few.clone()).batch_size(5).run(&mut client, &world.encryptor).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
    let enough = session(u64::MAX);
    let job = world.job().session(enough.clone()).batch_size(5);
    assert_eq!(job.remaining(&mut client, &world.encryptor).await.unwrap().values().sum::<u64>(), 5);
    assert_eq!(
        job.run(&mut client, &world.encryptor).await.unwrap(),
        5,
        "the batches before the failure stay"
    );
    assert!(job.remaining(&mut client, &world.encryptor).await.unwrap().is_empty());
    assert!(enough.made.load(SeqCst) >= 4, "counting, working, looking for what is left, counting");
    let left = client.query_one("SELECT current_setting('zk.signed', true)", &[]).await.unwrap();
    assert_eq!(left.get::<_, &str>(0), "", "the claims ended with their transactions");
}

/// A policy that hides rows from UPDATE must not make the job run forever.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_update_is_denied() {
    let world = World::new(5).await;
    let role = testkit::unique_name("reader");
    let client = world.client().await;
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'correct-horse'; GRANT SELECT ON \"Weird \"\"t\" TO {role}"
        ))
        .await
        .unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut reader = world.database.connect_as(&role, "correct-horse").await.unwrap();
    let error = world.job().run(&mut reader, &world.encryptor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

/// A trigger that keeps one row as it is: the batch is rolled back, instead of a row being counted that was not written.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_written_is_told() {
    let world = World::new(5).await;
    let client = world.client().await;
    let trigger = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
                   CREATE TRIGGER keep BEFORE UPDATE ON \"Weird \"\"t\" FOR EACH ROW WHEN (OLD.id = 4)
                   EXECUTE FUNCTION keep()";
    client.batch_execute(trigger).await.unwrap();
    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let error = world.job().run(&mut world.client().await, &world.encryptor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(world.check().await, vec![(old, 5)]);
}

/// A foreign key locks the row that it refers to, and that lock goes beside the job's.
#[tokio::test(flavor = "multi_thread")]
async fn who_refers_to_a_row_does_not_wait_for_the_job() {
    let world = World::new(10).await;
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let other = world.client().await;
    let orders = "CREATE TABLE orders (customer bigint REFERENCES \"Weird \"\"t\"); SET lock_timeout = '5s'";
    other.batch_execute(orders).await.unwrap();
    let ((locked, is_locked), (done, is_done)) = (mpsc::channel(), mpsc::channel::<()>());
    let (locked, is_done) = (Mutex::new(locked), Mutex::new(is_done));
    // In the middle of a batch it waits until the other one has inserted.
    let job = world.job().context(move |row| {
        if row == "4" {
            locked.lock().unwrap().send(()).unwrap();
            is_done.lock().unwrap().recv().unwrap();
        }
        place(row)
    });
    let mut client = world.client().await;
    let encryptor = world.another();
    let running = tokio::spawn(async move { job.run(&mut client, &encryptor).await });
    tokio::task::spawn_blocking(move || is_locked.recv().unwrap()).await.unwrap();
    let held =
        "SELECT count(*) FROM (SELECT FROM \"Weird \"\"t\" WHERE id = 4 FOR UPDATE SKIP LOCKED) AS free";
    assert_eq!(other.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 0, "the job holds the row");
    let inserted = other.execute("INSERT INTO orders VALUES (4)", &[]).await;
    done.send(()).unwrap();
    inserted.expect("the insert waited for the job");
    assert_eq!(running.await.unwrap().unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_scopes_in_the_table_are_left_alone() {
    let world = World::new(5).await;
    let other = Scope::tenant("other").unwrap();
    world.encryptor.create_key(&other).await.unwrap();
    let client = world.client().await;
    let theirs = world.encryptor.seal(&other, &place("99"), b"theirs").await.unwrap();
    client.execute("INSERT INTO \"Weird \"\"t\" VALUES (99, $1, 'b')", &[&theirs]).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    let mut client = world.client().await;
    assert_eq!(world.job().run(&mut client, &world.encryptor).await.unwrap(), 5);
    let row = client.query_one("SELECT ssn FROM \"Weird \"\"t\" WHERE id = 99", &[]).await.unwrap();
    assert_eq!(row.get::<_, Sealed>(0), theirs);
}

fn place(row: &str) -> Context {
    Context::column("public.Weird \"t", "ssn").row(row)
}

/// A table whose name needs quoting, with one sealed value in each row: its id as text.
struct World {
    database: testkit::Database,
    kms: Arc<LocalKms>,
    store: Arc<MemoryKeyStore>,
    encryptor: Encryptor,
    scope: Scope,
}

impl World {
    async fn new(rows: i64) -> Self {
        let database = testkit::Database::create().await.unwrap();
        let kms = Arc::new(LocalKms::ephemeral("test").unwrap());
        let store = Arc::new(MemoryKeyStore::new());
        let encryptor = Encryptor::new(kms.clone(), store.clone(), EncryptorConfig::default()).unwrap();
        let scope = Scope::tenant("a").unwrap();
        encryptor.create_key(&scope).await.unwrap();
        let client = database.connect().await.unwrap();
        client
            .batch_execute("CREATE TABLE \"Weird \"\"t\" (id bigint PRIMARY KEY, ssn bytea, tenant text)")
            .await
            .unwrap();
        for id in 1..=rows {
            let text = id.to_string();
            let sealed = encryptor.seal(&scope, &place(&text), text.as_bytes()).await.unwrap();
            client
                .execute("INSERT INTO \"Weird \"\"t\" VALUES ($1, $2, 'a')", &[&id, &sealed])
                .await
                .unwrap();
        }
        client.execute("INSERT INTO \"Weird \"\"t\" VALUES (0, NULL, 'a')", &[]).await.unwrap();
        Self { database, kms, store, encryptor, scope }
    }

    /// Another process over the same KMS and store.
    fn another(&self) -> Encryptor {
        Encryptor::new(self.kms.clone(), self.store.clone(), EncryptorConfig::default()).unwrap()
    }

    fn job(&self) -> Reseal {
        Reseal::new(("public", "Weird \"t"), "id", "ssn", self.scope.clone())
    }

    async fn client(&self) -> Client {
        self.database.connect().await.unwrap()
    }

    /// Opens every row and counts the rows under each key.
    async fn check(&self) -> Vec<(KeyId, usize)> {
        let rows = self
            .client()
            .await
            .query("SELECT id::text, ssn FROM \"Weird \"\"t\" WHERE ssn IS NOT NULL", &[])
            .await
            .unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for row in rows {
            let (id, sealed): (String, Sealed) = (row.get(0), row.get(1));
            let opened = self.encryptor.open(&self.scope, &place(&id), &sealed).await.unwrap();
            assert_eq!(*opened, id.as_bytes());
            *counts.entry(sealed.key_id()).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}
