//! A manifest is deployed, again, changed, and with a service less.

use zk_creds::postgres::{Change, Endpoint, Issuer, IssuerConfig, Login};
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

#[tokio::test]
async fn a_login_reaches_its_databases_and_finds_its_schemas() {
    let mut shop = Shop::create().await;
    let second = shop.database.cluster().database().await.unwrap();
    let issuer: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let (main, other) = (shop.database.name().to_owned(), second.name().to_owned());
    let close = format!(
        "REVOKE CONNECT ON DATABASE {main} FROM PUBLIC; REVOKE CONNECT ON DATABASE {other} FROM PUBLIC"
    );
    shop.database.execute(&close).await.unwrap();
    let service = &mut shop.manifest.services[0];
    service.databases.insert("REPORTS_URL".to_owned(), other.clone());
    service.search_path = vec!["odd \"schema".to_owned(), "public".to_owned()];
    let service = service.clone();

    // Which grant is missing is said, and nothing was made.
    let refused = shop.issuer.issue(&mut shop.admin, &service).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let grant = format!("GRANT CONNECT ON DATABASE \"{other}\" TO \"{issuer}\" WITH GRANT OPTION");
    assert!(refused.to_string().contains(&grant), "{refused}");
    shop.database.execute(&grant).await.unwrap();
    let credential = shop.issuer.issue(&mut shop.admin, &service).await.unwrap();

    let client = shop.connect(&credential).await.unwrap();
    let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
    assert_eq!(path, "\"odd \"\"schema\", public");
    let mut environment = zk_creds::Environment::default();
    shop.endpoint().declare_databases(&service, &credential, &mut environment).unwrap();
    let url = secrecy::ExposeSecret::expose_secret(environment.get("REPORTS_URL").unwrap()).to_owned();
    assert!(url.contains(&format!("/{other}?sslmode=verify-full")), "{}", url.len());
    let there = Endpoint { database: other.clone(), ..shop.endpoint() };
    let elsewhere = Login::of(there.clone(), &credential).connect().await.unwrap();
    elsewhere.batch_execute("SELECT 1").await.unwrap();
    // Another service's login is let into the database that it is deployed in, and no other.
    let plain = shop.issuer.issue(&mut shop.admin, &shop.manifest.services[1].clone()).await.unwrap();
    drop(shop.connect(&plain).await.unwrap());
    assert_kind(Login::of(there.clone(), &plain).connect().await, ErrorKind::Denied);

    let mut changed = shop.manifest.clone();
    changed.services[0].databases.clear();
    let plan = shop.issuer.plan(&mut shop.admin, &changed).await.unwrap().to_string();
    assert!(plan.contains(&format!("    databases: {other} → \n")), "{plan}");
    shop.revoke(&credential).await.unwrap();
    assert!(elsewhere.batch_execute("SELECT 1").await.is_err());
    assert!(!shop.logins().await.contains(&credential.lease().login));

    changed.services[0].databases.insert("X".to_owned(), "nowhere".to_owned());
    let missing = shop.issuer.issue(&mut shop.admin, &changed.services[0]).await;
    assert_kind(missing, ErrorKind::Missing);
}
