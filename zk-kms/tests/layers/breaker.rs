use std::{sync::Arc, time::Duration};

use zk_kms::{
    ErrorKind, Kms,
    layers::{Around, Breaker, BreakerConfig, Deadline},
};

use crate::scripted::{Scripted, Step};

const PAUSE: Duration = Duration::from_secs(10);

fn around(kms: Scripted) -> (Arc<Scripted>, Breaker, impl Kms) {
    let (kms, breaker) = (Arc::new(kms), Breaker::new(BreakerConfig { failures: 3, pause: PAUSE }));
    (Arc::clone(&kms), breaker.clone(), Around::new(kms, breaker))
}

#[tokio::test(start_paused = true)]
async fn opens_after_failures_in_a_row_and_closes_when_the_service_is_back() {
    let (service, breaker, kms) = around(Scripted::away(ErrorKind::Unavailable));
    for _ in 0..3 {
        assert!(!breaker.is_open());
        kms.status().await.unwrap_err();
    }
    assert!(breaker.is_open());
    let refused = kms.status().await.unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::Unavailable, Some(PAUSE)));
    assert_eq!(service.calls(), 3, "the service was not asked");

    tokio::time::advance(PAUSE).await;
    kms.status().await.unwrap_err();
    assert_eq!(service.calls(), 4, "one call looked");
    kms.status().await.unwrap_err();
    assert_eq!(service.calls(), 4, "and opened it again");

    tokio::time::advance(PAUSE).await;
    service.set_away(None);
    kms.status().await.unwrap();
    kms.status().await.unwrap();
    assert!(!breaker.is_open());
    assert_eq!(service.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_starts_the_count_again() {
    let fail = || Step::Fail(ErrorKind::Unavailable);
    let (_, breaker, kms) =
        around(Scripted::new([fail(), fail(), Step::Fail(ErrorKind::Denied), fail(), fail()]));
    for _ in 0..5 {
        kms.status().await.unwrap_err();
    }
    assert!(!breaker.is_open(), "a refusal is an answer");
}

#[tokio::test(start_paused = true)]
async fn only_one_call_looks_whether_the_service_is_back() {
    let fail = || Step::Fail(ErrorKind::Unavailable);
    let (service, _, kms) = around(Scripted::new([fail(), fail(), fail(), Step::Stall(PAUSE)]));
    for _ in 0..3 {
        kms.status().await.unwrap_err();
    }
    tokio::time::advance(PAUSE).await;
    let (probe, other) = tokio::join!(kms.status(), kms.status());
    probe.unwrap();
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(service.calls(), 4);
}

/// A look that is given up must not keep the breaker open for ever.
#[tokio::test(start_paused = true)]
async fn a_dropped_look_counts_as_failed() {
    let fail = || Step::Fail(ErrorKind::Unavailable);
    let (_, breaker, kms) = around(Scripted::new([fail(), fail(), fail(), Step::Stall(PAUSE * 100)]));
    let kms = Around::new(kms, Deadline::new(Duration::from_secs(1)));
    for _ in 0..3 {
        kms.status().await.unwrap_err();
    }
    tokio::time::advance(PAUSE).await;
    assert_eq!(kms.status().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(breaker.is_open());
    tokio::time::advance(PAUSE).await;
    kms.status().await.unwrap();
}
