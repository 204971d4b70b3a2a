//! Leases and roles that differ are put right, and what belongs to others is left alone.

use std::time::Duration;

use zk_creds::ErrorKind;
use zk_creds::postgres::Issuer;

use super::shop::{Shop, assert_kind};

#[tokio::test]
async fn leases_and_roles_that_differ_are_put_right() {
    for mut shop in Shop::on_every_version().await {
        let services = shop.manifest.services.clone();
        let lost = shop.issue().await;
        let orphan = shop.issuer.issue(&mut shop.admin, &services[1]).await.unwrap();
        let session = shop.connect(&orphan).await.unwrap();
        shop.admin
            .batch_execute(&format!(
                "DROP ROLE {}; DELETE FROM zk.leases WHERE id = '{}'",
                lost.lease().login,
                orphan.lease().id
            ))
            .await
            .unwrap();
        let longer = shop.issue().await;
        let login = &longer.lease().login;
        shop.admin.batch_execute(&format!("ALTER ROLE {login} VALID UNTIL 'infinity'")).await.unwrap();

        let done = shop.issuer.reconcile(&mut shop.admin).await.unwrap();
        assert_eq!(done.lost, [lost.lease().clone()]);
        assert_eq!(done.orphans, [orphan.lease().login.clone()]);
        assert_eq!(done.fenced, [longer.lease().clone()]);
        assert!(done.failed.is_empty() && done.reaped.ended.is_empty());
        assert!(session.batch_execute("SELECT 1").await.is_err(), "a session of an orphan ends");
        assert_kind(shop.connect(&orphan).await, ErrorKind::Denied);
        assert_eq!(shop.logins().await, std::slice::from_ref(login));
        drop(shop.connect(&longer).await.unwrap());

        let again = shop.issuer.reconcile(&mut shop.admin).await.unwrap();
        assert!(again.lost.is_empty() && again.orphans.is_empty() && again.fenced.is_empty(), "{again:?}");
    }
}

/// Roles belong to the whole server: names that begin alike, and those of another database, are not ours.
#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let mut shop = Shop::create().await;
    let mut shorter = shop.manifest.clone();
    shorter.solution.truncate(13);
    let mut longer = shorter.clone();
    longer.solution.push_str("_b");
    let of = |manifest| Issuer::new(manifest, zk_creds::postgres::IssuerConfig::default()).unwrap();
    of(&longer).issue(&mut shop.admin, &longer.services[0]).await.unwrap();
    let by_hand = format!("zk_{}_orders_1_aaaaaaaa", shorter.solution);
    shop.admin.batch_execute(&format!("CREATE ROLE {by_hand} LOGIN")).await.unwrap();

    let elsewhere = shop.database.cluster().database().await.unwrap();
    let admin: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    shop.database.execute(&format!("ALTER DATABASE {} OWNER TO {admin}", elsewhere.name())).await.unwrap();
    let mut there = elsewhere.connect_as(&admin, "admin").await.unwrap();
    Issuer::install(&mut there).await.unwrap();
    of(&shorter).issue(&mut there, &shorter.services[0]).await.unwrap();

    let done = of(&shorter).reconcile(&mut shop.admin).await.unwrap();
    assert!(done.orphans.is_empty() && done.failed.is_empty(), "{done:?}");
    let rows = shop
        .admin
        .query(
            "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1)",
            &[&format!("zk_{}", shorter.solution)],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 3, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_issuers_reconcile_at_once() {
    let mut shop = Shop::create().await;
    let mut config = zk_creds::postgres::IssuerConfig::default();
    config.clock = shop.clock.clone();
    config.max_clock_skew = Duration::MAX;
    config.lock_timeout = Duration::from_secs(30);
    let issuer = std::sync::Arc::new(Issuer::new(&shop.manifest, config).unwrap());
    let service = shop.manifest.services[0].clone();
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let credential = issuer.issue(&mut shop.admin, &service).await.unwrap();
        sessions.push(shop.connect(&credential).await.unwrap());
    }
    shop.admin.batch_execute("DELETE FROM zk.leases WHERE generation > 4").await.unwrap();
    shop.clock.advance(Duration::from_secs(3600));
    let mut running = Vec::new();
    for _ in 0..4 {
        let mut admin = shop.admin_through(shop.database.port()).await;
        let issuer = issuer.clone();
        running.push(tokio::spawn(async move { issuer.reconcile(&mut admin).await }));
    }
    for each in running {
        let done = each.await.unwrap().unwrap();
        assert!(done.failed.is_empty() && done.reaped.failed.is_empty(), "{done:?}");
    }
    assert!(shop.logins().await.is_empty());
    for session in sessions {
        assert!(session.batch_execute("SELECT 1").await.is_err());
    }
}
