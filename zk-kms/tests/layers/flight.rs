use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use zk_kms::{Context, DataKey, ErrorKind, Kms, layers::SingleFlight};

use crate::scripted::{Scripted, Step};

const SECOND: Duration = Duration::from_secs(1);

fn around(steps: impl IntoIterator<Item = Step>) -> (Arc<Scripted>, Arc<SingleFlight<Arc<Scripted>>>) {
    let kms = Arc::new(Scripted::new(steps));
    (Arc::clone(&kms), Arc::new(SingleFlight::new(kms)))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_askers_make_one_call() {
    let (service, kms) = around([Step::Stall(Duration::ZERO), Step::Stall(SECOND)]);
    let (key, context) = (Arc::new(DataKey::generate().unwrap()), Context::new().with("scope", "a").unwrap());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let (kms, wrapped, context) = (Arc::clone(&kms), wrapped.clone(), context.clone());
        tasks.spawn(async move { kms.unwrap_key(&wrapped, &context).await.unwrap() });
    }
    while let Some(got) = tasks.join_next().await {
        assert_eq!(got.unwrap(), *key);
    }
    assert_eq!(service.calls(), 2, "one wrap, one unwrap");
    kms.unwrap_key(&wrapped, &context).await.unwrap();
    assert_eq!(service.calls(), 3, "nothing is kept afterwards");
}

/// Whoever has the wrong context does not get the key that somebody else is just fetching with the right one.
#[tokio::test(start_paused = true)]
async fn another_context_is_another_call() {
    let (service, kms) = around([Step::Stall(Duration::ZERO), Step::Stall(SECOND), Step::Stall(SECOND)]);
    let (key, right) = (DataKey::generate().unwrap(), Context::new().with("scope", "a").unwrap());
    let wrapped = kms.wrap_key(&key, &right).await.unwrap();
    let wrong = Context::new().with("scope", "b").unwrap();
    let (with_right, with_wrong) =
        tokio::join!(kms.unwrap_key(&wrapped, &right), kms.unwrap_key(&wrapped, &wrong));
    assert_eq!(with_right.unwrap(), key);
    assert_eq!(with_wrong.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(service.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn when_the_caller_goes_away_the_next_one_calls() {
    let (service, kms) = around([Step::Stall(Duration::ZERO), Step::Stall(SECOND * 1000)]);
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    let (first, second) = tokio::join!(
        tokio::time::timeout(SECOND, kms.unwrap_key(&wrapped, &context)),
        kms.unwrap_key(&wrapped, &context),
    );
    first.unwrap_err();
    assert_eq!(second.unwrap(), key);
    assert_eq!(service.calls(), 3);
    assert!(!format!("{kms:?}").contains("scope"), "and nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_everybodys() {
    let (service, kms) = around([Step::Stall(Duration::ZERO), Step::FailAndWait(SECOND)]);
    let (key, context) = (DataKey::generate().unwrap(), Context::new());
    let wrapped = kms.wrap_key(&key, &context).await.unwrap();
    let error = kms.unwrap_key(&wrapped, &context).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(SECOND)));
    assert_eq!(kms.unwrap_key(&wrapped, &context).await.unwrap(), key);
    assert_eq!(service.calls(), 3);
}
