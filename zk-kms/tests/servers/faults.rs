//! What goes wrong on the way to a service that works: checksums, throttling, expiry, outage under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use testkit::fake::Fault;
use tokio::{task::JoinSet, time::Instant};
use zk_kms::{
    Context, DataKey, ErrorKind, Kms, WrappedKey,
    layers::{BreakerConfig, Guard},
    testing::{Harness, pinned},
};

use crate::{azure::Azure, google::Google};

#[tokio::test]
async fn damage_on_the_way_is_noticed_and_is_nobodys_tampering() {
    let google = Google::fake();
    let kms = google.key().await.unwrap();
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    for fault in [Fault::WrongChecksum, Fault::Unverified, Fault::WrongBytes] {
        google.server().inject("encrypt", 1, fault.clone());
        let error = kms.wrap_key(&key, &context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?} {error}");
    }
    for fault in [Fault::WrongChecksum, Fault::WrongBytes] {
        google.server().inject("decrypt", 1, fault.clone());
        let error = kms.unwrap_key(&wrapped, &context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?} {error}");
    }
    assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);
}

#[tokio::test]
async fn refusals_of_the_moment_have_their_kinds() {
    let (google, azure) = (Google::fake(), Azure::fake());
    let in_google = google.key().await.unwrap();
    let in_azure: Arc<dyn Kms> = Arc::new(pinned(azure.pair().await).await.unwrap());
    for (fake, kms, operation) in
        [(google.server(), &in_google, "decrypt"), (azure.server(), &in_azure, "unwrapkey")]
    {
        let (key, context) = (DataKey::generate().unwrap(), Context::new());
        let wrapped = kms.wrap_key(&key, &context).await.unwrap();
        for (fault, kind) in [
            (Fault::Throttled { retry_after: 7 }, ErrorKind::Throttled),
            (Fault::Failing(500), ErrorKind::Unavailable),
            (Fault::Failing(503), ErrorKind::Unavailable),
            (Fault::Denied, ErrorKind::Denied),
            (Fault::ExpiredToken, ErrorKind::Denied),
            (Fault::Cut, ErrorKind::Unavailable),
            (Fault::LostAnswer, ErrorKind::Unavailable),
            (Fault::CutAnswer, ErrorKind::Unavailable),
            (Fault::TruncatedJson, ErrorKind::Unavailable),
            (Fault::WrongContentType, ErrorKind::Unavailable),
            (Fault::Oversized(1 << 20), ErrorKind::Unavailable),
            (Fault::Redirect("http://127.0.0.1:1/".into()), ErrorKind::Unavailable),
        ] {
            fake.inject(operation, 1, fault.clone());
            let error = kms.unwrap_key(&wrapped, &context).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?} {error}");
            let asked = matches!(fault, Fault::Throttled { .. }).then_some(Duration::from_secs(7));
            assert_eq!(error.retry_after(), asked, "{fault:?}");
        }
        assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);
    }
}

/// Google's refusals name the key in the same sentence as its state, and a key may be called like one.
#[tokio::test]
async fn a_key_that_is_called_like_a_state_is_not_in_it() {
    let google = Google::fake();
    for name in ["DESTROYED", "PENDING_GENERATION", "checksum"] {
        let uri = google.service.uri(name);
        let parsed = uri.parse().unwrap();
        zk_kms::ensure_key(&parsed, &google.config(), &zk_kms::KeySpec::new()).await.unwrap();
        let kms = zk_kms::open(&parsed, &google.config()).await.unwrap();
        let wrapped = kms.wrap_key(&DataKey::generate().unwrap(), &Context::new()).await.unwrap();
        google.service.set_enabled(&uri, false).unwrap();
        let error = kms.unwrap_key(&wrapped, &Context::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disabled, "{name}: {error}");
    }
}

/// The service dies and comes back while tasks wrap and unwrap: nobody waits past the deadline, every key that was
/// wrapped unwraps afterwards, and calls succeed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_under_load_loses_nothing() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let google = Google::fake();
    let guard = Guard {
        deadline: DEADLINE,
        attempt: Duration::from_millis(500),
        breaker: BreakerConfig { failures: 5, pause: Duration::from_millis(100) },
        ..Guard::default()
    };
    let kms = guard.around(google.key().await.unwrap());
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut tasks = JoinSet::new();
    for i in 0..8 {
        let (kms, stop, failed) = (Arc::clone(&kms), Arc::clone(&stop), Arc::clone(&failed));
        tasks.spawn(async move {
            let context = Context::new().with("task", i.to_string()).unwrap();
            let mut kept: Vec<(DataKey, WrappedKey)> = Vec::new();
            while !stop.load(SeqCst) {
                let (key, started) = (DataKey::generate().unwrap(), Instant::now());
                match kms.wrap_key(&key, &context).await {
                    Ok(wrapped) => kept.push((key, wrapped)),
                    Err(error) => {
                        assert!(error.is_transient(), "{error}");
                        failed.fetch_add(1, SeqCst);
                    }
                }
                // Twice the deadline, because the machine may be busy with other tests; without one it would be for ever.
                assert!(started.elapsed() < DEADLINE * 2, "{:?}", started.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (context, kept)
        });
    }
    for _ in 0..3 {
        let before = failed.load(SeqCst);
        google.server().stop();
        while failed.load(SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        google.server().restart().unwrap();
        while kms.status().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, SeqCst);
    let mut unwrapped = 0;
    for (context, kept) in tasks.join_all().await {
        for (key, wrapped) in kept {
            assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);
            unwrapped += 1;
        }
    }
    assert!(unwrapped > 0 && failed.load(SeqCst) > 0, "{unwrapped} keys, {failed:?} failures");
}
