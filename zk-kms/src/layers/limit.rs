//! No more calls at once than the service, and this process, can bear.

use std::{future::Future, sync::Arc};

use tokio::sync::Semaphore;

use super::{Call, Layer};
use crate::{Error, ErrorKind};

/// Lets a number of calls through at once, a number wait, and refuses the rest with [`ErrorKind::Throttled`].
///
/// ```
/// use zk_kms::layers::{Limit, LimitConfig};
///
/// let limit = Limit::new(LimitConfig { at_once: 8, ..LimitConfig::default() });
/// let shared = limit.clone();
/// # drop(shared);
/// ```
#[derive(Clone, Debug)]
pub struct Limit {
    /// Everybody who is in or waits.
    entered: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// How many calls a [`Limit`] lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers name the fields that they change")]
pub struct LimitConfig {
    /// How many calls run at once. 64 by default.
    pub at_once: usize,
    /// How many more calls wait for a place. 1024 by default.
    pub waiting: usize,
}

impl Limit {
    /// Makes a limit; its clones share it.
    #[must_use]
    pub fn new(config: LimitConfig) -> Self {
        let LimitConfig { at_once, waiting } = config;
        let bounded = |n: usize| n.min(Semaphore::MAX_PERMITS);
        Self {
            entered: Arc::new(Semaphore::new(bounded(at_once.saturating_add(waiting)))),
            running: Arc::new(Semaphore::new(bounded(at_once))),
        }
    }
}

impl Layer for Limit {
    async fn around<T, F, A>(&self, _: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let too_many =
            || Error::new(ErrorKind::Throttled, "too many calls to the key-management service wait already");
        let _entered = self.entered.try_acquire().map_err(|_| too_many())?;
        // Never closed; an error would mean that nobody may enter.
        let _running = self.running.acquire().await.map_err(|_| too_many())?;
        attempt().await
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { at_once: 64, waiting: 1024 }
    }
}
