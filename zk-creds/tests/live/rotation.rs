//! Under load, credentials rotate to other user names, and no query fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use testkit::{Cluster, ClusterConfig};
use zk_creds::postgres::{
    CredentialSource, Handover, Issuer, IssuerConfig, Login, acting_as, pool, pool_builder,
};
use zk_creds::{Error, ErrorKind};

use super::shop::Shop;

const CLIENTS: usize = 64;
const CONNECTIONS: usize = 16;
const ROTATIONS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn rotation_without_errors() {
    let cluster = Cluster::start(ClusterConfig::for_benchmarks()).unwrap();
    let mut shop = Shop::create_on(cluster.database().await.unwrap()).await;
    // The server's own time: a grace of seconds has to pass.
    shop.issuer = Issuer::new(&shop.manifest, IssuerConfig::default()).unwrap();
    shop.manifest.services[0].connections = 40;
    let first = shop.issue().await;
    let handover = Arc::new(Handover::new(Login::of(shop.endpoint(), &first)));
    let pool = pool(handover.clone(), CONNECTIONS).unwrap();

    let (queries, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (pool, queries, stop) = (pool.clone(), queries.clone(), stop.clone());
        clients.push(tokio::spawn(async move {
            let (mut failures, mut users) = (Vec::new(), std::collections::BTreeSet::new());
            while !stop.load(Ordering::Relaxed) {
                let answer = async {
                    let client = pool.get().await.map_err(|e| format!("{e:?}"))?;
                    let row = client.query_one("SELECT session_user::text, pg_sleep(0.001)", &[]).await;
                    row.map_err(|e| format!("{e:?}")).map(|row| row.get::<_, String>(0))
                };
                match answer.await {
                    Ok(user) => drop(users.insert(user)),
                    Err(error) => failures.push(error),
                }
                queries.fetch_add(1, Ordering::Relaxed);
            }
            (failures, users)
        }));
    }

    for rotation in 1..=ROTATIONS {
        until(&queries, rotation * 600).await;
        let grace = Duration::from_secs(2);
        let service = shop.manifest.services[0].clone();
        let next = shop.issuer.rotate(&mut shop.admin, &service, grace).await.unwrap();
        handover.replace(Login::of(shop.endpoint(), &next));
        // The old login is not only left to expire: it is revoked, with every session that it has.
        tokio::time::sleep(grace).await;
        assert_eq!(shop.reap().await.len(), 1);
    }
    until(&queries, queries.load(Ordering::Relaxed) + 600).await;
    stop.store(true, Ordering::Relaxed);

    let (mut failures, mut users) = (Vec::new(), std::collections::BTreeSet::new());
    for client in clients {
        let (failed, used) = client.await.unwrap();
        failures.extend(failed);
        users.extend(used);
    }
    let queries = queries.load(Ordering::Relaxed);
    println!("{queries} queries by {CLIENTS} clients over {ROTATIONS} rotations, {} failed", failures.len());
    assert!(failures.is_empty(), "{} of {queries} failed, such as {}", failures.len(), failures[0]);
    assert!(queries >= 3000, "{queries}");
    assert_eq!(users.len() as u64, ROTATIONS + 1, "every login was used: {users:?}");
}

async fn until(queries: &AtomicU64, count: u64) {
    while queries.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A source that has not heard of a rotation until it is asked to look again.
#[derive(Debug)]
struct Stale(Handover, std::sync::Mutex<Option<Login>>);

#[async_trait]
impl CredentialSource for Stale {
    async fn current(&self) -> Result<Arc<Login>, Error> {
        self.0.current().await
    }

    async fn refresh(&self, user: &str) -> Result<Arc<Login>, Error> {
        if let Some(next) = self.1.lock().unwrap().take() {
            assert_ne!(next.user(), user);
            self.0.replace(next);
        }
        self.0.current().await
    }
}

#[tokio::test]
async fn connections_act_as_their_pools_role_under_every_login() {
    let mut shop = Shop::create().await;
    let first = shop.issue().await;
    let handover = Arc::new(Handover::new(Login::of(shop.endpoint(), &first)));
    let clerks =
        pool_builder(handover.clone()).max_size(1).post_create(acting_as(&shop.role)).build().unwrap();
    let sold = async || {
        let client = clerks.get().await.unwrap();
        let sql = "SELECT session_user::text, current_user::text, v FROM stock";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, String>(2))
    };
    let as_clerk = |login: &str| (login.to_owned(), shop.role.clone(), "tea".to_owned());
    assert_eq!(sold().await, as_clerk(&first.lease().login));
    let service = shop.manifest.services[0].clone();
    let next = shop.issuer.rotate(&mut shop.admin, &service, Duration::ZERO).await.unwrap();
    handover.replace(Login::of(shop.endpoint(), &next));
    assert_eq!(sold().await, as_clerk(&next.lease().login));

    // A role that is not the service's, with a name that is no identifier.
    let others = pool_builder(handover).post_create(acting_as("pg_read_all_data\"; --")).build().unwrap();
    assert!(format!("{:?}", others.get().await.err().unwrap()).contains("22023"));
}

#[tokio::test]
async fn a_refused_login_is_looked_up_again_once() {
    let mut shop = Shop::create().await;
    let old = shop.issue().await;
    let new = shop.rotate(Duration::ZERO).await.unwrap();
    shop.revoke(&old).await.unwrap();
    let login = |credential| Login::of(shop.endpoint(), credential);
    let next = std::sync::Mutex::new(Some(login(&new)));
    let pool = pool(Arc::new(Stale(Handover::new(login(&old)), next)), 2).unwrap();
    let client = pool.get().await.unwrap();
    let row = client.query_one("SELECT session_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), new.lease().login);
    drop(client);
    shop.revoke(&new).await.unwrap();
    let refused = format!("{:?}", pool.get().await.err().unwrap());
    assert!(refused.contains("28000") || refused.contains("28P01"), "{refused}");
}

#[tokio::test]
async fn a_pool_says_why_it_did_not_try() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    shop.clock.advance(Duration::from_secs(3600));
    let login = Login::of(shop.endpoint(), &credential).with_clock(shop.clock.clone());
    let pool = pool(Arc::new(Handover::new(login)), 1).unwrap();
    let mut error: &dyn std::error::Error = &pool.get().await.err().unwrap();
    let ours = loop {
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            break inner.downcast_ref::<Error>().unwrap();
        }
        error = error.source().unwrap();
    };
    assert_eq!(ours.kind(), ErrorKind::Expired);
}
