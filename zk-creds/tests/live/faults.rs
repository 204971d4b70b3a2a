//! The issuer is killed at every step; after a restart nothing is left between two states.

use std::time::Duration;

use tokio_postgres::Client;
use zk_creds::postgres::audit::Chain;
use zk_creds::postgres::{Issuer, IssuerConfig};
use zk_creds::{Credential, Error, ErrorKind};

use super::proxy::{Cut, Proxy};
use super::shop::{Shop, assert_kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Issue,
    Deploy,
    Renew,
    Rotate,
    Replace,
    Revoke,
}

/// A kill is a connection that ends: for the server there is no other difference, and for the issuer everything that it
/// had in memory is lost. The answer to each message of each operation is lost once.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step() {
    let mut shop = Shop::create().await;
    // With the server's time: it takes longer than a credential lives.
    shop.issuer = Issuer::new(&shop.manifest, IssuerConfig::default()).unwrap();
    let proxy = Proxy::before(shop.database.port()).await;
    use Operation::{Deploy, Issue, Renew, Replace, Revoke, Rotate};
    for operation in [Issue, Deploy, Renew, Rotate, Replace, Revoke] {
        // Before a message is after the one before it, so only the first is lost too.
        assert!(kill(&mut shop, &proxy, operation, 0, Cut::Before).await);
        let mut steps = 0;
        while kill(&mut shop, &proxy, operation, steps, Cut::After).await {
            steps += 1;
        }
        println!("{operation:?}: killed at {steps} steps");
        assert!(steps >= 3, "{operation:?} has {steps} steps");
    }
}

/// Runs the operation with the network cut at a message, then what a restarted issuer runs. False when the operation has
/// fewer messages.
async fn kill(shop: &mut Shop, proxy: &Proxy, operation: Operation, messages: usize, cut: Cut) -> bool {
    let what = &format!("{operation:?} killed {cut:?} message {messages}");
    for lease in shop.issuer.leases(&mut shop.admin).await.unwrap() {
        shop.issuer.revoke(&mut shop.admin, &lease).await.unwrap();
    }
    let fresh = matches!(operation, Operation::Issue | Operation::Deploy);
    let held = if fresh { None } else { Some(shop.issue().await) };
    let session = match &held {
        Some(held) => Some(shop.connect(held).await.unwrap()),
        None => None,
    };
    let mut killed = shop.admin_through(proxy.port()).await;
    proxy.arm(messages, cut);
    let outcome = run(shop, &mut killed, operation, held.as_ref()).await;
    let was_cut = proxy.disarm();
    drop(killed);
    if !was_cut {
        outcome.unwrap();
        return false;
    }
    // Replacing has done its work before it ends the sessions of the login that was lost.
    assert!(outcome.is_err() || operation == Operation::Replace, "{what} succeeded");

    restart(shop, what).await;
    let leases = shop.issuer.leases(&mut shop.admin).await.unwrap();
    let held_works = match &held {
        Some(held) => shop.connect(held).await.is_ok(),
        None => false,
    };
    match operation {
        // Either nothing happened or all of it, and then the credentials were lost. In both cases the service gets one.
        Operation::Issue => assert!(leases.len() <= 1, "{what}"),
        Operation::Deploy => assert!(leases.is_empty() || leases.len() == 2, "{what}"),
        Operation::Renew => assert!(held_works && leases.len() == 1, "{what}"),
        // The service is never without: the old credential lives until the end of its grace.
        Operation::Rotate => assert!(held_works && leases.len() <= 2, "{what}"),
        Operation::Replace => assert_eq!(leases.len(), 1, "{what}"),
        Operation::Revoke => {
            // Revoking that did not begin left all as it was, and is called again.
            assert_eq!(held_works, !leases.is_empty(), "{what}");
            shop.issuer.revoke(&mut shop.admin, held.as_ref().unwrap().lease()).await.unwrap();
            assert_kind(shop.connect(held.as_ref().unwrap()).await, ErrorKind::Denied);
            assert!(session.unwrap().batch_execute("SELECT 1").await.is_err(), "{what}: a session lives");
            assert!(shop.logins().await.is_empty(), "{what}");
            return true;
        }
    }
    let service = shop.manifest.services[0].clone();
    let replaced = shop.issuer.replace(&mut shop.admin, &service).await.unwrap();
    drop(shop.connect(&replaced).await.unwrap());
    restart(shop, what).await;
    let of_service = shop.issuer.leases(&mut shop.admin).await.unwrap();
    let of_service = of_service.iter().filter(|lease| lease.service == service.name).count();
    assert!(of_service <= 2, "{what}: {of_service} credentials");
    true
}

async fn run(
    shop: &Shop,
    client: &mut Client,
    operation: Operation,
    held: Option<&Credential>,
) -> Result<(), Error> {
    let (issuer, service) = (&shop.issuer, &shop.manifest.services[0]);
    let lease = held.map(Credential::lease);
    match operation {
        Operation::Issue => issuer.issue(client, service).await.map(drop),
        Operation::Deploy => issuer.deploy(client, &shop.manifest).await.map(drop),
        Operation::Renew => issuer.renew(client, lease.unwrap()).await.map(drop),
        Operation::Rotate => issuer.rotate(client, service, Duration::from_secs(30)).await.map(drop),
        Operation::Replace => issuer.replace(client, service).await.map(drop),
        Operation::Revoke => issuer.revoke(client, lease.unwrap()).await,
    }
}

/// Reconciles, after which leases and roles are the same, the fences agree, and the audit is whole.
async fn restart(shop: &mut Shop, what: &str) {
    let reconciled = shop.issuer.reconcile(&mut shop.admin).await.unwrap();
    assert!(reconciled.reaped.failed.is_empty() && reconciled.failed.is_empty(), "{what}: {reconciled:?}");
    let mut leased: Vec<String> = Vec::new();
    for lease in shop.issuer.leases(&mut shop.admin).await.unwrap() {
        let row = shop
            .admin
            .query_one(
                "SELECT rolcanlogin, rolvaliduntil FROM pg_roles WHERE rolname = $1::text::name",
                &[&lease.login],
            )
            .await
            .unwrap();
        assert_eq!((row.get(0), row.get(1)), (true, lease.expires_at), "{what}");
        leased.push(lease.login);
    }
    leased.sort();
    assert_eq!(shop.logins().await, leased, "{what}: roles and leases differ");
    let chain = shop.issuer.verify_audit(&mut shop.admin, None).await.unwrap();
    assert!(matches!(chain, Chain::Whole(_)), "{what}: {chain:?}");
}

/// As pools and poolers have it. A version of this crate asks other questions under other names.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_forgets_what_it_was_prepared_for_is_prepared_again() {
    let mut shop = Shop::create().await;
    drop(shop.issue().await);
    let prepared = "SELECT name FROM pg_prepared_statements WHERE starts_with(name, 'zk_creds_') ORDER BY 1";
    let names = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
    let known = names(shop.admin.query(prepared, &[]).await.unwrap());
    let version = |name: &str| name.rsplit_once('_').unwrap().0.to_owned();
    assert!(known.len() > 1 && known.iter().all(|name| version(name) == version(&known[0])), "{known:?}");
    for forget in ["DEALLOCATE ALL", "DISCARD ALL", "SELECT 1"] {
        shop.admin.batch_execute(forget).await.unwrap();
        let service = shop.manifest.services[0].clone();
        let credential = shop.issuer.rotate(&mut shop.admin, &service, Duration::ZERO).await.unwrap();
        shop.issuer.reap(&mut shop.admin).await.unwrap();
        drop(shop.connect(&credential).await.unwrap());
        assert_eq!(names(shop.admin.query(prepared, &[]).await.unwrap()), known);
    }
}
