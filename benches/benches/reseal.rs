//! How fast does the job seal a table again, beside plain updates of the same rows? `cargo bench -p benches --bench reseal`
//!
//! 60,000 rows with one sealed value of 16 bytes each, on a private server without durability, over TLS. Each round does
//! the rows three times, in turns (the first two in a copy of the table): with one `UPDATE` in the server for each worker, which sends nothing and computes
//! nothing; with batches of 1000 rows and new bytes of the same length from the client, as anybody would write it by hand;
//! and with the job. The table is vacuumed in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{Cluster, ClusterConfig, Database};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_postgres::Client;
use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Reseal, Scope};
use zk_kms::LocalKms;

const ROWS: i64 = 60_000;
const BATCH: i64 = 1000;
const ROUNDS: usize = 7;
const NAMES: [&str; 3] = [
    "one UPDATE in the server for each worker",
    "UPDATE in batches of 1000, bytes from the client",
    "Reseal",
];

fn main() {
    println!("ciphers of zk-crypto: {}", if cfg!(feature = "aws-lc") { "AWS-LC" } else { "Rust" });
    let runtime = Runtime::new().expect("a runtime");
    let cluster = Cluster::start(ClusterConfig::for_benchmarks()).expect("a server");
    runtime.block_on(async {
        let lab = Arc::new(Lab::create(&cluster).await);
        for workers in [1, 2] {
            let mut seconds = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                for (kind, seconds) in seconds.iter_mut().enumerate() {
                    seconds.push(lab.measure(kind, workers).await.as_secs_f64());
                }
            }
            let medians = seconds.map(|mut seconds| {
                seconds.sort_by(f64::total_cmp);
                seconds[ROUNDS / 2]
            });
            println!("\n### {ROWS} rows, {workers} worker(s)\n\n| | thousand rows/s | rate ÷ the first | ÷ the second |\n|---|---:|---:|---:|");
            for (name, median) in NAMES.iter().zip(medians) {
                let (rate, first, second) = (ROWS as f64 / median / 1e3, medians[0] / median, medians[1] / median);
                println!("| {name} | {rate:.1} | {first:.2} | {second:.2} |");
            }
        }
    });
}

struct Lab {
    database: Database,
    encryptor: Encryptor,
    scope: Scope,
}

impl Lab {
    async fn create(cluster: &Cluster) -> Self {
        let database = cluster.database().await.expect("a database");
        let kms = Arc::new(LocalKms::ephemeral("bench").expect("a ring"));
        let store = Arc::new(MemoryKeyStore::new());
        let encryptor = Encryptor::new(kms, store, EncryptorConfig::default()).expect("an encryptor");
        let scope = Scope::tenant("7f9c").expect("a scope");
        encryptor.create_key(&scope).await.expect("a key");
        let client = database.connect().await.expect("a connection");
        let table = "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL, ssn bytea NOT NULL);
                     CREATE INDEX people_key ON people (substr(ssn, 2, 16))";
        client.batch_execute(table).await.expect("a table");
        let sealer = encryptor.sealer(&scope).await.expect("a sealer");
        let place = Context::column("public.people", "ssn");
        let insert = "INSERT INTO people SELECT id, 'somebody', ssn \
                      FROM ROWS FROM (unnest($1::int8[]), unnest($2::bytea[])) AS s (id, ssn)";
        let ids: Vec<i64> = (1..=ROWS).collect();
        for ids in ids.chunks(1000) {
            let seal = |id: &i64| {
                let place = place.clone().row(id.to_string());
                sealer.seal(&place, b"078-05-1120-0000").expect("sealed").as_bytes().to_vec()
            };
            let sealed: Vec<Vec<u8>> = ids.iter().map(seal).collect();
            client.execute(insert, &[&ids, &sealed]).await.expect("inserted");
        }
        let copy = "CREATE TABLE plain (LIKE people INCLUDING ALL); INSERT INTO plain SELECT * FROM people ORDER BY id";
        client.batch_execute(copy).await.expect("copied");
        Self { database, encryptor, scope }
    }

    async fn measure(self: &Arc<Self>, kind: usize, workers: i64) -> Duration {
        let client = self.client().await;
        client.batch_execute("VACUUM ANALYZE").await.expect("vacuumed");
        if kind == 2 {
            let old = self.encryptor.active_key(&self.scope).await.expect("a key");
            self.encryptor.rotate_key(&self.scope).await.expect("rotated");
            let start = self.run(kind, workers).await;
            let mut client = client;
            let job = self.job();
            assert!(job.remaining(&mut client, &self.encryptor).await.expect("counted").is_empty());
            self.encryptor.destroy_key(old).await.expect("destroyed");
            return start;
        }
        self.run(kind, workers).await
    }

    async fn run(self: &Arc<Self>, kind: usize, workers: i64) -> Duration {
        let mut clients = Vec::new();
        for _ in 0..workers {
            clients.push(self.client().await);
        }
        let start = Instant::now();
        let mut running = JoinSet::new();
        for (worker, mut client) in (0..workers).zip(clients) {
            let lab = Arc::clone(self);
            let (from, to) = (worker * ROWS / workers + 1, (worker + 1) * ROWS / workers);
            running.spawn(async move {
                match kind {
                    0 => in_the_server(&client, from, to).await,
                    1 => in_batches(&mut client, from, to).await,
                    _ => drop(lab.job().run(&mut client, &lab.encryptor).await.expect("resealed")),
                }
            });
        }
        running.join_all().await;
        start.elapsed()
    }

    fn job(&self) -> Reseal {
        Reseal::new(("public", "people"), "id", "ssn", self.scope.clone()).batch_size(BATCH as u32)
    }

    async fn client(&self) -> Client {
        self.database.connect().await.expect("a connection")
    }
}

/// The key id changes, which the index holds, as it does for the job; every row keeps its length.
async fn in_the_server(client: &Client, from: i64, to: i64) {
    let update = "UPDATE plain SET ssn = overlay(ssn PLACING substr(sha256(ssn), 1, 16) FROM 2) WHERE id BETWEEN $1 AND $2";
    client.execute(update, &[&from, &to]).await.expect("updated");
}

async fn in_batches(client: &mut Client, from: i64, to: i64) {
    let select = client
        .prepare("SELECT id, ssn FROM plain WHERE id BETWEEN $1 AND $2 ORDER BY id FOR UPDATE")
        .await
        .expect("prepared");
    let update = client
        .prepare(
            "UPDATE plain SET ssn = new.ssn FROM ROWS FROM (unnest($1::int8[]), unnest($2::bytea[])) AS new (id, ssn) \
             WHERE plain.id = new.id",
        )
        .await
        .expect("prepared");
    for first in (from..=to).step_by(BATCH as usize) {
        let transaction = client.transaction().await.expect("begun");
        let rows = transaction.query(&select, &[&first, &to.min(first + BATCH - 1)]).await.expect("read");
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut value: Vec<u8> = row.get(1);
            value[1..17].rotate_left(1);
            ids.push(row.get::<_, i64>(0));
            values.push(value);
        }
        transaction.execute(&update, &[&ids, &values]).await.expect("updated");
        transaction.commit().await.expect("committed");
    }
}
