//! Trying again, without making an outage worse.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Call, Layer};
use crate::{Error, key::random};

/// What one retry takes from the budget, and one call pays in at a percentage of 100.
const WHOLE: u64 = 100;

/// Repeats calls that failed with a [transient](Error::is_transient) error, as long as the budget lasts.
///
/// Before each further attempt it waits a random time up to a bound that doubles ("full jitter", Brooker, *Exponential
/// Backoff And Jitter*, AWS 2015), and at least as long as the service asked for. A service that asks for a longer wait
/// than [`RetryConfig::longest_wait`] gets its wish: the error goes to the caller at once.
///
/// # The budget
///
/// Each call pays a part of a retry in; each retry takes a whole one out. However the service behaves, n calls make at
/// most `n + n × percent / 100 + reserve` attempts. Clones share the budget, so give one to all keys of a service.
///
/// ```
/// use zk_kms::layers::{Retry, RetryConfig};
///
/// let retry = Retry::new(RetryConfig { attempts: 3, ..RetryConfig::default() });
/// let same_budget = retry.clone();
/// # drop(same_budget);
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    config: RetryConfig,
    /// In hundredths of a retry.
    budget: Arc<Mutex<u64>>,
}

/// How often and when a [`Retry`] tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers name the fields that they change")]
pub struct RetryConfig {
    /// How many attempts one call makes at most. 4 by default; 0 counts as 1.
    pub attempts: u32,
    /// The bound of the wait before the second attempt. 50 ms by default.
    pub first_wait: Duration,
    /// The bound of every wait. 2 s by default.
    pub longest_wait: Duration,
    /// How many retries a hundred calls pay for. 20 by default.
    pub percent: u32,
    /// How many retries are there before anybody paid, and are saved up at most. 10 by default.
    pub reserve: u32,
}

impl Retry {
    /// Makes a layer with a budget of its own.
    #[must_use]
    pub fn new(config: RetryConfig) -> Self {
        Self { config, budget: Arc::new(Mutex::new(config.full())) }
    }

    fn pay_in(&self) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *budget = budget.saturating_add(self.config.percent.into()).min(self.config.full());
    }

    fn take_out(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let left = budget.checked_sub(WHOLE);
        *budget = left.unwrap_or(*budget);
        left.is_some()
    }

    /// How long to wait before the next attempt, or `None` when there is none.
    fn wait(&self, failed: u32, error: &Error) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        if failed >= self.config.attempts || !error.is_transient() || asked > self.config.longest_wait {
            return None;
        }
        let doubled = self.config.first_wait.saturating_mul(1 << (failed - 1).min(20));
        Some(asked.max(random_part(doubled.min(self.config.longest_wait))))
    }
}

impl Layer for Retry {
    async fn around<T, F, A>(&self, _: Call<'_>, attempt: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn() -> A + Send + Sync,
        A: Future<Output = Result<T, Error>> + Send,
    {
        self.pay_in();
        let mut failed = 0;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failed += 1;
            let Some(wait) = self.wait(failed, &error) else { return Err(error) };
            if !self.take_out() {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl RetryConfig {
    fn full(&self) -> u64 {
        u64::from(self.reserve) * WHOLE
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
            percent: 20,
            reserve: 10,
        }
    }
}

/// A random time between nothing and `bound`. Without random numbers it is `bound`.
fn random_part(bound: Duration) -> Duration {
    let mut bytes = [0; 4];
    match random(&mut bytes) {
        Ok(()) => bound.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)),
        Err(_) => bound,
    }
}
