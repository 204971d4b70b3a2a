//! Logins on a real server: issued, used, rotated, renewed, revoked; and what must not happen.
#![cfg(all(feature = "authority", feature = "https", feature = "postgres", feature = "signed"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod again;
mod audit;
mod certificates;
mod certify;
mod deploy;
mod elsewhere;
mod faults;
mod grants;
mod hostile;
mod https;
mod leaks;
mod leases;
mod names;
mod proxy;
mod reconcile;
mod renewal;
mod rotation;
mod shop;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use testkit::{Authority, Cluster, ClusterConfig};
use zk_creds::ErrorKind;
use zk_creds::postgres::{Endpoint, Login};

use self::shop::{Shop, assert_kind};

#[tokio::test]
async fn a_login_may_become_its_roles_and_nothing_else() {
    let mut shop = Shop::create().await;
    let credentials = shop.issuer.deploy(&mut shop.admin, &shop.manifest).await.unwrap().issued;
    assert_eq!(credentials.len(), 2);
    let client = shop.connect(&credentials[0]).await.unwrap();
    let row = client
        .query_one("SELECT current_user::text, ssl, current_setting('statement_timeout') FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), credentials[0].lease().login);
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, String>(2), "30s");
    client.batch_execute(&format!("SET ROLE {}", shop.role)).await.unwrap();
    let other = client.batch_execute("SET ROLE postgres").await.unwrap_err();
    assert_eq!(other.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    let other = client.query("SELECT * FROM zk.leases", &[]).await.unwrap_err();
    assert_eq!(other.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));

    let only = shop.connect(&credentials[1]).await.unwrap();
    assert_kind(shop.connect(&credentials[1]).await, ErrorKind::Database);
    drop(only);
}

#[tokio::test]
async fn a_login_can_act_as_a_role_from_the_start() {
    let mut shop = Shop::create().await;
    let odd = testkit::unique_name("an odd\\role");
    shop.admin.batch_execute(&format!("CREATE ROLE \"{odd}\" NOLOGIN")).await.unwrap();
    shop.manifest.services[0].roles.push(odd.clone());
    let credential = shop.issue().await;
    let login = |role: &str| Login::of(shop.endpoint(), &credential).acting_as(role);
    let client = login(&odd).connect().await.unwrap();
    client.batch_execute("RESET ROLE").await.unwrap();
    let row = client.query_one("SELECT current_user::text, session_user::text", &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (odd, credential.lease().login.clone()));
    assert_kind(login("postgres").connect().await, ErrorKind::Denied);
}

#[tokio::test]
async fn a_deployment_is_issued_whole_or_not_at_all() {
    let mut shop = Shop::create().await;
    for (role, kind) in [
        ("no_such_role", ErrorKind::Missing),
        ("postgres", ErrorKind::Invalid),
        ("x\"; --", ErrorKind::Missing),
    ] {
        let mut manifest = shop.manifest.clone();
        manifest.services[1].roles = vec![role.to_owned()];
        assert_kind(shop.issuer.deploy(&mut shop.admin, &manifest).await, kind);
        assert!(shop.logins().await.is_empty());
        assert!(shop.issuer.leases(&mut shop.admin).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn rotation_leaves_the_old_login_until_its_grace_ends() {
    let mut shop = Shop::create().await;
    let old = shop.issue().await;
    let new = shop.rotate(Duration::from_secs(30)).await.unwrap();
    assert_eq!((old.lease().generation, new.lease().generation), (1, 2));
    assert_ne!(old.lease().login, new.lease().login);
    drop((shop.connect(&old).await.unwrap(), shop.connect(&new).await.unwrap()));
    assert_kind(shop.rotate(Duration::ZERO).await, ErrorKind::Conflict);

    assert!(shop.reap().await.is_empty(), "nothing has ended yet");
    shop.clock.advance(Duration::from_secs(30));
    assert_eq!(shop.reap().await, [old.lease().login.clone()]);
    assert_kind(shop.connect(&old).await, ErrorKind::Denied);
    drop(shop.connect(&new).await.unwrap());
    shop.rotate(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn the_database_itself_ends_a_login() {
    let mut shop = Shop::create().await;
    let old = shop.issue().await;
    shop.rotate(Duration::ZERO).await.unwrap();
    // Nobody reaped: VALID UNTIL is the fence. Our side does not know of the rotation and asks the server.
    assert_kind(shop.connect(&old).await, ErrorKind::Denied);
}

#[tokio::test]
async fn revoked_means_dead() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let session = shop.connect(&credential).await.unwrap();
    session
        .batch_execute(&format!("SET ROLE {}; CREATE TABLE mine (id int); RESET ROLE", shop.role))
        .await
        .unwrap();
    let idle = shop.connect(&credential).await.unwrap();
    shop.revoke(&credential).await.unwrap();
    assert!(session.batch_execute("SELECT 1").await.is_err(), "an open session ends");
    assert!(idle.batch_execute("SELECT 1").await.is_err());
    assert_kind(shop.connect(&credential).await, ErrorKind::Denied);
    assert!(shop.logins().await.is_empty());
    shop.revoke(&credential).await.unwrap();
    assert_kind(shop.issuer.renew(&mut shop.admin, credential.lease()).await, ErrorKind::Expired);
}

#[tokio::test]
async fn what_a_login_owns_survives_it() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let login = &credential.lease().login;
    shop.admin.batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {login}")).await.unwrap();
    let session = shop.connect(&credential).await.unwrap();
    session
        .batch_execute(
            "CREATE TABLE kept (id serial PRIMARY KEY, v int DEFAULT 1); INSERT INTO kept VALUES (7)",
        )
        .await
        .unwrap();
    shop.revoke(&credential).await.unwrap();
    let refused = shop.admin.query("SELECT id FROM kept", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    // As the manual says.
    shop.admin
        .batch_execute(&format!(
            "GRANT zk_{0}_estate TO CURRENT_USER; ALTER TABLE kept OWNER TO CURRENT_USER;
             REVOKE zk_{0}_estate FROM CURRENT_USER",
            shop.solution()
        ))
        .await
        .unwrap();
    let rows = shop.admin.query("SELECT id FROM kept", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i32>(0), 7);
}

#[tokio::test]
async fn an_interrupted_revocation_is_finished_later() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let login = credential.lease().login.clone();
    // As a crash after the first step leaves it, and then one after the role was dropped by hand.
    shop.admin
        .batch_execute(&format!("ALTER ROLE {login} NOLOGIN; UPDATE zk.leases SET state = 'revoking'"))
        .await
        .unwrap();
    assert_eq!(shop.reap().await.len(), 1);
    assert!(shop.logins().await.is_empty());
    let credential = shop.issue().await;
    shop.admin.batch_execute(&format!("DROP ROLE {}", credential.lease().login)).await.unwrap();
    shop.revoke(&credential).await.unwrap();
    assert!(shop.issuer.leases(&mut shop.admin).await.unwrap().is_empty());
}

#[tokio::test]
async fn renewal_is_monotone_and_bounded() {
    let mut shop = Shop::create().await;
    let lease = shop.issue().await.lease().clone();
    let renewed = shop.issuer.renew(&mut shop.admin, &lease).await.unwrap();
    assert_eq!(renewed.expires_at, renewed.expires_at.max(lease.expires_at));
    shop.clock.advance(Duration::from_secs(55));
    let renewed = shop.issuer.renew(&mut shop.admin, &lease).await.unwrap();
    assert!(renewed.expires_at > lease.expires_at);
    assert_eq!(
        renewed.expires_at, renewed.max_expires_at,
        "60 seconds from second 55 is beyond the maximum of 100"
    );
    shop.clock.advance(Duration::from_secs(45));
    assert_kind(shop.issuer.renew(&mut shop.admin, &lease).await, ErrorKind::Expired);
}

#[tokio::test]
async fn a_lease_past_its_maximum_is_told_before_a_connection_is_made() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let login = Login::of(shop.endpoint(), &credential).with_clock(shop.clock.clone());
    shop.clock.advance(Duration::from_secs(60));
    // Whoever keeps the lease may have renewed it: only the server knows, and its own clock has not moved.
    drop(login.connect().await.unwrap());
    shop.clock.advance(Duration::from_secs(40));
    assert_kind(login.connect().await, ErrorKind::Expired);
}

#[tokio::test]
async fn tls_refusals() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let user = &credential.lease().login;
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.pem");
    std::fs::write(&foreign, Authority::new("another").unwrap().pem()).unwrap();
    let connect = |endpoint: Endpoint| {
        let login = Login::new(endpoint, user, credential.password().clone());
        async move { login.connect().await }
    };
    assert_kind(
        connect(Endpoint { root_certificate: foreign, ..shop.endpoint() }).await,
        ErrorKind::Untrusted,
    );
    assert_kind(
        connect(Endpoint { root_certificate: PathBuf::from("/no/such/file"), ..shop.endpoint() }).await,
        ErrorKind::Missing,
    );
    let nobody = testkit::unique_name("nobody");
    let wrong = Login::new(shop.endpoint(), nobody, SecretString::from("wrong")).connect().await;
    assert_kind(wrong, ErrorKind::Denied);
    let closed = connect(Endpoint { port: 1, ..shop.endpoint() }).await;
    assert_kind(closed, ErrorKind::Unavailable);

    let mut plaintext = shop.database.config(user, credential.password().expose_secret());
    plaintext.ssl_mode(tokio_postgres::config::SslMode::Disable);
    plaintext.channel_binding(tokio_postgres::config::ChannelBinding::Disable);
    let refused = plaintext.connect(tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION));

    // A server whose certificate is for another name, though the right authority signed it.
    let names = vec!["db.elsewhere.example".to_owned()];
    let elsewhere =
        Cluster::start(ClusterConfig { server_names: names, ..ClusterConfig::default() }).unwrap();
    let endpoint =
        Endpoint { port: elsewhere.port(), root_certificate: elsewhere.ca_file(), ..shop.endpoint() };
    assert_kind(connect(endpoint).await, ErrorKind::Untrusted);
}

/// The manifest chooses how often a password is hashed; tokio-postgres takes any choice, and psql in another test.
#[tokio::test]
async fn a_password_is_hashed_as_often_as_the_manifest_says() {
    let mut shop = Shop::create().await;
    let superuser = shop.database.connect().await.unwrap();
    for iterations in [1, 4096, 100_000] {
        shop.manifest.services[0].scram_iterations = iterations;
        let credential = shop.issue().await;
        let row = superuser
            .query_one(
                "SELECT rolpassword FROM pg_authid WHERE rolname = $1::text::name",
                &[&credential.lease().login],
            )
            .await
            .unwrap();
        assert!(row.get::<_, String>(0).starts_with(&format!("SCRAM-SHA-256${iterations}:")));
        drop(shop.connect(&credential).await.unwrap());
        shop.revoke(&credential).await.unwrap();
    }
    for wrong in [0, 100_001] {
        shop.manifest.services[0].scram_iterations = wrong;
        let service = shop.manifest.services[0].clone();
        assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Invalid);
    }
}
