//! What jobs do while the KMS stalls or refuses, the key store is away, the cache is full and the clock is moved: each
//! fault comes into the middle of each job, and afterwards the job is run again. The table says what came of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use zk_crypto::{
    Encryptor, EncryptorConfig, Error, ErrorKind, KeyId, KeyRecord, KeyState, KeyStore, Kms,
    PostgresKeyStore, Scope, WrappedKey, clock::Clock,
};

use crate::{
    faulty::{Answer, Door, FaultyKms},
    world::{ROWS, World},
};

/// In this order each of them finds the rows that it works on.
const TASKS: [&str; 6] = ["reseal", "reindex", "seal", "verify", "erase", "roll back"];
/// So many calls are answered first: some batches of every job, and far from all.
const MIDDLE: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_refusing_kms() {
    let world = World::new().await;
    let faults = Faults::new(&world);
    for task in TASKS {
        world.prepare(task).await;
        for (answer, kind) in [(Answer::Refused, ErrorKind::Denied), (Answer::Away, ErrorKind::Unavailable)] {
            faults.kms.door.after(MIDDLE, answer);
            let error = faults.run(&world, task).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{task}: {error}");
            world.is_in_the_middle(task).await;
        }
        faults.kms.door.says(Answer::Right);
        faults.finish(&world, task).await;
    }
    world.nothing_was_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_survives_unavailable_key_store() {
    let world = World::new().await;
    let faults = Faults::new(&world);
    for task in TASKS {
        world.prepare(task).await;
        faults.store.door.after(MIDDLE, Answer::Away);
        let error = faults.run(&world, task).await.unwrap_err();
        assert!(error.is_transient(), "{task}: {error}");
        world.is_in_the_middle(task).await;
        faults.store.door.says(Answer::Right);
        faults.finish(&world, task).await;
    }
    world.nothing_was_shown().await;
}

/// First its caller gives up, then it waits until the KMS answers.
#[tokio::test(flavor = "multi_thread")]
async fn job_survives_stalled_kms() {
    let world = Arc::new(World::new().await);
    let faults = Arc::new(Faults::new(&world));
    for task in TASKS {
        world.prepare(task).await;
        for gives_up in [true, false] {
            faults.kms.door.after(MIDDLE, Answer::None);
            let running = tokio::spawn({
                let (world, faults) = (world.clone(), faults.clone());
                async move { faults.run(&world, task).await }
            });
            faults.kms.door.is_waited_at().await;
            let left = world.left(task).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(world.left(task).await, left, "{task}: it goes on without its key");
            // Readers do not wait for the job, whatever it waits for.
            world.is_in_the_middle(task).await;
            if gives_up {
                running.abort();
                assert!(running.await.unwrap_err().is_cancelled());
                world.wait_for_end_of(Faults::NAME).await;
                world.is_in_the_middle(task).await;
            } else {
                faults.kms.door.says(Answer::Right);
                running.await.unwrap().unwrap();
            }
        }
        faults.finish(&world, task).await;
    }
    world.nothing_was_shown().await;
}

/// Rows under three keys, and room for one, which seals one message: every key is fetched again all the time.
#[tokio::test(flavor = "multi_thread")]
async fn job_survives_full_cache() {
    let world = World::new().await;
    let mut faults = Faults::new(&world);
    world.rotate().await;
    faults.kms.door.after(MIDDLE, Answer::Refused);
    faults.run(&world, "reseal").await.unwrap_err();
    faults.kms.door.says(Answer::Right);
    let keys = "SELECT count(DISTINCT substr(email, 2, 16)) FROM people";
    assert_eq!(world.count(keys).await, 2);
    faults.config = EncryptorConfig::default().max_entries(1).max_messages(1).max_bytes(1);
    for task in TASKS {
        world.prepare(task).await;
        let asked = faults.kms.door.asked();
        faults.finish(&world, task).await;
        // What opens and seals needs more than one key at once.
        let asked = faults.kms.door.asked() - asked;
        assert!(
            asked > 80 || matches!(task, "verify" | "erase" | "roll back"),
            "{task}: the cache was not full"
        );
    }
    assert_eq!(world.count(keys).await, 1);
    world.nothing_was_shown().await;
}

/// A day passes between two readings of the clock, again and again, and the time of day is before that of the keys.
#[tokio::test(flavor = "multi_thread")]
async fn job_survives_moved_clock() {
    let world = World::new().await;
    let mut faults = Faults::new(&world);
    let clock = Arc::new(Leaping(AtomicU64::new(0)));
    faults.config = EncryptorConfig::default().clock(clock.clone());
    faults.encryptor().rotate_key(&world.scope()).await.unwrap();
    for task in TASKS {
        world.prepare(task).await;
        let mut runs = 0;
        // An indexer that is a day old within its batch says so, and the batch is rolled back.
        while let Err(error) = faults.run(&world, task).await {
            assert_eq!(error.kind(), ErrorKind::NoKey, "{task}: {error}");
            world.check().await;
            runs += 1;
            assert!(runs < 40, "{task} does not come to an end");
        }
        faults.finish(&world, task).await;
    }
    assert!(clock.0.load(SeqCst) > 10 * Leaping::EVERY, "the clock did not move");
    world.nothing_was_shown().await;
}

/// Rotating the key-encryption key: every fault in turn, and at any moment every wrapped key unwraps.
#[tokio::test(flavor = "multi_thread")]
async fn job_survives_faults_rewrap() {
    let world = World::new().await;
    let faults = Faults::new(&world);
    for _ in 0..20 {
        world.rotate().await;
    }
    faults.kms.local.rotate().unwrap();
    let current = async || {
        let keys = world.orders.key_store().list(None).await.unwrap();
        let kms = world.orders.kms();
        for key in &keys {
            let context = zk_kms::Context::new()
                .with("scope", key.scope.as_str())
                .and_then(|context| context.with("generation", key.generation.to_string()))
                .and_then(|context| context.with("key", key.id.to_string()))
                .unwrap();
            let unwrapped = kms.unwrap_key(key.wrapped.as_ref().unwrap(), &context).await.unwrap();
            assert_eq!(KeyId::of(&unwrapped).unwrap(), key.id, "another key is in its place");
        }
        world.check().await;
        assert_eq!(keys.len(), 22, "no key is lost");
        keys.iter().filter(|key| key.wrapped.as_ref().unwrap().version().as_str() == "2").count()
    };
    let encryptor = faults.encryptor();
    let mut before = 0;
    for (door, answer, kind) in [
        (&faults.kms.door, Answer::Refused, ErrorKind::Denied),
        (&faults.store.door, Answer::Away, ErrorKind::Unavailable),
        (&faults.kms.door, Answer::Away, ErrorKind::Unavailable),
    ] {
        door.after(5, answer);
        assert_eq!(encryptor.rewrap_keys(|_| ()).await.unwrap_err().kind(), kind);
        door.says(Answer::Right);
        let now = current().await;
        assert!(before < now && now < 22, "{now} keys");
        before = now;
    }
    // Three requests for each key, of eight at a time, six of which are current.
    faults.kms.door.after(8, Answer::None);
    tokio::select! {
        done = encryptor.rewrap_keys(|_| ()) => panic!("the KMS does not answer: {done:?}"),
        () = faults.kms.door.is_waited_at() => {}
    }
    let now = current().await;
    assert!(before < now && now < 22, "{now} keys");
    faults.kms.door.says(Answer::Right);
    let done = encryptor.rewrap_keys(|_| ()).await.unwrap();
    assert_eq!((done.total, done.rewrapped + done.current, done.rewrapped), (22, 22, 22 - now));
    assert_eq!(current().await, 22);
}

impl World {
    /// Brings the table to where a task finds all its rows, and counts the writes to each from now on.
    async fn prepare(&self, task: &str) {
        let mut owner = self.client("owner").await;
        let migration = self.orders.migration();
        match task {
            "reseal" => self.rotate().await,
            "reindex" => self.rotate_index().await,
            "seal" => migration.prepare(&owner).await.unwrap(),
            "erase" => migration.cut_over(&mut owner).await.unwrap(),
            _ => {}
        }
        assert_eq!(self.left(task).await, ROWS, "{task}");
        let count = "CREATE TABLE IF NOT EXISTS writes (id bigint);
             TRUNCATE writes;
             CREATE OR REPLACE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO writes VALUES (NEW.id); RETURN NULL; END';
             CREATE OR REPLACE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON people
                 FOR EACH ROW EXECUTE FUNCTION note_write()";
        owner.batch_execute(count).await.unwrap();
    }

    /// Some rows are done and some are not; all are readable, and none was written twice.
    async fn is_in_the_middle(&self, task: &str) {
        self.check().await;
        let left = self.left(task).await;
        assert!(0 < left && left < ROWS, "{task}: {left} rows are left");
        let written = self.written().await;
        assert!(written == (if task == "verify" { 0 } else { ROWS - left }), "{task}: {written} written");
    }

    /// How many rows were written since [`World::prepare`]; fails when one was written twice.
    async fn written(&self) -> i64 {
        assert_eq!(self.count("SELECT count(*) - count(DISTINCT id) FROM writes").await, 0, "a row twice");
        self.count("SELECT count(*) FROM writes").await
    }
}

/// A KMS, a key store and a clock that can fail, and encryptors over them.
struct Faults {
    kms: Arc<FaultyKms>,
    store: Arc<FaultyStore>,
    config: EncryptorConfig,
}

impl Faults {
    const NAME: &str = "faulty";

    /// Without a cache, so that each batch meets the fault.
    fn new(world: &World) -> Self {
        let kms = Arc::new(FaultyKms::new(world.orders.kms()));
        let store = Arc::new(FaultyStore { store: world.orders.key_store(), door: Door::new() });
        Self { kms, store, config: EncryptorConfig::default().max_entries(0) }
    }

    fn encryptor(&self) -> Encryptor {
        Encryptor::new(self.kms.clone(), self.store.clone(), self.config.clone()).unwrap()
    }

    async fn run(&self, world: &World, task: &str) -> Result<u64, Error> {
        let mut client = world.client(Self::NAME).await;
        world.orders.clone().task(task).run(&mut client, &self.encryptor(), u32::MAX).await
    }

    /// Runs a task to its end, and looks at every row.
    async fn finish(&self, world: &World, task: &str) {
        self.run(world, task).await.unwrap();
        assert_eq!(world.left(task).await, 0, "{task} is not finished");
        world.check().await;
        assert_eq!(world.written().await, if task == "verify" { 0 } else { ROWS }, "{task}");
        if task == "erase" {
            assert_eq!(world.count("SELECT count(name) FROM people").await, 0, "plaintext is left");
        }
    }
}

#[derive(Debug)]
struct FaultyStore {
    store: PostgresKeyStore,
    door: Door,
}

impl FaultyStore {
    async fn pass(&self) -> Result<&PostgresKeyStore, Error> {
        match self.door.pass().await {
            Answer::Right => Ok(&self.store),
            _ => Err(Error::new(ErrorKind::Unavailable, "on purpose")),
        }
    }
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn insert(&self, record: &KeyRecord) -> Result<(), Error> {
        self.pass().await?.insert(record).await
    }

    async fn active(&self, scope: &Scope) -> Result<Option<KeyRecord>, Error> {
        self.pass().await?.active(scope).await
    }

    async fn by_id(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        self.pass().await?.by_id(id).await
    }

    async fn list(&self, scope: Option<&Scope>) -> Result<Vec<KeyRecord>, Error> {
        self.pass().await?.list(scope).await
    }

    async fn replace_wrapped(&self, id: KeyId, old: &WrappedKey, new: &WrappedKey) -> Result<(), Error> {
        self.pass().await?.replace_wrapped(id, old, new).await
    }

    async fn set_state(&self, id: KeyId, from: KeyState, to: KeyState) -> Result<(), Error> {
        self.pass().await?.set_state(id, from, to).await
    }

    async fn destroy(&self, id: KeyId) -> Result<(), Error> {
        self.pass().await?.destroy(id).await
    }

    async fn set_minimum(&self, scope: &Scope, from: u32, to: u32) -> Result<(), Error> {
        self.pass().await?.set_minimum(scope, from, to).await
    }
}

/// A clock that counts how often it is read, and leaps over a day every so many readings. Its time of day is long ago.
#[derive(Debug)]
struct Leaping(AtomicU64);

impl Leaping {
    const EVERY: u64 = 50;
}

impl Clock for Leaping {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, SeqCst) / Self::EVERY * 24 * 3600)
    }
}
