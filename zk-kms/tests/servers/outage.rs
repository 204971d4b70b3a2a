//! A real server, killed and started again under load. What it was sent is counted in front of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use testkit::kms::KeyService;
use tokio::{task::JoinSet, time::Instant};
use zk_kms::{
    Context, DataKey, Kms, WrappedKey,
    layers::{BreakerConfig, Guard, RetryConfig},
};

use crate::admin::config;

const DEADLINE: Duration = Duration::from_secs(2);
const TASKS: usize = 8;
const PERCENT: u32 = 20;
const RESERVE: u32 = 10;

/// OpenBao on disk dies twice while tasks wrap and unwrap: nobody waits past the deadline, every key that was wrapped
/// unwraps afterwards, calls succeed again, and what reaches the server's port stays within the budget of the retries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Python environment: ./dev test"]
async fn a_killed_server_loses_no_key_and_is_not_flooded() {
    let mut bao = KeyService::openbao_on_disk().unwrap();
    let uri = bao.uri("orders").parse().unwrap();
    zk_kms::ensure_key(&uri, &config(&bao), &zk_kms::KeySpec::new()).await.unwrap();
    let guard = Guard {
        deadline: DEADLINE,
        attempt: Duration::from_millis(500),
        retry: RetryConfig { percent: PERCENT, reserve: RESERVE, ..RetryConfig::default() },
        // It hardly opens: the budget alone has to hold.
        breaker: BreakerConfig { failures: 1000, pause: Duration::from_millis(1) },
        ..Guard::default()
    };
    let kms = guard.around(zk_kms::open(&uri, &config(&bao)).await.unwrap());
    kms.wrap_key(&DataKey::generate().unwrap(), &Context::new()).await.unwrap();
    let before = bao.gate().requests();

    let load = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(run(Arc::clone(&kms), Arc::clone(&load), task));
    }
    for _ in 0..2 {
        load.more_than(&load.succeeded).await;
        bao.kill().unwrap();
        // Long enough for the budget to be used up.
        for _ in 0..10 {
            load.more_than(&load.failed).await;
        }
        bao.restart().unwrap();
        load.more_than(&load.succeeded).await;
    }
    load.stop.store(true, SeqCst);
    let kept: Vec<Kept> = tasks.join_all().await.into_iter().flatten().collect();

    let (calls, sent) = (load.calls.load(SeqCst), bao.gate().requests() - before);
    let allowed = calls + calls * PERCENT as usize / 100 + RESERVE as usize;
    assert!(sent <= allowed, "{calls} calls sent {sent} requests, {allowed} are allowed");
    assert!(sent > calls, "{calls} calls sent {sent} requests: nothing was tried again");
    assert!(kept.len() > TASKS && load.failed.load(SeqCst) > 0, "{} keys, {load:?}", kept.len());
    for Kept { key, wrapped, context } in &kept {
        assert_eq!(kms.unwrap_key(wrapped, context).await.unwrap(), *key);
    }
}

#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicUsize,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    /// Waits until there was another one.
    async fn more_than(&self, count: &AtomicUsize) {
        let (before, start) = (count.load(SeqCst), Instant::now());
        while count.load(SeqCst) == before {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "calls do not fail or succeed any more: {self:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Counts a call, and sees to it that it ends in time and fails in no other way than an outage.
    async fn call<T>(&self, call: impl Future<Output = Result<T, zk_kms::Error>>) -> Option<T> {
        let start = Instant::now();
        self.calls.fetch_add(1, SeqCst);
        let result = call.await;
        // A second more, because the machine may be busy with other tests.
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(1), "{:?}", start.elapsed());
        match result {
            Ok(value) => {
                self.succeeded.fetch_add(1, SeqCst);
                Some(value)
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                self.failed.fetch_add(1, SeqCst);
                None
            }
        }
    }
}

struct Kept {
    key: DataKey,
    wrapped: WrappedKey,
    context: Context,
}

async fn run(kms: Arc<dyn Kms>, load: Arc<Load>, task: usize) -> Vec<Kept> {
    let (context, mut kept) = (Context::new().with("task", task.to_string()).unwrap(), Vec::<Kept>::new());
    while !load.stop.load(SeqCst) {
        let key = DataKey::generate().unwrap();
        if let Some(wrapped) = load.call(kms.wrap_key(&key, &context)).await {
            kept.push(Kept { key, wrapped, context: context.clone() });
        }
        if let Some(Kept { key, wrapped, context }) = kept.last()
            && let Some(back) = load.call(kms.unwrap_key(wrapped, context)).await
        {
            assert_eq!(back, *key);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kept
}
