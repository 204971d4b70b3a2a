//! A manifest is deployed, again, changed, and with a service less.

use zk_creds::postgres::{Change, Issuer, IssuerConfig};
use zk_creds::{Error, ErrorKind, Manifest};

use super::shop::{HANDOVER, Shop, assert_kind};

#[tokio::test]
async fn deploying_again_does_nothing() {
    let mut shop = Shop::create().await;
    let plan = shop.issuer.plan(&mut shop.admin, &shop.manifest).await.unwrap();
    assert_eq!(plan.to_string(), "+ orders: issue a login\n+ billing: issue a login\n");
    let first = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap();
    assert_eq!(first.issued.len(), 2);
    let logins = shop.logins().await;

    assert!(shop.issuer.plan(&mut shop.admin, &shop.manifest).await.unwrap().is_empty());
    let again = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap();
    assert!(again.issued.is_empty() && again.ending.is_empty() && again.revoked.is_empty());
    assert_eq!(again.kept.len(), 2);
    assert_eq!(shop.logins().await, logins);
}

#[tokio::test]
async fn a_changed_service_is_handed_over_and_a_removed_one_revoked() {
    let mut shop = Shop::create().await;
    let first = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap().issued;
    let (orders, billing) = (&first[0], &first[1]);
    let session = shop.connect(billing).await.unwrap();
    let mut changed = shop.manifest.clone();
    changed.services.truncate(1);
    changed.services[0].connections = 3;
    let plan = shop.issuer.plan(&mut shop.admin, &changed).await.unwrap();
    assert_eq!(
        plan.to_string(),
        format!(
            "~ orders: issue another login beside {}\n    connections: 10 → 3\n- billing: revoke {}\n",
            orders.lease().login,
            billing.lease().login
        )
    );
    assert!(matches!(&plan.steps[1].change, Change::Revoke(leases) if leases == &[billing.lease().clone()]));

    let done = shop.issuer.deploy(&mut shop.admin, &changed).await.unwrap();
    assert_eq!((done.issued.len(), done.ending.len(), done.revoked.len()), (1, 1, 1));
    assert!(done.unfinished.is_empty());
    assert!(session.batch_execute("SELECT 1").await.is_err());
    assert_kind(shop.connect(billing).await, ErrorKind::Denied);
    drop((shop.connect(orders).await.unwrap(), shop.connect(&done.issued[0]).await.unwrap()));
    assert!(
        shop.issuer.leases(&mut shop.admin).await.unwrap()[0].expires_at
            <= orders.lease().issued_at + HANDOVER
    );

    changed.services[0].connections = 4;
    let refused = shop.issuer.deploy(&mut shop.admin, &changed).await;
    assert_kind(refused, ErrorKind::Conflict);
    shop.clock.advance(HANDOVER);
    assert_eq!(shop.reap().await, [orders.lease().login.clone()]);
}

#[tokio::test]
async fn another_solutions_manifest_is_refused() {
    let mut shop = Shop::create().await;
    let other = Manifest { solution: "other".to_owned(), ..shop.manifest.clone() };
    assert_kind(shop.issuer.deploy(&mut shop.admin, &other).await, ErrorKind::Invalid);
}

/// The message says what to run, and running it helps.
#[tokio::test]
async fn a_missing_privilege_is_named() {
    for mut shop in Shop::on_every_version().await {
        let admin: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
        let service = shop.manifest.services[0].clone();
        shop.database.execute(&format!("ALTER ROLE {admin} NOCREATEROLE")).await.unwrap();
        let error = assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Denied);
        assert!(error.to_string().contains("ALTER ROLE … CREATEROLE"), "{error}");
        shop.database.execute(&format!("ALTER ROLE {admin} CREATEROLE")).await.unwrap();

        if shop.database.cluster().server_version() >= 16 {
            let foreign = testkit::unique_name("foreign");
            shop.database.execute(&format!("CREATE ROLE {foreign}")).await.unwrap();
            let mut service = service.clone();
            service.roles = vec![foreign.clone()];
            let error: Error =
                assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Denied);
            let grant = format!("GRANT \"{foreign}\" TO \"{admin}\" WITH ADMIN OPTION");
            assert!(error.to_string().contains(&grant), "{error}");
            shop.database.execute(&grant).await.unwrap();
            shop.issuer.issue(&mut shop.admin, &service).await.unwrap();
        }
        shop.issuer.issue(&mut shop.admin, &service).await.unwrap();
    }
}

#[tokio::test]
async fn clocks_that_are_apart_stop_issuing() {
    let mut shop = Shop::create().await;
    let mut config = IssuerConfig::default();
    config.clock = shop.clock.clone();
    let issuer = Issuer::new(&shop.manifest, config).unwrap();
    let service = shop.manifest.services[0].clone();
    let credential = issuer.issue(&mut shop.admin, &service).await.unwrap();
    for turn in [true, false] {
        let by = std::time::Duration::from_secs(2 * 3600);
        if turn {
            shop.clock.turn_back(by)
        } else {
            shop.clock.advance(by * 2)
        }
        let error = assert_kind(issuer.issue(&mut shop.admin, &service).await, ErrorKind::Blocked);
        assert!(error.to_string().contains("seconds apart"), "{error}");
        assert_kind(issuer.renew(&mut shop.admin, credential.lease()).await, ErrorKind::Blocked);
    }
}
