//! Whatever happens to a lease and to the clock, it never outlives its maximum.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use zk_creds::{ErrorKind, Lease};

use super::shop::Shop;

#[derive(Debug, Clone)]
enum Event {
    Renew,
    Rotate(u64),
    Advance(u64),
    TurnBack(u64),
    Reap,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Renew),
        1 => (0..200_u64).prop_map(Event::Rotate),
        3 => (0..70_u64).prop_map(Event::Advance),
        1 => (0..200_u64).prop_map(Event::TurnBack),
        1 => Just(Event::Reap),
    ]
}

/// Between the look for leases that have ended and the lock on one, an issuer whose clock is behind renews it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_renewed_meanwhile_is_not_reaped() {
    let mut shop = Shop::create().await;
    let credential = shop.issue().await;
    let id = credential.lease().id;
    let mut other = shop.admin_through(shop.database.port()).await;
    let renewal = other.transaction().await.unwrap();
    renewal.execute("SELECT FROM zk.leases WHERE id = $1 FOR UPDATE", &[&id]).await.unwrap();
    shop.clock.advance(Duration::from_secs(61));
    let reaping = async { shop.issuer.reap(&mut shop.admin).await.unwrap() };
    let renewing = async {
        // Less than the reaper waits for the lock.
        tokio::time::sleep(Duration::from_millis(80)).await;
        let later = "UPDATE zk.leases SET expires_at = max_expires_at WHERE id = $1";
        renewal.execute(later, &[&id]).await.unwrap();
        renewal.commit().await.unwrap();
    };
    let (reaped, ()) = tokio::join!(reaping, renewing);
    assert!(reaped.failed.is_empty() && reaped.ended.is_empty(), "{reaped:?}");
    drop(shop.connect(&credential).await.unwrap());
}

#[test]
fn a_lease_never_outlives_its_maximum() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shop = runtime.block_on(Shop::create());
    let shop = std::cell::RefCell::new(shop);
    let mut runner = TestRunner::new(Config { cases: 30, failure_persistence: None, ..Config::default() });
    let sequences = proptest::collection::vec(event(), 1..14);
    runner
        .run(&sequences, |events| {
            runtime.block_on(check(&mut shop.borrow_mut(), &events));
            Ok(())
        })
        .unwrap();
}

async fn check(shop: &mut Shop, events: &[Event]) {
    let service = shop.manifest.services[0].clone();
    for lease in shop.issuer.leases(&mut shop.admin).await.unwrap() {
        shop.issuer.revoke(&mut shop.admin, &lease).await.unwrap();
    }
    let first = shop.issue().await;
    let mut known: Vec<Lease> = vec![first.lease().clone()];
    for event in events {
        let seconds = |s: &u64| Duration::from_secs(*s);
        match event {
            Event::Renew => {
                for lease in known.clone() {
                    if let Err(error) = shop.issuer.renew(&mut shop.admin, &lease).await {
                        assert_eq!(error.kind(), ErrorKind::Expired);
                    }
                }
            }
            Event::Rotate(grace) => {
                if let Ok(new) = shop.rotate(seconds(grace)).await {
                    known.push(new.lease().clone());
                }
            }
            Event::Advance(by) => shop.clock.advance(seconds(by)),
            Event::TurnBack(by) => shop.clock.turn_back(seconds(by)),
            Event::Reap => drop(shop.reap().await),
        }
        for lease in shop.issuer.leases(&mut shop.admin).await.unwrap() {
            let issued = known.iter().find(|known| known.id == lease.id).unwrap();
            let max = issued.issued_at + Duration::from_secs(service.max_lifetime_seconds);
            assert!(lease.expires_at <= max && lease.max_expires_at <= max, "{event:?} of {events:?}");
            let row = shop
                .admin
                .query_one(
                    "SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1::text::name",
                    &[&lease.login],
                )
                .await
                .unwrap();
            assert_eq!(
                row.get::<_, SystemTime>(0),
                lease.expires_at,
                "the fence stands where the lease ends"
            );
        }
    }
    // However often it was renewed, and wherever the clock was: at its maximum it is over.
    let end = known.iter().map(|lease| lease.max_expires_at).max().unwrap();
    let now = zk_creds::Clock::now(&*shop.clock);
    shop.clock.advance(end.duration_since(now).unwrap_or_default());
    for lease in &known {
        let renewed = shop.issuer.renew(&mut shop.admin, lease).await;
        assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Expired);
    }
    shop.reap().await;
    assert!(shop.logins().await.is_empty());
}
