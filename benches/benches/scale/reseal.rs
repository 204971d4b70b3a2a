//! The job that seals rows again after a rotation, by 1, 2 and 4 workers.

use std::sync::Arc;

use testkit::{Cluster, Database};
use tokio::task::JoinSet;
use zk_crypto::{Context, Encryptor, EncryptorConfig, MemoryKeyStore, Reseal, Scope};
use zk_kms::LocalKms;

use crate::timed;

const ROWS: i64 = 60_000;

pub async fn measure(cluster: &Cluster) {
    println!(
        "\n### Rows sealed again: {ROWS} rows of one tenant\n\n| workers | rows a second | ÷ one |\n|---:|---:|---:|"
    );
    let database = cluster.database().await.expect("a database");
    let kms = Arc::new(LocalKms::ephemeral("reseal").expect("a ring"));
    let store = Arc::new(MemoryKeyStore::new());
    let encryptor = Arc::new(Encryptor::new(kms, store, EncryptorConfig::default()).expect("an encryptor"));
    let scope = Scope::tenant("7f9c").expect("a scope");
    encryptor.ensure_key(&scope).await.expect("a key");
    fill(&database, &encryptor, &scope).await;
    let mut one = 0.0;
    for workers in [1, 2, 4] {
        let client = database.connect().await.expect("a connection");
        client.batch_execute("VACUUM ANALYZE people").await.expect("vacuumed");
        encryptor.rotate_key(&scope).await.expect("rotated");
        let mut clients = Vec::new();
        for _ in 0..workers {
            clients.push(database.connect().await.expect("a connection"));
        }
        let mut running = JoinSet::new();
        let ((), time) = timed(async {
            for mut client in clients {
                let (encryptor, job) = (encryptor.clone(), job(&scope));
                running.spawn(async move { job.run(&mut client, &encryptor).await.expect("sealed again") });
            }
            while running.join_next().await.is_some() {}
        })
        .await;
        let rate = ROWS as f64 / time.as_secs_f64();
        if workers == 1 {
            one = rate;
        }
        println!("| {workers} | {rate:.0} | {:.2} |", rate / one);
    }
}

fn job(scope: &Scope) -> Reseal {
    Reseal::new(("public", "people"), "id", "ssn", scope.clone()).batch_size(1000)
}

async fn fill(database: &Database, encryptor: &Encryptor, scope: &Scope) {
    let client = database.connect().await.expect("a connection");
    let table = "CREATE TABLE people (id bigint PRIMARY KEY, ssn bytea NOT NULL);
                 CREATE INDEX people_key ON people (substr(ssn, 2, 16))";
    client.batch_execute(table).await.expect("a table");
    let sealer = encryptor.sealer(scope).await.expect("a sealer");
    let ids: Vec<i64> = (1..=ROWS).collect();
    for ids in ids.chunks(1000) {
        let place = |id: &i64| Context::column("public.people", "ssn").row(id.to_string());
        let sealed = ids.iter().map(|id| sealer.seal(&place(id), b"078-05-1120-0000").expect("sealed"));
        let sealed: Vec<Vec<u8>> = sealed.map(|sealed| sealed.as_bytes().to_vec()).collect();
        let insert = "INSERT INTO people SELECT * FROM ROWS FROM (unnest($1::int8[]), unnest($2::bytea[])) AS s (id, ssn)";
        client.execute(insert, &[&ids, &sealed]).await.expect("inserted");
    }
}
