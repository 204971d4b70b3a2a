//! Not asking a service that has just been seen to be away.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Call, Layer};
use crate::Error;

/// Refuses calls for a while after several in a row failed with a [transient](Error::is_transient) error.
///
/// Refused calls fail at once with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), which says how long the
/// breaker stays open. After that, one call goes through: if it succeeds all do again, if it fails the time starts anew.
/// An answer that refuses, such as `Denied`, is an answer: the service is there.
///
/// Clones share the state, so give one to all keys of a service.
///
/// ```
/// use zk_kms::layers::{Breaker, BreakerConfig};
///
/// let breaker = Breaker::new(BreakerConfig { failures: 3, ..BreakerConfig::default() });
/// assert!(!breaker.is_open());
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: Arc<Mutex<State>>,
}

/// When a [`Breaker`] opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers name the fields that they change")]
pub struct BreakerConfig {
    /// How many calls in a row fail before it opens. 5 by default; 0 counts as 1.
    pub failures: u32,
    /// How long it refuses calls. 10 s by default.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Calls go through; so many failed in a row.
    Closed(u32),
    /// Calls are refused until then.
    Open(Instant),
    /// One call is on its way to see whether the service is back.
    Probing,
}

impl Breaker {
    /// Makes a closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: Arc::new(Mutex::new(State::Closed(0))) }
    }

    /// Tells whether a call would be refused now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self.state() {
            State::Closed(_) => false,
            State::Open(until) => Instant::now() < until,
            State::Probing => true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<Entry<'_>, Error> {
        let mut state = self.state();
        let now = Instant::now();
        let refused = |wait: Duration| {
            let text = "the key-management service did not answer lately, so it is not asked now";
            Err(Error::unavailable(text).with_retry_after(wait))
        };
        match *state {
            State::Closed(_) => Ok(Entry { breaker: self, probe: false }),
            State::Open(until) if now < until => refused(until - now),
            State::Open(_) => {
                *state = State::Probing;
                Ok(Entry { breaker: self, probe: true })
            }
            State::Probing => refused(self.config.pause),
        }
    }

    fn succeeded(&self) {
        *self.state() = State::Closed(0);
    }

    fn failed(&self, probe: bool) {
        let mut state = self.state();
        let open = State::Open(Instant::now() + self.config.pause);
        *state = match *state {
            State::Closed(failures) if failures + 1 < self.config.failures => State::Closed(failures + 1),
            State::Closed(_) => open,
            State::Probing if probe => open,
            // A call that began before it opened has nothing to add.
            unchanged => unchanged,
        };
    }
}

impl Layer for Breaker {
    async fn around<T, F, A>(&self, _: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let mut entry = self.enter()?;
        let result = attempt().await;
        let probe = std::mem::take(&mut entry.probe);
        match &result {
            Err(error) if error.is_transient() => self.failed(probe),
            _ => self.succeeded(),
        }
        result
    }
}

/// A call that is on its way. One that is dropped, by a deadline for instance, has failed.
struct Entry<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.failed(true);
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(10) }
    }
}
