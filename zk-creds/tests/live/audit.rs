//! The audit: everything is in it, no secret is, every change of it shows, and nothing happens without it.

use std::time::Duration;

use secrecy::ExposeSecret;
use zk_creds::postgres::audit::{Action, Anchor, Chain};
use zk_creds::{ErrorKind, Manifest};

use super::shop::{Shop, assert_kind};

async fn actions(shop: &mut Shop) -> Vec<(Action, Option<String>)> {
    let entries = shop.issuer.audit(&mut shop.admin, 0).await.unwrap();
    entries.into_iter().map(|(_, entry)| (entry.action, entry.refused)).collect()
}

#[tokio::test]
async fn everything_is_recorded_and_refusals_too() {
    use Action::{Close, Deploy, Issue, Renew, Replace, Revoke, Rotate};
    let mut shop = Shop::create().await;
    let old = shop.issue().await;
    shop.issuer.renew(&mut shop.admin, old.lease()).await.unwrap();
    let new = shop.rotate(Duration::from_secs(5)).await.unwrap();
    assert_kind(shop.rotate(Duration::ZERO).await, ErrorKind::Conflict);
    shop.revoke(&old).await.unwrap();
    assert_kind(shop.issuer.renew(&mut shop.admin, old.lease()).await, ErrorKind::Expired);
    let service = shop.manifest.services[0].clone();
    let replaced = shop.issuer.replace(&mut shop.admin, &service).await.unwrap();
    let mut powerful = service.clone();
    powerful.roles = vec!["postgres".to_owned()];
    assert_kind(shop.issuer.issue(&mut shop.admin, &powerful).await, ErrorKind::Invalid);
    let empty = Manifest { services: Vec::new(), ..shop.manifest.clone() };
    shop.issuer.deploy(&mut shop.admin, &empty).await.unwrap();

    let done = |action| (action, None);
    let refused = |action, kind: &str| (action, Some(kind.to_owned()));
    assert_eq!(
        actions(&mut shop).await,
        [
            done(Issue),
            done(Renew),
            done(Rotate),
            refused(Rotate, "Conflict"),
            done(Close),
            done(Revoke),
            refused(Renew, "Expired"),
            done(Close),
            done(Replace),
            done(Revoke),
            refused(Issue, "Invalid"),
            done(Close),
            done(Deploy),
            done(Revoke),
        ]
    );
    let rows = shop.admin.query("SELECT a::text FROM zk.audit a", &[]).await.unwrap();
    let text: String = rows.iter().map(|row| row.get::<_, String>(0)).collect();
    assert!(text.contains(&replaced.lease().login));
    for credential in [&old, &new, &replaced] {
        assert!(!text.contains(credential.password().expose_secret()));
    }
}

/// What `tampering` does is found at entry `seq`.
async fn check_broken(tampering: &str, seq: i64) {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    for _ in 0..4 {
        shop.issuer.renew(&mut shop.admin, credential.lease()).await.unwrap();
    }
    let Chain::Whole(anchor) = shop.issuer.verify_audit(&mut shop.admin, None).await.unwrap() else {
        panic!()
    };
    assert_eq!(anchor.seq(), 5);
    shop.admin.batch_execute(tampering).await.unwrap();
    let anchor: Anchor = anchor.to_string().parse().unwrap();
    let found = shop.issuer.verify_audit(&mut shop.admin, Some(&anchor)).await.unwrap();
    assert!(matches!(found, Chain::Broken { seq: at, .. } if at == seq), "{tampering}: {found:?}");
}

#[tokio::test]
async fn the_first_broken_link_is_found() {
    check_broken("UPDATE zk.audit SET entry = replace(entry, 'renew', 'issue') WHERE seq = 3", 3).await;
    check_broken("UPDATE zk.audit SET recorded_by = 'somebody' WHERE seq = 2", 2).await;
    check_broken("DELETE FROM zk.audit WHERE seq = 4", 4).await;
    check_broken("DELETE FROM zk.audit WHERE seq = 1", 1).await;
    check_broken("DELETE FROM zk.audit WHERE seq = 5", 5).await;
    check_broken("TRUNCATE zk.audit", 1).await;
    check_broken("UPDATE zk.audit SET hash = sha256('x') WHERE seq = 5", 5).await;
}

/// Whoever may write the table may write the chain anew; the anchor, kept elsewhere, shows it.
#[tokio::test]
async fn a_chain_written_anew_is_found() {
    let anew = "DO $$ DECLARE a record; h bytea := decode(repeat('00', 32), 'hex'); BEGIN
          UPDATE zk.audit SET entry = replace(entry, 'renew', 'issue');
          FOR a IN SELECT * FROM zk.audit ORDER BY seq LOOP
            h := sha256(h || int8send(a.seq) || int4send(octet_length(a.recorded_by)) || convert_to(a.recorded_by || a.entry, 'UTF8'));
            UPDATE zk.audit SET hash = h WHERE seq = a.seq;
          END LOOP; END $$";
    check_broken(anew, 5).await;
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_happen() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    shop.admin
        .batch_execute(
            "CREATE FUNCTION public.full_disk() RETURNS boolean LANGUAGE plpgsql
               AS $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
             ALTER TABLE zk.audit ADD CONSTRAINT c CHECK (public.full_disk()) NOT VALID",
        )
        .await
        .unwrap();
    let before = (shop.logins().await, shop.issuer.leases(&mut shop.admin).await.unwrap());
    let service = shop.manifest.services[0].clone();
    let error = assert_kind(shop.issuer.issue(&mut shop.admin, &service).await, ErrorKind::Unavailable);
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_kind(shop.rotate(Duration::ZERO).await, ErrorKind::Unavailable);
    assert_kind(shop.issuer.renew(&mut shop.admin, credential.lease()).await, ErrorKind::Unavailable);
    assert_kind(shop.issuer.deploy(&mut shop.admin, &shop.manifest).await, ErrorKind::Unavailable);
    assert_kind(shop.revoke(&credential).await, ErrorKind::Unavailable);
    assert_eq!((shop.logins().await, shop.issuer.leases(&mut shop.admin).await.unwrap()), before);
    drop(shop.connect(&credential).await.unwrap());

    shop.admin.batch_execute("ALTER TABLE zk.audit DROP CONSTRAINT c").await.unwrap();
    shop.revoke(&credential).await.unwrap();
    let chain = shop.issuer.verify_audit(&mut shop.admin, None).await.unwrap();
    assert!(matches!(chain, Chain::Whole(_)), "{chain:?}");
}
