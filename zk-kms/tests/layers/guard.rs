use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use zk_kms::{
    Context, DataKey, ErrorKind, Kms,
    layers::{Around, AuditEntry, Auditor, Guard, Limit, LimitConfig, Outcome, RetryConfig},
    testing,
};

use crate::scripted::{Scripted, Step};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Entries(Mutex<Vec<(&'static str, Outcome)>>);

impl Auditor for Entries {
    fn record(&self, entry: AuditEntry<'_>) {
        self.0.lock().unwrap().push((entry.call.operation().name(), entry.outcome));
    }
}

#[tokio::test(start_paused = true)]
async fn a_guarded_backend_keeps_the_laws() {
    let kms = Guard::default().around(Scripted::new([]));
    testing::round_trip(&kms).await.unwrap();
    testing::context_is_bound(&kms).await.unwrap();
    testing::tampering_is_invalid(&kms).await.unwrap();
    testing::wrapped_key_names_its_key(&kms).await.unwrap();
    testing::rewrapping_keeps_the_key(&kms).await.unwrap();
    testing::errors_and_debug_carry_no_secret(&kms).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_its_deadline() {
    let stalls = (0..100).map(|_| Step::Stall(HOUR));
    let kms =
        Guard { deadline: SECOND * 5, attempt: SECOND * 2, ..Guard::default() }.around(Scripted::new(stalls));
    let started = Instant::now();
    let error = kms.status().await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed()), (ErrorKind::Unavailable, SECOND * 5));
    assert_eq!(error.to_string(), "the key-management service did not answer within 5000 ms");
}

/// A stalled service opens the breaker: after that nobody waits.
#[tokio::test(start_paused = true)]
async fn a_stalled_service_is_left_alone() {
    let service = Arc::new(Scripted::new((0..100).map(|_| Step::Stall(HOUR))));
    let kms = Guard::default().around(Arc::clone(&service));
    for _ in 0..3 {
        kms.status().await.unwrap_err();
    }
    let (asked, started) = (service.calls(), Instant::now());
    for _ in 0..50 {
        assert_eq!(kms.status().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!((service.calls(), started.elapsed()), (asked, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_run_at_once_than_allowed() {
    let service = Arc::new(Scripted::new((0..20).map(|_| Step::Stall(SECOND))));
    let limit = Limit::new(LimitConfig { at_once: 4, waiting: 6 });
    let kms = Arc::new(Around::new(Arc::clone(&service), limit));
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let kms = Arc::clone(&kms);
        tasks.spawn(async move { kms.status().await.map_err(|e| e.kind()) });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 10);
    assert_eq!(results.iter().filter(|r| **r == Err(ErrorKind::Throttled)).count(), 10);
    assert_eq!(service.most_at_once(), 4);
    kms.status().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_call_is_recorded_once_however_it_ends() {
    let entries = Arc::new(Entries::default());
    let auditor: Arc<dyn Auditor> = entries.clone();
    let steps = [
        Step::Fail(ErrorKind::Unavailable),
        Step::Stall(Duration::ZERO),
        Step::Fail(ErrorKind::Denied),
        Step::Stall(HOUR),
    ];
    let kms = Guard { auditor: Some(auditor), ..Guard::default() }.around(Scripted::new(steps));
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    kms.unwrap_key(&wrapped, &context).await.unwrap_err();
    tokio::time::timeout(SECOND, kms.unwrap_key(&wrapped, &context)).await.unwrap_err();
    let expected = [
        ("wrap", Outcome::Done),
        ("unwrap", Outcome::Failed(ErrorKind::Denied)),
        ("unwrap", Outcome::Abandoned),
    ];
    assert_eq!(*entries.0.lock().unwrap(), expected);
}

/// With the service away, a thousand calls ask it hardly more often than the breaker allows.
#[tokio::test(start_paused = true)]
async fn an_outage_is_not_made_worse() {
    let service = Arc::new(Scripted::away(ErrorKind::Unavailable));
    let kms = Guard { retry: RetryConfig { attempts: 10, ..RetryConfig::default() }, ..Guard::default() }
        .around(Arc::clone(&service));
    for _ in 0..1000 {
        kms.status().await.unwrap_err();
    }
    assert!(service.calls() <= 6, "{} attempts", service.calls());
    service.set_away(None);
    tokio::time::advance(SECOND * 10).await;
    kms.status().await.unwrap();
}
