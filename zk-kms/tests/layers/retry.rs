use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;
use zk_kms::{
    ErrorKind, Kms,
    layers::{Around, Retry, RetryConfig},
};

use crate::scripted::{Scripted, Step};

fn around(kms: Scripted, config: RetryConfig) -> (Arc<Scripted>, impl Kms) {
    let kms = Arc::new(kms);
    (Arc::clone(&kms), Around::new(kms, Retry::new(config)))
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again() {
    let steps = [Step::Fail(ErrorKind::Unavailable), Step::Fail(ErrorKind::Throttled)];
    let (service, kms) = around(Scripted::new(steps), RetryConfig::default());
    kms.status().await.unwrap();
    assert_eq!(service.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_not() {
    for kind in [
        ErrorKind::Denied,
        ErrorKind::Disabled,
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Unsupported,
        ErrorKind::Conflict,
    ] {
        let (service, kms) = around(Scripted::away(kind), RetryConfig::default());
        assert_eq!(kms.status().await.unwrap_err().kind(), kind);
        assert_eq!(service.calls(), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_is_given_the_time_it_asks_for() {
    let asked = Duration::from_millis(1500);
    let (service, kms) = around(Scripted::new([Step::FailAndWait(asked)]), RetryConfig::default());
    let started = Instant::now();
    kms.status().await.unwrap();
    assert_eq!((service.calls(), started.elapsed() >= asked), (2, true));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_wants_more_time_than_we_have_is_left_alone() {
    let (service, kms) =
        around(Scripted::new([Step::FailAndWait(Duration::from_secs(60))]), RetryConfig::default());
    let error = kms.status().await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(60))));
    assert_eq!(service.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded_and_not_all_the_same() {
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let config = RetryConfig { attempts: 6, ..RetryConfig::default() };
        let (service, kms) = around(Scripted::away(ErrorKind::Unavailable), config);
        let started = Instant::now();
        kms.status().await.unwrap_err();
        assert_eq!(service.calls(), 6);
        // 50 + 100 + 200 + 400 + 800 ms at most, and a millisecond of rounding for each.
        assert!(started.elapsed() <= Duration::from_millis(1555), "{:?}", started.elapsed());
        waits.insert(started.elapsed());
    }
    assert!(waits.len() > 10, "retries of many processes must not come at the same time: {waits:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a service fails, retries never add more load than the budget allows.
    #[test]
    fn load_is_never_multiplied_beyond_the_budget(
        calls in 1u32..200, percent in 0u32..150, reserve in 0u32..20, attempts in 0u32..10,
        good in prop::collection::vec(any::<bool>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let config = RetryConfig { attempts, percent, reserve, ..RetryConfig::default() };
            let (service, kms) = around(Scripted::away(ErrorKind::Unavailable), config);
            let kms = Arc::new(kms);
            for i in 0..calls {
                let works = good.get(i as usize).copied().unwrap_or(false);
                service.set_away((!works).then_some(ErrorKind::Unavailable));
                let _result = kms.status().await;
            }
            let allowed = calls + (calls * percent) / 100 + reserve;
            prop_assert!(service.calls() <= allowed, "{} attempts for {calls} calls", service.calls());
            prop_assert!(service.calls() <= calls * attempts.max(1));
            Ok(())
        })?;
    }
}
