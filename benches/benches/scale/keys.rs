//! Data keys of 100, 1000 and 10 000 tenants, and what one process asks the KMS when it seals for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use deadpool_postgres::Pool;
use testkit::Cluster;
use tokio::task::JoinSet;
use zk_crypto::{Context, Encryptor, EncryptorConfig, PostgresKeyStore, Scope};
use zk_kms::{Capabilities, DataKey, Error, KeyStatus, KeyUri, Kms, LocalKms, WrappedKey};

use crate::{Random, ms, timed};

const TENANTS: usize = 10_000;
const REQUESTS: usize = 50_000;

pub async fn measure(cluster: &Cluster) {
    let database = cluster.database().await.expect("a database");
    let client = database.connect().await.expect("the superuser");
    PostgresKeyStore::install(&client).await.expect("installed");
    let pool = database.pool("postgres", cluster.superuser_password());
    let kms = Arc::new(Counted {
        inner: LocalKms::ephemeral("scale").expect("a ring"),
        unwrapped: AtomicU64::new(0),
    });

    println!("\n### Data keys\n");
    println!("| tenants | made, 16 at a time | a key | rows of zk.data_keys | rewrap_keys, a key |");
    println!("|---:|---:|---:|---:|---:|");
    let mut made = 0;
    for tenants in [100, 1000, TENANTS] {
        let encryptor = Arc::new(encryptor(&kms, &pool, 1024));
        let ((), time) = timed(make(&encryptor, made..tenants)).await;
        kms.inner.rotate().expect("rotated");
        let (rewrapped, rewrap) = timed(encryptor.rewrap_keys(|_| {})).await;
        rewrapped.expect("rewrapped");
        client.batch_execute("VACUUM ANALYZE zk.data_keys").await.expect("vacuumed");
        let size = "SELECT pg_total_relation_size('zk.data_keys')";
        let bytes = client.query_one(size, &[]).await.expect("a size").get::<_, i64>(0);
        println!(
            "| {tenants} | {:.0} ms | {:.2} ms | {} KiB | {:.2} ms |",
            ms(time),
            ms(time) / (tenants - made) as f64,
            bytes / 1024,
            ms(rewrap) / tenants as f64,
        );
        made = tenants;
    }

    println!("\n### Keys in memory: {REQUESTS} values sealed for {TENANTS} tenants by one process\n");
    println!("| who asks | max_entries | asks of the KMS | found in memory | a value |");
    println!("|---|---:|---:|---:|---:|");
    for (who, skewed) in [("every tenant alike", false), ("few tenants most of the time", true)] {
        for entries in [1024, 4096, 32_768] {
            let encryptor = encryptor(&kms, &pool, entries);
            let before = kms.unwrapped.load(Ordering::Relaxed);
            let ((), time) = timed(seal(&encryptor, &requests(skewed))).await;
            let asked = kms.unwrapped.load(Ordering::Relaxed) - before;
            println!(
                "| {who} | {entries} | {asked} | {:.1} % | {:.1} µs |",
                100.0 * (1.0 - asked as f64 / REQUESTS as f64),
                ms(time) * 1e3 / REQUESTS as f64,
            );
        }
    }
}

fn encryptor(kms: &Arc<Counted>, pool: &Pool, entries: usize) -> Encryptor {
    let store = Arc::new(PostgresKeyStore::new(pool.clone()));
    let config = EncryptorConfig::default().max_entries(entries);
    Encryptor::new(kms.clone(), store, config).expect("an encryptor")
}

async fn make(encryptor: &Arc<Encryptor>, tenants: std::ops::Range<usize>) {
    let mut running = JoinSet::new();
    for worker in 0..16 {
        let (encryptor, tenants) = (encryptor.clone(), tenants.clone());
        running.spawn(async move {
            for tenant in tenants.filter(|tenant| tenant % 16 == worker) {
                encryptor.ensure_key(&scope(tenant)).await.expect("a key");
            }
        });
    }
    running.join_all().await;
}

async fn seal(encryptor: &Encryptor, requests: &[usize]) {
    for tenant in requests {
        let place = Context::column("public.people", "ssn").row("42");
        encryptor.seal(&scope(*tenant), &place, b"078-05-1120").await.expect("sealed");
    }
}

/// Who asks, one request after the other. Skewed: tenant n as often as 1 ÷ n says (Zipf).
fn requests(skewed: bool) -> Vec<usize> {
    let mut random = Random(7);
    let mut sums = Vec::with_capacity(TENANTS);
    for tenant in 1..=TENANTS {
        sums.push(sums.last().copied().unwrap_or(0.0) + if skewed { 1.0 / tenant as f64 } else { 1.0 });
    }
    let all = sums[TENANTS - 1];
    let one = |_| {
        let at = random.next() * all;
        sums.partition_point(|sum| *sum <= at).min(TENANTS - 1)
    };
    (0..REQUESTS).map(one).collect()
}

fn scope(tenant: usize) -> Scope {
    Scope::tenant(&format!("t{tenant}")).expect("a scope")
}

/// A ring in memory that counts how often it is asked for a key.
#[derive(Debug)]
struct Counted {
    inner: LocalKms,
    unwrapped: AtomicU64,
}

#[async_trait]
impl Kms for Counted {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    async fn wrap_key(&self, key: &DataKey, context: &zk_kms::Context) -> Result<WrappedKey, Error> {
        self.inner.wrap_key(key, context).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &zk_kms::Context) -> Result<DataKey, Error> {
        self.unwrapped.fetch_add(1, Ordering::Relaxed);
        self.inner.unwrap_key(wrapped, context).await
    }

    async fn status(&self) -> Result<KeyStatus, Error> {
        self.inner.status().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
