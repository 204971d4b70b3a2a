//! 10, 100 and 1000 services of one solution: a deployment, the same again, and what runs on a schedule.

use testkit::Cluster;
use tokio_postgres::Client;
use zk_creds::postgres::audit::Chain;
use zk_creds::postgres::{Issuer, IssuerConfig};
use zk_creds::{Manifest, Service};

use crate::{ms, timed};

pub async fn measure(cluster: &Cluster) {
    println!("\n### Leases\n");
    println!(
        "| services | deploy | a service | deploy again, nothing to do | renew one | reconcile | audit, an entry |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let setup = cluster.database().await.expect("a database");
    setup
        .execute("CREATE ROLE issuer LOGIN CREATEROLE PASSWORD 'issuer'; CREATE ROLE clerk; GRANT clerk TO issuer WITH ADMIN OPTION")
        .await
        .expect("roles");
    for services in [10, 100, 1000] {
        let database = cluster.database().await.expect("a database");
        let grant = format!("GRANT CREATE ON DATABASE {} TO issuer", database.name());
        database.execute(&grant).await.expect("a grant");
        let mut client = database.connect_as("issuer", "issuer").await.expect("the issuer");
        one(&mut client, services).await;
    }
}

async fn one(client: &mut Client, services: usize) {
    Issuer::install(client).await.expect("installed");
    let manifest = manifest(services);
    let issuer = Issuer::new(&manifest, IssuerConfig::default()).expect("an issuer");
    let (deployed, deploy) = timed(issuer.deploy(client, &manifest)).await;
    let deployed = deployed.expect("deployed");
    assert_eq!(deployed.issued.len(), services);
    let (again, nothing) = timed(issuer.deploy(client, &manifest)).await;
    assert!(again.expect("deployed").issued.is_empty());
    let lease = deployed.issued[services / 2].lease();
    let (renewed, renew) = timed(issuer.renew(client, lease)).await;
    renewed.expect("renewed");
    let (reconciled, reconcile) = timed(issuer.reconcile(client)).await;
    assert!(reconciled.expect("reconciled").lost.is_empty());
    let entries =
        client.query_one("SELECT count(*) FROM zk.audit", &[]).await.expect("a count").get::<_, i64>(0);
    let (chain, audit) = timed(issuer.verify_audit(client, None)).await;
    assert!(matches!(chain.expect("verified"), Chain::Whole(_)));
    println!(
        "| {services} | {:.0} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.0} µs |",
        ms(deploy),
        ms(deploy) / services as f64,
        ms(nothing),
        ms(renew),
        ms(reconcile),
        ms(audit) * 1e3 / entries as f64,
    );
}

/// Services as they come by default: each password is hashed 4096 times, by us and by the server.
fn manifest(services: usize) -> Manifest {
    let text = format!(
        r#"{{"solution": "s{services}", "services": [{{"name": "service", "roles": ["clerk"], "connections": 4}}]}}"#
    );
    let mut manifest = Manifest::from_json(&text).expect("a manifest");
    let model = manifest.services.remove(0);
    manifest.services =
        (0..services).map(|n| Service { name: format!("service{n}"), ..model.clone() }).collect();
    manifest
}
