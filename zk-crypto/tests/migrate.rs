//! From plaintext to sealed and back on a real server, with workers and servers that die on the way.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use testkit::{Cluster, ClusterConfig, Database};
use tokio_postgres::{Client, error::SqlState};
use zk_crypto::{
    AfterFailure, Column, Encryptor, EncryptorConfig, Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore,
    MemoryKeyStore, Migration, Reseal, Scope, Sealed, WrappedKey, retire_below, retire_key,
};
use zk_kms::LocalKms;

/// The columns of the table, with what they are sealed as.
const PLAIN: [(&str, &str); 4] =
    [("name", "text"), ("photo", "bytea"), ("age", "int"), ("wealth", "numeric(12,2)")];

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_for_every_kind_of_type() {
    let world = World::new(50).await;
    let mut client = world.client().await;
    let before = world.plaintexts().await;
    let error = world.migration("name").cut_over(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "there is no table zk.jobs");
    for (column, _) in PLAIN {
        let migration = world.migration(column);
        migration.prepare(&client).await.unwrap();
        migration.prepare(&client).await.unwrap();
        let early = migration.cut_over(&mut client).await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Conflict, "not verified");
        let early = migration.verify(&mut client, &world.encryptor).await.unwrap_err();
        assert!(early.to_string().contains("50 rows are not sealed"), "{early}");
        assert_eq!(migration.seal(&mut client, &world.encryptor).await.unwrap(), 50);
        assert_eq!(migration.seal(&mut client, &world.encryptor).await.unwrap(), 0);
        let early = migration.erase(&mut client, &world.encryptor).await.unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Conflict, "not cut over");
        assert_eq!(migration.verify(&mut client, &world.encryptor).await.unwrap(), 50);
        migration.cut_over(&mut client).await.unwrap();
        assert_eq!(migration.erase(&mut client, &world.encryptor).await.unwrap(), 50);
    }
    assert!(world.plaintexts().await.iter().all(|row| row.iter().all(Option::is_none)));

    // Typed columns open what was migrated.
    let rows =
        client.query("SELECT id, name_sealed, age_sealed FROM people WHERE id = 7", &[]).await.unwrap();
    let (name, age): (Sealed, Sealed) = (rows[0].get(1), rows[0].get(2));
    let names: Column<String> = Column::new("public.people", "name_sealed");
    let ages: Column<i32> = Column::new("public.people", "age_sealed");
    assert_eq!(names.open(&world.encryptor, &world.scope, 7, &name).await.unwrap(), "Zoë 7");
    assert_eq!(ages.open(&world.encryptor, &world.scope, 7, &age).await.unwrap(), -7);

    for (column, _) in PLAIN {
        assert_eq!(world.migration(column).roll_back(&mut client, &world.encryptor).await.unwrap(), 50);
    }
    assert_eq!(world.plaintexts().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_both_kinds_are_safe_before_and_after_the_cut_over() {
    let world = World::new(10).await;
    let mut client = world.client().await;
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    migration.seal(&mut client, &world.encryptor).await.unwrap();
    migration.verify(&mut client, &world.encryptor).await.unwrap();

    // An old writer changes the plaintext: what was sealed from the former one is gone, and the cut-over notices.
    client.execute("UPDATE people SET name = 'new' WHERE id = 1", &[]).await.unwrap();
    client.execute("UPDATE people SET age = 1 WHERE id = 2", &[]).await.unwrap();
    let sealed = "SELECT count(name_sealed) FROM people";
    assert_eq!(client.query_one(sealed, &[]).await.unwrap().get::<_, i64>(0), 9);
    let error = migration.cut_over(&mut client).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("1 rows"), "{error}");
    assert_eq!(migration.seal(&mut client, &world.encryptor).await.unwrap(), 1);
    migration.cut_over(&mut client).await.unwrap();

    // Old writers are refused; other columns of rows that still hold plaintext can be written.
    for sql in
        ["UPDATE people SET name = 'late' WHERE id = 1", "INSERT INTO people (id, name) VALUES (99, 'late')"]
    {
        let error = client.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION), "{sql}");
    }
    client.execute("UPDATE people SET age = 2 WHERE id = 2", &[]).await.unwrap();
    // A new writer needs the sealed column only; one that still writes both leaves no plaintext.
    let names: Column<String> = Column::new("public.people", "name_sealed");
    let value = names.seal(&world.encryptor, &world.scope, 3, &"newer".to_owned()).await.unwrap();
    client
        .execute("UPDATE people SET name_sealed = $1, name = 'newer' WHERE id = 3", &[&value])
        .await
        .unwrap();
    let left = client.query("SELECT id FROM people WHERE name IS NOT NULL ORDER BY id", &[]).await.unwrap();
    let left: Vec<i64> = left.iter().map(|row| row.get(0)).collect();
    assert_eq!(left, [1, 4, 5, 6, 7, 8, 9, 10], "2 and 3 were written");
    assert_eq!(migration.erase(&mut client, &world.encryptor).await.unwrap(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_what_it_should_be_is_named_and_kept() {
    let world = World::new(20).await;
    let mut client = world.client().await;
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    migration.seal(&mut client, &world.encryptor).await.unwrap();
    // Row 5 gets row 6's bytes; row 9 a genuine value that is not its plaintext.
    let names: Column<String> = Column::new("public.people", "name_sealed");
    let other = names.seal(&world.encryptor, &world.scope, 9, &"other".to_owned()).await.unwrap();
    client.execute("UPDATE people SET name_sealed = $1 WHERE id = 9", &[&other]).await.unwrap();
    let swap = "UPDATE people SET name_sealed = (SELECT name_sealed FROM people WHERE id = 6) WHERE id = 5";
    client.execute(swap, &[]).await.unwrap();

    assert_eq!(migration.verify(&mut client, &world.encryptor).await.unwrap_err().kind(), ErrorKind::Open);
    let failed = Arc::new(Mutex::new(Vec::new()));
    let migration = world.migration("name").batch_size(3).on_failure({
        let failed = failed.clone();
        move |row, error| {
            assert_eq!(error.kind(), ErrorKind::Open);
            failed.lock().unwrap().push(row.to_owned());
            AfterFailure::Skip
        }
    });
    let error = migration.verify(&mut client, &world.encryptor).await.unwrap_err();
    assert!(error.to_string().contains("2 rows failed"), "{error}");
    assert_eq!(*failed.lock().unwrap(), ["5", "9"]);
    assert_eq!(migration.cut_over(&mut client).await.unwrap_err().kind(), ErrorKind::Conflict);
    // A cut-over forced by hand still loses nothing: the plaintext of a row that differs is not erased.
    let force = "UPDATE zk.jobs SET phase = 'verified'";
    client.execute(force, &[]).await.unwrap();
    migration.cut_over(&mut client).await.unwrap();
    assert_eq!(migration.erase(&mut client, &world.encryptor).await.unwrap(), 18);
    let left = client.query("SELECT id FROM people WHERE name IS NOT NULL ORDER BY id", &[]).await.unwrap();
    assert_eq!(left.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [5, 9]);
}

/// In a twin that was there before, and has no CHECK, anybody can put anything.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_sealed_value_are_one_rows_failure() {
    let world = World::new(20).await;
    let mut client = world.client().await;
    client.batch_execute("ALTER TABLE people ADD COLUMN name_sealed bytea").await.unwrap();
    let migration = world.migration("name").on_failure(|row, error| {
        assert_eq!((row, error.kind()), ("3", ErrorKind::Open));
        AfterFailure::Skip
    });
    migration.prepare(&client).await.unwrap();
    migration.seal(&mut client, &world.encryptor).await.unwrap();
    client.execute("UPDATE people SET name_sealed = '\\x01' WHERE id = 3", &[]).await.unwrap();
    let error = migration.verify(&mut client, &world.encryptor).await.unwrap_err();
    assert!(error.to_string().contains("1 rows failed"), "{error}");
    assert_eq!(migration.roll_back(&mut client, &world.encryptor).await.unwrap(), 19);
    let kept = "SELECT count(*) FROM people WHERE name_sealed IS NOT NULL AND id = 3";
    assert_eq!(client.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// Its owner could replace it, and the trigger would run that as whoever writes the column.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_function_of_a_stranger_is_refused() {
    let world = World::new(1).await;
    let client = world.client().await;
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    let sql = "SELECT proname::text FROM pg_proc WHERE proname LIKE 'zk!_seal!_%' ESCAPE '!'";
    let function: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let [stranger, owner] = ["stranger", "owner"].map(testkit::unique_name);
    let give = async |role: &str| {
        let sql = format!("ALTER FUNCTION public.{function} OWNER TO {role}");
        client.batch_execute(&sql).await.unwrap();
        migration.prepare(&client).await
    };
    client.batch_execute(&format!("CREATE ROLE {stranger} LOGIN; CREATE ROLE {owner} LOGIN")).await.unwrap();
    let error = give(&stranger).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains(&stranger), "{error}");
    client.batch_execute(&format!("ALTER TABLE people OWNER TO {owner}")).await.unwrap();
    give(&owner).await.unwrap();
}

/// A change of the table that waits makes everybody wait who comes after it: so it gives up, and says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_hold_is_not_waited_for() {
    let world = World::new(3).await;
    let (client, mut another, reader) = (world.client().await, world.client().await, world.client().await);
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    reader.batch_execute("BEGIN; INSERT INTO people (id, name) VALUES (4, 'x')").await.unwrap();
    let start = Instant::now();
    let (prepared, rolled_back) =
        tokio::join!(migration.prepare(&client), migration.roll_back(&mut another, &world.encryptor));
    let errors = [prepared.unwrap_err(), rolled_back.unwrap_err()];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("somebody else held a lock"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let timeout = client.query_one("SHOW lock_timeout", &[]).await.unwrap();
    assert_eq!(timeout.get::<_, String>(0), "0", "the session is as it was");
}

#[tokio::test]
async fn two_columns_never_share_a_state() {
    let state = |table, column| {
        let migration = Migration::new(table, "id", column, "sealed", Scope::new("s").unwrap());
        migration.unwrap().state().clone()
    };
    assert_ne!(state(("a.b", "c"), "d"), state(("a", "b.c"), "d"));
    assert_ne!(state(("a", "b.c"), "d"), state(("a", "b"), "c.d"));
    assert_eq!(state(("a", "b"), "c"), state(("a", "b"), "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_scopes_are_left_alone() {
    let world = World::new(6).await;
    let mut client = world.client().await;
    client.execute("UPDATE people SET tenant = 'b''x' WHERE id > 4", &[]).await.unwrap();
    let migration = world.migration("name").only("tenant", "a");
    migration.prepare(&client).await.unwrap();
    assert_eq!(migration.seal(&mut client, &world.encryptor).await.unwrap(), 4);
    assert_eq!(migration.verify(&mut client, &world.encryptor).await.unwrap(), 4);
    let error = migration.cut_over(&mut client).await.unwrap_err();
    assert!(error.to_string().contains("2 rows have plaintext only"), "{error}");
    let migration = world.migration("name").only("tenant", "b'x");
    assert_eq!(migration.seal(&mut client, &world.encryptor).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_workers_wait_and_a_limit_is_kept() {
    let world = Arc::new(World::new(60).await);
    let client = world.client().await;
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    migration.state().pause(&client).await.unwrap();
    let worker = tokio::spawn({
        let world = world.clone();
        async move {
            let mut client = world.client().await;
            let start = Instant::now();
            let job = world.migration("name").batch_size(10).max_per_second(100);
            (job.seal(&mut client, &world.encryptor).await.unwrap(), start.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let sealed = async || -> i64 {
        client.query_one("SELECT count(name_sealed) FROM people", &[]).await.unwrap().get(0)
    };
    assert_eq!(sealed().await, 0, "paused");
    assert!(migration.state().status(&client).await.unwrap().unwrap().paused);
    migration.state().resume(&client).await.unwrap();
    let (done, time) = worker.await.unwrap();
    assert_eq!((done, sealed().await), (60, 60));
    // The clock of the limit runs while the job is paused, so this is the least it can be.
    assert!(time >= Duration::from_millis(580), "{time:?}");
}

/// Verifying changes no row, and is a job like the others all the same.
#[tokio::test(flavor = "multi_thread")]
async fn verifying_pauses_keeps_a_limit_and_reports() {
    let world = Arc::new(World::new(60).await);
    let mut client = world.client().await;
    let migration = world.migration("name");
    migration.prepare(&client).await.unwrap();
    migration.seal(&mut client, &world.encryptor).await.unwrap();
    migration.state().pause(&client).await.unwrap();
    let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
    let worker = tokio::spawn({
        let (world, reported) = (world.clone(), reported.clone());
        async move {
            let mut client = world.client().await;
            let start = Instant::now();
            let job = world.migration("name").batch_size(10).max_per_second(100);
            let job =
                job.progress(move |progress| reported.lock().unwrap().push((progress.done, progress.total)));
            (job.verify(&mut client, &world.encryptor).await.unwrap(), start.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(migration.state().status(&client).await.unwrap().unwrap().verified, 0, "paused");
    migration.state().resume(&client).await.unwrap();
    let (verified, time) = worker.await.unwrap();
    assert_eq!(verified, 60);
    assert!(time >= Duration::from_millis(580), "{time:?}");
    assert_eq!(*reported.lock().unwrap(), [10, 20, 30, 40, 50, 60].map(|done| (done, 60)));
}

/// Workers dropped, connections cut, and the server itself killed, again and again, in every step: no row is lost, none
/// is unreadable, none is done twice, and no plaintext comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn job_survives_kill() {
    let cluster = Cluster::start(ClusterConfig::default()).unwrap();
    let database = cluster.database().await.unwrap();
    let world = Arc::new(World::on(database, 400).await);
    let client = world.client().await;
    // The server counts how often each row was sealed.
    client
        .batch_execute(
            "CREATE TABLE sealings (id bigint);
             CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF OLD.name_sealed IS DISTINCT FROM NEW.name_sealed THEN INSERT INTO sealings VALUES (NEW.id); END IF;
                 RETURN NULL; END $$;
             CREATE TRIGGER counted AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION counted()",
        )
        .await
        .unwrap();
    world.migration("name").prepare(&client).await.unwrap();
    let (mut kills, mut seed) = (0, 7u64);

    kills += world.killed(&mut seed, Step::Seal).await;
    assert_eq!(world.each_once(&world.client().await).await, 400);
    // Verifying goes on from its checkpoint.
    kills += world.killed(&mut seed, Step::Verify).await;
    let mut client = world.client().await;
    world.migration("name").cut_over(&mut client).await.unwrap();
    kills += world.killed(&mut seed, Step::Erase).await;
    let client = world.client().await;
    let left = client.query_one("SELECT count(name) FROM people", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "no plaintext is left");
    assert_eq!(world.each_once(&client).await, 400, "erasing seals nothing");

    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    client.batch_execute("TRUNCATE sealings").await.unwrap();
    kills += world.killed(&mut seed, Step::Reseal).await;
    assert_eq!(world.each_once(&world.client().await).await, 400);
    let mut client = world.client().await;
    retire_key(&mut client, &world.encryptor, old, &[&world.reseal()]).await.unwrap();
    world.all_open(&client).await;

    kills += world.killed(&mut seed, Step::RollBack).await;
    let client = world.client().await;
    let row = client.query_one("SELECT count(name), count(name_sealed) FROM people", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (400, 0));
    assert_eq!(world.plaintexts().await, plaintexts(400));
    assert!(kills >= 15, "only {kills} workers were killed before they were done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_retired_only_when_it_seals_nothing() {
    let world = World::new(5).await;
    let mut client = world.client().await;
    world.migration("name").prepare(&client).await.unwrap();
    world.migration("name").seal(&mut client, &world.encryptor).await.unwrap();
    let old = world.encryptor.active_key(&world.scope).await.unwrap();
    let reseal = world.reseal();
    let mut refused = async |id: KeyId, columns: &[&Reseal], kind| {
        let error = retire_key(&mut client, &world.encryptor, id, columns).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        error.to_string()
    };
    refused(old, &[&reseal], ErrorKind::Conflict).await;
    world.encryptor.rotate_key(&world.scope).await.unwrap();
    refused(old, &[], ErrorKind::Invalid).await;
    let other = Reseal::new(("public", "people"), "id", "name_sealed", Scope::tenant("b").unwrap());
    refused(old, &[&reseal, &other], ErrorKind::Invalid).await;
    assert!(refused(old, &[&reseal], ErrorKind::Conflict).await.contains("5 rows"));
    assert_eq!(
        *world.store.changes.lock().unwrap(),
        [],
        "a key in use is not disabled, not even for a moment"
    );
    let refused = retire_below(&mut client, &world.encryptor, 2, &[&reseal]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    world.all_open(&world.client().await).await;
    reseal.run(&mut client, &world.encryptor).await.unwrap();
    retire_key(&mut client, &world.encryptor, old, &[&reseal]).await.unwrap();
    assert_eq!(*world.store.changes.lock().unwrap(), [KeyState::Disabled]);
    retire_below(&mut client, &world.encryptor, 2, &[&reseal]).await.unwrap();
    world.all_open(&client).await;
}

/// A key store that remembers which states were set.
#[derive(Debug, Default)]
struct Remembering {
    store: MemoryKeyStore,
    changes: Mutex<Vec<KeyState>>,
}

#[async_trait::async_trait]
impl KeyStore for Remembering {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        self.store.insert(record).await
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        self.store.active(scope).await
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        self.store.by_id(id).await
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        self.store.list(scope).await
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.store.replace_wrapped(id, old, new).await
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        self.changes.lock().unwrap().push(to);
        self.store.set_state(id, from, to).await
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.store.destroy(id).await
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        self.store.set_minimum(scope, from, to).await
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Seal,
    Verify,
    Erase,
    Reseal,
    RollBack,
}

struct World {
    database: Database,
    encryptor: Encryptor,
    store: Arc<Remembering>,
    scope: Scope,
}

impl World {
    async fn new(rows: i64) -> Self {
        Self::on(Database::create().await.unwrap(), rows).await
    }

    async fn on(database: Database, rows: i64) -> Self {
        let kms = Arc::new(LocalKms::ephemeral("test").unwrap());
        let store = Arc::new(Remembering::default());
        let encryptor = Encryptor::new(kms, store.clone(), EncryptorConfig::default()).unwrap();
        let scope = Scope::tenant("a").unwrap();
        encryptor.create_key(&scope).await.unwrap();
        let columns = PLAIN.map(|(name, sql)| format!("{name} {sql}")).join(", ");
        let fill = format!(
            "CREATE TABLE people (id bigint PRIMARY KEY, tenant text DEFAULT 'a', {columns});
             INSERT INTO people SELECT i, 'a', 'Zoë ' || i, decode('00ff', 'hex'), -i, i * 1.5 FROM generate_series(1, {rows}) i;
             ALTER TABLE people ALTER name SET NOT NULL"
        );
        let client = database.connect().await.unwrap();
        client.batch_execute(&fill).await.unwrap();
        Self { database, encryptor, store, scope }
    }

    async fn client(&self) -> Client {
        self.database.connect().await.unwrap()
    }

    fn migration(&self, column: &str) -> Migration {
        let sealed = format!("{column}_sealed");
        Migration::new(("public", "people"), "id", column, &sealed, self.scope.clone()).unwrap()
    }

    fn reseal(&self) -> Reseal {
        let names: Column<String> = Column::new("public.people", "name_sealed");
        let scope = self.scope.clone();
        Reseal::new(("public", "people"), "id", "name_sealed", self.scope.clone())
            .context(move |row| names.context(&scope, row))
            .batch_size(10)
    }

    async fn plaintexts(&self) -> Vec<Vec<Option<String>>> {
        let sql = "SELECT name, photo::text, age::text, wealth::text FROM people ORDER BY id";
        let rows = self.client().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (0..4).map(|at| row.get(at)).collect()).collect()
    }

    async fn step(&self, client: &mut Client, step: Step) -> Result<u64, zk_crypto::Error> {
        let migration = self.migration("name").batch_size(10);
        match step {
            Step::Seal => migration.seal(client, &self.encryptor).await,
            Step::Verify => migration.verify(client, &self.encryptor).await,
            Step::Erase => migration.erase(client, &self.encryptor).await,
            Step::Reseal => self.reseal().run(client, &self.encryptor).await,
            Step::RollBack => migration.roll_back(client, &self.encryptor).await,
        }
    }

    /// Runs two workers at a time and ends them at random moments in three ways, until one run is left alone to finish.
    /// Returns how many were ended before they were done.
    async fn killed(self: &Arc<Self>, seed: &mut u64, step: Step) -> usize {
        let mut kills = 0;
        for round in 0..6 {
            let mut workers = Vec::new();
            let mut pids = Vec::new();
            for _ in 0..2 {
                let mut client = self.client().await;
                pids.push(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0));
                let world = self.clone();
                workers.push(tokio::spawn(async move { world.step(&mut client, step).await }));
            }
            // xorshift: 0 to 63 ms.
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            tokio::time::sleep(Duration::from_micros(*seed % 64_000)).await;
            kills += workers.iter().filter(|worker| !worker.is_finished()).count();
            match round % 3 {
                0 => workers.iter().for_each(tokio::task::JoinHandle::abort),
                1 => {
                    let sql = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid";
                    self.client().await.execute(sql, &[&pids]).await.unwrap();
                }
                _ => {
                    self.database.cluster().crash().unwrap();
                    self.database.cluster().start_again().unwrap();
                }
            }
            for worker in workers {
                if let Ok(Err(error)) = worker.await {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{step:?}: {error}");
                }
            }
            self.every_row_is_somewhere().await;
        }
        let mut client = self.client().await;
        self.step(&mut client, step).await.unwrap();
        kills
    }

    /// Each row holds its plaintext, or a sealed value that opens to it, or both.
    async fn every_row_is_somewhere(&self) {
        let names: Column<String> = Column::new("public.people", "name_sealed");
        let rows = self.client().await.query("SELECT id, name, name_sealed FROM people", &[]).await.unwrap();
        assert_eq!(rows.len(), 400);
        for row in rows {
            let (id, plain, sealed): (i64, Option<String>, Option<Sealed>) =
                (row.get(0), row.get(1), row.get(2));
            let expected = format!("Zoë {id}");
            assert!(plain.is_some() || sealed.is_some(), "row {id} is lost");
            assert!(plain.is_none_or(|plain| plain == expected));
            if let Some(sealed) = sealed {
                let opened = names.open(&self.encryptor, &self.scope, id, &sealed).await;
                assert_eq!(opened.unwrap(), expected);
            }
        }
    }

    async fn all_open(&self, client: &Client) {
        let names: Column<String> = Column::new("public.people", "name_sealed");
        let rows = client.query("SELECT id, name_sealed FROM people ORDER BY id", &[]).await.unwrap();
        let rows: Vec<(i64, Option<Sealed>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let opened = names.open_many(&self.encryptor, &self.scope, &rows).await.unwrap();
        let expected: Vec<_> = rows.iter().map(|(id, _)| Some(format!("Zoë {id}"))).collect();
        assert_eq!(opened, expected);
    }

    /// How many rows were sealed, each exactly once.
    async fn each_once(&self, client: &Client) -> i64 {
        let sql = "SELECT count(*), count(DISTINCT id) FROM sealings";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "a row was sealed twice");
        row.get(0)
    }
}

fn plaintexts(rows: i64) -> Vec<Vec<Option<String>>> {
    let row = |id: i64| {
        let wealth = format!("{}.{}0", id * 3 / 2, if id % 2 == 1 { 5 } else { 0 });
        vec![Some(format!("Zoë {id}")), Some("\\x00ff".to_owned()), Some((-id).to_string()), Some(wealth)]
    };
    (1..=rows).map(row).collect()
}
