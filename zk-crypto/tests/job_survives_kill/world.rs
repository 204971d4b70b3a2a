//! A world with rows, and workers that are processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{Manager, Pool};
use testkit::Database;
use tokio_postgres::{Client, Config, NoTls};
use zk_crypto::{
    BlindIndex, Column, Encryptor, EncryptorConfig, Error, IndexSpec, Migration, Normalizer,
    PostgresKeyStore, Reindex, Reseal, Scope, Sealed,
};
use zk_kms::{LocalKms, PassphraseCost};

pub(crate) const ROWS: i64 = 240;
/// Slow enough that there is a middle of the work to be hit in, also on a machine that has more to do.
const PACE: u32 = 150;
const EMAIL: Column<String> = Column::new("public.people", "email");
const NAME: Column<String> = Column::new("public.people", "name_sealed");
const PASSPHRASE: &str = "correct horse battery staple";
/// In every plaintext, to find it where it should not be.
const MARKER: &str = "Zo\u{eb}-of-the-marker";

/// What a worker has to know, as environment variables carry it.
#[derive(Clone)]
pub(crate) struct Orders {
    task: String,
    name: String,
    socket: PathBuf,
    port: u16,
    database: String,
    password: String,
    ring: PathBuf,
}

impl Orders {
    /// What [`World::start`] gave this process; none for a process that somebody else started.
    pub(crate) fn from_environment() -> Option<Self> {
        let text = std::env::var("ZK_WORKER").ok()?;
        let parts: Vec<&str> = text.split('\n').collect();
        let [task, name, socket, port, database, password, ring] = parts.as_slice() else {
            panic!("seven lines are orders")
        };
        Some(Self {
            task: (*task).to_owned(),
            name: (*name).to_owned(),
            socket: socket.into(),
            port: port.parse().unwrap(),
            database: (*database).to_owned(),
            password: (*password).to_owned(),
            ring: ring.into(),
        })
    }

    fn to_text(&self) -> String {
        let Self { task, name, socket, port, database, password, ring } = self;
        let (socket, ring) = (socket.display(), ring.display());
        format!("{task}\n{name}\n{socket}\n{port}\n{database}\n{password}\n{ring}")
    }

    pub(crate) fn task(mut self, task: &str) -> Self {
        task.clone_into(&mut self.task);
        self
    }

    pub(crate) async fn work(&self) {
        let mut client = self.connect(&self.name).await;
        self.run(&mut client, &self.encryptor(), PACE).await.unwrap();
    }

    /// Does the task with whatever encryptor there is.
    pub(crate) async fn run(
        &self,
        client: &mut Client,
        encryptor: &Encryptor,
        pace: u32,
    ) -> Result<u64, Error> {
        let migration = self.migration().max_per_second(pace);
        match self.task.as_str() {
            "reseal" => {
                Reseal::new(("public", "people"), "id", "email", scope())
                    .context(|row| EMAIL.context(&scope(), row))
                    .batch_size(3)
                    .max_per_second(pace)
                    .run(client, encryptor)
                    .await
            }
            "reindex" => {
                let columns = ["email_odd", "email_even"];
                Reindex::unique(("public", "people"), "id", "email", columns, &index(), scope())
                    .batch_size(3)
                    .max_per_second(pace)
                    .run(client, encryptor)
                    .await
            }
            "seal" => migration.seal(client, encryptor).await,
            "verify" => migration.verify(client, encryptor).await,
            "erase" => migration.erase(client, encryptor).await,
            "roll back" => migration.roll_back(client, encryptor).await,
            other => panic!("no such task: {other}"),
        }
    }

    pub(crate) fn migration(&self) -> Migration {
        Migration::new(("public", "people"), "id", "name", "name_sealed", scope())
            .unwrap()
            .batch_size(3)
            .max_per_second(PACE)
    }

    pub(crate) fn encryptor(&self) -> Encryptor {
        Encryptor::new(Arc::new(self.kms()), Arc::new(self.key_store()), EncryptorConfig::default()).unwrap()
    }

    pub(crate) fn kms(&self) -> LocalKms {
        LocalKms::open(&self.ring, &PASSPHRASE.into()).unwrap()
    }

    pub(crate) fn key_store(&self) -> PostgresKeyStore {
        let pool = Pool::builder(Manager::new(self.config("keys"), NoTls)).max_size(2).build().unwrap();
        PostgresKeyStore::new(pool)
    }

    fn config(&self, application: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket).port(self.port).user("postgres").password(&self.password);
        config.dbname(&self.database).application_name(application);
        config
    }

    pub(crate) async fn connect(&self, application: &str) -> Client {
        let (client, connection) = self.config(application).connect(NoTls).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        client
    }
}

/// A table with a sealed and indexed column, and one with plaintext.
pub(crate) struct World {
    database: Database,
    _folder: tempfile::TempDir,
    pub(crate) orders: Orders,
    pub(crate) encryptor: Encryptor,
    client: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = Database::create().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ring = folder.path().join("ring");
        LocalKms::create(&ring, "test", &PASSPHRASE.into(), PassphraseCost::new(64, 1, 1).unwrap()).unwrap();
        let cluster = database.cluster();
        let orders = Orders {
            task: String::new(),
            name: String::new(),
            socket: cluster.socket_folder().to_owned(),
            port: cluster.port(),
            database: database.name().to_owned(),
            password: cluster.superuser_password().to_owned(),
            ring,
        };
        let client = orders.connect("test").await;
        PostgresKeyStore::install(&client).await.unwrap();
        zk_crypto::JobControl::install(&client).await.unwrap();
        let table = "CREATE TABLE people (id bigint PRIMARY KEY, name text,
                         email bytea, email_odd bytea UNIQUE, email_even bytea UNIQUE)";
        client.batch_execute(table).await.unwrap();
        let encryptor = orders.encryptor();
        encryptor.create_key(&scope()).await.unwrap();
        index().ensure_key(&encryptor, &scope()).await.unwrap();
        let world = Self { database, _folder: folder, orders, encryptor, client };
        for id in 1..=ROWS {
            world.insert(id).await;
        }
        world
    }

    async fn insert(&self, id: i64) {
        let sealed = EMAIL.seal(&self.encryptor, &scope(), id, &email(id)).await.unwrap();
        let tokens = index().indexer(&self.encryptor, &scope()).await.unwrap().pair(&[&email(id)]).unwrap();
        let sql = "INSERT INTO people (id, email, email_odd, email_even) VALUES ($1, $2, $3, $4)";
        self.client.execute(sql, &[&id, &sealed, &tokens.odd, &tokens.even]).await.unwrap();
        // Without parameters, which the server's log would show.
        self.client
            .batch_execute(&format!("UPDATE people SET name = 'somebody {id}' WHERE id = {id}"))
            .await
            .unwrap();
    }

    pub(crate) async fn rotate(&self) {
        self.encryptor.rotate_key(&scope()).await.unwrap();
    }

    pub(crate) async fn rotate_index(&self) {
        let key_scope = index().key_scope(&scope()).unwrap();
        self.encryptor.rotate_key(&key_scope).await.unwrap();
    }

    pub(crate) fn scope(&self) -> Scope {
        scope()
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        self.orders.connect(name).await
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many rows a job still has to do.
    pub(crate) async fn left(&self, task: &str) -> i64 {
        match task {
            "reseal" => {
                let active = self.encryptor.active_key(&scope()).await.unwrap();
                let sql = "SELECT count(*) FROM people WHERE substr(email, 2, 16) <> $1";
                let active = active.as_bytes().as_slice();
                self.client.query_one(sql, &[&active]).await.unwrap().get(0)
            }
            "reindex" => self.count("SELECT count(*) - count(email_even) FROM people").await,
            "seal" => self.count("SELECT count(*) FROM people WHERE name_sealed IS NULL").await,
            "verify" => match self.orders.migration().state().status(&self.client).await.unwrap() {
                Some(status) if status.phase.as_deref() == Some("verified") => 0,
                Some(status) => ROWS - i64::try_from(status.verified).unwrap(),
                None => ROWS,
            },
            "erase" => self.count("SELECT count(name) FROM people").await,
            "roll back" => self.count("SELECT count(name_sealed) FROM people").await,
            other => panic!("no such task: {other}"),
        }
    }

    /// Every row is there, once, and holds what it held at the beginning.
    pub(crate) async fn check(&self) {
        let migrating = self.count("SELECT count(*) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname = 'name_sealed'").await;
        let twin = if migrating == 1 { "name_sealed" } else { "NULL::bytea" };
        let sql = format!("SELECT id, email, name, {twin} FROM people ORDER BY id");
        let rows = self.client.query(&sql, &[]).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, (1..=ROWS).collect::<Vec<_>>(), "no row is lost, none is there twice");
        for row in &rows {
            let (id, sealed): (i64, Sealed) = (row.get(0), row.get(1));
            assert_eq!(EMAIL.open(&self.encryptor, &scope(), id, &sealed).await.unwrap(), email(id));
            let (name, twin): (Option<String>, Option<Sealed>) = (row.get(2), row.get(3));
            let expected = format!("somebody {id}");
            assert!(name.is_some() || twin.is_some(), "row {id} lost its name");
            if let Some(twin) = twin {
                assert_eq!(NAME.open(&self.encryptor, &scope(), id, &twin).await.unwrap(), expected);
            }
            assert!(name.is_none_or(|name| name == expected), "row {id}");
        }
        self.every_row_is_found().await;
        self.our_tables_hold_no_plaintext().await;
    }

    /// Under whichever version of the index its token is.
    pub(crate) async fn every_row_is_found(&self) {
        let indexer = index().indexer(&self.encryptor, &scope()).await.unwrap();
        let sql = "SELECT id FROM people WHERE email_odd = $1 OR email_even = $2";
        let statement = self.client.prepare(sql).await.unwrap();
        for id in 1..=ROWS {
            let tokens = indexer.pair(&[&email(id).to_uppercase()]).unwrap();
            let found = self.client.query(&statement, &[&tokens.odd, &tokens.even]).await.unwrap();
            assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [id]);
        }
    }

    /// No plaintext is where this crate keeps what it knows of keys and jobs.
    async fn our_tables_hold_no_plaintext(&self) {
        for table in ["zk.data_keys", "zk.jobs"] {
            let sql = format!(
                "SELECT count(*) FROM {table} t WHERE t::text LIKE '%of-the-marker%' OR t::text LIKE '%somebody%'"
            );
            assert_eq!(self.count(&sql).await, 0, "{table} holds plaintext");
        }
    }

    /// No plaintext is in the server's log, which shows every statement with its parameters, nor in any table.
    pub(crate) async fn nothing_was_shown(&self) {
        let log = self.database.cluster().log();
        assert!(
            log.contains("UPDATE \"public\".\"people\""),
            "the log does not show the statements of the jobs"
        );
        let hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
        for shown in [MARKER, hex.as_str()] {
            assert!(!log.contains(shown), "the log shows plaintext");
            let sql = format!(
                "SELECT count(*) FROM people WHERE people::text LIKE '%{}%'",
                shown.replace('\'', "")
            );
            assert_eq!(self.count(&sql.replace(MARKER, "Zo_-of-the-marker")).await, 0);
        }
    }

    pub(crate) fn start(&self, task: &str, name: &str) -> Worker {
        let mut orders = self.orders.clone().task(task);
        name.clone_into(&mut orders.name);
        Worker::start(&std::env::current_exe().unwrap(), &orders)
    }

    /// Ends the connections of a worker, as a network or a server that fails does.
    pub(crate) async fn cut_off(&self, name: &str) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        self.client.query(sql, &[&name]).await.unwrap();
    }

    /// The server notices by itself that a process is gone, and rolls back.
    pub(crate) async fn wait_for_end_of(&self, name: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        while self.count(&sql).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A process that does one job. Killed when it is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    fn start(program: &Path, orders: &Orders) -> Self {
        let child = Command::new(program)
            .args(["--exact", "worker", "--nocapture"])
            .env("ZK_WORKER", orders.to_text())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// SIGKILL: nothing of the process runs any more.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for the end of the process; whether it did its job.
    pub(crate) fn wait(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn dice(below: u64) -> u64 {
    RandomState::new().hash_one(below) % below
}

fn scope() -> Scope {
    Scope::tenant("a").unwrap()
}

fn index() -> BlindIndex {
    IndexSpec::unique("public.people", "email").normalize(Normalizer::Email).plan().unwrap()
}

fn email(id: i64) -> String {
    format!("{id}@{MARKER}")
}
