//! Laws about what surrounds a key: states, permissions, callers that go away, services that do not answer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use super::{Broken, Law};
use crate::{DataKey, Error, ErrorKind, Kms};

/// Using a key that does not exist is [`ErrorKind::NotFound`], and creates none.
///
/// # Errors
///
/// [`Broken`] when wrapping or asking for the status gives something else.
pub async fn missing_key_is_not_found(missing: &dyn Kms) -> Result<(), Broken> {
    let law = Law("missing_key_is_not_found");
    let context = law.context("a")?;
    law.fails_with(ErrorKind::NotFound, "wrapping", missing.wrap_key(&law.key()?, &context).await)?;
    law.fails_with(ErrorKind::NotFound, "the status", missing.status().await)?;
    law.fails_with(ErrorKind::NotFound, "wrapping again", missing.wrap_key(&law.key()?, &context).await)
}

/// A disabled key neither wraps nor unwraps, says so, and does both again once it is enabled.
///
/// # Errors
///
/// [`Broken`] when it is used while disabled, fails with another kind than [`ErrorKind::Disabled`], or stays so.
pub async fn disabled_key_is_refused<D, E, DF, EF>(kms: &dyn Kms, disable: D, enable: E) -> Result<(), Broken>
where
    D: FnOnce() -> DF,
    E: FnOnce() -> EF,
    DF: Future<Output = Result<(), Error>>,
    EF: Future<Output = Result<(), Error>>,
{
    let law = Law("disabled_key_is_refused");
    let (key, context) = (law.key()?, law.context("a")?);
    let wrapped = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    law.ok("disable", disable().await)?;
    law.fails_with(ErrorKind::Disabled, "wrapping", kms.wrap_key(&key, &context).await)?;
    law.fails_with(ErrorKind::Disabled, "unwrapping", kms.unwrap_key(&wrapped, &context).await)?;
    let status = law.ok("status", kms.status().await)?;
    law.holds(!status.is_enabled(), "the status says that a disabled key is enabled")?;
    law.ok("enable", enable().await)?;
    let back = law.ok("unwrap after enabling", kms.unwrap_key(&wrapped, &context).await)?;
    law.holds(back == key, "another key came back")
}

/// A caller whom the service knows and refuses gets [`ErrorKind::Denied`].
///
/// # Errors
///
/// [`Broken`] when the call goes through, or fails with another kind.
pub async fn refusal_is_denied(refused: &dyn Kms) -> Result<(), Broken> {
    let law = Law("refusal_is_denied");
    let result = refused.wrap_key(&law.key()?, &law.context("a")?).await;
    law.fails_with(ErrorKind::Denied, "wrapping", result)
}

/// A call whose caller goes away, at whatever point, leaves the backend as it was.
///
/// # Errors
///
/// [`Broken`] when a later call fails or gives another key.
pub async fn dropped_call_leaves_no_damage(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("dropped_call_leaves_no_damage");
    let (key, context) = (law.key()?, law.context("a")?);
    let wrapped = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    for polls in 0..5 {
        abandon(kms.wrap_key(&key, &context), polls).await;
        abandon(kms.unwrap_key(&wrapped, &context), polls).await;
        let back = law.ok("unwrap", kms.unwrap_key(&wrapped, &context).await)?;
        law.holds(back == key, "another key came back")?;
    }
    Ok(())
}

/// Calls that run at the same time do not get each other's keys.
///
/// # Errors
///
/// [`Broken`] when a call fails or gives another key.
pub async fn calls_run_side_by_side(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("calls_run_side_by_side");
    let keys: Vec<DataKey> = (0..16).map(|_| law.key()).collect::<Result<_, _>>()?;
    let law = &law;
    let trip = |i: usize, key| async move {
        let context = law.context(&i.to_string())?;
        let wrapped = law.ok("wrap", kms.wrap_key(key, &context).await)?;
        let back = law.ok("unwrap", kms.unwrap_key(&wrapped, &context).await)?;
        law.holds(back == *key, "another key came back")
    };
    let trips = keys.iter().enumerate().map(|(i, key)| Box::pin(trip(i, key)) as BoxFuture<'_>).collect();
    join_all(trips).await
}

/// A service that takes a call and never answers costs its caller the deadline and no more.
///
/// `stalled` is a backend in front of such a service, with a deadline far shorter than `patience`, which ends when the test
/// gives up.
///
/// # Errors
///
/// [`Broken`] when the call is still running when `patience` ends, succeeds, or fails with another kind than
/// [`ErrorKind::Unavailable`].
pub async fn stalled_service_meets_the_deadline(
    stalled: &dyn Kms,
    patience: impl Future<Output = ()>,
) -> Result<(), Broken> {
    let law = Law("stalled_service_meets_the_deadline");
    let (key, context) = (law.key()?, law.context("a")?);
    let mut call = stalled.wrap_key(&key, &context);
    let mut patience = pin!(patience);
    let result = poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => patience.as_mut().poll(cx).map(|()| None),
    });
    match result.await {
        Some(result) => law.fails_with(ErrorKind::Unavailable, "a stalled service", result),
        None => Err(law.broken("the call still waited when nobody else would have")),
    }
}

type BoxFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// Polls a future a few times, then drops it.
async fn abandon<F: Future>(future: F, polls: u32) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 || future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Runs all at once, and ends with the first that fails.
async fn join_all(mut futures: Vec<BoxFuture<'_>>) -> Result<(), Broken> {
    poll_fn(|cx| {
        let mut failed = None;
        futures.retain_mut(|future| match future.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                failed = failed.take().or(result.err());
                false
            }
        });
        match failed {
            Some(broken) => Poll::Ready(Err(broken)),
            None if futures.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}
